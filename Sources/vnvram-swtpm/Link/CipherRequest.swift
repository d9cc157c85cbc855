import Primitives

/// What the worker asks of the monitor to have a state encrypted or decrypted under `--key`, which stays there:
/// `begin`, `part` until all of it is there, `finish`, and `take` until all of the outcome is there.
enum CipherRequest {
  enum Direction: UInt8 {
    case seal = 0
    case open = 1
  }

  /// So many bytes follow. Answered by `.done`.
  case begin(Direction, size: UInt32)
  /// The next ones. Answered by `.done`.
  case part(SecretPart)
  /// The MAC and the vector of what is to be opened; of what is to be sealed both are empty. Answered by `.ciphered`.
  case finish(mac: [UInt8], vector: [UInt8])
  /// Answered by `.part`.
  case take

  /// The most bytes in a part.
  static let longestPart = 8000
  /// Of a MAC or a vector.
  static let longestField = 64

  func put(into message: inout MessageBuffer) {
    switch self {
    case .begin(let direction, let size):
      message.put(direction.rawValue)
      message.put(size)
    case .part(let part): part.put(into: &message)
    case .finish(let mac, let vector):
      message.put(mac.span)
      message.put(vector.span)
    case .take: break
    }
  }

  static func begin(taking message: inout MessageBuffer) throws(LinkError) -> Self {
    guard let direction = Direction(rawValue: try message.take(UInt8.self)) else {
      throw LinkError("no such direction")
    }
    return .begin(direction, size: try message.take(UInt32.self))
  }

  static func part(taking message: inout MessageBuffer) throws(LinkError) -> Self {
    .part(SecretPart(try message.takeSecret(atMost: longestPart)))
  }

  static func finish(taking message: inout MessageBuffer) throws(LinkError) -> Self {
    .finish(
      mac: try message.takeBytes(atMost: longestField), vector: try message.takeBytes(atMost: longestField))
  }
}

/// A piece of a state, in protected memory.
final class SecretPart: Sendable {
  private let bytes: SecretBytes

  init(_ bytes: consuming SecretBytes) { self.bytes = bytes }

  var count: Int { bytes.count }

  func put(into message: inout MessageBuffer) { lend { message.put($0.span) } }

  func copy(into target: inout SecretBytes, at offset: Int) {
    lend { (bytes) in
      var place = target.mutableSpan
      place.copy(from: bytes.span, at: offset)
    }
  }

  func piece(_ range: Range<Int>) -> SecretBytes { lend { SecretBytes(copying: $0.span.extracting(range)) } }

  /// A span of a class's property would escape.
  private func lend<R: ~Copyable>(_ body: (borrowing SecretBytes) -> R) -> R { body(bytes) }
}
