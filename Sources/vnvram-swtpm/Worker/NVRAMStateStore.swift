import Audit
import BlobStore
import CSystem
import Glibc
import Primitives
import SecureVolume
import VNVRAM
import VTPM

/// A TPM's states as entries of an NVRAM, with the names that libtpms gives them.
///
/// An entry that is there and empty is the only thing that counts as "no state yet": it is what formatting makes, and
/// it is authenticated. Everything else that keeps a state from being read is an error, an image that has no place for
/// a state among them.
///
/// The image and its key come from the monitor, when they are asked for or when the key comes later; nothing here knows
/// of keyrings.
final class NVRAMStateStore: TPMStateStore {
  private let monitor: MonitorClient
  private let version: TPMVersion
  private let hasAnchor: Bool
  /// Nil before it is opened and while it is released: then another process may have the image.
  private var nvram: NVRAM?
  /// Readable while the NVRAM or the monitor has something to tell.
  let readinessDescriptor: Int32
  /// Told by the NVRAM's thread.
  private let events: Int32
  /// What the monitor said last of the key that is wanting.
  private var wanting = Wanting.looking
  /// For messages.
  private var name = "the image"

  /// What keeps the image closed.
  private enum Wanting {
    /// Nothing was said yet.
    case looking
    case pending(String)
    case refused(TPMStateError)
  }

  /// Nothing is opened yet. Throws where the process may have no more descriptors.
  init(_ monitor: MonitorClient, _ version: TPMVersion, hasAnchor: Bool) throws(TPMStateError) {
    events = csystem_event_descriptor()
    readinessDescriptor = events < 0 ? -1 : csystem_either(events, monitor.tellingDescriptor)
    guard readinessDescriptor >= 0 else {
      throw TPMStateError(
        .inputOutput, unsafe "cannot create a descriptor for the store's events: \(String(cString: strerror(errno)))")
    }
    self.monitor = monitor
    self.version = version
    self.hasAnchor = hasAnchor
  }

  deinit {
    if readinessDescriptor >= 0 { Glibc.close(readinessDescriptor) }
    if events >= 0 { Glibc.close(events) }
  }

  /// Takes the image over from the monitor, which has opened and locked it. No key is used yet, and nothing of it is
  /// read.
  private func prepare() throws(TPMStateError) {
    guard nvram == nil else { return }
    var configuration = NVRAMConfiguration()
    configuration.findsKeys = false
    let device = try monitor.acquire()
    // What was told of the image before it was released is of the past; that the server is to end is not.
    do throws(LinkError) {
      while let message = try monitor.next() { if case .end = message { raise(SIGTERM) } }
    } catch { lose(error) }
    name = device.name
    let nvram = NVRAM(
      device, audit: AuditLog(.none), configuration: configuration, anchor: hasAnchor ? MonitoredAnchor(monitor) : nil)
    do throws(NVRAMError) {
      for name in version.states {
        try nvram.register(entry: Self.entry(name), capacity: ByteCount(name.maximumSize(version)))
      }
    } catch {
      try? nvram.close()
      throw TPMStateError(error.status, error.description)
    }
    nvram.observe { [events] event in
      var one: UInt64 = 1
      _ = unsafe write(events, &one, 8)
    }
    self.nvram = nvram
    wanting = .looking
  }

  /// At the start, for an image that nobody else has: what keeps it closed is what `readiness` says from then on.
  func begin() throws(TPMStateError) {
    try prepare()
    askForKey()
  }

  // MARK: The key

  /// Has the monitor look for the key, and opens the image if it is there. What keeps it closed is what `readiness`
  /// says from then on.
  private func askForKey() {
    do { heed(try monitor.askForKey()) } catch { lose(error) }
  }

  private func heed(_ message: consuming MonitorMessage) {
    switch consume message {
    case .granted(let uuid, let key): open(uuid, key)
    case .pending(let text): wanting = .pending(text)
    case .refused(let failure): wanting = .refused(TPMStateError(failure.status, failure.description))
    case .lock(let reason): lock(reason)
    // The server hears of it as of any other signal.
    case .end: raise(SIGTERM)
    default: break
    }
  }

  private func open(_ uuid: StoreUUID, _ key: consuming SecretBytes) {
    guard let nvram else { return }
    do {
      do throws(NVRAMError) {
        if case .locked = nvram.state {
          try nvram.unlock(withStoreKey: key, of: uuid)
        } else {
          try nvram.start(withStoreKey: key, of: uuid)
        }
      } catch {
        wanting = .refused(TPMStateError(error.status, error.description))
        return try monitor.tellOpened(nil, Failure(error))
      }
      try monitor.tellOpened(nvram.generation?.value, nil)
    } catch { lose(error) }
  }

  private func lock(_ reason: String) {
    guard let nvram else { return }
    wanting = .pending(reason)
    var failure: Failure?
    do throws(NVRAMError) { try nvram.lock() } catch { failure = Failure(error) }
    do { try monitor.tellLocked(failure) } catch { lose(error) }
  }

  /// The monitor is gone, or doesn't make sense: this process ends with it.
  private func lose(_ error: LinkError) {
    // One that is gone was killed, and so is this process, by the kernel: nothing more is to be stored meanwhile.
    if error.isHangUp { raise(SIGKILL) }
    wanting = .refused(TPMStateError(.failed, error.description))
    raise(SIGTERM)
  }

  func heedReadiness() {
    var bytes: UInt64 = 0
    _ = unsafe read(events, &bytes, 8)
    do throws(LinkError) {
      while let message = try monitor.next() { heed(message) }
    } catch { lose(error) }
  }

  func close() throws(NVRAMError) {
    guard let nvram else { return }
    self.nvram = nil
    var failure: NVRAMError?
    do throws(NVRAMError) { try nvram.close() } catch { failure = error }
    try? monitor.tellReleased(failure.map { Failure($0) })
    if let failure { throw failure }
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
    try prepare()
    askForKey()
    guard case .refused(let error) = wanting, !isOpen else { return }
    // Who asked for it is told why, and others may have it.
    guard error.status != .keyMissing, error.status != .keyUnusable else { return }
    try? close()
    throw error
  }

  func release() throws(TPMStateError) {
    do { try close() } catch { throw TPMStateError(error.status, error.description) }
  }

  private var isOpen: Bool { nvram?.state == .running }

  var isReady: Bool {
    switch nvram?.state {
    case .running, .failed: true
    case .closed, .unformatted:
      if case .refused = wanting { true } else { false }
    case nil, .keyPending, .locked, .verifying: false
    }
  }

  var readiness: TPMStateReadiness {
    guard let nvram else { return .released }
    switch nvram.state {
    case .running: return placeMissing(nvram).map { .failed($0) } ?? .ready
    case .verifying: return .pending("\(name) is being verified")
    case .failed(let error): return .failed(TPMStateError(error.status, error.description))
    case .closed, .unformatted, .keyPending, .locked:
      return switch wanting {
      case .looking: .pending("\(name): its key is looked for")
      case .pending(let text): .pending(text)
      case .refused(let error): .refused(error)
      }
    }
  }

  func retry() {
    if nvram != nil, !isOpen { askForKey() }
  }

  func poke() { retry() }

  func record(_ transfer: TPMStateTransfer, of name: TPMStateName, isEncrypted: Bool) throws(TPMStateError) {
    do { try monitor.record(transfer, name, isEncrypted: isEncrypted) } catch {
      let error = Failure(error)
      throw TPMStateError(error.status, error.description)
    }
  }

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
      throw TPMStateError(.inUse, "\(name): was released, and another process may have it")
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
