// Making stores, opening them and giving them up: the lives of the store under test.
import BlobStore
import BlockIO
import Crypto
import Primitives
import SecureVolume
import StorageSimulation
import VNVRAM

/// How a store and its disk are used until the next is made.
struct Profile {
  /// Copies taken at each write and sync, in percent.
  var cutPercent = 50
  /// Copies taken each time.
  var copies = 1
  /// Steps in which something is to fail, in percent.
  var faultPercent = 8
  /// Whether the disk loses or misdirects writes and syncs and says they were done.
  var diskLies = false
  /// Whether upkeep is done now and then; without, checkpoints come when the ring is full.
  var keepsUp = true
}

/// An image as somebody kept it.
struct SavedImage {
  let image: SimulatedDisk
  /// Where in the history it was kept.
  let position: Int
  let isClosed: Bool
}

extension Checker {
  /// Formats the disk, over what was there or as a new one, and opens it.
  func newStore() throws {
    tally.countStore()
    core = nil
    let old = history.isEmpty || hasLied.ever || !disk.hasPower ? nil : acknowledged
    let (oldGeometry, oldUnit) = (geometry, unit)
    unit = onlyUnit ?? random.pick(weighted: [(4, 4096), (1, 16384), (1, 65536)])
    let state = makeStore()
    chooseGeometry(state)
    let isFresh = old == nil || oldGeometry != geometry || oldUnit != unit || random.chance(50)
    disk.afterOperation = nil
    if isFresh {
      disk = SimulatedDisk(size: geometry.imageSize, blockSize: unit)
    } else {
      disk.clearFaults()
    }
    profile = Profile(
      cutPercent: random.pick([30, 50, 80]), faultPercent: random.pick([0, 8, 20]), diskLies: random.chance(15),
      keepsUp: random.chance(70))
    // In the middle of formatting there is the old store, none, or the new one.
    let watchesFormat = random.chance(40)
    let states = isFresh ? [state] : [state] + (old.map { [$0] } ?? [])
    if watchesFormat {
      let expected = Expectation(kind: .exact, states: states, refusals: Expectation.damage)
      disk.afterOperation = { [unowned self] _ in formatCut(expected) }
    }
    events.append("  new store: \(geometry), \(profile)")
    history = [state]
    (openings, hasLied, saved, generation) = ((0, 0), (false, false), [], 0)
    plan = [state]
    progress = { 0 }
    do { try format(state) } catch {
      // A format that failed leaves no store, or the old one; the next step makes another.
      guard disk.faultsMet > 0, let error = error as? any StatusError, Self.deviceErrors.contains(error.status) else {
        throw error
      }
      tally.count(fault: armed)
      tally.count(refusal: "formatting, \(error.status)")
      if watchesFormat { for _ in 0..<4 { formatCut(Expectation(states: states, refusals: Expectation.damage)) } }
      return giveUp()
    }
    note(UInt64(geometry.sectorCount) &* 64 &+ UInt64(geometry.blockSize + unit))
    watchDisk()
    cut(percent: 100)
    save(isClosed: true)
    try reopen([state])
  }

  private func formatCut(_ expected: Expectation) {
    guard violation == nil, verifier.random.chance(60) else { return }
    if case .violation(let violation) = verifier.verify(verifier.crash(disk), expected) {
      report(violation.at("cut in formatting after operation \(disk.operations)"))
    }
  }

  private func makeStore() -> StoreState {
    var state = StoreState(entries: [], slots: [:])
    for _ in 0..<random.below(5) {
      state.entries.append(EntryState(name: newName(), capacity: randomCapacity(), content: []))
    }
    if random.chance(40) {
      // At times over several blocks, where these are large.
      let most = unit > 4096 && random.chance(15) ? 140_000 : 9000
      state.entries.append(EntryState(name: newName(), capacity: 9000 + random.below(most), content: []))
    }
    state.slots["first"] = newKey()
    return state
  }

  func newName() -> String {
    nextName += 1
    return "e\(nextName)"
  }

  func newKey() -> Int {
    nextKey += 1
    return nextKey
  }

  func randomCapacity() -> Int {
    random.pick(weighted: [
      (5, 1 + random.below(200)), (3, 200 + random.below(1500)), (1, 4096), (1, 1500 + random.below(7000)),
    ])
  }

  func specifications(_ entries: [EntryState]) throws -> [EntrySpecification] {
    try entries.map { EntrySpecification(name: try EntryName($0.name), capacity: ByteCount($0.capacity)) }
  }

  /// Small, so that a state takes little time; some with several blocks of leaves, some on disks whose blocks are
  /// smaller than the image's.
  private func chooseGeometry(_ state: StoreState) {
    let larger = [8192, 16384, 65536].filter { $0 > unit }
    let blockSize = random.chance(25) ? larger.randomElement(using: &random) ?? unit : unit
    let entries = (try? specifications(state.entries)) ?? []
    let needed = (try? BlobStore.size(of: entries))?.value ?? 0
    let spare = UInt64(random.pick([0, 1000, 6000, 20000]))
    var sectors = max(1, (needed + spare + UInt64(blockSize) - 1) / UInt64(blockSize))
    if blockSize == 4096, random.chance(10) { sectors = max(sectors, 150) }
    guard let chosen = Geometry(blockSize: blockSize, sectorCount: sectors) else {
      preconditionFailure("within the limits")
    }
    geometry = chosen
  }

  private func format(_ state: StoreState) throws {
    let layout = try StreamLayout(specifications(state.entries))
    guard let key = state.slots["first"] else { preconditionFailure("made with a slot") }
    let size = geometry.blockSize
    try VolumeFormatter.format(
      disk, geometry: geometry, key: makeKey(key), name: "first", cost: scryptCost(key), created: 1
    ) { (sector, out) throws(VolumeError) in layout.fillPlaintext(sector, sectorSize: size, into: out) }
  }

  func scryptCost(_ key: Int) -> ScryptCost? {
    keyKind(key) == .passphrase ? ScryptCost(log2N: 10, r: 1, p: 1) : nil
  }

  // MARK: Opening

  static let deviceErrors: Set<Status> = [.inputOutput, .noSpace]

  /// Opens the disk under test as it is now, of which one of `states` must be found, and goes on from there.
  func reopen(_ states: [StoreState]) throws {
    core = nil
    var expected = expectation()
    // What was acknowledged in the middle of a plan was there, too: it shows where the last record is cut off.
    history.append(contentsOf: plan[...min(progress(), plan.count - 1)])
    if !hasLied.ever { expected.states = states }
    // What is looked at in the middle of recovering is what is looked for now.
    plan = states
    progress = { 0 }
    var keys = expected.keys
    keys.shuffle(using: &random)
    if random.chance(10) { try refuseWrongKey(expected) }
    if random.chance(profile.faultPercent) {
      if profile.diskLies || random.chance(50) { injectReadFault() } else { injectFault(before: .abandon) }
    }
    let met = disk.faultsMet
    do {
      let (volume, _) = try Verifier.open(disk, keys)
      let core = try StoreCore(sealed: volume)
      let found = try Verifier.read(core.blobs, slots: Set(volume.slots.map(\.name)), expected.mayRefuseEntries)
      guard volume.generation.value >= expected.generation else {
        throw Violation(.loss, "generation \(volume.generation), after \(expected.generation)")
      }
      disk.clearFaults()
      // What the opening itself wrote may have been lost, and with it what comes next.
      let hasLied = hasLied.lately && disk.faultsMet > met
      if try accept(verifier.judge(found, expected), hasLied: hasLied) { self.core = core }
    } catch let error as Violation {
      throw error
    } catch {
      disk.clearFaults()
      if disk.faultsMet > met, let status = (error as? any StatusError)?.status, Self.deviceErrors.contains(status) {
        // Nothing may be lost by an opening that failed: another one finds the same.
        tally.count(fault: armed)
        tally.count(refusal: "an opening, \(status)")
        if mustLosePower || random.chance(30) { return try crashAndReopen() }
        return try reopen(states)
      }
      _ = try accept(verifier.judge(error, expected), hasLied: false)
    }
  }

  /// Whether the store is there and goes on.
  private func accept(_ verdict: Verdict, hasLied lately: Bool) throws -> Bool {
    switch verdict {
    case .violation(let violation): throw violation.at("opened anew")
    case .recovered(let state, true):
      events.append("  opened at operation \(disk.operations)")
      history.append(state)
      openings = (openings.current, sinceOpening(state))
      hasLied.lately = lately
      plan = [state]
      progress = { 0 }
      cut(percent: 50)
      return true
    case .refused, .recovered:
      // A store that has lost entries is of no more use here.
      giveUp()
      return false
    }
  }

  /// Where in the history what this opening's journal shows begins: an opening appends the last record anew, and what
  /// was before that shows where it is cut off.
  private func sinceOpening(_ state: StoreState) -> Int {
    let last = history.count - 1
    guard let image = ImageView(disk), !image.chain.isEmpty else { return last }
    // A lying disk may have gone back to it.
    return max(0, (history.firstIndex(of: state) ?? last) - 1)
  }

  /// The store is gone, and may be: the next step makes another.
  func giveUp() {
    core = nil
    history = []
    disk.afterOperation = nil
  }

  private func refuseWrongKey(_ expected: Expectation) throws {
    let wrong = verifier.random.pick(verifier.strangers)
    guard !expected.keys.contains(wrong) else { return }
    let (operations, met) = (disk.operations, disk.faultsMet)
    do { _ = try SealedVolume(disk).unlock(with: makeKey(wrong)) } catch {
      let hasFailed = disk.faultsMet > met && Self.deviceErrors.contains(error.status)
      guard error.code == .wrongKey || hasFailed || expected.refusals.contains(error.status) else {
        throw Violation(.key, "a wrong key, and the answer was: \(error)")
      }
      guard disk.operations == operations else { throw Violation(.misbehaviour, "a wrong key, and written to") }
      return
    }
    throw Violation(.key, "key \(wrong) is in no slot, and opens")
  }

  // MARK: Ending

  func save(isClosed: Bool) {
    guard !hasLied.ever else { return }
    if saved.count == 6 { saved.remove(at: random.below(5)) }
    saved.append(SavedImage(image: disk.copy(), position: history.count - 1, isClosed: isClosed))
  }

  /// Closed cleanly.
  func close() throws {
    try perform([acknowledged]) { try core?.close() }
    core = nil
  }

  /// Whether a write of a header copy failed and may land later, when the program was started anew already. Nothing
  /// that is read tells which of two copies such a write left in doubt, and an opening that writes the other one may
  /// lose both if power goes: with two copies that can't be mended (Tests/README.md), and the checker leaves it out.
  var mustLosePower: Bool {
    disk.log.contains {
      $0.kind == .write && $0.note == "failed, may land later" && $0.offset.value < UInt64(ImageView.ringOffset)
    }
  }

  /// The machine loses power and comes up again.
  func crashAndReopen() throws {
    let states = possible
    core = nil
    let crashed = verifier.crash(disk)
    disk.afterOperation = nil
    disk = crashed
    watchDisk()
    try reopen(states)
  }
}
