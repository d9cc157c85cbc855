// The 2013 design's calls, over one store:
//
//     nvram_setup              NVRAM.setUp, init             nvram_read_data        read, readContent
//     nvram_register_entry     register                      nvram_write_data       write, writeContent
//     nvram_deregister_entry   deregister                    nvram_process_requests processRequests
//     nvram_start              start                         nvram_had_fatal_error  hadFatalError
//     nvram_delete             close; deleteImage removes what is on the medium
//
// Threads. One at a time has the store (`Machine.Custody`), whose core is single-threaded. A thread that writes and
// finds it free writes and syncs by itself, without waking anybody; requests that come in the meantime queue, and the
// first thread that waits for one of them serves all of them with one record. See NVRAM+Workers.swift for the NVRAM's
// own threads, Machine.swift for what happens when.
import Audit
import BlobStore
import BlockIO
import Primitives
import SecureVolume

/// An encrypted store of entries, held back until a key for it is there.
///
/// It lives from `init` to `close`, which must be called: the device is held, and once `start` has succeeded two
/// threads run, until then. Any thread may call anything, at any time.
///
/// **Threads.** A call works on the thread that calls it. Two threads are the NVRAM's own, from `start` to `close`:
/// - *The thread that calls completions and observers*, one at a time, in the order in which requests ended and states
///   changed. Before `start` has succeeded it isn't there, and nobody is told anything.
/// - *The thread that looks after keys*. It also serves requests that nobody waits for, and does the upkeep. It runs no
///   code of the caller's, but for the device's, the anchor's and the audit log's.
///
/// A third runs only while a key is asked for (`NVRAMConfiguration.asksForKeys`).
///
/// A thread that waits for a request of its own may serve others' with it, up to 256 requests or 1 MiB in one go, until
/// its own has been served. A thread that writes again and again may do one step of upkeep after a write of its own.
/// And where several threads write at the same time, the first may wait for the others, so that one sync serves all: up
/// to half of what the last commit took, at most 1 ms, and never beyond its deadline.
///
/// **Callbacks.** An entry's callback runs on the thread that reads or writes; for a read that has a completion, on the
/// thread that calls completions. One that throws fails its request with `.fields`: nothing was written; of what was
/// read, some fields may have been set.
///
/// **What may be called from within** a completion, an observer or a callback: everything. No lock is held meanwhile,
/// and the store isn't either. Two things differ:
/// - The thread that calls completions and observers can't wait for a key. While the store waits for one, a `read`,
///   `write` or `processRequests` that waits throws `.wouldDeadlock` there; and so does one that waits already when
///   that begins.
/// - `deregister` and `close` don't wait there for completions, observers and callbacks of this NVRAM.
///
/// **If one blocks.** A completion or an observer that blocks holds up other completions and observers,
/// `processRequests`, `deregister` of an entry with requests that were not told, and `close`. Once as many requests
/// wait to be told as may (`NVRAMConfiguration.maximumRequests`), new ones with a completion are refused with
/// `.queueFull`. All else goes on: calls that wait for their own request, all deadlines, locking, and losing a key. A
/// callback that blocks holds up its own call, `deregister` of its entry, and `close`; where it runs for a read that
/// has a completion, it counts as that completion.
///
/// **Order.** Requests are served in the order in which they were made. Each ends once: its call returns, or its
/// completion is called.
///
/// **Durability.** A write that is acknowledged, by its call's return or its completion, is on the medium, synced. A
/// read sees every write that was made before it, and only what is durable. A commit that fails ends the store: its
/// requests and all that wait fail, and nothing more is written (`hadFatalError`).
///
/// **Deadlines** are for waiting: for a key, and behind other requests. A request whose deadline passes before it is
/// served fails with `.timedOut`, and had no effect; what is being served isn't called off, and its outcome is
/// reported. With a deadline of zero, a call that waits does what can be done at once. The time is CLOCK_MONOTONIC's:
/// setting the clock doesn't matter, and time that the machine sleeps doesn't count.
///
/// **Waiting for the store.** `start`, `unlock`, `lock`, `close` and `format` wait until who has the store has
/// finished: what is being served, a step of upkeep, keys that are tried, another of these calls. They come before the
/// requests that queue, but for one batch of those between two of them.
///
/// **Errors.** Each request can throw `.notStarted`, `.closed`, `.failedEarlier` (an earlier error ended the store),
/// and `.notRegistered`; or end with `.cancelled` (`cancel`, `deregister`), `.closed`, `.timedOut`, `.entryMissing` or
/// `.entryTooSmall` (the image has no place for the entry), or with the store's error: `.volume`, `.blobs`, `.device`.
public final class NVRAM: Sendable {
  /// For messages: the image's path.
  public let name: String
  public let configuration: NVRAMConfiguration
  let unlocker: Unlocker
  let threads: Threads
  let machine: Locked<Machine>
  /// Where the NVRAM's own threads wait.
  let keeper: Parker
  let teller: Parker
  /// Bytes of the device's block, which never changes.
  let blockSize: Int

  /// Sets up an NVRAM on a device. Nothing is read or written yet, and no thread runs. The device belongs to the NVRAM
  /// until `close`.
  ///
  /// - Parameter anchor: what the image is compared with at each unlocking, and what follows it; it belongs to the
  ///   NVRAM until `close`.
  public convenience init(
    _ device: sending any BlockDevice, audit: AuditLog, configuration: NVRAMConfiguration = .init(),
    anchor: sending (any FreshnessAnchor)? = nil
  ) {
    self.init(device, audit: audit, configuration: configuration, anchor: anchor, threads: .system)
  }

  package init(
    _ device: sending any BlockDevice, audit: AuditLog, configuration: NVRAMConfiguration,
    anchor: sending (any FreshnessAnchor)?, threads: Threads
  ) {
    name = device.name
    self.configuration = configuration
    self.threads = threads
    unlocker = Unlocker(
      audit: audit, asksForKeys: configuration.asksForKeys, runs: RepeatedRecords(audit),
      comparesEvery: configuration.keyLossPolicy == .lock ? configuration.keyCheckInterval : nil)
    blockSize = device.blockSize
    let machine = Machine(Store(device, anchor), configuration, threads)
    (keeper, teller) = (machine.keeper, machine.teller)
    self.machine = Locked(machine)
  }

  /// Sets up an NVRAM on an image file or a block device that exists, and locks it for this process until `close`.
  /// Nothing is written yet, and no thread runs.
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

  /// Where it stands. Waits for nothing. While it is being locked it is running still; while it is being closed it
  /// stays what it was, until the device is closed.
  public var state: NVRAMState { change { $0.state } }

  /// The generation of the image while it runs; nil otherwise, and for a plain one. After a write it is that write's or
  /// a later one's. Waits for nothing.
  public var generation: Generation? { change { $0.isRunning ? $0.condition.generation : nil } }

  /// Whether it is of no use any more (until it is closed and set up anew): after a failed write or sync, or an image
  /// that is not authentic. Waits for nothing. After `close` it is false.
  public var hadFatalError: Bool {
    if case .failed = state { true } else { false }
  }

  /// Has `observer` told of everything that happens from now on, and returns at once. It is called on the thread that
  /// calls completions and observers, and kept for as long as the NVRAM. What happens before `start` has succeeded is
  /// told once it has.
  ///
  /// Where more than 64 events wait to be told, troubles are left out first, then the oldest; the newest state is
  /// always told.
  public func observe(_ observer: @escaping @Sendable (NVRAMEvent) -> Void) {
    change { $0.observers.append(observer) }
  }

  // MARK: Entries

  /// Registers an entry of raw bytes. Possible until `close`, in every state. Waits for nothing, and changes nothing in
  /// the image. Whether that has room for the entry shows when it runs: by `NVRAMEvent.mismatched` when it begins to,
  /// and by the errors of requests.
  ///
  /// - Parameter capacity: the most bytes that it will have.
  /// - Throws: `.alreadyRegistered`; `.blobs(.overLimit)`; `.closed`.
  public func register(entry name: EntryName, capacity: ByteCount) throws(NVRAMError) {
    try register(EntrySpecification(name: name, capacity: capacity), nil)
  }

  /// Registers an entry whose fields `callback` visits. It is called here once, on the calling thread, with `.format`,
  /// for the largest size. `deregister` and `close` don't wait for this one call of it, nor is it one that they don't
  /// wait in. Where it throws, nothing is registered. Else as `register(entry:capacity:)`.
  ///
  /// - Throws: `.alreadyRegistered`; `.fields`; `.blobs(.overLimit)`; `.closed`.
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
    // Refuses what no stream can hold.
    do { _ = try BlobStore.size(of: [specification]) } catch { throw NVRAMError(error, store: name) }
    try change { (machine) throws(NVRAMError) in try machine.register(specification, callback) }
  }

  /// Takes a registration back; the entry's content stays in the store. Requests for it that wait fail with
  /// `.cancelled`, those of waiting calls, too; one that is being served ends with its outcome. On return its callback
  /// doesn't run and is not called any more, and the completions of its requests have returned. All of that is waited
  /// for, however long it takes, but not from within a completion, an observer or a callback of this NVRAM. A read with
  /// a completion that was served, and whose callback was not called yet, ends with `.cancelled`.
  ///
  /// - Throws: `.notRegistered`, also for who comes second, who doesn't wait.
  public func deregister(entry name: EntryName) throws(NVRAMError) {
    let (parker, thread) = (Parker(threads), threads.current)
    // The last reference isn't let go with the lock held: what its callback holds may call this.
    let (entry, mustWait) = try change { (machine) throws(NVRAMError) in
      try machine.deregister(name, parker, by: thread)
    }
    while mustWait, change({ _ in entry.uses > 0 }) { parker.park() }
  }
}
