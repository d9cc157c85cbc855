import BlobStore
import Primitives
import SwtpmFormat

/// A TPM's state in protected memory, on its way between swtpm's storage and an image. (An array can't hold secrets.)
final class SwtpmState {
  let kind: SwtpmStateKind
  let content: SecretBytes
  /// Whether it was encrypted where it came from.
  let wasEncrypted: Bool

  init(_ kind: SwtpmStateKind, _ content: consuming SecretBytes, wasEncrypted: Bool) {
    self.kind = kind
    self.content = content
    self.wasEncrypted = wasEncrypted
  }

  /// Lends the content: a span of a class's property would escape.
  func lend<R>(_ body: (borrowing SecretBytes) throws -> R) rethrows -> R { try body(content) }

  /// Which TPM it is of, where it is the permanent state.
  var version: SwtpmVersion { lend { SwtpmVersion(ofPermanentState: $0.span) } }

  /// The name of its entry in an image.
  var name: String { kind.rawValue }

  var json: JSON { .object([("name", .string(name)), ("size", .integer(Int64(content.count)))]) }

  /// `permall (1350 bytes) and volatilestate (8970 bytes)`.
  static func list(_ states: [SwtpmState]) -> String {
    let all = states.map { "\($0.name) (\($0.content.count) bytes)" }
    return all.count < 2 ? all.joined() : all.dropLast().joined(separator: ", ") + " and " + all[all.count - 1]
  }
}

extension SwtpmVersion {
  var label: String { self == .tpm2 ? "TPM 2.0" : "TPM 1.2" }
  var profile: DeviceProfile { self == .tpm2 ? .tpm2 : .tpm12 }
}

/// `--swtpm-key`: the form is swtpm's own.
struct SwtpmKeyOptions {
  static let discussion =
    "As swtpm's --key: file=FILE or fd=N with format=hex|binary, or pwdfile=FILE or pwdfd=N with kdf=pbkdf2|sha512; and "
    + "mode=aes-cbc|aes-256-cbc. The default is hex, pbkdf2 and aes-cbc."

  static func parse(_ text: String?) throws -> SwtpmKeySource? {
    try text.map { (text) throws(SwtpmKeyError) in try SwtpmKeySource(option: "--swtpm-key", value: text) }
  }
}
