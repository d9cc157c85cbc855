import ArgumentParser
import Audit
import Crypto
import Keyring
import Primitives
import ProgramIO
import SecureVolume

/// Keys that are to open an image from now on.
enum NewKey {
  /// A kernel key, with a record of its use.
  static func kernel(_ name: KeyName, for image: String, audit: AuditLog) throws -> KeyEncryptionKey {
    var record = AuditRecord(.askedFor, store: image, key: name.text, kind: SlotKind.keyring.label, access: .write)
    try audit.record(record)
    do {
      let found = try Keyring.find(name)
      let secret = try Keyring.read(found.serial, expecting: 32)
      record.event = .found
      record.serial = found.serial.value
      try audit.record(record)
      return KeyEncryptionKey(.keyring, secret)
    } catch let error as KeyringError {
      record.event = event(error.code)
      record.status = error.status
      record.detail = error.detail
      try audit.record(record)
      throw Failure(
        error.status, "\(image): \(error); nothing was changed", fields: [("keys", .array([.string(name.text)]))])
    }
  }

  private static func event(_ code: KeyringError.Code) -> AuditEvent {
    switch code {
    case .missing: .missing
    case .expired: .expired
    case .revoked: .revoked
    case .wrongSize, .wrongType: .wrong
    default: .denied
    }
  }
}

/// A fresh recovery key, and where it goes: to a person's eyes, once, or to a descriptor of the caller's choice.
struct NewRecoveryKey: ~Copyable {
  private let secret: SecretBytes
  private let destination: Int32

  /// - Parameter descriptor: `nil` for the terminal.
  /// - Throws: `.refused` where there is none: a recovery key must not end up in a log.
  init(descriptor: Int32?, json: Bool) throws {
    if descriptor == nil, json || !Terminal.isTerminal(1) {
      throw Failure(
        .refused,
        "standard output is no terminal, and a recovery key must not end up in a log; say with --recovery-key-fd which "
          + "descriptor gets it")
    }
    if descriptor == 1, json {
      throw Failure(.usage, "with --json, standard output is for the object; take another descriptor")
    }
    let secret = try Random.secret(count: 32)
    self.secret = secret
    destination = descriptor ?? 1
  }

  /// Writes it out. Done before it opens anything: a slot whose key nobody has is of no use, a key without a slot does
  /// no harm.
  borrowing func write() throws {
    let out = OutputFile(
      descriptor: destination, name: destination == 1 ? "standard output" : "descriptor \(destination)")
    let text = try RecoveryKey.text(of: secret)
    if out.isTerminal {
      try out.write("Recovery key. Write it down; it is not shown again, and is kept nowhere:\n\n  ")
    }
    try out.write(text.span)
    try out.write(out.isTerminal ? "\n\n" : "\n")
  }

  borrowing func key() -> KeyEncryptionKey { KeyEncryptionKey(.recovery, SecretBytes(copying: secret.span)) }
}
