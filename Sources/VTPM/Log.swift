import Glibc
import Synchronization

/// Plain lines to a descriptor, one write each. What the server logs is what happened and to which state; never a
/// secret, never a byte of a TPM command or response.
///
/// A log of its own (`--log`) has standard error beside it until the server serves: whoever started it looks there.
public struct Log: Sendable {
  private let descriptor: Int32
  private let prefix: String
  private let beside: Beside

  /// Where lines go besides; -1 for nowhere.
  private final class Beside: Sendable {
    let descriptor: Atomic<Int32>
    init(_ descriptor: Int32) { self.descriptor = Atomic(descriptor) }
  }

  public static let standardPrefix = "vnvram-swtpm: "
  public static let standardError = Log(descriptor: 2)

  /// The descriptors stay the caller's and open; -1 logs nowhere. Lines beside have the standard prefix, where they are beside
  /// something.
  public init(descriptor: Int32, prefix: String = Log.standardPrefix, beside: Int32 = -1) {
    self.descriptor = descriptor
    self.prefix = Self.printable(prefix)
    self.beside = Beside(beside)
  }

  /// Whose lines went to `beside` too goes on with another descriptor there; -1: with none.
  public func setBeside(_ descriptor: Int32) { beside.descriptor.store(descriptor, ordering: .relaxed) }

  /// Writes one line. Control characters become "?", so that a name from an image can't forge lines or steer a
  /// terminal. A log that can't be written doesn't stop a TPM.
  public func line(_ message: String) {
    let message = Self.printable(message)
    Self.write(prefix + message + "\n", descriptor)
    let besidePrefix = descriptor >= 0 ? Self.standardPrefix : prefix
    Self.write(besidePrefix + message + "\n", beside.descriptor.load(ordering: .relaxed))
  }

  private static func write(_ line: String, _ descriptor: Int32) {
    guard descriptor >= 0 else { return }
    var line = line
    _ = line.withUTF8 { bytes in unsafe Glibc.write(descriptor, bytes.baseAddress, bytes.count) }
  }

  private static func printable(_ text: String) -> String {
    var result = ""
    for scalar in text.unicodeScalars {
      let isControl = scalar.value < 0x20 || (0x7F..<0xA0).contains(scalar.value)
      result.unicodeScalars.append(isControl ? "?" : scalar)
    }
    return result
  }
}
