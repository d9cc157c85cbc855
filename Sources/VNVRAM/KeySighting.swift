// What the keyring has under a name at one moment: enough to tell whether anything has changed since, so that a wrong
// key is not tried again until it is another.
import Crypto
import Keyring
import Primitives

/// One look for one key.
enum KeySighting: Equatable, Sendable {
  /// There, of the right size. The fingerprint changes with the content, the serial number with the key.
  case present(KeySerial, KeyFingerprint)
  /// There, of the right size; its bytes were not looked at.
  case unread(KeySerial)
  /// There, and no key for a store.
  case unsuitable(KeySerial, KeyringError.Code)
  /// Not to be had.
  case absent(KeyringError.Code)

  var isRevoked: Bool {
    switch self {
    case .present, .unread: false
    case .unsuitable(_, let code), .absent(let code): code == .revoked
    }
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
  init(reading serial: KeySerial) throws(KeyringError) {
    let secret = try Keyring.read(serial, expecting: KeySighting.size)
    do { fingerprint = try KeyFingerprint(secret) } catch {
      throw KeyringError(
        .other(errno: 0), key: serial.description, "can't be compared with what was there: \(error.description)")
    }
    self.serial = serial
    self.secret = secret
  }

  var sighting: KeySighting { .present(serial, fingerprint) }
}

extension KeySighting {
  /// Looks for a key without reading it: `present` it never says.
  init(glancingAt slotName: String) {
    let name: KeyName
    let found: FoundKey
    do {
      name = try Self.keyName(of: slotName)
      found = try Keyring.find(name)
    } catch {
      self = .absent(error.code)
      return
    }
    do {
      let size = try Keyring.size(of: found.serial)
      self = size == Self.size ? .unread(found.serial) : .unsuitable(found.serial, .wrongSize(actual: size))
    } catch { self = KeySighting(error, reading: found.serial) }
  }

  /// Bytes of a key that wraps a store key.
  static let size = 32

  /// Whether a glance shows something else than this. What it can't show is other content of the same size in the same
  /// key: for that the key must be read, which is a use of it.
  func differs(from glance: KeySighting) -> Bool {
    switch (self, glance) {
    case (.present(let serial, _), .unread(let other)): serial != other
    default: self != glance
    }
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
