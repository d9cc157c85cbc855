import Audit
import BlobStore
import BlockIO
import Crypto
import Glibc
import Primitives
import SecureVolume

// An image in a file of its own, or in a file or device that is there, for who makes one on first use.
//
// Invariants of a new file: whatever ends the process or the power, there is no file of that name or a whole store,
// never half of one (its anchor, which comes first, may be there without it; not after an error that is thrown); what
// has the name already stays as it is, whatever it is. In what is there the headers come last, when all else is on the
// disk, and an error takes them away again: what was cut short is no image, and never half of one.
extension NVRAM {
  /// Where an image is made.
  public enum NewImage {
    /// A file that isn't there yet, with these permissions.
    case file(String, mode: UInt32)
    /// What is open for writing; a file that is too short grows. All of it may be overwritten.
    case device(FileDevice)

    public var name: String {
      switch self {
      case .file(let path, _): path
      case .device(let device): device.name
      }
    }
  }

  /// Makes an image with these entries, all empty, that opens with the kernel key of that name; on the calling
  /// thread. Durable on return, with its name in its folder. Power that goes meanwhile leaves no image, or all of it.
  ///
  /// - Parameters:
  ///   - anchor: follows the store from its beginning; released on return.
  ///   - asksForKeys: as in `NVRAMConfiguration`; it is waited for.
  /// - Throws: `.device(.exists)` where anything has the name; `.keyMissing`, `.keyUnusable`, `.wrongKey`; `.audit`;
  ///   `.device` and `.volume` for what else can go wrong. There is no image then.
  /// - Returns: the store's UUID.
  public static func makeImage(
    _ place: NewImage, entries: [EntrySpecification], keyNamed keyName: String, audit: AuditLog,
    anchor: (any FreshnessAnchor)? = nil, asksForKeys: Bool = false
  ) throws(NVRAMError) -> StoreUUID {
    let first = try FirstKey(named: keyName, for: place.name, audit, purpose: "to make an image", asks: asksForKeys)
    return try make(place, entries, first.key, first.use, nil, audit, anchor)
  }

  /// Makes an image that opens with a key that the caller has, in a slot called `slotName`. Else as
  /// `makeImage(_:entries:keyNamed:audit:anchor:asksForKeys:)`; no key is looked for.
  ///
  /// - Parameter cost: for a passphrase, what trying it costs.
  /// - Throws: as that, but for what concerns kernel keys.
  public static func makeImage(
    _ place: NewImage, entries: [EntrySpecification], key: borrowing KeyEncryptionKey, slotName: String,
    cost: ScryptCost? = nil, audit: AuditLog, anchor: (any FreshnessAnchor)? = nil
  ) throws(NVRAMError) -> StoreUUID {
    let use = AuditRecord(
      .askedFor, store: place.name, key: slotName, kind: key.kind.label, access: .write, detail: "to make an image")
    try audit.note(use, place.name)
    return try make(place, entries, key, use, cost, audit, anchor)
  }

  private static func make(
    _ place: NewImage, _ entries: [EntrySpecification], _ key: borrowing KeyEncryptionKey, _ use: AuditRecord,
    _ cost: ScryptCost?, _ audit: AuditLog, _ anchor: (any FreshnessAnchor)?
  ) throws(NVRAMError) -> StoreUUID {
    defer { anchor?.release() }
    let layout: StreamLayout
    do { layout = try StreamLayout(entries) } catch { throw NVRAMError(error, store: place.name) }
    let recipe = Recipe(name: place.name, layout: layout, use: use, cost: cost, audit: audit, anchor: anchor)
    switch place {
    case .file(let path, let mode):
      let block = FileDevice.blockSize(ofNewFileAt: path)
      return try makeFile(path, mode, try geometry(layout, blockSize: block, path), key, recipe)
    case .device(let device):
      return try fill(device, try geometry(layout, blockSize: device.blockSize, device.name), key, recipe)
    }
  }

  /// All but where.
  private struct Recipe {
    let name: String
    let layout: StreamLayout
    let use: AuditRecord
    let cost: ScryptCost?
    let audit: AuditLog
    let anchor: (any FreshnessAnchor)?

    func format(
      _ device: FileDevice, _ geometry: Geometry, _ key: borrowing KeyEncryptionKey
    ) throws(NVRAMError) -> StoreUUID {
      do {
        return try VolumeFormatter.format(
          device, geometry: geometry, key: key, name: use.key ?? "", cost: cost, created: UInt64(max(0, time(nil))),
          content: { (sector, plaintext) throws(VolumeError) in
            layout.fillPlaintext(sector, sectorSize: geometry.blockSize, into: plaintext)
          }, anchor: anchor)
      } catch { throw NVRAMError(error) }
    }

    /// That it has happened.
    func record(_ uuid: StoreUUID) throws(NVRAMError) {
      var done = use
      (done.uuid, done.event, done.slot, done.detail) = (uuid, .formatted, 0, nil)
      try audit.note(done, name)
    }
  }

  private static func geometry(
    _ layout: StreamLayout, blockSize: Int, _ name: String
  ) throws(NVRAMError) -> Geometry {
    guard let geometry = Geometry(holding: layout.size, blockSize: blockSize) else {
      throw NVRAMError(.volume(.noSpace), .noSpace, store: name, "no image holds these entries")
    }
    return geometry
  }

  private static func makeFile(
    _ path: String, _ mode: UInt32, _ geometry: Geometry, _ key: borrowing KeyEncryptionKey,
    _ recipe: Recipe
  ) throws(NVRAMError) -> StoreUUID {
    var isUnmade = true
    // Without its image an anchor would only be in the next one's way.
    defer { if isUnmade, (try? NewFile.isTaken(path)) == false { recipe.anchor?.withdraw() } }
    let file: NewFile
    do throws(BlockError) {
      // Anything counts, a symbolic link that leads nowhere, too.
      guard try !NewFile.isTaken(path) else { throw BlockError(.exists, device: path, "exists already") }
      file = try NewFile(at: path, size: geometry.imageSize)
      try file.setMode(mode)
    } catch { throw NVRAMError(error) }
    let uuid = try recipe.format(file.device, geometry, key)
    do { try file.place(replacing: false) } catch { throw NVRAMError(error) }
    // Now that it has happened. Where that can't be recorded the image goes: nothing is in it yet.
    do { try recipe.record(uuid) } catch {
      file.withdraw()
      throw error
    }
    isUnmade = false
    return uuid
  }

  private static func fill(
    _ device: FileDevice, _ geometry: Geometry, _ key: borrowing KeyEncryptionKey, _ recipe: Recipe
  ) throws(NVRAMError) -> StoreUUID {
    do throws(BlockError) { try device.grow(to: geometry.imageSize) } catch { throw NVRAMError(error) }
    let uuid = try recipe.format(device, geometry, key)
    do { try recipe.record(uuid) } catch {
      recipe.anchor?.withdraw()
      do { try VolumeFormatter.wipeHeaders(of: device) } catch { throw NVRAMError(error) }
      throw error
    }
    return uuid
  }
}
