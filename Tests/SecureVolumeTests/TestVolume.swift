// What the tests of this target share: making, opening and filling volumes on a simulated disk.
import BlockIO
import Crypto
import Primitives
import StorageSimulation

@testable import SecureVolume

/// Thirty-two bytes made by the test, as a key of some kind.
func makeKey(_ seed: UInt8, _ kind: SlotKind = .keyring) -> KeyEncryptionKey {
  var secret = SecretBytes(count: 32)
  var out = secret.mutableSpan
  for i in 0..<32 { out[i] = seed &+ UInt8(i) }
  return KeyEncryptionKey(kind, secret)
}

/// Places in an image, written out from FORMAT §1 and §2 and not taken from the code.
enum Place {
  static let headers = [0..<36864, 65536..<102_400]
  static let behindHeaders = [36864..<65536, 102_400..<131_072]
  static let ring = 131_072

  /// The leaf table that copy A says counts; one block of it is enough for the stores here that use this.
  static func leaves(_ image: [UInt8], _ geometry: Geometry) -> Range<Int> {
    let size = (Int(geometry.sectorCount) * 32 + geometry.blockSize - 1) / geometry.blockSize * geometry.blockSize
    let data = image.count - Int(geometry.sectorCount) * geometry.blockSize
    let start = data - (2 - Int(image[188])) * size
    return start..<start + size
  }
}

/// What a volume holds, sector by sector: a stamp stands for a whole sector's content.
typealias Stamps = [UInt64]

/// Content that differs in every 8 bytes of a sector, so that no part of another version goes unnoticed.
func fill(_ stamp: UInt64, _ out: consuming MutableSpan<UInt8>) {
  guard stamp != 0 else { return out.fill(0) }
  for i in 0..<out.count / 8 { out.store(stamp &* 0x9E37_79B9_7F4A_7C15 &+ UInt64(i), at: 8 * i) }
}

/// The stamp of a sector, or `nil` where it isn't of one piece.
func stamp(_ bytes: Span<UInt8>) -> UInt64? {
  let inverse: UInt64 = 0xF1DE_83E1_9937_733D
  let stamp = bytes.load(UInt64.self, at: 0) &* inverse
  for i in 0..<bytes.count / 8 {
    let expected = stamp == 0 ? 0 : stamp &* 0x9E37_79B9_7F4A_7C15 &+ UInt64(i)
    if bytes.load(UInt64.self, at: 8 * i) != expected { return nil }
  }
  return stamp
}

@discardableResult
func format(
  _ disk: any BlockDevice, _ geometry: Geometry, key: borrowing KeyEncryptionKey, name: String = "k",
  content: Stamps? = nil
) throws(VolumeError) -> StoreUUID {
  try VolumeFormatter.format(disk, geometry: geometry, key: key, name: name, created: 1) {
    (sector, out) throws(VolumeError) in
    fill(content?[Int(sector.value)] ?? 0, out)
  }
}

func open(_ disk: any BlockDevice, _ key: borrowing KeyEncryptionKey) throws(VolumeError) -> SecureVolume {
  try SealedVolume(disk).unlock(with: key)
}

/// Everything in a volume. Throws where a sector doesn't verify; `nil` in place of a sector that is a mix.
func contents(_ volume: SecureVolume) throws(VolumeError) -> [UInt64?] {
  var buffer = ByteBuffer(count: volume.sectorSize)
  var stamps: [UInt64?] = []
  for sector in 0..<volume.sectorCount {
    try volume.read(SectorIndex(sector), into: buffer.mutableSpan)
    stamps.append(stamp(buffer.span))
  }
  return stamps
}

func changes(_ sectorSize: Int, _ updates: [(Int, UInt64)]) -> SectorChanges {
  var changes = SectorChanges(sectorSize: sectorSize)
  for (sector, stamp) in updates {
    let place = changes.append(SectorIndex(sector))
    fill(stamp, changes.mutablePlaintext(place))
  }
  return changes
}
