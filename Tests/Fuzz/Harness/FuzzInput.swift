/// A fuzzer's bytes as a source of small decisions: past the end it gives zeros, so that every input means something
/// and a shorter one is a simpler one.
struct FuzzInput {
  private let bytes: [UInt8]
  private var position = 0

  init(_ bytes: [UInt8]) { self.bytes = bytes }

  /// Bytes not used yet.
  var left: Int { bytes.count - position }
  var isAtEnd: Bool { position >= bytes.count }

  mutating func byte() -> UInt8 {
    guard position < bytes.count else { return 0 }
    defer { position += 1 }
    return bytes[position]
  }

  /// Big-endian, of `count` bytes.
  private mutating func integer(_ count: Int) -> UInt64 {
    (0..<count).reduce(0) { value, _ in value << 8 | UInt64(byte()) }
  }
  mutating func u16() -> Int { Int(integer(2)) }
  mutating func u24() -> Int { Int(integer(3)) }
  mutating func u32() -> UInt32 { UInt32(truncatingIfNeeded: integer(4)) }
  mutating func u64() -> UInt64 { integer(8) }

  /// As many as there are of the next `count` bytes.
  mutating func take(_ count: Int) -> [UInt8] {
    let end = min(bytes.count, position + count)
    defer { position = end }
    return Array(bytes[min(position, end)..<end])
  }

  mutating func rest() -> [UInt8] { take(bytes.count) }

  /// A number that is interesting more often than not: near what was there, near a limit, or anything.
  mutating func variant(of value: UInt64) -> UInt64 {
    switch byte() {
    case 0: value &+ 1
    case 1: value &- 1
    case 2: 0
    case 3: .max
    case 4: value ^ 1 << UInt64(byte() & 63)
    case 5: UInt64(u16())
    case 6: UInt64(u32())
    case 7: u64()
    case 8: 1 << UInt64(byte() & 63)
    case 9: value &* 2
    case 10: value &+ 4096
    case 11: value &- 4096
    case 12: value &+ UInt64(u24())
    case let small: UInt64(small)
    }
  }
}

/// Ends the process, as a fuzzer wants it: something that must hold does not.
func require(_ holds: Bool, _ what: @autoclosure () -> String) {
  if !holds { fatalError(what()) }
}
