import Primitives

/// An entry as it is asked for: what determines its place in the stream.
public struct EntrySpecification: Hashable, Sendable {
  /// The largest capacity, in bytes (FORMAT §8).
  public static let maximumCapacity: UInt64 = 1 << 28
  /// The most entries in a stream.
  public static let maximumCount = 1024

  public let name: EntryName
  /// Bytes that the content may have.
  public let capacity: ByteCount

  public init(name: EntryName, capacity: ByteCount) {
    self.name = name
    self.capacity = capacity
  }
}

/// An entry as it lies in a store.
public struct Entry: Hashable, Sendable {
  public let name: EntryName
  public let capacity: ByteCount
  /// Bytes of content there are.
  public let size: ByteCount
  /// Where its content begins in the stream.
  public let offset: ByteOffset

  public var specification: EntrySpecification { EntrySpecification(name: name, capacity: capacity) }
}
