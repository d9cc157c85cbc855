import Audit
import BlockIO
import CSystem
import Glibc
import Keyring
import Primitives
import SecureVolume

/// Finds, asks for, records and watches the kernel keys of one store, for another process that is to have the store key
/// alone and opens the store with it.
///
/// Driven by one thread, that waits for `readinessDescriptor` and `timeout` and then calls `proceed`. It opens nothing
/// itself: the image is read, as far as its headers go, from a device that is lent to it, and once: before the other
/// process may write to it. What that process writes there later is of no account, and no other store's key comes of
/// it.
public final class StoreKeyKeeper {
  public enum Standing {
    /// No image is there to look at.
    case idle
    /// No key opens the store, and one is waited for.
    case waiting(WantedKeys)
    /// The store key was handed out, and the key that gave it is watched.
    case granted(StoreKeyGrant)
    /// The key is lost, and the other process has not said yet that it dropped what it has.
    case losing(WantedKeys)
    /// Nothing is waited for.
    case refused(NVRAMError)
  }

  /// What came of `proceed`.
  public enum Event {
    case granted(StoreKeyGrant)
    /// The key that opened the store is lost: why. The other process is to drop its keys.
    case lost(String)
    /// What is waited for is another than before.
    case changed
    /// Something went wrong while it waits, which it goes on doing.
    case trouble(NVRAMError)
  }

  public private(set) var standing = Standing.idle
  /// Whether it waits for the return of a key that was there: the store ran.
  public private(set) var isLocked = false
  private let unlocker: Unlocker
  private let configuration: NVRAMConfiguration
  private var image: FileDevice?
  private var sealed: SealedVolume?
  /// The store that the image was when it was first seen: no later one is another.
  private var uuid: StoreUUID?
  private var seen: [Unlocker.SlotSighting] = []
  /// Of the kernel keys that may open it.
  private var slotNames: [String] = []
  private var opener: Unlocker.SlotSighting?
  private var openerUse: KeyUse?
  private var keyGuard: KeyGuard?
  private var watch: KeyWatch
  private var inquiry: KeyInquiry
  /// What asking brought, from the thread that asked.
  private let answer = Answer()
  /// Readable when there is an answer.
  public let readinessDescriptor: Int32

  private final class Answer: Sendable {
    let last = Locked<Result<Set<KeySerial>, NVRAMError>?>(nil)
  }

  /// - Parameter configuration: what it says of keys.
  public init(audit: AuditLog, configuration: NVRAMConfiguration) {
    self.configuration = configuration
    unlocker = Unlocker(
      audit: audit, asksForKeys: configuration.asksForKeys, runs: RepeatedRecords(audit),
      comparesEvery: configuration.keyLossPolicy == .lock ? configuration.keyCheckInterval : nil)
    watch = KeyWatch(configuration)
    inquiry = KeyInquiry(configuration)
    readinessDescriptor = csystem_event_descriptor()
  }

  deinit { if readinessDescriptor >= 0 { close(readinessDescriptor) } }

  // MARK: The image

  /// Looks after this image from now on. `image` is open for reading, without a lock.
  public func begin(_ image: FileDevice) {
    self.image = image
    (seen, isLocked) = ([], false)
    // Another opening: who has given the image up may want it again at once.
    watch = KeyWatch(configuration)
    standing = .waiting(WantedKeys())
    do throws(NVRAMError) {
      let sealed = try SealedVolume.expected(on: image)
      guard uuid == nil || uuid == sealed.uuid else { throw .anotherStore(image.name) }
      (self.sealed, uuid) = (sealed, sealed.uuid)
    } catch { refuse(error) }
    // Before the thread that asks, which is to share it.
    if configuration.asksForKeys { try? Keyring.prepareToAsk() }
  }

  /// The image is closed.
  public func end() {
    standing = .idle
    image?.close()
    (image, sealed) = (nil, nil)
    (opener, openerUse, keyGuard) = (nil, nil, nil)
    watch.stop()
    inquiry.settle()
    // No key is used any more, so nothing is held back for want of it.
    try? unlocker.runs?.endAll()
  }

  // MARK: Trying

  /// Tries the keys, where the store waits for one: now, or as soon as they may be tried again. What came of it is
  /// `standing`.
  ///
  /// - Throws: `.audit`, and then no key was used: it goes on waiting. What else is wrong with the image, and then it
  ///   waits no
  ///   more.
  public func lookNow() throws(NVRAMError) {
    guard case .waiting = standing else { return }
    guard watch.mayTry(now: .now) else { return watch.hurry() }
    watch.tried(now: .now)
    watch.searched(now: .now)
    try tryKeys()
  }

  private func tryKeys() throws(NVRAMError) {
    guard let sealed else { return }
    let attempt: Unlocker.Attempt
    do throws(NVRAMError) {
      slotNames = configuration.onlyKey.map { [$0] } ?? sealed.keyNames
      attempt = try unlocker.attempt(
        sealed, .handOver, earlier: seen, only: configuration.onlyKey,
        answered: inquiry.answered)
    } catch {
      if error.code != .audit { refuse(error) }
      throw error
    }
    seen = attempt.keys.seen
    guard let grant = attempt.gain?.grant else { return wait(for: attempt) }
    guard grant.uuid == uuid else {
      refuse(.anotherStore(sealed.name))
      throw .anotherStore(sealed.name)
    }
    (opener, openerUse) = (attempt.keys.opener, attempt.keys.use)
    keyGuard = opener.flatMap { KeyGuard($0.sighting) }
    inquiry.settle()
    watch.startGuard(now: .now)
    standing = .granted(grant)
  }

  private func wait(for attempt: Unlocker.Attempt) {
    inquiry.forbid(attempt.keys.seen.filter(\.sighting.isRevoked).map(\.slot))
    inquiry.want(attempt.keys.askable)
    var wanted = attempt.keys.wanted
    wanted.asking = inquiry.open
    standing = .waiting(wanted)
    watch.startSearch(now: .now)
  }

  private func refuse(_ error: NVRAMError) {
    watch.stop()
    standing = .refused(error)
  }

  /// Somebody says that a key may have come, or wants it looked for again; as `NVRAM.poke`.
  public func hurry() {
    watch.hurry()
    inquiry.hurry()
    _ = showAsking()
  }

  /// What was refused may be otherwise by now: the record can be written, or a slot was added. Not what is wrong with
  /// the image.
  public func reconsider() {
    guard case .refused(let error) = standing, sealed != nil else { return }
    if [.auditFailed, .refused, .notFound].contains(error.status) { standing = .waiting(WantedKeys()) }
  }

  /// The header as it was before the other process had the image; nil where it couldn't be read.
  public var volume: SealedVolume? { sealed }

  /// Whether a key is looked for or asked for just now: what is said of missing keys may change in a moment.
  public var isLooking: Bool {
    guard case .waiting = standing else { return false }
    return watch.isUrgent || !inquiry.open.isEmpty
  }

  // MARK: What the other process says

  /// It could not open the store with the key that it was given. It may ask for the key anew where nothing is wrong
  /// with the store.
  public func openingFailed(_ error: any StatusError) {
    (opener, openerUse, keyGuard, seen) = (nil, nil, nil, [])
    watch.stop()
    let mayPass = [.auditFailed, .refused, .notAnImage].contains(error.status)
    standing = mayPass ? .waiting(WantedKeys()) : .refused(NVRAMError(openingFailed: error, store: image?.name ?? ""))
  }

  /// It has dropped its keys.
  public func dropped() {
    guard case .losing(let wanted) = standing else { return }
    (opener, openerUse, keyGuard) = (nil, nil, nil)
    isLocked = true
    standing = .waiting(wanted)
    watch.startSearch(now: .now)
  }

  // MARK: As time goes by

  /// Milliseconds until `proceed` has something to do; nil: nothing before `readinessDescriptor` is readable.
  public var timeout: Int32? {
    let times: [Instant?]
    switch standing {
    case .waiting: times = [watch.next, inquiry.next]
    case .granted: times = [watch.next]
    case .idle, .losing, .refused: return nil
    }
    guard let next = times.compactMap({ $0 }).min() else { return nil }
    let now = Instant.now
    guard next > now else { return 0 }
    return Int32(clamping: (next.nanoseconds - now.nanoseconds) / 1_000_000 + 1)
  }

  /// Does what is due.
  public func proceed() -> [Event] {
    var events: [Event] = []
    takeAnswer(&events)
    if watch.isDue(now: .now) {
      switch standing {
      case .waiting: search(&events)
      case .granted: guardKey(&events)
      case .idle, .losing, .refused: watch.stop()
      }
    }
    if case .waiting = standing, inquiry.isDue(now: .now) { startAsking(&events) }
    return events
  }

  /// Whether any key is another than when it was tried last; if so all are tried.
  private func search(_ events: inout [Event]) {
    let isUrgent = watch.isUrgent
    let isTimeToCompare = watch.takeComparison(now: .now)
    watch.searched(now: .now)
    guard isUrgent || seen.contains(where: { unlocker.hasChanged($0, comparing: isTimeToCompare) }) else { return }
    // Too early: it is done when it is time.
    guard watch.mayTry(now: .now) else { return watch.hurry() }
    watch.tried(now: .now)
    do throws(NVRAMError) {
      try tryKeys()
      if case .granted(let grant) = standing { events.append(.granted(grant)) } else { events.append(.changed) }
    } catch {
      // The key was not used. It is tried again when the record can be written.
      events.append(error.code == .audit ? .trouble(error) : .changed)
    }
  }

  private func guardKey(_ events: inout [Event]) {
    watch.guarded(now: .now)
    guard configuration.keyLossPolicy == .lock, let opener, let loss = keyGuard?.loss() else { return }
    if loss.code == .missing || loss.code == .expired, let openerUse {
      inquiry.want([openerUse])
    } else {
      inquiry.forbid()
    }
    watch.stop()
    seen = Unlocker.SlotSighting.all(slotNames, afterLosing: opener.slot, loss, earlier: seen)
    standing = .losing(WantedKeys(lost: opener.slot, loss))
    events.append(.lost("key \"\(opener.slot)\" \(loss.detail)"))
  }

  // MARK: Asking

  private func startAsking(_ events: inout [Event]) {
    let uses = inquiry.uses
    inquiry.begin()
    let (unlocker, answer, descriptor) = (unlocker, answer, readinessDescriptor)
    do {
      let thread = try SystemThread.start {
        let result = Result { () throws(NVRAMError) in try unlocker.ask(for: uses) }
        answer.last.withLock { $0 = result }
        var one: UInt64 = 1
        _ = unsafe write(descriptor, &one, 8)
      }
      SystemThread.detach(thread)
    } catch {
      finishAsking(
        .failure(
          NVRAMError(error, store: image?.name ?? "")), &events
      )
    }
  }

  private func takeAnswer(_ events: inout [Event]) {
    var bytes: UInt64 = 0
    _ = unsafe read(readinessDescriptor, &bytes, 8)
    let result = answer.last.withLock { last in
      defer { last = nil }
      return last
    }
    if let result { finishAsking(result, &events) }
  }

  private func finishAsking(_ result: Result<Set<KeySerial>, NVRAMError>, _ events: inout [Event]) {
    let answered = (try? result.get()) ?? []
    inquiry.end(answered, now: .now)
    if !answered.isEmpty {
      watch.hurry()
    } else if showAsking() {
      events.append(.changed)
    }
    if case .failure(let error) = result { events.append(.trouble(error)) }
  }

  /// Has `standing` say what is asked for. True where it said something else.
  private func showAsking() -> Bool {
    guard case .waiting(var wanted) = standing, wanted.asking != inquiry.open else { return false }
    wanted.asking = inquiry.open
    standing = .waiting(wanted)
    return true
  }
}
