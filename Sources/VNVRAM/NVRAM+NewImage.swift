import Audit
import BlobStore
import BlockIO
import Crypto
import Glibc
import Primitives
import SecureVolume

// An image in a file of its own, for who makes one on first use.
//
// Invariants: whatever ends the process or the power, there is no file of that name or a whole store, never half of one
// (its anchor, which comes first, may be there without it; not after an error that is thrown);
// what has the name already stays as it is, whatever it is.
extension NVRAM {
  /// Makes an image file with these entries, all empty, that opens with the kernel key of that name. Durable on return.
  ///
  /// - Parameters:
  ///   - mode: the file's permissions.
  ///   - anchor: follows the store from its beginning; released on return.
  ///   - asksForKeys: as in `NVRAMConfiguration`; it is waited for.
  /// - Throws: `.device(.exists)` where anything has the name; `.keyMissing`, `.keyUnusable`, `.wrongKey`; `.audit`;
  ///   `.device` and `.volume` for what else can go wrong. There is no image then.
  /// - Returns: the store's UUID.
  public static func makeImage(
    at path: String, mode: UInt32, entries: [EntrySpecification], keyNamed keyName: String, audit: AuditLog,
    anchor: (any FreshnessAnchor)? = nil, asksForKeys: Bool = false
  ) throws(NVRAMError) -> StoreUUID {
    let first = try FirstKey(named: keyName, for: path, audit, purpose: "to make an image", asks: asksForKeys)
    return try make(path, mode, entries, first.key, first.use, nil, audit, anchor)
  }

  /// Makes an image file that opens with a key that the caller has, in a slot called `slotName`.
  ///
  /// - Parameter cost: for a passphrase, what trying it costs.
  public static func makeImage(
    at path: String, mode: UInt32, entries: [EntrySpecification], key: borrowing KeyEncryptionKey, slotName: String,
    cost: ScryptCost? = nil, audit: AuditLog, anchor: (any FreshnessAnchor)? = nil
  ) throws(NVRAMError) -> StoreUUID {
    let use = AuditRecord(
      .askedFor, store: path, key: slotName, kind: key.kind.label, access: .write, detail: "to make an image")
    try audit.note(use, path)
    return try make(path, mode, entries, key, use, cost, audit, anchor)
  }

  private static func make(
    _ path: String, _ mode: UInt32, _ entries: [EntrySpecification], _ key: borrowing KeyEncryptionKey,
    _ use: AuditRecord, _ cost: ScryptCost?, _ audit: AuditLog, _ anchor: (any FreshnessAnchor)?
  ) throws(NVRAMError) -> StoreUUID {
    var isUnmade = true
    defer {
      // Without its image an anchor would only be in the next one's way.
      if isUnmade, !NewFile.isTaken(path) { anchor?.withdraw() }
      anchor?.release()
    }
    let layout: StreamLayout
    do { layout = try StreamLayout(entries) } catch { throw NVRAMError(error, store: path) }
    let sectorSize = NVRAMConfiguration().sectorSize
    guard let geometry = Geometry(holding: layout.size, sectorSize: sectorSize, blockSize: 4096) else {
      throw NVRAMError(.volume(.noSpace), .noSpace, store: path, "no image holds these entries")
    }
    do throws(BlockError) {
      // Anything counts, a symbolic link that leads nowhere, too.
      guard !NewFile.isTaken(path) else { throw BlockError(.exists, device: path, "exists already") }
    } catch { throw NVRAMError(error) }
    let file: NewFile
    do throws(BlockError) {
      file = try NewFile(at: path, size: geometry.imageSize)
      try file.setMode(mode)
    } catch { throw NVRAMError(error) }
    var done = use
    do {
      done.uuid = try VolumeFormatter.format(
        file.device, geometry: geometry, key: key, name: use.key ?? "", cost: cost,
        created: UInt64(max(0, time(nil))),
        content: { (sector, plaintext) throws(VolumeError) in
          layout.fillPlaintext(sector, sectorSize: sectorSize, into: plaintext)
        }, anchor: anchor)
    } catch { throw NVRAMError(error) }
    (done.event, done.slot, done.detail) = (.formatted, 0, nil)
    do { try file.place(replacing: false) } catch { throw NVRAMError(error) }
    // Now that it has happened. Where that can't be recorded the image goes: nothing is in it yet.
    do { try audit.note(done, path) } catch {
      file.withdraw()
      throw error
    }
    guard let uuid = done.uuid else { preconditionFailure("a formatted store has a UUID") }
    isUnmade = false
    return uuid
  }
}
