import Audit
import BlobStore
import BlockIO
import Crypto
import Glibc
import Keyring
import Primitives
import SecureVolume

// Making a store and removing one: only ever because someone said so.
extension NVRAM {
  /// Bytes that an image needs for the registered entries. Nothing is touched, and nothing is waited for.
  ///
  /// - Throws: `.blobs(.overLimit)`; `.volume(.noSpace)` where no image holds them.
  public func requiredSize() throws(NVRAMError) -> ByteCount {
    try needed(try layout(change { $0.entries }.map(\.specification)))
  }

  /// Makes a new store with the registered entries, all empty, on the device, whose whole size it takes; on the calling
  /// thread, before `start`. All is durable on return. Where power goes meanwhile, the device has the old store, none,
  /// or the new one, never a part of one: the old headers go before anything else is written, and the new ones come
  /// last.
  ///
  /// - Parameters:
  ///   - key: opens the store's first slot, which is called `slotName`.
  ///   - cost: for a passphrase, what trying it costs.
  ///   - replacing: overwrite the store that is there, and the anchor that is in the anchor's place. Else one that is
  ///     there is kept, whatever its condition.
  ///   - growing: make the file larger where it is too small.
  /// - Throws: `.volume(.exists)`; `.volume(.refused)` for a name that no slot can have; `.volume(.noSpace)` with the
  ///   size that is needed; `.blobs(.overLimit)`; `.started` once it was started; `.closed`: the image is as it was.
  ///   `.audit` where the key's use can't be recorded, and nothing was done; or where it can't be recorded that the
  ///   store was made, and it is there. Other `.volume`, and `.device`: the old store may be gone.
  /// - Returns: the store's UUID.
  @discardableResult
  public func format(
    key: borrowing KeyEncryptionKey, slotName: String, cost: ScryptCost? = nil, replacing: Bool = false,
    growing: Bool = false
  ) throws(NVRAMError) -> StoreUUID {
    let use = AuditRecord(
      .askedFor, store: name, key: slotName, kind: key.kind.label, access: .write, detail: "to format a store")
    try record(use)
    return try formatRecorded(key, use, slotName, cost, replacing: replacing, growing: growing)
  }

  /// Makes a new store that opens with the kernel key of that name. See `format(key:slotName:)`. A key that is in no
  /// keyring is asked for where `NVRAMConfiguration.asksForKeys` says so; this call waits for the answer, and no other
  /// does.
  ///
  /// - Throws: besides, `.keyMissing`, `.keyUnusable`, `.wrongKey` for one that hasn't 32 bytes.
  @discardableResult
  public func format(
    keyNamed keyName: String, replacing: Bool = false, growing: Bool = false
  ) throws(NVRAMError) -> StoreUUID {
    let found = try FirstKey(
      named: keyName, for: name, unlocker.audit, purpose: "to format a store", asks: configuration.asksForKeys)
    return try formatRecorded(found.key, found.use, keyName, nil, replacing: replacing, growing: growing)
  }

  private func formatRecorded(
    _ key: borrowing KeyEncryptionKey, _ use: AuditRecord, _ slotName: String, _ cost: ScryptCost?, replacing: Bool,
    growing: Bool
  ) throws(NVRAMError) -> StoreUUID {
    precondition(configuration.form == .encrypted, "a plain image has no key")
    guard KeySlot.isValid(name: slotName) else {
      throw NVRAMError(
        .volume(.refused), .refused, store: name,
        "a slot's name has 1 to \(KeySlot.maximumNameLength) bytes and no control characters")
    }
    return try withPlace { (place) throws(NVRAMError) in
      try prepare(place, replacing: replacing, growing: growing)
      let uuid = try write(place, key, slotName, cost, replacing: replacing)
      var done = use
      (done.event, done.uuid, done.slot, done.detail) = (.formatted, uuid, 0, nil)
      try record(done)
      return uuid
    }
  }

  /// Makes a plain image: the 2013 stream with the registered entries, all empty, and nothing around it; on the calling
  /// thread, before `start`. Durable on return. Its first sector is cleared first and written last: power that goes
  /// meanwhile leaves no stream.
  ///
  /// - Throws: as `format(key:slotName:)`, but for keys and their record.
  public func formatPlain(replacing: Bool = false, growing: Bool = false) throws(NVRAMError) {
    precondition(configuration.form == .plain, "an encrypted store needs a key")
    try withPlace { (place) throws(NVRAMError) in
      try prepare(place, replacing: replacing, growing: growing)
      do throws(BlobStoreError) {
        try BlobStore.initialise(PlainVolume(place.device), entries: place.entries)
      } catch { throw NVRAMError(error, store: name) }
    }
  }

  // MARK: Parts

  /// Where a store is going to be.
  private struct Place {
    let device: any BlockDevice
    let anchor: (any FreshnessAnchor)?
    let entries: [EntrySpecification]
    let layout: StreamLayout
    let needed: ByteCount
  }

  private func withPlace<R>(_ body: (Place) throws(NVRAMError) -> R) throws(NVRAMError) -> R {
    try withStore { (store) throws(NVRAMError) in
      try change { (machine) throws(NVRAMError) in try machine.checkFormat() }
      let result = try body(try place(store))
      change { $0.noteFormatted() }
      return result
    }
  }

  private func place(_ store: Store) throws(NVRAMError) -> Place {
    let entries = change { $0.entries }.map(\.specification)
    let layout = try layout(entries)
    return Place(
      device: store.device, anchor: store.anchor, entries: entries, layout: layout, needed: try needed(layout))
  }

  /// The entries come in the order of their names: the same entries make the same layout.
  private func layout(_ entries: [EntrySpecification]) throws(NVRAMError) -> StreamLayout {
    do { return try StreamLayout(entries) } catch { throw NVRAMError(error, store: name) }
  }

  private func needed(_ layout: StreamLayout) throws(NVRAMError) -> ByteCount {
    if configuration.form == .plain { return layout.size }
    guard let geometry = Geometry(holding: layout.size, blockSize: blockSize) else { throw impossible }
    return geometry.imageSize
  }

  private var impossible: NVRAMError {
    NVRAMError(
      .volume(.noSpace), .noSpace, store: name,
      "no image holds these entries: they need more than \(Geometry.maximumVolumeSize.value) bytes, or that device "
        + "has too few")
  }

  private func prepare(_ place: Place, replacing: Bool, growing: Bool) throws(NVRAMError) {
    if !replacing { try refuseStore(place.device) }
    if place.device.size < place.needed, growing, let file = place.device as? FileDevice {
      do { try file.grow(to: place.needed) } catch { throw NVRAMError(error) }
    }
    guard place.device.size >= place.needed else {
      throw NVRAMError(
        .volume(.noSpace), .noSpace, store: name,
        "has \(place.device.size), and these entries need \(place.needed.value) bytes; make it larger")
    }
  }

  /// A store in whatever condition, of whatever version, is one; only what is none may be overwritten.
  private func refuseStore(_ device: any BlockDevice) throws(NVRAMError) {
    do { _ = try sealedVolume(device) } catch {
      if error.code == .unformatted { return }
      if case .device = error.code { throw error }
      if case .volume(.device) = error.code { throw error }
    }
    throw NVRAMError(
      .volume(.exists), .refused, store: name, "holds a store already; it is overwritten only if you say so")
  }

  private func write(
    _ place: Place, _ key: borrowing KeyEncryptionKey, _ slotName: String, _ cost: ScryptCost?, replacing: Bool
  ) throws(NVRAMError) -> StoreUUID {
    let size = place.device.blockSize
    guard let geometry = Geometry(fitting: place.device.size, blockSize: size) else { throw impossible }
    do {
      return try VolumeFormatter.format(
        place.device, geometry: geometry, key: key, name: slotName, cost: cost, created: UInt64(max(0, time(nil))),
        content: { (sector, plaintext) throws(VolumeError) in
          place.layout.fillPlaintext(sector, sectorSize: size, into: plaintext)
        }, anchor: place.anchor, replacingAnchor: replacing)
    } catch { throw NVRAMError(error) }
  }

  private func record(_ record: AuditRecord) throws(NVRAMError) {
    do { try unlocker.audit.record(record) } catch { throw NVRAMError(error, store: name) }
  }

  // MARK: Removing

  /// Removes an image: its headers are overwritten, so that no key opens what a copy-on-write file system or a flash
  /// disk may keep of it under this name, and the file is removed. A block device stays, without a store. Whoever has
  /// an older copy of the image and a key still has the content.
  ///
  /// Durable on return: that the headers are overwritten, and that the file has gone from its folder. No NVRAM has the
  /// image meanwhile, nor any other process.
  ///
  /// The 2013 design's `nvram_delete` is `close`: it destroys the object, not the image.
  ///
  /// - Throws: `.device(.inUse)` while it is open; `.volume` for what isn't a store; `.audit`, and nothing was done.
  ///   After another `.device` or `.volume` the headers may be overwritten, and the file still there.
  public static func deleteImage(path: String, audit: AuditLog) throws(NVRAMError) {
    let device: FileDevice
    do { device = try FileDevice.open(path: path, access: .readWrite) } catch { throw NVRAMError(error) }
    defer { device.close() }
    let sealed: SealedVolume
    do { sealed = try SealedVolume(device) } catch { throw NVRAMError(error) }
    do {
      try audit.record(
        AuditRecord(.removed, store: path, uuid: sealed.uuid, access: .write, detail: "the image is removed"))
    } catch {
      throw NVRAMError(error, store: path)
    }
    // Both header copies: all that a key opens.
    do { try VolumeFormatter.wipeHeaders(of: device) } catch { throw NVRAMError(error) }
    do throws(BlockError) {
      var status = stat()
      if unsafe stat(path, &status) == 0, status.st_mode & S_IFMT == S_IFREG {
        guard unsafe unlink(path) == 0 else {
          throw BlockError(.inputOutput(errno: errno), device: path, "can't be unlinked; its headers are overwritten")
        }
        try FileDevice.syncDirectory(containing: path)
      }
    } catch { throw NVRAMError(error) }
  }
}
