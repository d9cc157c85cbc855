import Crypto
import Primitives

// Changing key slots. Slots never pass through the journal: a change is a checkpoint and both headers, so that when a
// call returns a removed wrap is gone from every logical address of the image (DESIGN §3). Who had both an old header
// and its key keeps the store key until that is rotated.
extension SecureVolume {
  public static var maximumSlots: Int { Format.slotCount }

  public var slots: [SlotDescription] {
    Self.descriptions(of: header.slots)
  }

  static func descriptions(of slots: [KeySlot?]) -> [SlotDescription] {
    slots.enumerated().compactMap { index, slot in
      slot.map { SlotDescription(index, $0) }
    }
  }

  /// Adds a slot that opens with `key`. Durable on return.
  ///
  /// - Parameter cost: what trying the passphrase costs; only and always for a passphrase.
  /// - Throws: `.refused` where the name is taken or invalid; `.noSpace` where all slots are used; `.anchor`, with
  ///   `isDurable`, where the slot is there and only the anchor couldn't be told.
  public func addSlot(
    _ key: borrowing KeyEncryptionKey, name slotName: String, cost: ScryptCost? = nil, created: UInt64
  ) throws(VolumeError) {
    try medium.mayWrite()
    guard KeySlot.isValid(name: slotName) else {
      throw VolumeError(
        .refused, store: name,
        "a slot's name has 1 to \(KeySlot.maximumNameLength) bytes and no control characters")
    }
    guard !header.slots.contains(where: { $0.map { KeySlot.areEqual($0.name, slotName) } ?? false }) else {
      throw VolumeError(
        .refused, store: name, "has a slot \"\(slotName)\" already; remove it first or give the new one another name")
    }
    guard let index = header.slots.firstIndex(of: nil) else {
      throw VolumeError(.noSpace, store: name, "all \(Format.slotCount) slots are in use; remove one first")
    }
    // Before the cost is paid.
    if let cost, cost.isWithinLimits, passphraseCost + cost.units > Format.passphraseCostLimit {
      throw VolumeError(
        .noSpace, store: name,
        "trying all its passphrases would take too long with one more of that cost; choose a lower cost, or remove "
          + "one first")
    }
    let slot: KeySlot
    do {
      slot = try KeySlot.wrap(
        keys.storeKey, under: key, name: slotName, cost: cost, created: created, context: header.slotContext,
        index: index)
    } catch { throw VolumeError(error, store: name) }
    try change("has the slot \"\(slotName)\" now") { $0[index] = slot }
  }

  /// Removes a slot: its wrap is overwritten in both headers before this returns.
  ///
  /// - Throws: `.noSuchSlot`; `.refused` where it is the last, which would lose the store; `.anchor`, with `isDurable`,
  ///   where the slot is gone and only the anchor couldn't be told.
  public func removeSlot(named slotName: String) throws(VolumeError) {
    try medium.mayWrite()
    guard let index = header.slots.firstIndex(where: { $0.map { KeySlot.areEqual($0.name, slotName) } ?? false }) else {
      throw VolumeError(.noSuchSlot, store: name, "has no slot \"\(slotName)\"; `vnvram slot list` names them")
    }
    guard header.slots.count(where: { $0 != nil }) > 1 else {
      throw VolumeError(
        .refused, store: name, "\"\(slotName)\" is the only slot; without it nobody could ever open the store again")
    }
    try change("has the slot \"\(slotName)\" no more") { $0[index] = nil }
  }

  /// What trying all passphrase slots takes.
  private var passphraseCost: UInt64 { header.slots.reduce(0) { $0 + ($1?.cost?.units ?? 0) } }

  /// With a new epoch, so that headers from before, put back, don't go with the records that came after: that would be
  /// older slots beside newer content.
  private func change(_ what: String, _ body: (inout [KeySlot?]) -> Void) throws(VolumeError) {
    let epoch: InlineBytes16
    do { epoch = try Random.bytes16() } catch { throw VolumeError(error, store: name) }
    try settle(what) { (next) throws(VolumeError) in
      try beginEpoch(epoch, in: &next)
      body(&next.slots)
    }
  }
}
