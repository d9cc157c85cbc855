// What a workload does, step by step, and what the model makes of a step that failed.
import BlobStore
import BlockIO
import Primitives
import SecureVolume
import StorageSimulation
import VNVRAM

enum StepKind: String {
  case serve, addEntry, resizeEntry, removeEntry, addSlot, removeSlot, rotateSlot, upkeep, fillRing, scrub, check
  case close, abandon, crash, adversary, elsewhere, anchor, formatAnew
}

extension Checker {
  func takeStep() throws {
    let kind = random.pick(weighted: [
      (40, StepKind.serve), (4, .addEntry), (4, .resizeEntry), (3, .removeEntry), (3, .addSlot), (2, .removeSlot),
      (2, .rotateSlot), (12, .upkeep), (6, .fillRing), (1, .scrub), (2, .check), (4, .close), (4, .abandon),
      (5, .crash),
      (7, .adversary), (4, .elsewhere), (3, .anchor), (1, .formatAnew),
    ])
    tally.count(step: kind.rawValue)
    events.append("step \(step): \(kind), operation \(disk.operations)")
    if random.chance(4) { save(isClosed: false) }
    let met = disk.faultsMet
    if random.chance(profile.faultPercent) { injectFault(before: kind) }
    do {
      defer { if disk.faultsMet > met { tally.count(fault: armed) } }
      try take(kind)
    } catch let violation as Violation {
      throw violation
    } catch {
      try recover(from: error, faultsMet: disk.faultsMet > met)
    }
    if disk.faultsMet == met, !hasLied.lately { disk.clearFaults() }
  }

  private func take(_ kind: StepKind) throws {
    switch kind {
    case .serve: try serveGroup(of: profile.diskLies ? 1 : random.pick([1, 1, 2, 4, 8]))
    case .addEntry: try addEntry()
    case .resizeEntry: try resizeEntry()
    case .removeEntry: try removeEntry()
    case .addSlot: try addSlot()
    case .removeSlot: try removeSlot()
    case .rotateSlot:
      try addSlot()
      try removeSlot()
    case .upkeep:
      guard profile.keepsUp else { return }
      try upkeep(steps: 1 + random.below(6))
    case .fillRing: try fillRing()
    case .scrub: try perform([acknowledged]) { try core?.volume?.scrub() }
    case .check: try checkAll()
    case .close:
      try close()
      save(isClosed: true)
      try reopen([acknowledged])
    case .abandon: try reopen([acknowledged])
    case .crash: try crashAndReopen()
    case .adversary: try attack()
    case .elsewhere: try useElsewhere()
    case .anchor: try useWithAnchor()
    case .formatAnew: try newStore()
    }
  }

  // MARK: Entries

  private func relayout(_ next: StoreState, _ work: (BlobStore) throws -> Void) throws {
    guard let core else { return }
    if try BlobStore.size(of: specifications(next.entries)) <= geometry.volumeSize {
      return try perform([acknowledged, next]) { try work(core.blobs) }
    }
    do { try work(core.blobs) } catch let error as BlobStoreError {
      guard case .noSpace = error.code else { throw error }
      return
    }
    throw Violation(.misbehaviour, "entries that don't fit were taken")
  }

  private func addEntry() throws {
    var next = acknowledged
    let entry = EntryState(name: newName(), capacity: randomCapacity(), content: [])
    next.entries.append(entry)
    let specification = try specifications([entry])[0]
    try relayout(next) { try $0.add(specification) }
  }

  private func resizeEntry() throws {
    var next = acknowledged
    guard let index = next.entries.indices.randomElement(using: &random) else { return }
    let old = next.entries[index]
    let capacity = max(1, old.content.count + random.below(max(1, old.capacity)) + random.pick([0, 0, 100, 4096]))
    next.entries[index] = EntryState(name: old.name, capacity: capacity, content: old.content)
    try relayout(next) { try $0.resize(EntryName(old.name), capacity: ByteCount(capacity)) }
  }

  private func removeEntry() throws {
    var next = acknowledged
    guard next.entries.count > 1, let index = next.entries.indices.randomElement(using: &random) else { return }
    let name = next.entries.remove(at: index).name
    try relayout(next) { try $0.remove(EntryName(name)) }
  }

  // MARK: Slots

  private func addSlot() throws {
    var next = acknowledged
    guard let volume = core?.volume, next.slots.count < 6 else { return }
    let key = newKey()
    // Names come again, with another key.
    let name = random.pick(["first", "a", "b", "c", "d", "e", "f"].filter { next.slots[$0] == nil })
    next.slots[name] = key
    try perform([acknowledged, next]) {
      try volume.addSlot(makeKey(key), name: name, cost: scryptCost(key), created: 2)
    }
  }

  private func removeSlot() throws {
    var next = acknowledged
    guard let volume = core?.volume, next.slots.count > 1 else { return }
    let name = random.pick(next.slots.keys.sorted())
    guard let key = next.slots.removeValue(forKey: name) else { return }
    try perform([acknowledged, next]) { try volume.removeSlot(named: name) }
    verifier.strangers.append(key)
  }

  // MARK: Upkeep

  private func upkeep(steps: Int) throws {
    guard let volume = core?.volume else { return }
    for _ in 0..<steps {
      try perform([acknowledged]) { _ = try volume.maintain() }
    }
  }

  /// Many commits, few cuts; sometimes until there is hardly room in the ring, with a checkpoint under way, and then a
  /// large commit between two of its steps: what frees space too early overwrites there what recovery needs.
  private func fillRing() throws {
    guard let volume = core?.volume, !acknowledged.entries.isEmpty else { return }
    let percent = profile.cutPercent
    profile.cutPercent = 4
    defer { (profile.cutPercent, profile.copies) = (percent, 1) }
    guard profile.keepsUp else {
      for _ in 0..<random.pick([8, 20, 60]) where violation == nil {
        try serveGroup(of: 1)
      }
      return
    }
    var hasBegun = false
    for _ in 0..<100 where violation == nil {
      guard let image = ImageView(disk), image.room > 2 * image.blockSize else { break }
      try replace(random.below(acknowledged.entries.count), upTo: 500)
      if volume.wantsMaintenance, !hasBegun {
        try upkeep(steps: 1)
        hasBegun = true
      }
    }
    guard violation == nil else { return }
    // Most often to where the header that frees the space was written and not synced.
    try upkeep(steps: random.pick([1, 2, 3, 3, 3, 4]))
    profile.cutPercent = 100
    profile.copies = 5
    let largest = acknowledged.entries.indices.max {
      acknowledged.entries[$0].capacity < acknowledged.entries[$1].capacity
    }
    try replace(largest ?? 0, upTo: .max)
  }

  private func replace(_ index: Int, upTo limit: Int) throws {
    guard let core else { return }
    var next = acknowledged
    let entry = next.entries[index]
    let content = random.bytes(min(limit, entry.capacity))
    next.replace(index, content: content)
    let registered = RegisteredEntry(try specifications([entry])[0], nil)
    try perform([acknowledged, next]) { try core.write(registered, .replace, content.span) }
  }

  private func checkAll() throws {
    guard let core else { return }
    do {
      try core.blobs.check()
      let found = try core.volume?.check().first { $0.severity == .damage && $0.code != .headerPair }
      if let found, !hasLied.ever { throw Violation(.unopenable, "check of an open store: \(found.detail)") }
    } catch let error as BlobStoreError { throw error }
    let found = try Verifier.read(core.blobs, slots: Set(acknowledged.slots.keys), hasLied.ever)
    guard found.matches(acknowledged) else {
      throw Violation(.mix, "an open store: \(found.difference(from: acknowledged))")
    }
  }

  // MARK: Failures

  /// A step failed. Was there a cause; is nothing acknowledged any more; and what is there when it is opened anew?
  private func recover(from error: any Error, faultsMet: Bool) throws {
    guard let error = error as? any StatusError else { throw error }
    if hasLied.ever, Expectation.lies.contains(error.status) {
      tally.count(refusal: "an open store of a lying disk, \(error.status)")
    } else if faultsMet, Self.deviceErrors.contains(error.status) {
      tally.count(refusal: "an open store, \(error.status)")
    } else {
      throw Violation(.misbehaviour, "failed without a cause: \(error)")
    }
    events.append("  failed: \(error)")
    cut(percent: 100)
    guard let core else { return try reopen(possible) }
    if core.failure == nil, core.volume?.failure == nil {
      // A read that failed: nothing was changed, and the store goes on.
      plan = [acknowledged]
      progress = { 0 }
      if random.chance(50) { return }
    } else {
      try expectNoMoreWrites(core)
    }
    if random.chance(50) { return try crashAndReopen() }
    // Only the program is started anew: what reads give may be what a cache has and the disk has not.
    disk.clearFaults()
    try reopen(possible)
  }

  private func expectNoMoreWrites(_ core: StoreCore) throws {
    let operations = disk.operations
    if let entry = acknowledged.entries.first {
      let request = Request()
      request.entry = RegisteredEntry(try specifications([entry])[0], nil)
      request.operation = .replace
      request.hold([7].span)
      core.serve([request])
      guard request.failure != nil else { throw Violation(.misbehaviour, "acknowledged after a failed write") }
    }
    if (try? core.volume?.scrub()) != nil { throw Violation(.misbehaviour, "scrubbed after a failed write") }
    guard disk.operations == operations else {
      throw Violation(.misbehaviour, "written to after a failed write:\n\(disk.logText(last: 5))")
    }
  }
}
