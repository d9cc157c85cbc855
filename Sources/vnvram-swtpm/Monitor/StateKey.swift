import Crypto
import Primitives
import SecureVolume
import SwtpmFormat
import VTPM

/// What `--key` gives, as the key of a slot; wiped as soon as it isn't needed any more.
///
/// A raw key of 32 bytes is the key-encryption key of a slot of kind `key`: the same bytes in the keyring, as
/// `vnvram:swtpm`, open it too. A password, and a raw key of 16 bytes as its 32 digits, is the passphrase of a slot of
/// kind `passphrase`, which stretches it with scrypt. swtpm's own ways to make a key of a password (kdf=, mode=) are
/// too cheap to guess at, and aren't used for the image.
final class StateKey {
  /// Of the slot of an image that is made with it.
  static let slotName = "swtpm"

  private var key: KeyEncryptionKey?

  init(_ secret: consuming SwtpmKeySource.Secret, _ source: SwtpmKeySource) throws(SwtpmKeyError) {
    switch consume secret {
    case .key(let bytes) where bytes.count == 32: key = KeyEncryptionKey(.keyring, bytes)
    case .key(let bytes): key = KeyEncryptionKey(.passphrase, Self.digits(bytes))
    case .password(let password): key = KeyEncryptionKey(.passphrase, try Self.passphrase(password, source))
    }
  }

  /// As `vnvram` takes it from a descriptor: a newline at the end doesn't belong to it.
  private static func passphrase(
    _ password: consuming SecretBytes, _ source: SwtpmKeySource
  ) throws(SwtpmKeyError) -> SecretBytes {
    guard password.span[password.count - 1] == 0x0A else { return password }
    guard password.count > 1 else { throw SwtpmKeyError(.wrongKey, "\(source.name): has no password") }
    let count = password.count - 1
    return password.prefix(count)
  }

  private static func digits(_ bytes: borrowing SecretBytes) -> SecretBytes {
    var text = SecretBytes(count: 2 * bytes.count)
    var out = text.mutableSpan
    for i in 0..<bytes.count {
      for (place, nibble) in [bytes.span[i] >> 4, bytes.span[i] & 15].enumerated() {
        out[2 * i + place] = nibble < 10 ? 0x30 + nibble : 0x61 + nibble - 10
      }
    }
    return text
  }

  var isGone: Bool {
    switch key {
    case .some: false
    case .none: true
    }
  }

  /// Lends the key. False where it is gone.
  func use<E: Error>(_ body: (borrowing KeyEncryptionKey) throws(E) -> Void) throws(E) -> Bool {
    switch key {
    case .some(let key):
      try body(key)
      return true
    case .none: return false
    }
  }

  func wipe() { key = nil }
}
