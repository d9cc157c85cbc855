import BlobStore
import BlockIO
import Primitives
import SecureVolume

/// Everything of an NVRAM that its lock guards.
///
/// What holds between any two moments at which the lock is free:
/// - `core` is there exactly in the state running, or while `coreIsTaken`;
/// - who set `coreIsTaken`, or was given it, alone touches `core` and `device`, without the lock;
/// - a request is in `queue`, or served by whoever has the core, or in `outbox`, or has ended and gone;
/// - in the states closed, unformatted and failed the queue is empty.
final class NVRAMShared {
  var state = NVRAMState.closed
  /// False once `close` has begun.
  var isOpen = true
  var device: (any BlockDevice)?
  /// Touched by who has the core, as the device is.
  var anchor: (any FreshnessAnchor)?

  var core: StoreCore?
  var coreIsTaken = false {
    didSet { if coreIsTaken { coreTaken = .now } }
  }
  /// When the core was taken last.
  var coreTaken = Instant(nanoseconds: 0)
  /// Threads that want the core for something other than serving the queue. They come before the queue.
  var coreWaiters = 0
  let coreIsFree = Condition()
  /// When requests were last served.
  var lastServed = Instant(nanoseconds: 0)
  /// When the worker is to free journal space, if nothing comes between.
  var upkeepDue: Instant?
  /// When the worker is to bring the anchor up to date, if nothing does before.
  var anchorDue: Instant?
  /// Whether observers know that it could not be.
  var hasAnchorTrouble = false

  var registered: [EntryName: RegisteredEntry] = [:]
  var queue: RequestQueue
  var requestsSoFar: UInt64 = 0
  /// Requests that have ended, for use again.
  var spare: [Request] = []
  /// Signalled when an entry that is being deregistered has no request left.
  let entryIsQuiet = Condition()

  /// What was seen when the keys were tried last.
  var seen: [Unlocker.SlotSighting] = []
  /// The key that opened the store.
  var opener: Unlocker.SlotSighting?
  /// And its use.
  var openerUse: KeyUse?
  /// What becomes of it. Touched by the worker, and by who has the core.
  var keyGuard: KeyGuard?
  var watch: KeyWatch
  var inquiry: KeyInquiry

  var observers: [@Sendable (NVRAMEvent) -> Void] = []
  var outbox: [Outgoing] = []
  var worker: WorkerThread?
  var workerMustEnd = false
  let workerHasWork = Condition()

  /// What the worker gives out, in order.
  enum Outgoing {
    case event(NVRAMEvent)
    case completion(Request)
  }

  init(device: any BlockDevice, anchor: (any FreshnessAnchor)?, _ configuration: NVRAMConfiguration) {
    self.device = device
    self.anchor = anchor
    queue = RequestQueue(
      maximumCount: configuration.maximumRequests, maximumBytes: configuration.maximumRequestBytes)
    watch = KeyWatch(configuration)
    inquiry = KeyInquiry(configuration)
  }

  /// The kernel keys that open the store which runs. For who has the core.
  var keyNames: [String] { core?.volume?.slots.filter { $0.kind == .keyring }.map(\.name) ?? [] }

  func become(_ state: NVRAMState) {
    guard self.state != state else { return }
    self.state = state
    tell(.state(state))
  }

  func tell(_ event: NVRAMEvent) {
    guard !observers.isEmpty else { return }
    outbox.append(.event(event))
    workerHasWork.signal()
  }

  /// A request that no one uses.
  func makeRequest() -> Request {
    requestsSoFar += 1
    let request = spare.popLast() ?? Request()
    request.number = requestsSoFar
    return request
  }

  /// Takes back a request that has ended and been reported.
  func recycle(_ request: Request) {
    if let entry = request.entry { settle(entry) }
    request.clear()
    if spare.count < 64 { spare.append(request) }
  }

  /// One request for `entry` less.
  func settle(_ entry: RegisteredEntry) {
    entry.outstanding -= 1
    if entry.outstanding == 0 { entryIsQuiet.broadcast() }
  }

  /// Ends a request whose outcome is settled. Who waits for it is to be signalled.
  func end(_ request: Request) {
    request.phase = .ended
    guard request.completion != nil else { return }
    outbox.append(.completion(request))
    workerHasWork.signal()
  }

  /// Ends requests that never were served, in order.
  func fail(_ requests: [Request], _ error: NVRAMError) {
    for request in requests {
      request.settle(error)
      end(request)
      if request.completion == nil { request.finished.signal() }
    }
  }

  func failQueue(_ error: NVRAMError) { fail(queue.take { _ in true }, error) }
}
