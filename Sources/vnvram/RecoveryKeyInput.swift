import Primitives
import ProgramIO
import SecureVolume

/// A printed recovery key that somebody hands over.
enum RecoveryKeyInput {
  /// What is read at most; spaces and hyphens don't count, but someone may have put in many.
  private static let limit = 1024

  /// Reads a line from a descriptor.
  ///
  /// - Throws: `.wrongKey` where it has another number of digits, or the check digits say that one is wrong.
  static func read(descriptor: Int32) throws -> SecretBytes {
    let input = InputFile(descriptor: descriptor, name: "descriptor \(descriptor)")
    return try parse(try input.readSecretLine(limit: limit))
  }

  static func parse(_ text: borrowing SecretBytes) throws(Failure) -> SecretBytes {
    do { return try RecoveryKey.parse(text) } catch {
      let detail =
        switch error {
        case .notARecoveryKey:
          "that is not a recovery key: it has 64 hexadecimal digits and four more to check them"
        case .incomplete(let digits):
          "that recovery key has \(digits) hexadecimal digits in place of 68; it is not complete"
        case .mistyped: "that recovery key has a slip in it: its last four digits don't fit the others"
        }
      throw Failure(.wrongKey, detail)
    }
  }
}
