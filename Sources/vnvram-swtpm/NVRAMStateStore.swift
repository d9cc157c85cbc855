import Audit
import BlobStore
import CSystem
import Glibc
import Primitives
import SecureVolume
import Synchronization
import VNVRAM
import VTPM

/// A TPM's states as entries of an NVRAM: `permall` and `volatilestate`, with the names that libtpms gives them.
///
/// An entry that is there and empty is the only thing that counts as "no state yet": it is what formatting makes, and
/// it is authenticated. Everything else that keeps a state from being read is an error, an image that has no place for a
/// state among them.
final class NVRAMStateStore: TPMStateStore {
  private let nvram: NVRAM
  let readinessDescriptor: Int32
  /// Why a key that is there isn't used, until the store's state changes.
  private let trouble = Trouble()

  /// Opens and locks the image. No key is used yet.
  init(
    image: String, audit: AuditLog, keyLossPolicy: NVRAMConfiguration.KeyLossPolicy,
    anchor: sending (any FreshnessAnchor)?
  ) throws(NVRAMError) {
    var configuration = NVRAMConfiguration()
    configuration.keyLossPolicy = keyLossPolicy
    nvram = try NVRAM.setUp(path: image, audit: audit, configuration: configuration, anchor: anchor)
    let descriptor = csystem_event_descriptor()
    readinessDescriptor = descriptor
    for name in Self.names {
      try nvram.register(entry: Self.entry(name), capacity: ByteCount(name.maximumSize))
    }
    nvram.observe { [trouble] event in
      switch event {
      case .trouble(let error): trouble.last.withLock { $0 = error }
      case .state, .mismatched: trouble.last.withLock { $0 = nil }
      }
      var one: UInt64 = 1
      _ = unsafe write(descriptor, &one, 8)
    }
  }

  deinit { Glibc.close(readinessDescriptor) }

  /// What a TPM 2.0 stores.
  private static let names: [TPMStateName] = [.permall, .volatilestate]

  private static func entry(_ name: TPMStateName) -> EntryName {
    switch name {
    case .permall: "permall"
    case .volatilestate: "volatilestate"
    case .savestate: "savestate"
    }
  }

  func start(failOnEncryptedDrive: Bool) throws(NVRAMError) {
    try nvram.start(failOnEncryptedDrive: failOnEncryptedDrive)
  }

  func close() throws(NVRAMError) { try nvram.close() }

  /// What ended the store, if anything did: the process's exit status says it though the server ended as it was asked to.
  var failure: Status? {
    if case .failed(let error) = nvram.state { error.status } else { nil }
  }

  // MARK: TPMStateStore

  var readiness: TPMStateReadiness {
    switch nvram.state {
    case .running: placeMissing.map { .failed($0) } ?? .ready
    case .keyPending(let keys): .pending("\(nvram.name) waits for a key: \(keys.summary)\(troubleSummary)")
    case .locked(let keys): .pending("\(nvram.name) is locked and waits for a key: \(keys.summary)\(troubleSummary)")
    case .verifying: .pending("\(nvram.name) is being verified")
    case .failed(let error): .failed(TPMStateError(error.status, error.description))
    case .closed, .unformatted: .failed(TPMStateError(.notAnImage, "\(nvram.name): holds no store"))
    }
  }

  private var troubleSummary: String { trouble.last.withLock { $0 }.map { "; \($0)" } ?? "" }

  /// Says which state the image has no place for, as soon as that can be told: else it would show in the middle of a
  /// TPM's first command, or of the suspend of a virtual machine.
  private var placeMissing: TPMStateError? {
    for name in Self.names {
      var nothing: [UInt8] = []
      do {
        _ = try nvram.readContent(Self.entry(name), at: ByteOffset(0), into: nothing.mutableSpan, deadline: .zero)
      } catch  where error.code == .entryMissing || error.code == .entryTooSmall {
        return TPMStateError(error.status, error.description)
      } catch {
        // What else there is shows when the state is loaded.
      }
    }
    return nil
  }

  func load(_ name: TPMStateName) throws(TPMStateError) -> [UInt8]? {
    let content = try whileAtWork { (deadline) throws(NVRAMError) in
      try nvram.readContent(Self.entry(name), deadline: deadline)
    }
    return content.isEmpty ? nil : content
  }

  func store(_ bytes: Span<UInt8>, as name: TPMStateName) throws(TPMStateError) {
    try whileAtWork { (deadline) throws(NVRAMError) in
      try nvram.replaceContent(Self.entry(name), bytes, deadline: deadline)
    }
  }

  /// Waits while the store is at work, upkeep for example, for as long as its device takes. It doesn't wait for a key: the
  /// server has one thread, and waiting here would keep it from hearing of anything.
  private func whileAtWork<R>(_ body: (Duration) throws(NVRAMError) -> R) throws(TPMStateError) -> R {
    while true {
      do throws(NVRAMError) { return try body(.milliseconds(20)) } catch {
        let isAtWork = nvram.state == .running || nvram.state == .verifying
        guard error.code == .timedOut, isAtWork else { throw TPMStateError(error.status, error.description) }
      }
    }
  }

  func delete(_ name: TPMStateName) throws(TPMStateError) {
    let nothing: [UInt8] = []
    try store(nothing.span, as: name)
  }
}

/// What the NVRAM's thread tells and the server's asks for.
private final class Trouble: Sendable {
  let last = Mutex<NVRAMError?>(nil)
}

extension WantedKeys {
  /// Every key by name, with what is the matter with it.
  fileprivate var summary: String {
    let unusable = unusable.map { "\($0.name) (\($0.reason))" }
    let wrong = wrong.map { "\($0) (wrong)" }
    return (missing + unusable + wrong).joined(separator: ", ")
  }
}
