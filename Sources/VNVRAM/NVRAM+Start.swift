import BlobStore
import BlockIO
import Keyring
import Primitives
import SecureVolume

// From closed to running and back: starting, opening with whatever key there is, locking, closing.
extension NVRAM {
  // MARK: Starting

  /// Opens the store, if a key is there, and takes requests from then on.
  ///
  /// In the states key-pending and locked requests queue until a key comes. The NVRAM's thread looks for it, and sees the
  /// keyrings that the caller of this sees; a process keyring must exist by now.
  ///
  /// - Parameter failOnEncryptedDrive: what to do where no key opens the store. True: throw, with nothing queued and
  ///   nothing written; `start` may be called again. False: succeed, in the state key-pending. Where keys are asked for
  ///   (`NVRAMConfiguration.asksForKeys`), true waits for the answer, and false doesn't.
  /// - Throws: `.keyMissing`, `.wrongKey`, `.keyUnusable` with `keys` naming every one; `.audit`; `.unformatted`;
  ///   `.volume`, `.blobs`, `.device`; `.started`; `.closed`.
  public func start(failOnEncryptedDrive: Bool) throws(NVRAMError) {
    try start { (device, anchor) throws(NVRAMError) in
      var opening = try open(device, anchor, earlier: [])
      if opening.core == nil, failOnEncryptedDrive, configuration.asksForKeys {
        let answered = try unlocker.askAndWait(for: opening.askable)
        if !answered.isEmpty { opening = try open(device, anchor, earlier: [], answered: answered) }
      }
      if opening.core == nil, failOnEncryptedDrive { throw NVRAMError(opening.wanted, store: name) }
      return opening
    }
  }

  /// Opens the store with a key that the caller has: a recovery key, a passphrase, or the bytes of a kernel key. The
  /// keyrings are not looked at, neither now nor later: the store doesn't lock when a key goes.
  ///
  /// - Parameter slotName: try only the slot of this name; a passphrase costs its time for each that it is tried on.
  /// - Throws: `.wrongKey`, after which `start` may be called again; else as `start(failOnEncryptedDrive:)`.
  public func start(with key: borrowing KeyEncryptionKey, slotName: String? = nil) throws(NVRAMError) {
    precondition(configuration.form == .encrypted, "a plain image has no key")
    try start { (device, anchor) throws(NVRAMError) in
      let sealed = try sealedVolume(device)
      anchor?.prepare(for: sealed.uuid, forWriting: device.isWritable)
      let volume = try unlocker.unlock(sealed, with: key, slotName: slotName, anchor: anchor.map { .following($0) })
      return Opening(core: try StoreCore(sealed: volume))
    }
  }

  /// Opens the store with its own key, which another process unwrapped and recorded (`StoreKeyKeeper`).
  ///
  /// - Throws: as `start(failOnEncryptedDrive:)`, but for what concerns keys.
  public func start(withStoreKey storeKey: consuming SecretBytes, of uuid: StoreUUID) throws(NVRAMError) {
    let key = StoreKey(storeKey, uuid)
    try start { (device, anchor) throws(NVRAMError) in Opening(core: try open(device, anchor, with: key)) }
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

  private func open(
    _ device: any BlockDevice, _ anchor: (any FreshnessAnchor)?, with key: StoreKey
  ) throws(NVRAMError) -> StoreCore {
    let sealed = try sealedVolume(device)
    anchor?.prepare(for: key.uuid, forWriting: device.isWritable)
    let volume: SecureVolume
    do { volume = try sealed.unlock(withStoreKey: key.copy(), of: key.uuid, use: anchor.map { .following($0) }) } catch
    {
      throw NVRAMError(error)
    }
    return try StoreCore(sealed: volume)
  }

  /// - Parameter open: without the lock, by who has the core.
  private func start(
    _ open: (any BlockDevice, (any FreshnessAnchor)?) throws(NVRAMError) -> Opening
  ) throws(NVRAMError) {
    try monitor.withLock { (s) throws(NVRAMError) in
      _ = takeCore(s)
      defer { releaseCore(s) }
      guard s.isOpen, let device = s.device else { throw closed }
      guard s.state == .closed || s.state == .unformatted else {
        throw NVRAMError(.started, .failed, store: name, "was started already")
      }
      // Before the worker, which is to share it.
      if configuration.asksForKeys { try? Keyring.prepareToAsk() }
      let opening: Opening
      do throws(NVRAMError) {
        let anchor = s.anchor
        opening = try monitor.withoutLock { () throws(NVRAMError) in try open(device, anchor) }
      } catch {
        switch error.code {
        case .unformatted: s.become(.unformatted)
        case .keyMissing, .keyUnusable, .wrongKey, .noSuchSlot: break
        // Nothing is wrong with the store: it may be started once the reason is gone.
        case _ where [.auditFailed, .refused, .notAnImage].contains(error.status): break
        default: fail(s, error)
        }
        throw error
      }
      try startWorker(s)
      settle(s, opening)
    }
  }

  private func startWorker(_ s: NVRAMShared) throws(NVRAMError) {
    guard s.worker == nil else { return }
    do { s.worker = try WorkerThread { self.work() } } catch {
      throw NVRAMError(.noThread, .failed, store: name, "the system gives no thread (error \(error.errno))")
    }
  }

  // MARK: Opening

  /// What came of looking for a key and trying it.
  struct Opening {
    /// `nil` where no key opened the store.
    var core: StoreCore?
    var seen: [Unlocker.SlotSighting] = []
    var opener: Unlocker.SlotSighting?
    var wanted = WantedKeys()
    /// The keys that asking could bring.
    var askable: [KeyUse] = []
    var use: KeyUse?
  }

  /// Opens the device with whatever key there is. Without the lock.
  func open(
    _ device: any BlockDevice, _ anchor: (any FreshnessAnchor)?, earlier: [Unlocker.SlotSighting],
    answered: Set<KeySerial> = []
  ) throws(NVRAMError) -> Opening {
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
      seen: attempt.seen, opener: attempt.opened, wanted: attempt.wanted, askable: attempt.askable, use: attempt.use)
  }

  /// The kernel keys that may open the store which runs. For who has the core.
  func watchedKeys(_ s: NVRAMShared) -> [String] {
    guard let only = configuration.onlyKey else { return s.keyNames }
    return s.keyNames.filter { $0.utf8.elementsEqual(only.utf8) }
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

  /// Goes to the state that an opening leads to. The caller has the core.
  func settle(_ s: NVRAMShared, _ opening: Opening) {
    s.seen = opening.seen
    s.opener = opening.opener
    s.openerUse = opening.use
    s.keyGuard = opening.opener.flatMap { KeyGuard($0.sighting) }
    guard let core = opening.core else {
      let wanted = asking(s, for: opening)
      if case .locked = s.state {
        s.become(.locked(wanted))
      } else if s.state != .keyPending(wanted) {
        s.become(.keyPending(wanted))
      }
      return s.watch.startSearch(now: .now)
    }
    s.core = core
    s.inquiry.settle()
    let mismatches = s.registered.values.compactMap { core.mismatch($0) }.sorted { $0.name < $1.name }
    s.watch.startGuard(now: .now)
    s.become(.running)
    if !mismatches.isEmpty { s.tell(.mismatched(mismatches)) }
    // The worker sees to what has queued, and to the key that is to be guarded.
    s.workerHasWork.signal()
  }

  /// Unlocks with a recovery key or a passphrase, while a key is missing. No kernel key is then watched.
  ///
  /// - Throws: `.wrongKey`, and it stays as it was; `.audit`; what the image has wrong; `.started` in other states.
  public func unlock(with key: borrowing KeyEncryptionKey, slotName: String? = nil) throws(NVRAMError) {
    try unlock { (device, anchor) throws(NVRAMError) in
      let volume = try unlocker.unlock(
        try sealedVolume(device), with: key, slotName: slotName, anchor: anchor.map { .following($0) })
      return try StoreCore(sealed: volume)
    }
  }

  /// As `start(withStoreKey:of:)`, after `lock`.
  public func unlock(withStoreKey storeKey: consuming SecretBytes, of uuid: StoreUUID) throws(NVRAMError) {
    let key = StoreKey(storeKey, uuid)
    try unlock { (device, anchor) throws(NVRAMError) in try open(device, anchor, with: key) }
  }

  private func unlock(
    _ open: (any BlockDevice, (any FreshnessAnchor)?) throws(NVRAMError) -> StoreCore
  ) throws(NVRAMError) {
    let (device, anchor) = try monitor.withLock { (s) throws(NVRAMError) in
      _ = takeCore(s)
      guard s.isOpen, let device = s.device, s.state.isWaiting else {
        releaseCore(s)
        throw s.isOpen ? NVRAMError(.started, .failed, store: name, "waits for no key") : closed
      }
      return (device, s.anchor)
    }
    var result: Result<StoreCore, NVRAMError>
    do throws(NVRAMError) { result = .success(try open(device, anchor)) } catch { result = .failure(error) }
    try monitor.withLock { (s) throws(NVRAMError) in
      defer { releaseCore(s) }
      switch result {
      case .success(let core): settle(s, Opening(core: core, seen: s.seen))
      case .failure(let error):
        if error.code != .wrongKey, error.code != .audit { fail(s, error) }
        throw error
      }
    }
  }

  // MARK: Locking and closing

  /// Finishes the commit in flight, closes the image cleanly, drops every key, and waits for a key to come: one that is
  /// there now counts only when another comes in its place or its size changes, or when `poke` says to look: its content is
  /// not read.
  ///
  /// Nobody is asked for a key either until then.
  ///
  /// - Throws: the store's error, where it could not be closed cleanly; the keys are gone all the same. An anchor's
  ///   failure is not the store's: with `isDurable` the image is closed cleanly and locked, and only the anchor
  ///   couldn't be told.
  public func lock() throws(NVRAMError) {
    try monitor.withLock { (s) throws(NVRAMError) in
      _ = takeCore(s)
      defer { releaseCore(s) }
      guard s.state == .running, configuration.form == .encrypted else { return }
      let names = configuration.findsKeys ? watchedKeys(s) : []
      let now = monitor.withoutLock {
        names.map { Unlocker.SlotSighting(slot: $0, sighting: KeySighting(glancingAt: $0)) }
      }
      s.inquiry.forbid()
      try lock(s, wanted: WantedKeys(), seen: now, because: "it was asked to")
    }
  }

  /// Locks. The caller has the core.
  func lock(
    _ s: NVRAMShared, wanted: WantedKeys, seen: [Unlocker.SlotSighting], because reason: String
  ) throws(NVRAMError) {
    let opener = s.opener
    s.seen = seen
    s.opener = nil
    s.openerUse = nil
    s.keyGuard = nil
    s.become(.locked(wanted))
    s.watch.startSearch(now: .now)
    let uuid = s.core?.volume?.uuid
    let failure = monitor.withoutLock { dropCore(s) }
    // Nothing is held back for want of this record: no key is used.
    try? unlocker.audit.record(
      .init(.locked, store: name, uuid: uuid, key: opener?.slot, kind: SlotKind.keyring.label, detail: reason))
    if let failure {
      if failure.isDurable { s.tell(.trouble(failure)) } else { fail(s, failure) }
      throw failure
    }
  }

  /// Closes the image and lets go of the keys. Without the lock, by who has the core.
  private func dropCore(_ s: NVRAMShared) -> NVRAMError? {
    defer { s.core = nil }
    do { try s.core?.close() } catch { return error }
    return nil
  }

  /// Fails every request that waits, in order, closes the image cleanly, lets go of keys and device, and waits until all
  /// completions have been called. (From a completion: all but that one's own return.) Nothing can be asked of it after
  /// that. A second call does nothing.
  ///
  /// What is on the medium stays; see `deleteImage`.
  ///
  /// - Throws: the store's error, where it could not be closed cleanly; it is closed all the same. With `isDurable` it
  ///   is closed cleanly, and only the anchor couldn't be told.
  public func close() throws(NVRAMError) {
    var failure: NVRAMError?
    let worker: WorkerThread? = monitor.withLock { s in
      guard s.isOpen else { return nil }
      s.isOpen = false
      _ = takeCore(s)
      s.failQueue(NVRAMError(.closed, .failed, store: name, "was closed while the request waited"))
      s.watch.stop()
      failure = monitor.withoutLock { dropCore(s) }
      s.opener = nil
      s.keyGuard = nil
      // Not when the last reference goes: who closes wants to open it again.
      s.device?.close()
      s.device = nil
      s.anchor?.release()
      s.anchor = nil
      s.become(.closed)
      releaseCore(s)
      s.workerMustEnd = true
      s.workerHasWork.signal()
      return s.worker
    }
    if let worker { if worker.isCurrent { worker.detach() } else { worker.join() } }
    // No key is used any more, so nothing is held back for want of it.
    try? unlocker.runs?.endAll()
    if let failure { throw failure }
  }
}
