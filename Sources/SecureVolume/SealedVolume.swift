import BlockIO
import Crypto
import Primitives

/// What a slot tells before any key is there. Not authenticated: someone may have changed it.
public struct SlotDescription: Equatable, Sendable {
  public let index: Int
  public let kind: SlotKind
  public let name: String
  /// Seconds since 1970, UTC.
  public let created: UInt64

  init(_ index: Int, _ slot: KeySlot) {
    (self.index, kind, name, created) = (index, slot.kind, slot.name, slot.created)
  }
}

/// An image that has been found but not unlocked: it holds the device and nothing that needs a key. What it says is
/// for people and for finding the key; nothing of it is believed.
public final class SealedVolume {
  let medium: Medium
  let pair: HeaderPair
  private let purpose: Purpose
  /// Set once it was opened for writing: what was read of the headers is then of the past.
  private var isSpent = false

  /// What an image is opened for.
  public enum Purpose: Sendable {
    /// Only where it is whole.
    case use
    /// As far as it verifies, for reading: see `Salvage`.
    case salvage
  }

  /// Reads both header copies. Throws `.notAnImage`, `.unsupportedVersion`, or the device's error.
  ///
  /// A device that `mayChange`, since it was opened without a lock, is read until what was read is of one moment.
  public init(_ device: any BlockDevice, for purpose: Purpose = .use) throws(VolumeError) {
    precondition(purpose == .use || !device.isWritable)
    let medium = Medium(device)
    self.purpose = purpose
    pair = try HeaderPair(reading: medium, salvaging: purpose == .salvage)
    self.medium = medium
  }

  /// Whether the device is open for writing, and so is what is unlocked of it.
  public var isWritable: Bool { medium.device.isWritable }

  /// Whether the device begins as an encrypted image does (FORMAT §9). Says nothing of its being one.
  public static func looksEncrypted(_ device: any BlockDevice) throws(VolumeError) -> Bool {
    let size = Format.headerMagic.count
    guard device.size.value >= UInt64(size) else { return false }
    var magic = ByteBuffer(count: size)
    try Medium(device).read(at: 0, into: &magic, 0..<size)
    // The second begins an image of version 1, which opening refuses by name.
    return magic.span.equals(Format.headerMagic) || magic.span(0..<Format.ownMagic.count).equals(Format.ownMagic)
  }

  /// The stores that the header copies on the device say they belong to, of however damaged an image; none where there
  /// is no such copy, or none that can be read. For a person's sake: nothing of it is authenticated.
  public static func claimedStores(_ device: any BlockDevice) -> [StoreUUID] {
    HeaderPair.claimedStores(Medium(device))
  }

  public var name: String { medium.name }
  public var uuid: StoreUUID { pair.withPlausible { $0.uuid } }
  /// `nil` where the header's sizes contradict each other.
  public var geometry: Geometry? { pair.withPlausible { $0.geometry } }
  public var wasClosedCleanly: Bool { pair.withPlausible { $0.isClean } }
  /// As of the last checkpoint.
  public var generation: Generation { pair.withPlausible { $0.generation } }
  public static var formatVersion: Int { Int(Format.version) }

  /// The slots that the newer copy has, and the other's where it has something there that is none.
  public var slots: [SlotDescription] {
    let newer = pair.withPlausible { $0.index }
    return (0..<Format.slotCount).compactMap { index in
      pair.withCopy(newer) { copy in
        if let slot = usable(copy, index) { return SlotDescription(index, slot) }
        return copy.slotBytes(index).isZero ? nil : pair.withCopy(1 - newer) { description($0, index) }
      }
    }
  }

  private func usable(_ copy: borrowing HeaderCopy, _ index: Int) -> KeySlot? {
    copy.identityFlaw == nil ? copy.slot(index) : nil
  }

  private func description(_ copy: borrowing HeaderCopy, _ index: Int) -> SlotDescription? {
    usable(copy, index).map { SlotDescription(index, $0) }
  }

  /// The names of the kernel keys that open this image, by whichever copy.
  public var keyNames: [String] {
    var names: [String] = []
    for index in 0..<Format.slotCount {
      for slot in [usable(pair.a, index), usable(pair.b, index)] {
        guard let slot, slot.kind == .keyring, !names.contains(where: { KeySlot.areEqual($0, slot.name) }) else {
          continue
        }
        names.append(slot.name)
      }
    }
    return names
  }

  /// Opens with `key`. For writing, where the device is: then what a power cut left is recovered and made durable
  /// first, and a new epoch begins. For reading, nothing is written.
  ///
  /// - Parameters:
  ///   - slotName: try only the slot of this name; a passphrase costs its time for each slot that it is tried on.
  ///   - anchor: an image that this knows to be old is refused, before anything is written; open for writing, it follows
  ///     the image from then on.
  /// - Throws: `.wrongKey` where no slot opens; `.notAuthentic` with what shows it; `.device`; `.rolledBack`, `.forked`;
  ///   `.anchor` where the anchor is missing, isn't authentic, or could not be read or written.
  public func unlock(
    with key: borrowing KeyEncryptionKey, slotName: String? = nil, anchor: (any FreshnessAnchor)? = nil
  ) throws(VolumeError) -> SecureVolume {
    try unlock(with: key, slotName: slotName, use: anchor.map { .following($0) })
  }

  /// Opens for writing, and makes `anchor` say that this image, as it is now, is the newest: where a rollback is meant,
  /// an anchor was lost, or a store is to get its first. Its generation leaps beyond that of the image and of the
  /// anchor, so that copies that were given up are older ever after. The caller has asked a person, and recorded the
  /// answer.
  ///
  /// - Throws: as `unlock(with:slotName:anchor:)`; `.anchor(.refused)` for an anchor that remembers nothing.
  public func unlock(
    with key: borrowing KeyEncryptionKey, slotName: String? = nil, accepting anchor: any FreshnessAnchor
  ) throws(VolumeError) -> SecureVolume {
    try unlock(with: key, slotName: slotName, use: .accepting(anchor))
  }

  /// Either of both.
  public func unlock(
    with key: borrowing KeyEncryptionKey, slotName: String?, use: AnchorUse?
  ) throws(VolumeError) -> SecureVolume {
    if use?.isAccepting == true, !medium.device.isWritable {
      throw VolumeError(.readOnly, store: name, "is opened for reading only; accepting it takes writing")
    }
    let unwrapped = try unwrap(with: key, slotName: slotName)
    let slot = unwrapped.slot
    var keys = try volumeKeys(unwrapped.storeKey, unwrapped.uuid)
    let volume: SecureVolume
    if purpose == .salvage {
      volume = try Salvage.open(medium, pair, keys)
    } else if medium.device.mayChange {
      volume = try StoreInUse.open(medium, keys) { (pair, choice) throws(VolumeError) in
        try refuseOtherStore(pair, choice, key)
      }
    } else {
      let choice = try pair.choose(with: &keys.structure)
      try refuseOtherStore(pair, choice, key)
      volume = try open(keys, choice, use)
    }
    volume.openedSlot = slot
    return volume
  }

  /// Opens with a store key that was unwrapped elsewhere, by `storeKey(with:slotName:)`: else as
  /// `unlock(with:slotName:anchor:)`.
  ///
  /// - Throws: `.notAuthentic` for a store key that isn't this store's.
  public func unlock(
    withStoreKey storeKey: consuming SecretBytes, of uuid: StoreUUID, use: AnchorUse?
  ) throws(VolumeError) -> SecureVolume {
    precondition(purpose == .use && !medium.device.mayChange)
    var keys = try volumeKeys(storeKey, uuid)
    let choice = try pair.choose(with: &keys.structure)
    return try open(keys, choice, use)
  }

  /// Unwraps the store key for somebody else, and verifies the header with it. Nothing is written, and nothing but the
  /// header is looked at.
  ///
  /// - Throws: `.wrongKey` where no slot opens; `.notAuthentic` where the header doesn't verify.
  public func storeKey(
    with key: borrowing KeyEncryptionKey, slotName: String? = nil
  ) throws(VolumeError) -> UnwrappedStoreKey {
    let unwrapped = try unwrap(with: key, slotName: slotName)
    var keys = try volumeKeys(unwrapped.storeKey.copy(), unwrapped.uuid)
    let choice = try pair.choose(with: &keys.structure)
    try refuseOtherStore(pair, choice, key)
    let digest: InlineBytes32
    do { digest = try Header.geometryDigest(uuid: choice.header.uuid, geometry: choice.header.geometry) } catch {
      throw VolumeError(error, store: name)
    }
    let verifier = AnchorVerifier(uuid: unwrapped.uuid, digest: digest, keys: keys)
    return UnwrappedStoreKey(unwrapped, verifier)
  }

  private func volumeKeys(_ storeKey: consuming SecretBytes, _ uuid: StoreUUID) throws(VolumeError) -> VolumeKeys {
    do { return try VolumeKeys(storeKey: storeKey, uuid: uuid) } catch { throw VolumeError(error, store: name) }
  }

  private func open(
    _ keys: consuming VolumeKeys, _ choice: HeaderPair.Choice, _ use: AnchorUse?
  ) throws(VolumeError) -> SecureVolume {
    guard medium.device.size >= choice.header.geometry.imageSize else {
      throw VolumeError(
        .notAuthentic(.geometry), store: name,
        "is cut short: \(medium.device.size) of \(choice.header.geometry.imageSize); restore it from a backup")
    }
    let (own, below) = (choice.header.geometry.blockSize, medium.device.blockSize)
    guard !medium.device.isWritable || below <= own || Mutant.ignoreLargerBlocks.isOn else {
      throw VolumeError(
        .refused, store: name,
        "has blocks of \(own) bytes, and lies where a power cut can tear \(below) at once, so it isn't opened for "
          + "writing; `vnvram convert IMAGE NEW --block-size \(below)` writes a new image of the same store")
    }
    if case .unreadable(let copy) = choice.twin, medium.device.isWritable { throw pair.mayNotOverwrite(copy) }
    guard !isSpent else {
      throw VolumeError(.refused, store: name, "was opened for writing from what was read before; read it anew")
    }
    isSpent = medium.device.isWritable
    return try Recovery.open(medium: medium, keys: keys, choice: choice, anchor: use)
  }

  private func unwrap(
    with key: borrowing KeyEncryptionKey, slotName: String?
  ) throws(VolumeError) -> Unwrapped {
    for index in 0..<Format.slotCount {
      do {
        let triesFirst = matches(pair.a, index, slotName) && pair.a.isTried(with: key.kind)
        if triesFirst, let storeKey = try pair.a.unwrap(slot: index, with: key) {
          return Unwrapped(storeKey: storeKey, uuid: pair.a.uuid, slot: description(pair.a, index))
        }
        // Copy B's slot is the same unless one copy was spoilt; trying a passphrase twice would double its cost.
        if matches(pair.b, index, slotName), !(triesFirst && pair.hasEqualSlots(at: index)),
          let storeKey = try pair.b.unwrap(slot: index, with: key)
        {
          return Unwrapped(storeKey: storeKey, uuid: pair.b.uuid, slot: description(pair.b, index))
        }
      } catch { throw VolumeError(error, store: name) }
    }
    let slot = slotName.map { " \"\($0)\"" } ?? ""
    throw VolumeError(
      .wrongKey, store: name,
      "the \(key.kind.label)\(slot) that was given opens no slot of it; `vnvram slot list` says which keys do")
  }

  /// A copy that does not verify may be another store's, whole and under the same key: that is no power cut's doing.
  private func refuseOtherStore(
    _ pair: borrowing HeaderPair, _ choice: HeaderPair.Choice, _ key: borrowing KeyEncryptionKey
  ) throws(VolumeError) {
    guard case .spoilt(let index) = choice.twin else { return }
    for slot in 0..<Format.slotCount where !pair.hasEqualSlots(at: slot) {
      let isWhole: Bool
      do {
        isWhole = try pair.withCopy(index) { (copy) throws(CryptoError) in
          guard let storeKey = try copy.unwrap(slot: slot, with: key) else { return false }
          var keys = try VolumeKeys(storeKey: storeKey, uuid: copy.uuid)
          if case .other = try copy.verified(with: &keys.structure) { return false }
          return true
        }
      } catch { throw VolumeError(error, store: name) }
      if isWhole { throw pair.pairError("the two copies of its header belong to different stores") }
    }
  }

  private func matches(_ copy: borrowing HeaderCopy, _ index: Int, _ slotName: String?) -> Bool {
    guard let slotName else { return copy.identityFlaw == nil }
    return usable(copy, index).map { KeySlot.areEqual($0.name, slotName) } ?? false
  }
}
