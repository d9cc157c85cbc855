import Anchors
import Audit
import BlobStore
import CSystem
import Glibc
import Primitives
import SecureVolume
import Synchronization
import VNVRAM
import VTPM

/// A TPM's states as entries of an NVRAM, with the names that libtpms gives them.
///
/// An entry that is there and empty is the only thing that counts as "no state yet": it is what formatting makes, and
/// it is authenticated. Everything else that keeps a state from being read is an error, an image that has no place for
/// a state among them.
final class NVRAMStateStore: TPMStateStore {
  private let image: String
  private let audit: AuditLog
  private let keyLossPolicy: NVRAMConfiguration.KeyLossPolicy
  private let anchor: AnchorSpecification?
  private let failOnEncryptedDrive: Bool
  /// The one kernel key that is to open the image; nil for any that it has a slot for.
  private let onlyKey: String?
  /// `--key`, which opens it in place of kernel keys.
  private let key: StateKey?
  /// Whether the image may have to be opened once more, later.
  private let isShared: Bool
  /// Whether keys that are in no keyring are asked for.
  private let asksForKeys: Bool
  private let version: TPMVersion
  /// Nil before it is opened and while it is released: then another process may have the image.
  private var nvram: NVRAM?
  let readinessDescriptor: Int32
  /// Why it couldn't be started; nil once it is.
  private var refusal: TPMStateError?
  /// Why a key that is there isn't used, until the store's state changes.
  private let trouble = Trouble()

  /// Nothing is opened yet. Throws where the process may have no more descriptors.
  init(
    image: String, audit: AuditLog, keyLossPolicy: NVRAMConfiguration.KeyLossPolicy, anchor: AnchorSpecification?,
    failOnEncryptedDrive: Bool, version: TPMVersion, onlyKey: String? = nil, key: StateKey? = nil,
    asksForKeys: Bool = false, isShared: Bool = false
  ) throws(TPMStateError) {
    readinessDescriptor = csystem_event_descriptor()
    guard readinessDescriptor >= 0 else {
      throw TPMStateError(
        .inputOutput, "\(image): keys can't be heard of: eventfd failed: \(unsafe String(cString: strerror(errno)))")
    }
    self.image = image
    self.audit = audit
    self.keyLossPolicy = keyLossPolicy
    self.anchor = anchor
    self.failOnEncryptedDrive = failOnEncryptedDrive
    self.version = version
    self.onlyKey = onlyKey
    self.key = key
    self.asksForKeys = asksForKeys
    self.isShared = isShared
  }

  deinit { Glibc.close(readinessDescriptor) }

  /// Opens and locks the image. No key is used yet, and nothing of it is read.
  func prepare() throws {
    guard nvram == nil else { return }
    var configuration = NVRAMConfiguration()
    configuration.keyLossPolicy = keyLossPolicy
    configuration.onlyKey = onlyKey
    configuration.asksForKeys = asksForKeys
    let nvram = try NVRAM.setUp(
      path: image, audit: audit, configuration: configuration, anchor: anchor?.make())
    do {
      for name in version.states {
        try nvram.register(entry: Self.entry(name), capacity: ByteCount(name.maximumSize(version)))
      }
    } catch {
      try? nvram.close()
      throw error
    }
    nvram.observe { [trouble, readinessDescriptor] event in
      switch event {
      case .trouble(let error): trouble.last.withLock { $0 = error }
      case .state, .mismatched: trouble.last.withLock { $0 = nil }
      }
      var one: UInt64 = 1
      _ = unsafe write(readinessDescriptor, &one, 8)
    }
    self.nvram = nvram
  }

  /// Uses a key if one is there. What keeps the image from being opened is what `readiness` says from then on.
  func start() {
    guard let nvram else { return }
    do throws(NVRAMError) {
      try start(nvram)
      refusal = nil
    } catch {
      refusal = TPMStateError(error.status, error.description)
    }
  }

  private func start(_ nvram: NVRAM) throws(NVRAMError) {
    // Whoever is asked for a key may take his time, and this thread has others to answer: `readiness` refuses in the end.
    guard let key else { return try nvram.start(failOnEncryptedDrive: false) }
    do throws(NVRAMError) {
      _ = try key.use { (key) throws(NVRAMError) in try nvram.start(with: key) }
    } catch {
      // It may be tried again where the record of its use could not be written, and nowhere else.
      if error.code != .audit, !isShared { key.wipe() }
      throw error
    }
    if !isShared { key.wipe() }
  }

  func close() throws(NVRAMError) {
    guard let nvram else { return }
    self.nvram = nil
    try nvram.close()
  }

  static func entry(_ name: TPMStateName) -> EntryName {
    switch name {
    case .permall: "permall"
    case .volatilestate: "volatilestate"
    case .savestate: "savestate"
    }
  }

  /// What ended the store, if anything did: the process's exit status says it though the server ended as it was asked
  /// to.
  var failure: Status? {
    if case .failed(let error) = nvram?.state { error.status } else { nil }
  }

  // MARK: TPMStateStore

  func acquire() throws(TPMStateError) {
    guard nvram == nil else { return }
    do {
      try prepare()
      if let nvram { try start(nvram) }
      refusal = nil
    } catch {
      try? close()
      let error = error as? any StatusError
      throw TPMStateError(error?.status ?? .failed, error?.description ?? "\(image): can't be opened")
    }
  }

  func release() throws(TPMStateError) {
    do { try close() } catch { throw TPMStateError(error.status, error.description) }
  }

  var isReady: Bool {
    switch nvram?.state {
    case nil, .keyPending, .locked, .verifying: false
    default: true
    }
  }

  var readiness: TPMStateReadiness {
    guard let nvram else { return .released }
    return switch nvram.state {
    case .running: placeMissing(nvram).map { .failed($0) } ?? .ready
    case .keyPending(let keys) where failOnEncryptedDrive && (keys.isEmpty || !nvram.isLookingForKeys):
      .refused(missing(keys, nvram))
    case .keyPending(let keys): .pending("\(nvram.name) waits for a key: \(keys.summary)\(troubleSummary)")
    case .locked(let keys): .pending("\(nvram.name) is locked and waits for a key: \(keys.summary)\(troubleSummary)")
    case .verifying: .pending("\(nvram.name) is being verified")
    case .failed(let error): .failed(TPMStateError(error.status, error.description))
    case .closed, .unformatted:
      .refused(refusal ?? TPMStateError(.failed, "\(nvram.name): was not started"))
    }
  }

  private func missing(_ keys: WantedKeys, _ nvram: NVRAM) -> TPMStateError {
    let error = NVRAMError(keys, store: nvram.name)
    let hint = keys.isEmpty ? " (a passphrase with --key pwdfile=FILE)" : ""
    return TPMStateError(error.status, error.description + hint + troubleSummary)
  }

  func retry() {
    guard let nvram else { return }
    if failOnEncryptedDrive, case .keyPending = nvram.state { return nvram.poke() }
    guard refusal != nil, nvram.state == .closed || nvram.state == .unformatted else { return }
    if let key, key.isGone { return }
    start()
  }

  func poke() {
    nvram?.poke()
    retry()
  }

  private var troubleSummary: String { trouble.last.withLock { $0 }.map { "; \($0)" } ?? "" }

  /// Says which state the image has no place for, as soon as that can be told: else it would show in the middle of a
  /// TPM's first command, or of the suspend of a virtual machine.
  private func placeMissing(_ nvram: NVRAM) -> TPMStateError? {
    for name in version.states {
      var nothing: [UInt8] = []
      do {
        _ = try nvram.readContent(Self.entry(name), at: ByteOffset(0), into: nothing.mutableSpan, deadline: .zero)
      } catch  where error.code == .entryMissing || error.code == .entryTooSmall {
        let kind = version == .tpm2 ? "TPM 2.0" : "TPM 1.2, as without --tpm2"
        return TPMStateError(
          error.status,
          "\(nvram.name): has no place for the state of a \(kind): entry \"\(Self.entry(name))\" is not there, or too small; "
            + "was it made for another kind of TPM?")
      } catch {
        // What else there is shows when the state is loaded.
      }
    }
    return nil
  }

  func load(_ name: TPMStateName) throws(TPMStateError) -> [UInt8]? {
    let content = try whileAtWork { (nvram, deadline) throws(NVRAMError) in
      try nvram.readContent(Self.entry(name), deadline: deadline)
    }
    return content.isEmpty ? nil : content
  }

  func store(_ bytes: Span<UInt8>, as name: TPMStateName) throws(TPMStateError) {
    try whileAtWork { (nvram, deadline) throws(NVRAMError) in
      try nvram.replaceContent(Self.entry(name), bytes, deadline: deadline)
    }
  }

  /// Waits while the store is at work, upkeep for example, for as long as its device takes. It doesn't wait for a key:
  /// the server has one thread, and waiting here would keep it from hearing of anything.
  private func whileAtWork<R>(_ body: (NVRAM, Duration) throws(NVRAMError) -> R) throws(TPMStateError) -> R {
    guard let nvram else {
      throw TPMStateError(.inUse, "\(image): was released, and another process may have it")
    }
    while true {
      do throws(NVRAMError) { return try body(nvram, .milliseconds(20)) } catch {
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
    let asked = asking.isEmpty ? "" : ", which is asked for"
    return (missing + unusable + wrong).joined(separator: ", ") + asked
  }
}
