// The 2013 design's calls, over one store:
//
//     nvram_setup              NVRAM.setUp, init             nvram_read_data        read, readContent
//     nvram_register_entry     register                      nvram_write_data       write, writeContent
//     nvram_deregister_entry   deregister                    nvram_process_requests processRequests
//     nvram_start              start                         nvram_had_fatal_error  hadFatalError
//     nvram_delete             close; deleteImage removes what is on the medium
//
// Threads. Any thread may call anything. One at a time has the core (`NVRAMShared.coreIsTaken`), which is
// single-threaded. A thread that writes and finds it free writes and syncs by itself, without waking anybody; requests
// that come in the meantime queue, and whoever has the core serves all of them with one record. One worker thread per
// NVRAM calls completions and observers, looks for keys, and does the upkeep.
import Audit
import BlobStore
import BlockIO
import Primitives
import SecureVolume

/// An encrypted store of entries, held back until a key for it is there.
///
/// It lives from `init` to `close`, which must be called: the device is held, and after `start` a thread runs, until
/// then. Completions and observers are called on that thread, one at a time, in order, without any lock; they may call
/// everything, except that waiting for a key there throws `.wouldDeadlock`.
public final class NVRAM: Sendable {
  /// For messages: the image's path.
  public let name: String
  public let configuration: NVRAMConfiguration
  let unlocker: Unlocker
  let monitor: Monitor<NVRAMShared>

  /// Sets up an NVRAM on a device. Nothing is read or written yet.
  ///
  /// - Parameter anchor: what the image is compared with at each unlocking, and what follows it; it belongs to the NVRAM
  ///   until `close`.
  public init(
    _ device: sending any BlockDevice, audit: AuditLog, configuration: NVRAMConfiguration = .init(),
    anchor: sending (any FreshnessAnchor)? = nil
  ) {
    name = device.name
    self.configuration = configuration
    unlocker = Unlocker(
      audit: audit, asksForKeys: configuration.asksForKeys, runs: RepeatedRecords(audit),
      comparesEvery: configuration.keyLossPolicy == .lock ? configuration.keyCheckInterval : nil)
    monitor = Monitor(NVRAMShared(device: device, anchor: anchor, configuration))
  }

  /// Sets up an NVRAM on an image file or a block device that exists, and locks it for this process.
  ///
  /// - Throws: `.device`.
  public static func setUp(
    path: String, audit: AuditLog, configuration: NVRAMConfiguration = .init(),
    anchor: sending (any FreshnessAnchor)? = nil
  ) throws(NVRAMError) -> NVRAM {
    do {
      let device = try FileDevice.open(path: path, access: .readWrite)
      return NVRAM(device, audit: audit, configuration: configuration, anchor: anchor)
    } catch { throw NVRAMError(error) }
  }

  // MARK: What it says of itself

  public var state: NVRAMState { monitor.withLock { $0.state } }

  /// The generation of the image while it runs; nil otherwise, and for a plain one.
  public var generation: Generation? {
    monitor.withLock { s in
      _ = takeCore(s)
      defer { releaseCore(s) }
      return s.core?.volume?.generation
    }
  }

  /// Whether it is of no use any more (until it is set up anew): after a failed write or sync, or an image that is not
  /// authentic.
  public var hadFatalError: Bool {
    if case .failed = state { true } else { false }
  }

  /// Has `observer` told of everything that happens from now on; see `NVRAM` for where it is called.
  public func observe(_ observer: @escaping @Sendable (NVRAMEvent) -> Void) {
    monitor.withLock { $0.observers.append(observer) }
  }

  // MARK: Entries

  /// Registers an entry of raw bytes. Possible in every state; whether the image has room for it shows when it runs.
  ///
  /// - Parameter capacity: the most bytes that it will have.
  /// - Throws: `.alreadyRegistered`; `.blobs(.overLimit)`.
  public func register(entry name: EntryName, capacity: ByteCount) throws(NVRAMError) {
    try register(EntrySpecification(name: name, capacity: capacity), nil)
  }

  /// Registers an entry whose fields `callback` visits. It is called here once, with `.format`, for the largest size.
  ///
  /// - Throws: `.alreadyRegistered`; `.fields`; `.blobs(.overLimit)`.
  public func register(entry name: EntryName, callback: @escaping NVRAMCallback) throws(NVRAMError) {
    let capacity: ByteCount
    do {
      let visitor = SizingVisitor()
      try callback(.format, visitor, name)
      capacity = visitor.maximumSize
    } catch { throw NVRAMError(error, entry: name, store: self.name) }
    try register(EntrySpecification(name: name, capacity: capacity), callback)
  }

  private func register(_ specification: EntrySpecification, _ callback: NVRAMCallback?) throws(NVRAMError) {
    let entry = specification.name
    // Refuses what no stream can hold.
    do { _ = try BlobStore.size(of: [specification]) } catch { throw NVRAMError(error, store: name) }
    try monitor.withLock { (s) throws(NVRAMError) in
      guard s.isOpen else { throw closed }
      guard s.registered[entry] == nil else {
        throw NVRAMError(
          .alreadyRegistered, .refused, store: name, "entry \"\(entry)\" is registered; deregister it first")
      }
      guard s.registered.count < EntrySpecification.maximumCount else {
        throw NVRAMError(
          .blobs(.overLimit), .noSpace, store: name,
          "has \(EntrySpecification.maximumCount) registered entries, which is the limit")
      }
      s.registered[entry] = RegisteredEntry(specification, callback)
    }
  }

  /// Takes a registration back; the entry's content stays in the store. Requests for it that wait fail with `.cancelled`,
  /// and one that is being served is waited for: on return its callback is not called any more. (From a completion, the
  /// wait would be for itself; there it is left out.)
  ///
  /// - Throws: `.notRegistered`.
  public func deregister(entry name: EntryName) throws(NVRAMError) {
    try monitor.withLock { (s) throws(NVRAMError) in
      guard let entry = s.registered.removeValue(forKey: name) else { throw notRegistered(name) }
      s.fail(
        s.queue.take { $0.entry === entry },
        NVRAMError(.cancelled, .failed, store: self.name, "entry \"\(name)\" was deregistered while a request waited"))
      guard s.worker?.isCurrent != true else { return }
      while entry.outstanding > 0 { monitor.wait(for: s.entryIsQuiet, until: nil) }
    }
  }

  // MARK: Errors

  var closed: NVRAMError { NVRAMError(.closed, .failed, store: name, "was closed; set it up anew") }

  func notRegistered(_ entry: EntryName) -> NVRAMError {
    NVRAMError(.notRegistered, .notFound, store: name, "entry \"\(entry)\" is not registered; register it first")
  }

  var wouldDeadlock: NVRAMError {
    NVRAMError(
      .wouldDeadlock, .failed, store: name,
      "a completion or an observer can't wait for a key, which only it lets come; ask without waiting")
  }
}
