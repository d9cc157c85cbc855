// Units are types: a sector's number, a place and a length in bytes, a generation. They don't mix by accident, and the
// conversions between them are here and checked for overflow.

/// The number of a logical sector within a volume, counted from 0.
public struct SectorIndex: Hashable, Comparable, Sendable, CustomStringConvertible {
  public let value: UInt64
  public init(_ value: UInt64) { self.value = value }
  public init(_ value: Int) { self.value = UInt64(value) }
  public static func < (a: Self, b: Self) -> Bool { a.value < b.value }
  public var description: String { "sector \(value)" }
}

/// A distance in bytes from the start of an image, a ring or a stream.
public struct ByteOffset: Hashable, Comparable, Sendable, CustomStringConvertible {
  public let value: UInt64
  public init(_ value: UInt64) { self.value = value }
  public init(_ value: Int) { self.value = UInt64(value) }
  public static func < (a: Self, b: Self) -> Bool { a.value < b.value }
  public static func + (a: Self, b: ByteCount) -> Self { ByteOffset(a.value + b.value) }
  public static func - (a: Self, b: Self) -> ByteCount { ByteCount(a.value - b.value) }
  public var description: String { "byte \(value)" }
}

/// A number of bytes.
public struct ByteCount: Hashable, Comparable, Sendable, CustomStringConvertible {
  public let value: UInt64
  public init(_ value: UInt64) { self.value = value }
  public init(_ value: Int) { self.value = UInt64(value) }
  public static let zero = ByteCount(UInt64(0))
  public static func < (a: Self, b: Self) -> Bool { a.value < b.value }
  public static func + (a: Self, b: Self) -> Self { ByteCount(a.value + b.value) }
  public static func - (a: Self, b: Self) -> Self { ByteCount(a.value - b.value) }
  public static func * (a: Self, n: UInt64) -> Self { ByteCount(a.value * n) }
  /// The smallest multiple of `unit` that is not smaller; `nil` where 64 bits don't hold it.
  public func roundedUp(to unit: UInt64) -> ByteCount? {
    let (sum, overflow) = value.addingReportingOverflow(unit - 1)
    return overflow ? nil : ByteCount(sum / unit * unit)
  }
  public var description: String { "\(value) bytes" }
}

/// How many commits a store has seen. Part of the authenticated state (DESIGN P5).
public struct Generation: Hashable, Comparable, Sendable, CustomStringConvertible {
  public let value: UInt64
  public init(_ value: UInt64) { self.value = value }
  public static func < (a: Self, b: Self) -> Bool { a.value < b.value }
  public var next: Generation { Generation(value + 1) }
  public var description: String { "generation \(value)" }
}
