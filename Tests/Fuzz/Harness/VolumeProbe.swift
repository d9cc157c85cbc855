import BlobStore
import BlockIO
import Primitives

@testable import SecureVolume

/// Opens whatever it is given, looks at all of it, and tells what became of it. What opened for writing is written to,
/// closed and opened again.
enum VolumeProbe {
  enum Outcome: CustomStringConvertible {
    case refused(VolumeError.Code)
    /// It opened, and not every sector verifies.
    case damaged
    case state(generation: UInt64, content: InlineBytes32, stream: Bool)

    var description: String {
      switch self {
      case .refused(let code): "refused: \(code)"
      case .damaged: "damaged"
      case .state(let generation, let content, let stream):
        "generation \(generation), \(content.array.prefix(4).hex), \(stream ? "a" : "no") stream"
      }
    }

    /// Reading and writing give the same; but what has used up its numbers can be read, and not written (FORMAT's
    /// limits).
    func agrees(with writing: Outcome) -> Bool {
      switch (self, writing) {
      case (.refused(let a), .refused(let b)): a == b
      case (.damaged, .damaged): true
      case (_, .refused(.noSpace)): true
      case (.state(let a, let b, let c), .state(let d, let e, let f)): a == d && b == e && c == f
      default: false
      }
    }
  }

  static func open(_ device: MemoryDevice, _ key: borrowing KeyEncryptionKey) -> Outcome {
    do throws(VolumeError) {
      let volume = try unlocked(device, key)
      require(volume.geometry.imageSize <= device.size, "an image that ends before its end")
      return try inspect(volume, device, key)
    } catch { return .refused(error.code) }
  }

  /// Takes what still verifies, as `vnvram salvage` does: an image that is damaged anywhere must not make it trap.
  static func salvage(_ image: [UInt8], _ key: borrowing KeyEncryptionKey) {
    do throws(VolumeError) {
      let volume = try SealedVolume(MemoryDevice(image), for: .salvage).unlock(with: key)
      _ = try volume.check()
      guard let store = try? BlobStore(volume) else { return }
      for entry in store.entries { _ = try? store.read(entry.name, limit: image.count) }
    } catch {}
  }

  /// Opens it, and no more: what becomes of the device afterwards is nobody's promise.
  static func opened(_ device: MemoryDevice, _ key: borrowing KeyEncryptionKey) -> Bool {
    do throws(VolumeError) {
      _ = try unlocked(device, key).check()
      return true
    } catch { return false }
  }

  private static func unlocked(
    _ device: MemoryDevice, _ key: borrowing KeyEncryptionKey
  ) throws(VolumeError) -> SecureVolume {
    _ = try SealedVolume.looksEncrypted(device)
    let sealed = try SealedVolume(device)
    describe(sealed)
    let volume = try sealed.unlock(with: key)
    // Headers were rewritten: what was read of them before is of the past.
    if device.isWritable {
      do throws(VolumeError) {
        _ = try sealed.unlock(with: key)
        fatalError("opened for writing twice")
      } catch {}
    }
    return volume
  }

  /// What `info` shows of an image without its key: nothing of it may trap.
  private static func describe(_ sealed: SealedVolume) {
    _ = (sealed.name, sealed.uuid.description, sealed.geometry, sealed.wasClosedCleanly, sealed.generation)
    _ = SealedVolume.formatVersion
    require(sealed.slots.count <= 2 * Format.slotCount, "more slots than there are places")
    for name in sealed.keyNames { require(KeySlot.isValid(name: name), "a name that can't be shown") }
  }

  private static func inspect(
    _ volume: SecureVolume, _ device: MemoryDevice, _ key: borrowing KeyEncryptionKey
  ) throws(VolumeError) -> Outcome {
    let findings = try volume.check().filter { $0.severity != .notice }
    for finding in findings { require(finding.code == .sector, "\(finding)") }
    let store = try? BlobStore(volume)
    var hasStream = false
    if let store { hasStream = (try? store.check()) != nil }
    guard findings.isEmpty else { return .damaged }
    let generation = volume.generation.value
    let content = try StoreHistory.digest(volume)
    if device.isWritable { try write(volume, device, key) }
    return .state(generation: generation, content: content, stream: hasStream)
  }

  /// A store that was opened for writing takes a commit and is whole after it, whatever it came from.
  private static func write(
    _ volume: SecureVolume, _ device: MemoryDevice, _ key: borrowing KeyEncryptionKey
  ) throws(VolumeError) {
    var changes = SectorChanges(sectorSize: volume.sectorSize)
    let last = SectorIndex(volume.sectorCount - 1)
    let place = changes.append(last)
    var plaintext = changes.mutablePlaintext(place)
    plaintext.fill(0xA5)
    do throws(VolumeError) {
      try volume.commit(changes)
      _ = try volume.maintain()
      let expected = (volume.generation, try StoreHistory.digest(volume))
      try volume.close()
      guard try hasSlot(volume, key) else { return }
      let again = try SealedVolume(MemoryDevice(device.bytes)).unlock(with: key)
      require(again.opening.wasClosedCleanly && again.opening.outdatedHeaderCopy == nil, "closed, and not clean")
      require(again.generation == expected.0, "another generation after closing")
      require(try StoreHistory.digest(again) == expected.1, "other content after closing")
    } catch {
      // Numbers may come to their end meanwhile.
      require(error.code == .noSpace, "what was opened for writing can't be written, closed and opened again: \(error)")
    }
  }

  /// Whether the key has a slot in the header that counts. It may have opened the other copy, which a power cut left
  /// with a slot that was about to be removed (FORMAT §3); from then on it opens nothing.
  private static func hasSlot(
    _ volume: SecureVolume, _ key: borrowing KeyEncryptionKey
  ) throws(VolumeError) -> Bool {
    var bytes = ByteBuffer(count: Format.headerSize)
    bytes.copy(from: volume.header.encode(copy: 0).span(0..<Format.headerSize))
    let copy = HeaderCopy(index: 0, bytes: bytes)
    for slot in 0..<Format.slotCount {
      do {
        if try copy.unwrap(slot: slot, with: key) != nil { return true }
      } catch { throw VolumeError(error, store: volume.name) }
    }
    return false
  }
}
