import StorageSimulation
import VNVRAM

/// What a seed stands for: a store, and what each thread does with it.
struct Plan: Sendable {
  enum Form: Sendable, CaseIterable {
    /// Nothing around the stream, and so no keys.
    case plain
    /// Sealed; opened with keys that the caller has.
    case given
    /// Sealed; opened with the key in the kernel's keyring, which may be lost.
    case keyring
  }

  static let entries = 3
  /// The last entry is one that a callback visits.
  static let visited = 2
  static let sizes = [64, 200, 600]

  let form: Form
  var clients: [[Operation]] = []
  /// What callbacks do, in order; then nothing.
  var callbacks: [Operation] = []
  var observer: [Operation] = []
  var maximumRequests = 1024
  var maximumRequestBytes = 1 << 20
  var syncDuration = Duration.zero
  var operationsUntilFailure: Int?
  /// Clients begin before `start` is called.
  var startsLate = false
  /// The key isn't there when it is started.
  var startsWithoutKey = false
  /// It is closed while requests may wait to be served.
  var closesAtOnce = false
  /// Every so many callbacks throw.
  var callbackFailsOneIn = 0
  var reopens = false
  /// Power is cut after so many acknowledged writes, or the last, and what was on the disk then is opened.
  var cutAfter: Int?
  var options: ScheduleOptions

  init(seed: UInt64) {
    var g = SeededGenerator(seed: seed &* 0x9E37_79B9_7F4A_7C15 ^ 0x1234_5678)
    form = g.pick(weighted: [(5, .plain), (4, .given), (2, .keyring)])
    options = .random(&g)
    maximumRequests = g.pick([4, 6, 16, 1024])
    maximumRequestBytes = g.pick([700, 2000, 1 << 20, 1 << 20])
    syncDuration = g.pick([.zero, .zero, .milliseconds(1), .milliseconds(100)])
    if g.chance(12) { operationsUntilFailure = g.below(14) }
    startsLate = g.chance(15)
    startsWithoutKey = form != .plain && g.chance(15)
    closesAtOnce = g.chance(50)
    if g.chance(10) { callbackFailsOneIn = 3 }
    reopens = g.chance(10)
    if g.chance(40) { cutAfter = g.pick([1, 2, 4, 8, .max, .max]) }
    var writer = OperationWriter(form: form, generator: g)
    let count = 2 + writer.generator.below(3)
    let most = writer.generator.pick([2, 4, 8])
    if writer.generator.chance(3) {
      clients = writer.storm()
      return
    }
    clients = (0..<count).map { _ in writer.operations(1 + writer.generator.below(most), in: .client) }
    if writer.generator.chance(30) { callbacks = writer.operations(3, in: .callback) }
    if writer.generator.chance(25) { observer = writer.operations(1, in: .observer) }
  }
}

/// Writes operations at random.
struct OperationWriter {
  enum Place { case client, completion, observer, callback }

  let form: Plan.Form
  var generator: SeededGenerator
  private var depth = 0

  init(form: Plan.Form, generator: SeededGenerator) {
    self.form = form
    self.generator = generator
  }

  mutating func operations(_ count: Int, in place: Place) -> [Operation] {
    (0..<count).map { _ in operation(in: place) }
  }

  /// Three threads that never let go, and one whose call has to return all the same.
  mutating func storm() -> [[Operation]] {
    let entry = generator.below(Plan.visited)
    let write = Operation.write(Operation.Transfer(entry: entry, deadline: .seconds(1)))
    let submit = Operation.write(Operation.Transfer(entry: entry, completion: []))
    let (gust, call): ([Operation], Operation) =
      switch form {
      case .plain: (generator.pick([[write], [submit]]), generator.pick([.processRequests(deadline: nil), write]))
      case .given: generator.pick([([write], .lock), ([submit], .lock), ([.lock, .unlock], write)])
      case .keyring:
        (generator.pick([[write], [submit]]), .loseKey(entry: entry, waiting: generator.chance(50)))
      }
    return [[.comeThrough(call)]] + Array(repeating: [.storm(gust)], count: 3)
  }

  private enum Kind {
    case write, read, cancel, cancelAll, processRequests, lock, unlock, close, deregister, register, observe, look,
      flood
    case loseKey, bringKey, poke, block, throwAway
  }

  private mutating func operation(in place: Place) -> Operation {
    var kinds: [(Int, Kind)] = [
      (24, .write), (12, .read), (6, .cancel), (2, .cancelAll), (5, .processRequests), (4, .deregister), (3, .register),
      (1, .observe), (2, .look), (4, .flood),
    ]
    kinds.append((place == .client ? 1 : 2, .close))
    if place == .completion || place == .observer { kinds += [(3, .block), (1, .throwAway)] }
    if form != .plain { kinds += [(8, .lock), (4, .unlock)] }
    if form == .keyring { kinds += [(place == .client ? 5 : 0, .loseKey), (3, .bringKey), (2, .poke)] }
    let entry = generator.below(Plan.entries)
    switch generator.pick(weighted: kinds) {
    case .write: return .write(transfer(entry, in: place))
    case .read: return .read(transfer(entry, in: place))
    case .cancel: return .cancel
    case .cancelAll: return .cancelAll
    case .processRequests: return .processRequests(deadline: deadline())
    case .lock: return .lock
    case .unlock: return .unlock
    case .close: return .close
    case .deregister: return .deregister(entry: entry)
    case .register: return .register(entry: entry)
    case .observe: return .observe(depth < 1 ? nested(1, in: .observer) : [])
    case .look: return .look
    case .flood: return .flood(entry: generator.below(Plan.visited), count: 3 + generator.below(15))
    case .loseKey: return .loseKey(entry: generator.below(Plan.visited), waiting: generator.chance(50))
    case .bringKey: return .bringKey
    case .poke: return .poke
    case .block: return .block(generator.pick([.milliseconds(1), .seconds(3), .seconds(100)]))
    case .throwAway: return .throwAway
    }
  }

  private mutating func nested(_ count: Int, in place: Place) -> [Operation] {
    depth += 1
    defer { depth -= 1 }
    return operations(count, in: place)
  }

  private mutating func transfer(_ entry: Int, in place: Place) -> Operation.Transfer {
    var transfer = Operation.Transfer(entry: entry, deadline: deadline(), otherWay: generator.chance(50))
    if generator.chance(50) {
      transfer.completion = depth < 2 && generator.chance(50) ? nested(1 + generator.below(2), in: .completion) : []
    }
    return transfer
  }

  private mutating func deadline() -> Duration? {
    generator.chance(25) ? generator.pick([.zero, .milliseconds(1), .milliseconds(150), .seconds(30)]) : nil
  }
}
