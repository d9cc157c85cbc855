// What the keyring has under a name at one moment: enough to tell whether anything has changed since, so that a wrong
// key is not tried again until it is another.
import Crypto
import Keyring
import Primitives

/// One look for one key.
enum KeySighting: Equatable, Sendable {
  /// There, of the right size. The fingerprint changes with the content, the serial number with the key.
  case present(KeySerial, KeyFingerprint)
  /// There, and no key for a store.
  case unsuitable(KeySerial, KeyringError.Code)
  /// Not to be had.
  case absent(KeyringError.Code)

  var isRevoked: Bool {
    switch self {
    case .present: false
    case .unsuitable(_, let code), .absent(let code): code == .revoked
    }
  }

  var isPresent: Bool {
    if case .present = self { true } else { false }
  }
}

/// A key's content in a form that says only whether it is the same as before: 16 bytes derived from it with a salt of
/// this process. It leads back to no key, and means nothing in another process.
struct KeyFingerprint: Equatable, Sendable {
  private let digest: InlineBytes16

  init(_ secret: borrowing SecretBytes) throws(CryptoError) {
    let salt = try Self.salt.get().array
    let info = Array("vnvram key fingerprint".utf8)
    let derived = try KeyDerivation.hkdf(key: secret, salt: salt.span, info: info.span, count: 16)
    digest = InlineBytes16(derived.span)
  }

  private static let salt = Result { () throws(CryptoError) in try Random.bytes16() }
}

/// A key out of the keyring, with where it was.
struct SightedKey: ~Copyable {
  let serial: KeySerial
  let fingerprint: KeyFingerprint
  let secret: SecretBytes

  /// Reads the key. Throws what is to be said of it otherwise.
  init(reading serial: KeySerial, name: KeyName) throws(KeyringError) {
    let secret = try Keyring.read(serial, expecting: 32)
    do { fingerprint = try KeyFingerprint(secret) } catch {
      throw KeyringError(
        .other(errno: 0), key: name.text, "can't be compared with what was there: \(error.description)")
    }
    self.serial = serial
    self.secret = secret
  }

  var sighting: KeySighting { .present(serial, fingerprint) }
}

extension KeySighting {
  /// Looks for a key without using it: nothing is unlocked with it, and nothing of it is kept but the fingerprint. That
  /// is why no record is made of it; as soon as anything has changed, `Unlocker` asks for the key properly.
  init(lookingFor slotName: String) {
    let name: KeyName
    let found: FoundKey
    do {
      name = try Self.keyName(of: slotName)
      found = try Keyring.find(name)
    } catch {
      self = .absent(error.code)
      return
    }
    do { self = try SightedKey(reading: found.serial, name: name).sighting } catch {
      self = KeySighting(error, reading: found.serial)
    }
  }

  /// Why a key that was there is there no more; `nil` while it is, or while that can't be told. The key's number is asked
  /// for, not its name: another thread's keyrings may not lead to it.
  static func loss(of serial: KeySerial) -> KeyringError? {
    do { _ = try Keyring.describe(serial) } catch {
      switch error.code {
      case .missing, .expired, .revoked: return error
      default: return nil
      }
    }
    return nil
  }

  /// Slots may bear names that no kernel key has.
  static func keyName(of slotName: String) throws(KeyringError) -> KeyName {
    guard let name = KeyName(slotName) else {
      throw KeyringError(.missing, key: slotName, "is in no keyring, since that is no name for a kernel key")
    }
    return name
  }

  /// What it means that `serial` was found and could not be read.
  init(_ error: KeyringError, reading serial: KeySerial) {
    switch error.code {
    case .wrongSize, .wrongType: self = .unsuitable(serial, error.code)
    default: self = .absent(error.code)
    }
  }
}
