import Audit
import BlobStore
import BlockIO
import Keyring
import Primitives
import SecureVolume
import VNVRAM

/// An image that is open: its device, its volume, and the entries in it. Commands that read have it opened for reading:
/// then nothing is written, not even what a power cut left is put in order.
///
/// A command that writes calls `close` at its end. If it doesn't come to that the image is as after a power cut: the
/// last commit counts, and the next opening for writing puts all in order.
final class OpenedImage {
  enum Volume {
    case encrypted(SecureVolume)
    case plain(PlainVolume)
  }

  let name: String
  let volume: Volume
  let device: any BlockDevice
  private let anchor: (any FreshnessAnchor)?
  private var parsed: BlobStore?
  /// The anchor couldn't be told of a change, which is durable.
  private var untold: VolumeError?
  /// The names of the kernel keys that were tried.
  private var keyNames: [String] = []

  convenience init(
    _ path: String, _ access: FileDevice.Access, unlock: borrowing Unlock, anchor: AnchorUse? = nil,
    audit: () throws -> AuditLog
  ) throws {
    try self.init(try FileDevice.open(path: path, access: access), unlock: unlock, anchor: anchor, audit: audit)
  }

  init(
    _ device: any BlockDevice, for purpose: SealedVolume.Purpose = .use, unlock: borrowing Unlock,
    anchor: AnchorUse? = nil, audit: () throws -> AuditLog
  ) throws {
    let path = device.name
    name = path
    self.anchor = anchor?.anchor
    self.device = device
    if unlock.isPlain {
      guard try !SealedVolume.looksEncrypted(device) else {
        throw Failure(.refused, "\(path): is encrypted; leave out --plaintext")
      }
      volume = .plain(PlainVolume(device))
      return
    }
    let sealed = try ImageKind.sealed(device, for: purpose)
    let unlocker = Unlocker(audit: try audit(), asksForKeys: unlock.asksForKeys)
    let opened: SecureVolume
    switch unlock.key {
    case .some(let key): opened = try unlocker.unlock(sealed, with: key, slotName: unlock.slot, anchor: anchor)
    case .none:
      do { opened = try unlocker.unlock(sealed, anchor: anchor) } catch {
        guard error.code == .keyMissing, error.keys.isEmpty, !sealed.slots.isEmpty else { throw error }
        throw unlock.noKernelKey(path, sealed.slots)
      }
      keyNames = sealed.keyNames
    }
    volume = .encrypted(opened)
  }

  /// The entries. Throws, when it is first asked for, where the volume's stream isn't as it must be.
  var store: BlobStore {
    get throws {
      if let parsed { return parsed }
      let store = try BlobStore(sectors)
      parsed = store
      return store
    }
  }

  private var sectors: any SectorVolume {
    switch volume {
    case .encrypted(let volume): volume
    case .plain(let volume): volume
    }
  }

  /// The encrypted volume. Throws for a plain image, which has no slots and nothing to scrub.
  func encrypted(for what: String) throws -> SecureVolume {
    guard case .encrypted(let volume) = volume else {
      throw Failure(.refused, "\(name): is not encrypted, so there is nothing to \(what)")
    }
    return volume
  }

  /// What the volume has for entries.
  var volumeSize: ByteCount {
    ByteCount(sectors.sectorCount * UInt64(sectors.sectorSize))
  }

  /// The entry of that name. Throws `.notFound`, for a name that no entry can bear, too.
  func existing(_ text: String) throws -> Entry {
    guard let name = try? EntryName(text), let entry = try store.entry(name) else {
      throw Failure(.notFound, "\(name): has no entry \(Text.quoted(text)); `vnvram ls` names them")
    }
    return entry
  }

  /// After a change of the volume that threw: where only its anchor couldn't be told, `close` tells it, or throws this
  /// error.
  func goOn(after error: VolumeError) throws(VolumeError) {
    guard error.isDurable else { throw error }
    untold = error
  }

  /// Brings everything in place and marks the image as closed cleanly. What was committed is durable without it.
  func close() throws {
    if case .encrypted(let volume) = volume {
      do { try volume.close() } catch { throw error.isDurable ? untold ?? error : error }
      if anchor != nil { ClosedGeneration.set(volume.generation) }
    }
    release()
  }

  /// Gives up the lock of an image that was opened for reading.
  func release() {
    device.close()
    anchor?.release()
  }

  /// After a change that was refused: what is staged is forgotten, and the image is closed cleanly if it still takes
  /// writes.
  func abandon() {
    parsed?.rollBackStaged()
    guard case .encrypted(let volume) = volume, volume.failure == nil else { return }
    try? volume.close()
    release()
  }

  var keyWarnings: [String] { keyNames.compactMap { KeyName($0).flatMap(KeyWarning.tooWide) } }

  /// What the user should know of how the image was found.
  var warnings: [String] {
    guard case .encrypted = volume else {
      return ["\(name): is not encrypted, and nothing in it is authentic"]
    }
    return keyWarnings + blockWarnings + closingWarnings
  }

  /// What a power cut can do to the place beyond what its block says.
  var blockWarnings: [String] { device.blockNotices.map { "\(name): \($0)" } }

  /// What opening met of the header and could do without.
  var headerWarnings: [String] {
    guard case .encrypted(let volume) = volume else { return [] }
    return volume.opening.findings.map { "\(name): \($0.detail), at \($0.offset)" }
  }

  /// Whether all of it may be there.
  var closingWarnings: [String] {
    guard case .encrypted(let volume) = volume, !volume.opening.wasClosedCleanly else { return [] }
    let report = volume.opening
    let known =
      report.anchor.map { "its anchor remembers \($0.generation): what may have come later could be cut off unnoticed" }
      ?? "without an anchor nobody can tell whether later commits were cut off"
    return ["\(name): was not closed cleanly; what was recovered is \(report.generation), and \(known)"]
  }
}
