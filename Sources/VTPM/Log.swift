import Glibc

/// Plain lines to a descriptor, one write each. What the server logs is what happened and to which state; never a
/// secret, never a byte of a TPM command or response.
public struct Log: Sendable {
  private let descriptor: Int32

  public static let standardError = Log(descriptor: 2)

  /// The descriptor stays the caller's and open; -1 logs nowhere.
  public init(descriptor: Int32) { self.descriptor = descriptor }

  /// Writes one line. Control characters become "?", so that a name from an image can't forge lines or steer a
  /// terminal. A log that can't be written doesn't stop a TPM.
  public func line(_ message: String) {
    guard descriptor >= 0 else { return }
    var text = "vnvram-swtpm: "
    for scalar in message.unicodeScalars {
      let isControl = scalar.value < 0x20 || (0x7F..<0xA0).contains(scalar.value)
      text.unicodeScalars.append(isControl ? "?" : scalar)
    }
    text += "\n"
    _ = text.withUTF8 { bytes in unsafe write(descriptor, bytes.baseAddress, bytes.count) }
  }
}
