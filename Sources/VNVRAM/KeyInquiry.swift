import Keyring
import Primitives

/// What keys to ask for by an upcall, and when: at once when a key turns out to be missing, then less and less often,
/// since each time the kernel starts a program.
///
/// Invariants: one inquiry at a time, and none sooner after the end of another than `shortest`, whoever hurries and
/// however often; no `hurry` is lost, for one that comes too early is heeded when that time is over. Nothing is asked
/// for that somebody took away on purpose. After a key was revoked, or the store was locked by request, only `hurry`,
/// or a store that ran again, lets it be asked for.
struct KeyInquiry {
  private enum Phase {
    case idle
    case due
    case underWay
    case resting(until: Instant)
  }

  private let isWanted: Bool
  private let shortest: Duration
  private let longest: Duration
  private var delay: Duration
  private var phase = Phase.idle
  /// When it may be asked again at the earliest.
  private var earliest = Instant(nanoseconds: 0)
  /// Somebody wants it tried, while an inquiry that began before is under way.
  private var isHurried = false
  private var isForbidden = false
  /// Names of keys that were seen to be revoked: the kernel forgets them, and then they look missing.
  private var revoked: Set<String> = []
  private(set) var uses: [KeyUse] = []
  /// The keys that came.
  private(set) var answered: Set<KeySerial> = []

  init(_ configuration: NVRAMConfiguration) {
    isWanted = configuration.asksForKeys
    shortest = max(.milliseconds(1), configuration.shortestAskInterval)
    longest = max(shortest, configuration.longestAskInterval)
    delay = shortest
  }

  /// The names that are asked for, the first time, and nothing is known yet: who doesn't want to wait for a key waits
  /// for this.
  var open: [String] {
    guard isWanted, !isForbidden, delay == shortest else { return [] }
    switch phase {
    case .due, .underWay: return uses.compactMap(\.name)
    case .idle, .resting: return []
    }
  }

  /// These keys are missing.
  mutating func want(_ uses: [KeyUse]) {
    let uses = uses.filter { !revoked.contains($0.name ?? "") }
    self.uses = uses
    if case .idle = phase, !uses.isEmpty { phase = .due }
  }

  /// The key was taken away on purpose.
  mutating func forbid() { isForbidden = true }

  /// These keys were; others may still be asked for.
  mutating func forbid(_ names: [String]) { revoked.formUnion(names) }

  /// Somebody wants it tried now.
  mutating func hurry() {
    isForbidden = false
    revoked = []
    delay = shortest
    switch phase {
    case .resting: phase = uses.isEmpty ? .idle : .due
    case .underWay: isHurried = true
    case .idle, .due: break
    }
  }

  /// The store runs.
  mutating func settle() {
    (uses, answered, isForbidden, isHurried, revoked, delay) = ([], [], false, false, [], shortest)
    // One that is under way says so itself when it ends.
    if case .underWay = phase { return }
    phase = .idle
  }

  /// When to ask next.
  var next: Instant? {
    guard isWanted, !isForbidden, !uses.isEmpty else { return nil }
    switch phase {
    case .due: return earliest
    case .resting(let until): return until
    case .idle, .underWay: return nil
    }
  }

  func isDue(now: Instant) -> Bool { next.map { $0 <= now } ?? false }

  mutating func begin() {
    phase = .underWay
    isHurried = false
  }

  mutating func end(_ keys: Set<KeySerial>, now: Instant) {
    answered.formUnion(keys)
    earliest = now.advanced(by: shortest)
    phase = uses.isEmpty ? .idle : .resting(until: now.advanced(by: delay))
    // Who hurried meanwhile is heeded once more, and as soon as may be.
    if !isHurried { delay = min(longest, delay * 2) }
    isHurried = false
  }
}
