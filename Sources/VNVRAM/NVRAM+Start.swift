import BlobStore
import BlockIO
import Keyring
import Primitives
import SecureVolume

// From closed to running and back: starting, opening with whatever key there is, locking, closing.
extension NVRAM {
  // MARK: Starting

  /// Opens the store, if a key is there, and takes requests from then on. Keys are looked for and tried on the calling
  /// thread.
  ///
  /// In the states key-pending and locked requests queue until a key comes. The NVRAM's thread that looks after keys
  /// looks for it, and sees the keyrings that the caller of this sees; a process keyring must exist by now.
  ///
  /// **Durable on return**, if the store runs and its device is open for writing: what a power cut had left is
  /// recovered, and the headers say that the image is in use, in a new epoch (`SealedVolume.unlock`). Where no key
  /// opened it, or the device is open for reading, nothing is written to the image; when the key comes it is done then.
  ///
  /// - Parameter failOnEncryptedDrive: what to do where no key opens the store. True: throw, with nothing queued and
  ///   nothing written; `start` may be called again. False: succeed, in the state key-pending. Where keys are asked for
  ///   (`NVRAMConfiguration.asksForKeys`), true waits for the answer, and false doesn't. All that needs the store waits
  ///   meanwhile, `close` included.
  /// - Throws: `.keyMissing`, `.wrongKey`, `.keyUnusable` with `keys` naming every one; `.noSuchSlot` where the image
  ///   has no slot for `NVRAMConfiguration.onlyKey`; `.noThread`; `.audit`; `.unformatted`: after these, and what is
  ///   refused or no image, `start` may be called again. `.volume`, `.blobs`, `.device`, after which it is `failed`.
  ///   `.started`, and so always from within observers and completions, which are called only once it was started.
  ///   `.closed`.
  public func start(failOnEncryptedDrive: Bool) throws(NVRAMError) {
    try start { (store) throws(NVRAMError) in
      var opening = try open(store, earlier: [])
      if opening.core == nil, failOnEncryptedDrive, configuration.asksForKeys {
        let answered = try unlocker.askAndWait(for: opening.keys.askable)
        if !answered.isEmpty { opening = try open(store, earlier: [], answered: answered) }
      }
      if opening.core == nil, failOnEncryptedDrive { throw NVRAMError(opening.keys.wanted, store: name) }
      return opening
    }
  }

  /// Opens the store with a key that the caller has: a recovery key, a passphrase, or the bytes of a kernel key. The
  /// keyrings are not looked at, neither now nor while the store runs: it doesn't lock when a key goes. A passphrase is
  /// tried on the calling thread, which has the store meanwhile. Durable on return is what
  /// `start(failOnEncryptedDrive:)` says.
  ///
  /// - Parameter slotName: try only the slot of this name; a passphrase costs its time for each that it is tried on.
  /// - Throws: `.wrongKey`, after which `start` may be called again; else as `start(failOnEncryptedDrive:)`.
  public func start(with key: borrowing KeyEncryptionKey, slotName: String? = nil) throws(NVRAMError) {
    precondition(configuration.form == .encrypted, "a plain image has no key")
    try start { (store) throws(NVRAMError) in
      let sealed = try sealedVolume(store.device)
      store.anchor?.prepare(for: sealed.uuid, forWriting: store.device.isWritable)
      return Opening(core: try open(store, sealed, with: key, slotName: slotName))
    }
  }

  /// Opens the store with its own key, which another process unwrapped and recorded (`StoreKeyKeeper`). Nothing is
  /// recorded here. Durable on return is what `start(failOnEncryptedDrive:)` says.
  ///
  /// - Throws: as `start(failOnEncryptedDrive:)`, but for what concerns keys; `.volume(.notAuthentic)` for a key that
  ///   isn't this store's, after which it is `failed`.
  public func start(withStoreKey storeKey: consuming SecretBytes, of uuid: StoreUUID) throws(NVRAMError) {
    let key = StoreKey(storeKey, uuid)
    try start { (store) throws(NVRAMError) in Opening(core: try open(store, with: key)) }
  }

  /// A closure can't be given what has one owner.
  private final class StoreKey {
    let uuid: StoreUUID
    private let storeKey: SecretBytes

    init(_ storeKey: consuming SecretBytes, _ uuid: StoreUUID) {
      self.storeKey = storeKey
      self.uuid = uuid
    }

    func copy() -> SecretBytes { storeKey.copy() }
  }

  private func open(_ store: Store, with key: StoreKey) throws(NVRAMError) -> StoreCore {
    let sealed = try sealedVolume(store.device)
    store.anchor?.prepare(for: key.uuid, forWriting: store.device.isWritable)
    let volume: SecureVolume
    do {
      volume = try sealed.unlock(withStoreKey: key.copy(), of: key.uuid, use: store.anchor.map { .following($0) })
    } catch { throw NVRAMError(error) }
    return try StoreCore(sealed: volume)
  }

  private func start(_ open: (Store) throws(NVRAMError) -> Opening) throws(NVRAMError) {
    try withStore { (store) throws(NVRAMError) in
      try change { (machine) throws(NVRAMError) in try machine.checkStart() }
      // Before the keeper, which is to share it.
      if configuration.asksForKeys { try? Keyring.prepareToAsk() }
      do throws(NVRAMError) {
        let opening = try open(store)
        do throws(NVRAMError) { try startWorkers() } catch {
          try? opening.core?.close()
          throw error
        }
        try settle(store, opening)
      } catch {
        change { $0.noteStartFailed(error) }
        throw error
      }
    }
  }

  // MARK: Opening

  /// What came of looking for a key and trying it.
  struct Opening {
    /// `nil` where no key opened the store.
    var core: StoreCore?
    var keys = KeyOutcome()
  }

  /// Opens the device with whatever key there is.
  func open(
    _ store: Store, earlier: [Unlocker.SlotSighting], answered: Set<KeySerial> = []
  ) throws(NVRAMError) -> Opening {
    let (device, anchor) = (store.device, store.anchor)
    if configuration.form == .plain {
      guard anchor == nil else {
        throw NVRAMError(
          .volume(.refused), .refused, store: name,
          "nothing tells whether a plain image is the newest: leave out the anchor")
      }
      return Opening(core: try openPlain(device))
    }
    let sealed = try sealedVolume(device)
    // While the process still may: it can be confined by the time that a key comes.
    anchor?.prepare(for: sealed.uuid, forWriting: device.isWritable)
    let attempt = try unlocker.attempt(
      sealed, .open(anchor.map { .following($0) }), earlier: earlier, only: configuration.onlyKey, answered: answered)
    return Opening(
      core: try attempt.gain?.volume.map { (volume) throws(NVRAMError) in try StoreCore(sealed: volume) },
      keys: attempt.keys)
  }

  private func open(
    _ store: Store, _ sealed: SealedVolume, with key: borrowing KeyEncryptionKey, slotName: String?
  ) throws(NVRAMError) -> StoreCore {
    try StoreCore(
      sealed: try unlocker.unlock(
        sealed, with: key, slotName: slotName, anchor: store.anchor.map { .following($0) }))
  }

  /// The kernel keys that may open the store.
  func watchedKeys(_ store: Store) -> [String] {
    guard let only = configuration.onlyKey else { return store.keyNames }
    return store.keyNames.filter { $0.utf8.elementsEqual(only.utf8) }
  }

  private func openPlain(_ device: any BlockDevice) throws(NVRAMError) -> StoreCore {
    do throws(VolumeError) {
      guard try !SealedVolume.looksEncrypted(device) else {
        throw VolumeError(
          .notEncrypted, store: name, "is encrypted, and a plain image was asked for; don't ask for that")
      }
    } catch { throw NVRAMError(error) }
    do { return try StoreCore(plain: device) } catch  where error.code == .blobs(.damaged) {
      if try isBlank(device) { throw unformatted }
      throw error
    }
  }

  func sealedVolume(_ device: any BlockDevice) throws(NVRAMError) -> SealedVolume {
    try SealedVolume.expected(on: device)
  }

  /// Whether the device begins with nothing but zeros.
  private func isBlank(_ device: any BlockDevice) throws(NVRAMError) -> Bool {
    var start = ByteBuffer(count: Int(min(device.size.value, 4096)))
    do { try device.read(at: ByteOffset(0), into: start.mutableSpan) } catch { throw NVRAMError(error) }
    return start.span.isZero
  }

  private var unformatted: NVRAMError { .unformatted(name) }

  /// Goes to the state that an opening leads to.
  func settle(_ store: Store, _ opening: Opening) throws(NVRAMError) {
    guard let core = opening.core else {
      return try change { (machine) throws(NVRAMError) in try machine.waitForKey(opening.keys, now: threads.now) }
    }
    store.core = core
    let condition = store.condition
    try change { (machine) throws(NVRAMError) in
      try machine.run(opening.keys, condition, now: threads.now) { core.mismatch($0) }
    }
  }

  /// Unlocks with a recovery key or a passphrase, while a key is missing, on the calling thread. No kernel key is then
  /// watched. Requests that waited are served from then on. Durable on return is what `start(failOnEncryptedDrive:)`
  /// says.
  ///
  /// - Parameter slotName: try only the slot of this name.
  /// - Throws: `.wrongKey` and `.audit`, and it stays as it was; what the image has wrong, after which it is `failed`;
  ///   `.started` where no key is missing; `.closed`.
  public func unlock(with key: borrowing KeyEncryptionKey, slotName: String? = nil) throws(NVRAMError) {
    try unlock { (store) throws(NVRAMError) in
      try open(store, try sealedVolume(store.device), with: key, slotName: slotName)
    }
  }

  /// Unlocks as `unlock(with:slotName:)`, with the store's own key: see `start(withStoreKey:of:)`.
  ///
  /// - Throws: `.volume` and other errors, after which it is `failed`; `.started` where no key is missing; `.closed`.
  public func unlock(withStoreKey storeKey: consuming SecretBytes, of uuid: StoreUUID) throws(NVRAMError) {
    let key = StoreKey(storeKey, uuid)
    try unlock { (store) throws(NVRAMError) in try open(store, with: key) }
  }

  private func unlock(_ open: (Store) throws(NVRAMError) -> StoreCore) throws(NVRAMError) {
    try withStore { (store) throws(NVRAMError) in
      try change { (machine) throws(NVRAMError) in try machine.checkUnlock() }
      do throws(NVRAMError) { try settle(store, Opening(core: try open(store))) } catch {
        if error.code != .wrongKey, error.code != .audit { change { $0.fail(error) } }
        throw error
      }
    }
  }

  /// Looks for the keys now, and tries what is there even if it has not changed since it was tried, except a key that
  /// is known to be wrong; asks for what isn't there, if keys are asked for. Returns at once: the NVRAM's thread that
  /// looks after keys does it, and observers are told what comes of it. While the
  /// store runs, the key that opened it is checked instead (`NVRAMConfiguration.KeyLossPolicy.lock`).
  ///
  /// Called over and over it is done as often as `NVRAMConfiguration.shortestKeyTrialInterval` and
  /// `shortestAskInterval` allow, the last time after the last call.
  public func poke() { change { $0.poke() } }

  /// Whether a key is looked for or asked for just now: what the state says of missing keys may change in a moment.
  /// Waits for nothing.
  public var isLookingForKeys: Bool { change { $0.isLookingForKeys } }

  // MARK: Locking and closing

  /// Lets what is being served end, closes the image cleanly, and drops every key, on the calling thread. On return no
  /// key is held, all that was acknowledged is in its place, durably, and nothing is written until the store is
  /// unlocked. Requests that wait go on waiting, and new ones queue. It doesn't wait for completions, observers or
  /// callbacks.
  ///
  /// From then on a key is looked for: one that is there now counts only when another comes in its place or its size
  /// changes, or when `poke` says to look: its content is not read. Nobody is asked for a key either until then.
  ///
  /// Nothing is done for a plain image, and where the store doesn't run.
  ///
  /// - Throws: the store's error, where it could not be closed cleanly; the keys are gone all the same, and it is
  ///   `failed`. An anchor's failure is not the store's: with `isDurable` the image is closed cleanly and locked, and
  ///   only the anchor couldn't be told. `.closed`.
  public func lock() throws(NVRAMError) {
    guard configuration.form == .encrypted else { return }
    try withStore { (store) throws(NVRAMError) in
      guard try change({ (machine) throws(NVRAMError) in try machine.prepareLock() }) else { return }
      let seen = configuration.findsKeys ? watchedKeys(store) : []
      try lock(
        store,
        Machine.Search(
          wanted: WantedKeys(),
          seen: seen.map { Unlocker.SlotSighting(slot: $0, sighting: KeySighting(glancingAt: $0)) }),
        because: "it was asked to")
    }
  }

  /// Locks a store that runs.
  func lock(_ store: Store, _ search: Machine.Search, because reason: String) throws(NVRAMError) {
    let unlocking = change { $0.beginLock(search) }
    let uuid = store.core?.volume?.uuid
    let failure = store.drop()
    // Nothing is held back for want of this record: no key is used.
    try? unlocker.audit.record(
      .init(
        .locked, store: name, uuid: uuid, key: unlocking?.sighting.slot, kind: SlotKind.keyring.label, detail: reason))
    change { $0.endLock(failure, now: threads.now) }
    if let failure { throw failure }
  }

  /// Fails every request that waits to be served with `.closed`, in order; lets what is being served end with its
  /// outcome; closes the image cleanly, and lets go of keys, device and anchor. Then waits until all completions have
  /// returned, all events have been told, no callback runs, and both threads have ended, however long those take. All
  /// that was acknowledged is in its place, durably, on return. From the call on requests, and what changes the state,
  /// are refused with `.closed`.
  ///
  /// From within a completion, an observer or a callback it returns when the device is closed: what was not told yet is
  /// told afterwards, and the threads end then. Before `start` there are no threads, and no observer is told.
  ///
  /// A second call waits for all that, too, and throws nothing; from within a completion, an observer or a callback it
  /// returns at once, and the device may not be closed yet.
  ///
  /// What is on the medium stays; see `deleteImage`.
  ///
  /// - Throws: the store's error, where it could not be closed cleanly; it is closed all the same. With `isDurable` it
  ///   is closed cleanly, and only the anchor couldn't be told.
  public func close() throws(NVRAMError) {
    var failure: NVRAMError?
    if change({ $0.beginClose() }) {
      withStore { store in
        failure = store.drop()
        // Not when the last reference goes: who closes wants to open it again.
        store.device.close()
        store.anchor?.release()
        change { $0.endClose() }
      }
    }
    let (parker, thread) = (Parker(threads), threads.current)
    while !change({ $0.isQuiet(for: thread, parker) }) { parker.park() }
    let (joinable, isInside) = change { ($0.takeJoinable(), $0.isInside(thread)) }
    for worker in joinable { if isInside { threads.detach(worker) } else { threads.join(worker) } }
    // No key is used any more, so nothing is held back for want of it.
    try? unlocker.runs?.endAll()
    if let failure { throw failure }
  }
}
