// What an NVRAM is and does, without how it is done: no lock, no thread, no clock, no input or output. Every transition
// is told the time, and who asks where that matters; it returns what the caller is to do, and collects who is to be
// woken (`wakes`). `NVRAM.change` does all of it: it has the lock for a transition, and never for longer.
//
// What holds between transitions:
// - the store is here, or with one who borrowed it: nobody else can touch it (`custody`);
// - a request is in `queue`, or with who serves it, or in `outbox`, or it has ended and gone;
// - where no request is admitted, `queue` is empty.
import BlobStore
import Primitives
import SecureVolume

/// The state of an NVRAM.
struct Machine: Sendable {
  /// Where it stands.
  enum Phase: Sendable {
    case closed
    case unformatted
    case keyPending(Search)
    case verifying(Search, wasLocked: Bool)
    case running(Unlocking?)
    /// It ran; who locks it has the store, and drops the keys.
    case locking(Search)
    case locked(Search)
    case failed(NVRAMError)
    /// `close` was called; to others it stands where it stood.
    case closing(NVRAMState)
    case ended
  }

  /// What it waits for.
  struct Search: Sendable {
    var wanted: WantedKeys
    /// What was seen when the keys were tried last.
    var seen: [Unlocker.SlotSighting]
    /// No two times of waiting have the same.
    var number: UInt64 = 0
  }

  /// The kernel key that opened the store.
  struct Unlocking: Sendable {
    let sighting: Unlocker.SlotSighting
    let use: KeyUse?
    /// What was seen of the others' keys.
    let seen: [Unlocker.SlotSighting]
    /// No two openings have the same.
    let number: UInt64
  }

  /// Who has the store.
  enum Custody: Sendable {
    case here(Store)
    /// Meant for the thread that waits there, which has not come for it yet.
    case granted(Store, Parker)
    case lent
  }

  /// The NVRAM's own threads.
  struct Workers: Sendable {
    var hasTeller = false
    var hasKeeper = false
    /// The teller, while it runs.
    var teller: Threads.ID?
    /// How many have not ended.
    var count = 0
    /// To be joined by who closes.
    var joinable: [Threads.ID] = []
  }

  let name: String
  let configuration: NVRAMConfiguration
  /// Where the NVRAM's own threads wait; the keeper for the store, too.
  let keeper: Parker
  let teller: Parker

  var phase = Phase.closed
  var custody: Custody
  /// How the store was when it was here last.
  var condition = StoreCondition()
  /// Threads that want the store for something other than serving the queue, in order.
  var claims: [Parker] = []
  /// The last turn was such a one's; the next is the queue's.
  var wasClaimed = false
  var gathering = Gathering()
  /// Of openings and times of waiting for a key.
  private var turns: UInt64 = 0

  var registered: [EntryName: RegisteredEntry] = [:]
  var queue = RequestQueue()
  var requestsSoFar: UInt64 = 0
  /// Of requests that were not told yet.
  var outstanding = 0
  var heldBytes = 0

  var upkeep = Upkeep()
  /// Until when the keeper sleeps.
  var alarm: Instant?
  var watch: KeyWatch
  var inquiry: KeyInquiry

  var observers: [@Sendable (NVRAMEvent) -> Void] = []
  var outbox = Outbox()
  /// A completion or an observer is being called.
  private(set) var isTelling = false
  var workers = Workers()
  /// Threads that run a callback, once for each.
  var inCallbacks: [Threads.ID] = []
  /// Where threads wait for the end of `close`.
  var closing: [Parker] = []

  /// Who is to be woken once the lock is given up.
  private var wakes: [Parker] = []

  init(_ store: Store, _ configuration: NVRAMConfiguration, _ threads: Threads) {
    name = store.device.name
    self.configuration = configuration
    (keeper, teller) = (Parker(threads), Parker(threads))
    custody = .here(store)
    watch = KeyWatch(configuration)
    inquiry = KeyInquiry(configuration)
  }

  mutating func nextTurn() -> UInt64 {
    turns += 1
    return turns
  }

  mutating func wake(_ parker: Parker) { wakes.append(parker) }
  mutating func wake(_ parkers: [Parker]) { wakes += parkers }

  mutating func takeWakes() -> [Parker] {
    defer { wakes = [] }
    return wakes
  }

  // MARK: States

  var state: NVRAMState {
    switch phase {
    case .closed, .ended: .closed
    case .unformatted: .unformatted
    case .keyPending(let search): .keyPending(search.wanted)
    case .verifying: .verifying
    case .running, .locking: .running
    case .locked(let search): .locked(search.wanted)
    case .failed(let error): .failed(error)
    case .closing(let state): state
    }
  }

  var isRunning: Bool { if case .running = phase { true } else { false } }

  var isClosed: Bool {
    switch phase {
    case .closing, .ended: true
    default: false
    }
  }

  /// It waits for a key.
  var search: Search? {
    switch phase {
    case .keyPending(let search), .locked(let search): search
    default: nil
    }
  }

  /// Requests wait for a key.
  var waitsForKey: Bool {
    switch phase {
    case .keyPending, .verifying, .locking, .locked: true
    default: false
    }
  }

  /// Nothing, once it is being closed.
  mutating func become(_ new: Phase) {
    guard !isClosed else { return }
    let before = state
    phase = new
    // The keeper's times are others now.
    wake(keeper)
    if waitsForKey { failTellers() }
    if state != before { tell(.state(state)) }
  }

  /// Nothing goes any more.
  mutating func fail(_ error: NVRAMError) {
    watch.stop()
    become(.failed(error))
    failQueue(error)
  }

  // MARK: The store

  /// The store, for something other than serving the queue. `nil`: it is to be collected when `parker` is woken.
  mutating func claim(_ parker: Parker, now: Instant) -> Store? {
    claims.append(parker)
    pass()
    return collect(parker, now: now)
  }

  /// The store, if it is meant for the thread that waits there.
  mutating func collect(_ parker: Parker, now: Instant) -> Store? {
    guard case .granted(let store, let other) = custody, other === parker else { return nil }
    lend(now)
    return store
  }

  mutating func lend(_ now: Instant) {
    gathering.stop(with: queue.waiting)
    custody = .lent
    upkeep.lent = now
  }

  /// Takes the store back, and gives it to the next who wants it.
  mutating func giveBack(_ store: Store, _ condition: StoreCondition) {
    self.condition = condition
    if let failure = condition.failure { fail(failure) }
    custody = .here(store)
    pass()
  }

  /// The store is here, and the queue comes before who claims it.
  private var isQueuesTurn: Bool { wasClaimed && isRunning && !queue.isEmpty }

  /// Gives the store, if it is here, to the next who wants it. What nobody waits for is served by the keeper, who comes
  /// by itself; a claim of the keeper's own is not kept waiting for that.
  mutating func pass() {
    guard case .here(let store) = custody else { return }
    let leader = isRunning && gathering.until == nil ? queue.firstParker : nil
    if !claims.isEmpty, !isQueuesTurn || leader == nil && claims.contains(where: { $0 === keeper }) {
      wasClaimed = true
      grant(store, claims.removeFirst())
    } else if let leader {
      wasClaimed = false
      grant(store, leader)
    } else if isRunning, !queue.isEmpty, gathering.until == nil {
      wake(keeper)
    }
  }

  private mutating func grant(_ store: Store, _ parker: Parker) {
    custody = .granted(store, parker)
    // Before those whose requests have ended: the medium waits for it.
    wakes.insert(parker, at: 0)
  }

  // MARK: Telling

  mutating func tell(_ event: NVRAMEvent) {
    guard !observers.isEmpty else { return }
    outbox.append(event, to: observers.count)
    wake(teller)
  }

  enum Telling: Sendable {
    case event(NVRAMEvent, ArraySlice<@Sendable (NVRAMEvent) -> Void>)
    case completion(Request)
    case wait
    case end
  }

  /// What the teller does next.
  mutating func nextToTell() -> Telling {
    isTelling = false
    while let item = outbox.popFirst() {
      switch item {
      case .event(let event, let observerCount):
        isTelling = true
        return .event(event, observers.prefix(observerCount))
      case .request(let request) where request.parker != nil: finish(request)
      case .request(let request):
        if !ShellMutant.unboundedOutbox.isOn { release(request) }
        isTelling = true
        return .completion(request)
      }
    }
    if case .ended = phase { return .end } else { return .wait }
  }

  /// A completion has returned.
  mutating func told(_ request: Request) {
    if let entry = request.entry { settle(entry) }
  }

  /// Whether that thread runs a completion, an observer or a callback of this NVRAM.
  func isInside(_ thread: Threads.ID) -> Bool { workers.teller == thread || inCallbacks.contains(thread) }
}
