// What the tests of this target share: a directory, kernel keys and an audit log of their own.
import Audit
import BlockIO
import Crypto
import Foundation
import Keyring
import Primitives
import SecureVolume

@testable import VNVRAM

/// A place for one test: files in a directory of its own and keys of random names in the user keyring, all gone when it
/// is released.
final class TestPlace: Sendable {
  let directory: String
  /// So that names differ between tests and runs.
  let tag = String(UInt64.random(in: .min ... .max), radix: 36)

  init() throws {
    directory = NSTemporaryDirectory() + "/vnvram-test-\(tag)"
    try FileManager.default.createDirectory(atPath: directory, withIntermediateDirectories: true)
  }

  deinit {
    for key in Keyring.list() where key.name.text.hasPrefix(tag) { try? Keyring.invalidate(key.serial) }
    try? FileManager.default.removeItem(atPath: directory)
  }

  var image: String { directory + "/image" }
  var auditPath: String { directory + "/audit.jsonl" }
  var audit: AuditLog { AuditLog(.file(auditPath)) }

  /// `first` becomes a name that nobody else has.
  func name(_ first: String) -> String { "\(tag)-\(first)" }

  /// A key made by the test: `seed` stands for its content.
  static func secret(_ seed: UInt8, count: Int = 32) -> SecretBytes {
    var secret = SecretBytes(count: count)
    var bytes = secret.mutableSpan
    for i in 0..<count { bytes[i] = seed &+ UInt8(truncatingIfNeeded: i) }
    return secret
  }

  static func key(_ seed: UInt8, _ kind: SlotKind = .keyring) -> KeyEncryptionKey {
    KeyEncryptionKey(kind, secret(seed))
  }

  /// Puts a key into the keyring, in place of one of that name.
  @discardableResult
  func bring(
    _ key: String, _ seed: UInt8, count: Int = 32, timeout: UInt32 = 0, permissions: KeyPermissions = .standard
  ) throws -> KeySerial {
    guard let name = KeyName(name(key)) else { throw CocoaError(.featureUnsupported) }
    return try Keyring.add(
      name, payload: Self.secret(seed, count: count), to: .user, timeout: timeout, permissions: permissions,
      replacing: true)
  }

  /// The events of the audit log, with the keys' own names.
  func events() -> [String] {
    guard let text = try? String(contentsOfFile: auditPath, encoding: .utf8) else { return [] }
    return text.split(separator: "\n").map { line in
      let object = (try? JSONSerialization.jsonObject(with: Data(line.utf8))) as? [String: Any]
      let key = (object?["key"] as? String)?.replacingOccurrences(of: tag + "-", with: "")
      return [object?["event"] as? String, key].compactMap { $0 }.joined(separator: " ")
    }
  }

  func bytes() throws -> Data { try Data(contentsOf: URL(fileURLWithPath: image)) }
}
