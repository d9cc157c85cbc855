// What is done to an image behind the store's back: bit rot, and the adversary of DESIGN §3, who has read the image at
// many moments and writes anything into it. Each attack is made on a copy, and judged by what the design promises of
// it.
import BlobStore
import BlockIO
import Primitives
import SecureVolume
import StorageSimulation

extension Checker {
  private enum Attack: String, CaseIterable {
    case flippedBit = "bit rot: a flipped bit"
    case garbage = "bit rot: a block of garbage"
    case cutShort = "image cut short"
    case swappedHeaders = "header copies swapped"
    case swappedBlocks = "blocks swapped"
    case olderParts = "parts of an older copy put back"
    case damagedRecord = "a journal record damaged"
    case recordsCutOff = "records cut off the journal's end"
    case twoPasts = "journals of two pasts mixed"
    case relabelled = "older record with the fields of the next"
    case forged = "record that breaks a rule, made with the key"
  }

  /// What an attack is made on.
  struct Target {
    let image: ImageView
    /// What it holds.
    let state: StoreState
    /// What it may hold where records were cut off its journal, or others put behind them: no state before these.
    let since: ArraySlice<StoreState>
    /// The state before the last commit; `state` where there is none.
    let before: StoreState

    var disk: SimulatedDisk { image.disk }
  }

  /// Some attacks: on the disk as it is, after a power cut, or on an image that was closed.
  func attack() throws {
    guard !hasLied.ever, plan.count == 1 else { return }
    for _ in 0..<4 where violation == nil {
      let kind = random.pick(Attack.allCases)
      let needsRecords = [.damagedRecord, .recordsCutOff, .relabelled, .forged].contains(kind)
      try attack(kind, target(mayBeCrashed: !needsRecords), kind.rawValue)
    }
  }

  func target(mayBeCrashed: Bool) throws -> Target {
    if mayBeCrashed, random.chance(40), let closed = saved.filter(\.isClosed).randomElement(using: &random) {
      return try target(closed.image.copy(), closed.position, since: closed.position)
    }
    let copy = mayBeCrashed && random.chance(50) ? verifier.crash(disk) : disk.copy()
    return try target(copy, history.count - 1, since: openings.current)
  }

  private func target(_ disk: SimulatedDisk, _ position: Int, since: Int) throws -> Target {
    guard let image = ImageView(disk) else { throw Violation(.misbehaviour, "no header on an honest disk") }
    let state = history[position]
    let before = image.chain.isEmpty ? nil : history[since...position].last { $0 != state }
    return Target(image: image, state: state, since: history[since...], before: before ?? state)
  }

  private func attack(_ kind: Attack, _ target: Target, _ name: String) throws {
    let disk = target.disk
    switch kind {
    case .flippedBit, .garbage: rot(target, isBlock: kind == .garbage, name)
    case .cutShort:
      disk.resize(to: ByteCount(random.below(target.image.imageSize)))
      refuse(target, name)
    case .swappedHeaders:
      let a = disk.bytes(target.image.range(.headerA))
      disk.overwrite(ByteOffset(0), with: disk.bytes(target.image.range(.headerB)))
      disk.overwrite(ByteOffset(ImageView.copyOffsets[1]), with: a)
      refuse(target, name)
    case .swappedBlocks: swapBlocks(target, name)
    case .olderParts: putBack(target, name)
    case .damagedRecord: damageRecord(target, name)
    case .recordsCutOff: cutOff(target, name)
    case .twoPasts: try mixPasts(name)
    case .relabelled: relabel(target, name)
    case .forged: try forge(target, name)
    }
  }

  // MARK: Judging

  func exact(_ target: Target) -> Expectation {
    Expectation(
      kind: .adversary, states: [target.state], past: history, refusals: Expectation.damage, mayRefuseEntries: true)
  }

  private func judge(_ disk: SimulatedDisk, _ expected: Expectation, _ name: String, cuts: Int = 1) {
    tally.count(fault: name)
    let how = Thoroughness(cutsInRecovery: cuts, using: &verifier.random)
    if case .violation(let violation) = verifier.verify(disk, expected, how) { report(violation.at(name)) }
  }

  /// Nothing but a refusal is right.
  private func refuse(_ target: Target, _ name: String) {
    tally.count(fault: name)
    switch verifier.verify(target.disk, exact(target)) {
    case .violation(let violation): report(violation.at(name))
    case .recovered: report(Violation(.unnoticed, "\(name): it opens"))
    case .refused: break
    }
  }

  // MARK: Bit rot

  /// One block, or one bit of it. On an image that isn't closed the last commit may look as if a power cut had torn it.
  private func rot(_ target: Target, isBlock: Bool, _ name: String) {
    var expected = exact(target)
    expected.states = [target.before, target.state]
    let range = target.image.range(random.pick(Region.allCases))
    if isBlock {
      let block = range.lowerBound + random.below(range.count / 4096) * 4096
      target.disk.overwrite(ByteOffset(block), with: random.bytes(4096))
    } else {
      target.disk.flip(bit: range.lowerBound * 8 + random.below(range.count * 8))
    }
    judge(target.disk, expected, name)
  }

  private func swapBlocks(_ target: Target, _ name: String) {
    let image = target.image
    let range = image.range(random.pick([.data, .data, .data, .data, .leaves0, .leaves1]))
    let unit = random.pick([4096, image.blockSize])
    let (a, b) = (random.below(range.count / unit), random.below(range.count / unit))
    let places = [a, b].map { range.lowerBound + $0 * unit }
    let bytes = places.map { image.disk.bytes($0..<$0 + unit) }
    image.disk.overwrite(ByteOffset(places[0]), with: bytes[1])
    image.disk.overwrite(ByteOffset(places[1]), with: bytes[0])
    judge(image.disk, exact(target), name)
  }

  // MARK: Other moments of the same image

  /// Some regions as they were. Only where both headers are among them may it be an older state, and a whole one.
  private func putBack(_ target: Target, _ name: String) {
    guard let old = saved.randomElement(using: &random) else { return }
    let regions = Region.allCases.filter { _ in random.chance(40) }
    for region in regions { target.disk.overwrite(target.image.range(region), from: old.image) }
    var expected = exact(target)
    if regions.contains(.headerA), regions.contains(.headerB) {
      expected.states = history
    } else if regions.contains(.ring) {
      expected.states = Array(target.since)
    }
    // One header of before, and a cut while the other is written again: as if both had been put back.
    let isHalfOld = regions.contains(.headerA) != regions.contains(.headerB)
    judge(target.disk, expected, name, cuts: isHalfOld ? 0 : 1)
  }

  /// A bit of a record that counts. Of the last it may look as if a power cut had torn it; the others were synced
  /// before the next was begun.
  private func damageRecord(_ target: Target, _ name: String) {
    let (image, records) = (target.image, target.image.chain)
    guard let index = records.indices.randomElement(using: &random) else { return }
    let record = records[index]
    let used = 160 + 40 * record.count
    let offset = random.chance(50) ? random.below(used) : image.headSize(record.count) + random.below(image.blockSize)
    let place = record.position + offset
    image.putRing(place, [image.ring(place, 1)[0] ^ UInt8(1 << random.below(8))])
    guard index == records.count - 1 else { return refuse(target, "\(name): one in the middle") }
    var expected = exact(target)
    expected.states = [target.before, target.state]
    judge(image.disk, expected, "\(name): the last")
  }

  /// That can't be told from a power cut, but it must leave a state that was there since the image was opened.
  private func cutOff(_ target: Target, _ name: String) {
    let records = target.image.chain
    guard !records.isEmpty else { return }
    for record in records.suffix(1 + random.below(records.count)) {
      target.image.putRing(record.position, [UInt8](repeating: 0, count: 4096))
    }
    var expected = exact(target)
    expected.states = Array(target.since)
    judge(target.disk, expected, name)
  }

  /// From one moment on, two pasts; then the journal of one, or some of its blocks, in the image of the other.
  private func mixPasts(_ name: String) throws {
    let origin = saved.filter { $0.isClosed }.randomElement(using: &random)
    let base = origin?.image ?? disk.copy()
    let start = origin.map { history[$0.position] } ?? acknowledged
    guard !start.entries.isEmpty else { return }
    let (one, _) = try past(from: base, start, commits: 1 + random.below(3))
    let (other, states) = try past(from: base, start, commits: 1 + random.below(3))
    guard let image = ImageView(other) else { return }
    let ring = image.range(.ring)
    if random.chance(50) {
      other.overwrite(ring, from: one)
    } else {
      for block in stride(from: ring.lowerBound, to: ring.upperBound, by: 4096) where random.chance(50) {
        other.overwrite(block..<block + 4096, from: one)
      }
    }
    let expected = Expectation(
      kind: .adversary, states: states, past: history, refusals: Expectation.damage, mayRefuseEntries: true)
    judge(other, expected, name)
  }

  private func past(
    from base: SimulatedDisk, _ start: StoreState, commits: Int
  ) throws -> (SimulatedDisk, [StoreState]) {
    let disk = base.copy()
    let (volume, _) = try Verifier.open(disk, start.keys)
    let store = try BlobStore(volume)
    var states = [start]
    for _ in 0..<commits { states.append(try replace(in: store, after: states[states.count - 1])) }
    return (disk.copy(), states)
  }

  /// Commits something new, outside of the plan; gives the state after it.
  func replace(in store: BlobStore, after state: StoreState) throws -> StoreState {
    var next = state
    let entry = random.below(next.entries.count)
    let content = random.bytes(min(next.entries[entry].capacity, 300))
    try store.stageReplace(EntryName(next.entries[entry].name), content.span)
    try store.commit()
    next.replace(entry, content: content)
    return next
  }

  // MARK: Records

  /// A record of this store from another time, where the next would go, with all its fields but the MAC as they must
  /// be.
  private func relabel(_ target: Target, _ name: String) {
    let image = target.image
    guard let (_, head, bytes) = donor(for: image) else { return }
    var record = bytes
    Self.relabel(&record, as: head, image.epoch)
    image.putRing(head.position, record)
    judge(image.disk, exact(target), name)
  }

  private static func relabel(_ record: inout [UInt8], as head: ImageView.Cursor, _ epoch: [UInt8]) {
    record.put(head.sequence, at: 16)
    record.put(head.generation + 1, at: 24)
    record.put(epoch, at: 32)
    record.put(head.previous, at: 48)
    record.put(UInt64(head.position), at: 80)
  }

  /// A commit from an older copy of the image and where it would go.
  private func donor(for image: ImageView) -> (RecordView, ImageView.Cursor, [UInt8])? {
    guard !image.isClean, let old = saved.randomElement(using: &random), let source = ImageView(old.image) else {
      return nil
    }
    let own = image.chain
    let head = image.head
    let candidates =
      source.allRecords.filter { $0.size <= image.ringSize - head.used }
      + own.filter { $0.size <= image.ringSize - head.used }
    guard let record = candidates.randomElement(using: &random) else { return nil }
    let from = own.contains { $0.mac == record.mac } ? image : source
    return (record, head, from.ring(record.position, record.size))
  }

  /// As `relabel`, with the right MAC and one field wrong. What does not follow is refused; what belongs elsewhere is
  /// no record.
  private func forge(_ target: Target, _ name: String) throws {
    let image = target.image
    guard let (donor, head, bytes) = donor(for: image) else { return }
    guard let forger = try Forger(header: image.header, key: random.pick(target.state.keys)) else { return }
    var record = bytes
    Self.relabel(&record, as: head, image.epoch)
    let forgery = random.pick(Forgery.allCases)
    var position = head.position
    switch forgery {
    case .chain:
      var previous = donor.previous
      if previous == head.previous { previous[random.below(32)] ^= 1 }
      record.put(previous, at: 48)
    case .number: record.put(head.sequence + 1 + UInt64(random.below(3)), at: 16)
    case .generation: record.put(head.generation + UInt64(random.pick([0, 2])), at: 24)
    case .reserved: record[random.pick([88, 127, 128 + 36, 128 + 39])] = 1
    case .entry: record.put(UInt64(image.sectorCount) + UInt64(random.below(2)), at: 128)
    case .behindTheEnd:
      let blocks = (image.room - record.count) / image.blockSize
      guard blocks > 0 else { return }
      position = (head.position + (1 + random.below(blocks)) * image.blockSize) % image.ringSize
      record.put(UInt64(position), at: 80)
      record.put(head.sequence + 1 + UInt64(random.below(3)), at: 16)
    case .tornPayload: record[image.headSize(donor.count) + random.below(image.blockSize)] ^= 1
    case .epoch: record.put(random.bytes(16), at: 32)
    case .place: record.put(UInt64((head.position + image.blockSize) % image.ringSize), at: 80)
    }
    try forger.seal(&record, count: donor.count)
    image.putRing(position, record)
    if forgery.isRefused {
      refuse(target, "\(name): \(forgery.rawValue)")
    } else {
      judge(image.disk, exact(target), "\(name): \(forgery.rawValue)")
    }
  }

  /// What is wrong with a record whose MAC is right.
  private enum Forgery: String, CaseIterable {
    case chain = "the chain"
    case number = "the number"
    case generation = "the generation"
    case reserved = "reserved bytes"
    case entry = "an entry"
    case behindTheEnd = "a later record behind the end"
    case tornPayload = "the payload"
    case epoch = "the epoch"
    case place = "the place"

    /// The others are no records, or such as a power cut leaves.
    var isRefused: Bool { ![.tornPayload, .epoch, .place].contains(self) }
  }
}
