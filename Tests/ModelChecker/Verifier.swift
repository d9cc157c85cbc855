// Opening a copy of the disk and comparing what is there with what the model allows.
import BlobStore
import BlockIO
import Primitives
import SecureVolume
import StorageSimulation

/// How far a verification goes beyond opening, reading and comparing.
struct Thoroughness {
  /// Cut the power in the middle of recovering, so many times over.
  var cutsInRecovery = 0
  /// Look at what is durable once it is open.
  var cutsWhenOpen = false
  /// Try a key that must not open, or another one that must.
  var triesKeys = false
  /// Read every byte of the stream and every sector.
  var checksAll = false
  /// Open for reading first: the same must be found, and nothing written.
  var opensReadOnly = false
  /// Commit and close what was recovered, and open it again.
  var goesOn = false
  /// Copy the whole store first: the copy holds the same, closed cleanly.
  var copies = false

  init() {}

  init(cutsInRecovery depth: Int, using random: inout SeededGenerator) {
    cutsInRecovery = random.chance(15) ? depth : 0
    cutsWhenOpen = random.chance(25)
    triesKeys = random.chance(15)
    checksAll = random.chance(15)
    opensReadOnly = random.chance(8)
    goesOn = random.chance(5)
    copies = random.chance(3)
  }
}

/// Opens copies and judges them. Counts each as a state.
struct Verifier {
  var random: SeededGenerator
  var tally = Tally()
  /// Keys that were made and not given to any slot yet, or taken from it again: none of them may open.
  var strangers: [Int] = [0]

  init(seed: UInt64) { random = SeededGenerator(seed: seed) }

  /// A legal outcome of a power cut now.
  mutating func crash(_ disk: SimulatedDisk) -> SimulatedDisk {
    // Extremes one time in three together; the rest goes where the combinations are.
    let cut = random.pick(weighted: [
      (1, PowerCut.nothing), (1, .everything), (1, .onlyLast), (1, .allButLast), (1, .garbage), (4, .oldOrNew),
      (4, .anything),
    ])
    tally.count(fault: "power cut, \(cut)")
    return disk.crashed(cut, using: &random)
  }

  /// Opens `disk` for writing, which changes it, and says what was found.
  mutating func verify(_ disk: SimulatedDisk, _ expectation: Expectation, _ how: Thoroughness = Thoroughness())
    -> Verdict
  {
    tally.countState(unit: disk.blockSize)
    if how.opensReadOnly, let violation = readOnly(disk, expectation) { return .violation(violation) }
    if how.copies, let violation = copy(disk, expectation) { return .violation(violation) }
    if how.triesKeys, let violation = tryKeys(disk, expectation) { return .violation(violation) }
    var second: [SimulatedDisk] = []
    if how.cutsInRecovery > 0 {
      var inner = SeededGenerator(seed: random.next())
      disk.afterOperation = { _ in if inner.chance(25) { second.append(disk.crashed(using: &inner)) } }
    }
    let verdict = judge(disk, expectation, checksAll: how.checksAll)
    disk.afterOperation = nil
    if case .violation = verdict { return verdict }
    tally.count(fault: "power cut in recovery", by: second.count)
    for (number, crashed) in second.enumerated() {
      var again = Thoroughness()
      again.cutsInRecovery = random.chance(15) ? how.cutsInRecovery - 1 : 0
      if case .violation(let violation) = verify(crashed, expectation, again) {
        return .violation(violation.at("cut \(number) in recovery"))
      }
    }
    if case .recovered(let state, true) = verdict, let violation = lookOn(disk, state, expectation, how) {
      return .violation(violation)
    }
    return verdict
  }

  /// What is there is durable, and of use.
  private mutating func lookOn(
    _ disk: SimulatedDisk, _ state: StoreState, _ expectation: Expectation, _ how: Thoroughness
  ) -> Violation? {
    var exact = expectation
    exact.states = [state]
    exact.past = expectation.states + expectation.past
    if how.cutsWhenOpen, case .violation(let violation) = verify(crash(disk), exact) {
      return violation.at("cut after it was recovered")
    }
    guard how.goesOn else { return nil }
    do {
      let (volume, _) = try Self.open(disk, [state.keys[0]])
      let store = try BlobStore(volume)
      if let entry = state.entries.indices.randomElement(using: &random) {
        let content = random.bytes(random.below(state.entries[entry].capacity + 1))
        try store.stageReplace(EntryName(state.entries[entry].name), content.span)
        exact.states[0].replace(entry, content: content)
        try store.commit()
      }
      try volume.close()
    } catch {
      if let error = error as? any StatusError, expectation.refusals.contains(error.status) { return nil }
      return Violation(.unopenable, "what was recovered is of no use: \(error)")
    }
    if case .violation(let violation) = verify(disk, exact) { return violation.at("recovered, written, closed") }
    return nil
  }

  // MARK: Judging

  private mutating func judge(_ disk: SimulatedDisk, _ expectation: Expectation, checksAll: Bool) -> Verdict {
    do {
      let (volume, _) = try Self.open(disk, expectation.keys)
      let verdict = judge(try Self.read(volume, checksAll: checksAll, expectation.mayRefuseEntries), expectation)
      guard case .recovered = verdict, volume.generation.value < expectation.generation else { return verdict }
      return .violation(Violation(.loss, "generation \(volume.generation), after \(expectation.generation)"))
    } catch { return judge(error, expectation) }
  }

  mutating func judge(_ found: FoundState, _ expectation: Expectation) -> Verdict {
    if let state = expectation.states.last(where: found.matches) {
      if !found.isWhole { tally.count(refusal: "entries, \(Status.notAuthentic)") }
      return .recovered(state, isWhole: found.isWhole)
    }
    let newest = expectation.states[expectation.states.count - 1]
    let difference = found.difference(from: newest)
    if expectation.past.contains(where: found.matches) {
      let kind = expectation.kind == .adversary ? Violation.Kind.unnoticed : .loss
      return .violation(Violation(kind, "an earlier state: \(difference)"))
    }
    return .violation(Violation(.mix, difference))
  }

  mutating func judge(_ error: any Error, _ expectation: Expectation) -> Verdict {
    guard let error = error as? any StatusError else { return .violation(Violation(.misbehaviour, "\(error)")) }
    guard expectation.refusals.contains(error.status) else {
      return .violation(Violation(.unopenable, "\(error.status): \(error)"))
    }
    tally.count(refusal: "\(expectation.kind), \(error.status)")
    return .refused(error.status)
  }

  /// Opens with the first of the keys that does.
  static func open(
    _ disk: any BlockDevice, _ keys: [Int], anchor: AnchorUse? = nil
  ) throws -> (SecureVolume, key: Int) {
    let sealed = try SealedVolume(disk)
    for number in keys.dropLast() {
      if let volume = try unlock(sealed, number, anchor) { return (volume, number) }
    }
    let number = keys[keys.count - 1]
    let key = makeKey(number)
    let volume = try sealed.unlock(with: key, slotName: nil, use: anchor)
    return (volume, number)
  }

  /// `nil` where the key opens nothing.
  private static func unlock(
    _ sealed: SealedVolume, _ number: Int, _ anchor: AnchorUse?
  ) throws -> SecureVolume? {
    let key = makeKey(number)
    do throws(VolumeError) { return try sealed.unlock(with: key, slotName: nil, use: anchor) } catch {
      if error.code == .wrongKey { return nil }
      throw error
    }
  }

  static func read(_ volume: SecureVolume, checksAll: Bool, _ mayRefuseEntries: Bool) throws -> FoundState {
    let store = try BlobStore(volume)
    if checksAll, !mayRefuseEntries {
      try store.check()
      if let finding = try volume.check().first(where: { $0.severity == .damage && $0.code != .headerPair }) {
        throw Violation(.unopenable, "check: \(finding.detail)")
      }
    }
    return try read(store, slots: Set(volume.slots.map(\.name)), mayRefuseEntries)
  }

  static func read(_ store: BlobStore, slots: Set<String>, _ mayRefuseEntries: Bool) throws -> FoundState {
    var found = FoundState(entries: [], slots: slots)
    for entry in store.entries {
      var content: [UInt8]?
      do { content = try store.read(entry.name, limit: 1 << 24) } catch {
        guard mayRefuseEntries, error.status == .notAuthentic else { throw error }
      }
      found.entries.append(
        FoundState.Entry(name: entry.name.text, capacity: Int(entry.capacity.value), content: content))
    }
    return found
  }

  // MARK: More

  private mutating func readOnly(_ disk: SimulatedDisk, _ expectation: Expectation) -> Violation? {
    let copy = disk.copy(isWritable: false)
    if case .violation(let violation) = judge(copy, expectation, checksAll: false) {
      return violation.at("opened for reading")
    }
    return copy.operations == 0 ? nil : Violation(.misbehaviour, "opened for reading, and written to")
  }

  private mutating func copy(_ disk: SimulatedDisk, _ expectation: Expectation) -> Violation? {
    guard expectation.kind == .exact, expectation.refusals.isEmpty else { return nil }
    let target = SimulatedDisk(size: disk.size, blockSize: disk.blockSize)
    do {
      let (volume, _) = try Self.open(disk.copy(isWritable: false), expectation.keys)
      let copy = try volume.copy(to: target)
      guard copy.opening.wasClosedCleanly, copy.generation == volume.generation else {
        return Violation(.misbehaviour, "a copy of \(volume.generation) is of \(copy.generation), or wasn't closed")
      }
    } catch { return Violation(.unopenable, "copying: \(error)") }
    guard case .violation(let violation) = judge(target, expectation, checksAll: true) else { return nil }
    return violation.at("a copy")
  }

  /// A key that is in no state's slots must not open; one that is in all of them must.
  private mutating func tryKeys(_ disk: SimulatedDisk, _ expectation: Expectation) -> Violation? {
    guard expectation.kind == .exact else { return nil }
    let possible = Set(expectation.keys)
    let wrong = random.pick(strangers)
    if !possible.contains(wrong), let violation = tryWrong(disk, wrong) { return violation }
    let certain = expectation.states.dropFirst().reduce(Set(expectation.states[0].keys)) { $0.intersection($1.keys) }
    guard let key = certain.sorted().randomElement(using: &random) else { return nil }
    do { _ = try SealedVolume(disk.copy(isWritable: false)).unlock(with: makeKey(key)) } catch {
      return Violation(error.code == .wrongKey ? .key : .unopenable, "key \(key), which is in a slot: \(error)")
    }
    return nil
  }

  private func tryWrong(_ disk: SimulatedDisk, _ key: Int) -> Violation? {
    do { _ = try SealedVolume(disk.copy(isWritable: false)).unlock(with: makeKey(key)) } catch {
      return error.code == .wrongKey ? nil : Violation(.key, "key \(key) is in no slot, and the answer was: \(error)")
    }
    return Violation(.key, "key \(key) is in no slot any more, and opens")
  }
}

extension Violation {
  /// The same, seen from further up.
  func at(_ place: String) -> Violation { Violation(kind, "\(place): \(detail)") }
}
