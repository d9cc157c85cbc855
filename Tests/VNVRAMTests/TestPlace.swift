// What the tests of this target share: a directory, kernel keys and an audit log of their own.
import Audit
import BlobStore
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

// MARK: Stores

extension TestPlace {
  /// Makes an image with these entries that opens with key `a` of content 1; further keys get slots too.
  func makeStore(_ entries: [String: UInt64], further: [String: UInt8] = [:]) throws {
    let device = try FileDevice.create(path: image, size: ByteCount(UInt64(0)), replacing: false)
    let nvram = NVRAM(device, audit: AuditLog(.none))
    for (name, capacity) in entries { try nvram.register(entry: EntryName(name), capacity: ByteCount(capacity)) }
    try nvram.format(key: Self.key(1), slotName: name("a"), growing: true)
    try nvram.close()
    for (key, seed) in further.sorted(by: { $0.key < $1.key }) { try addSlot(Self.key(seed), self.name(key)) }
  }

  func addSlot(_ key: borrowing KeyEncryptionKey, _ slotName: String) throws {
    let device = try FileDevice.open(path: image, access: .readWrite)
    defer { device.close() }
    let volume = try SealedVolume(device).unlock(with: Self.key(1))
    try volume.addSlot(key, name: slotName, created: 1)
    try volume.close()
  }

  /// An NVRAM on the image, with these entries registered and times that suit tests.
  func nvram(
    _ entries: [String: UInt64], audit: AuditLog? = nil, _ change: (inout NVRAMConfiguration) -> Void = { _ in }
  ) throws -> NVRAM {
    var configuration = NVRAMConfiguration()
    configuration.shortestKeySearchInterval = .milliseconds(2)
    configuration.longestKeySearchInterval = .milliseconds(20)
    configuration.keyCheckInterval = .milliseconds(5)
    configuration.shortestKeyTrialInterval = .milliseconds(5)
    change(&configuration)
    let nvram = try NVRAM.setUp(path: image, audit: audit ?? self.audit, configuration: configuration)
    for (name, capacity) in entries { try nvram.register(entry: EntryName(name), capacity: ByteCount(capacity)) }
    return nvram
  }

  /// What an entry holds, read by an NVRAM of its own.
  func content(_ entry: String, capacity: UInt64) throws -> [UInt8] {
    try bring("a", 1)
    let nvram = try nvram([entry: capacity])
    defer { try? nvram.close() }
    try nvram.start(failOnEncryptedDrive: true)
    return try nvram.readContent(EntryName(entry))
  }
}

/// Collects what happens, from any thread, in order.
final class Recorder<Element: Sendable>: Sendable {
  private let elements = Locked<[Element]>([])
  func add(_ element: Element) { elements.withLock { $0.append(element) } }
  var all: [Element] { elements.withLock { $0 } }
}

extension Recorder<NVRAMEvent> {
  /// The states, by name.
  var states: [String] {
    all.compactMap { if case .state(let state) = $0 { state.name } else { nil } }
  }
}

/// Whether this runs under the thread sanitizer, which makes it many times slower, over and over (`make tsan`).
let isSanitized = ProcessInfo.processInfo.environment["VNVRAM_TSAN_ROUNDS"] != nil

/// Waits, for a long time on a slow machine, until something holds.
func eventually(_ condition: () throws -> Bool) rethrows -> Bool {
  for _ in 0..<6000 {
    if try condition() { return true }
    usleep(5000)
  }
  return false
}

/// Runs `body` on a thread of its own; `wait` gives its result.
final class Running<T: Sendable>: Sendable {
  private let result = Locked<Result<T, any Error>?>(nil)
  private let done = DispatchSemaphore(value: 0)

  init(_ body: @escaping @Sendable () throws -> T) {
    Thread {
      let outcome = Result { try body() }
      self.result.withLock { $0 = outcome }
      self.done.signal()
    }.start()
  }

  var hasEnded: Bool { result.withLock { $0 != nil } }

  func wait() throws -> T {
    done.wait()
    defer { done.signal() }
    guard let result = result.withLock({ $0 }) else { fatalError("a thread ended without a result") }
    return try result.get()
  }
}

/// The error that `body` throws.
func failure<R>(_ body: () throws -> R) -> NVRAMError? {
  do {
    _ = try body()
    return nil
  } catch { return error as? NVRAMError }
}

/// Content that tells which write it is.
func content(_ number: Int, count: Int = 100) -> [UInt8] { [UInt8](repeating: UInt8(number), count: count) }

extension NVRAM {
  func replace(_ entry: EntryName, _ bytes: [UInt8], deadline: Duration? = nil) throws(NVRAMError) {
    try replaceContent(entry, bytes.span, deadline: deadline)
  }

  @discardableResult
  func submit(
    _ entry: EntryName, _ bytes: [UInt8], deadline: Duration? = nil,
    _ completion: @escaping @Sendable (Result<Void, NVRAMError>) -> Void
  ) throws(NVRAMError) -> NVRAMRequestID {
    try replaceContent(entry, bytes.span, deadline: deadline, completion: completion)
  }
}
