// What the tests of this target share: making, opening and filling volumes that have an anchor.
import Anchors
import BlockIO
import Crypto
import Primitives
import SecureVolume
import StorageSimulation
import Testing

/// Thirty-two bytes made by the test.
func makeKey(_ seed: UInt8 = 1) -> KeyEncryptionKey {
  var secret = SecretBytes(count: 32)
  var out = secret.mutableSpan
  for i in 0..<32 { out[i] = seed &+ UInt8(i) }
  return KeyEncryptionKey(.keyring, secret)
}

let smallGeometry: Geometry = {
  guard let geometry = Geometry(blockSize: 4096, sectorCount: 4) else { fatalError("no geometry") }
  return geometry
}()

@discardableResult
func format(
  _ disk: any BlockDevice, anchor: (any FreshnessAnchor)?, replacingAnchor: Bool = false, seed: UInt8 = 1
) throws(VolumeError) -> StoreUUID {
  try VolumeFormatter.format(
    disk, geometry: smallGeometry, key: makeKey(seed), name: "k", created: 1,
    content: { (_, out) throws(VolumeError) in
      var out = out
      out.fill(0)
    }, anchor: anchor, replacingAnchor: replacingAnchor)
}

func open(_ disk: any BlockDevice, _ anchor: (any FreshnessAnchor)?) throws(VolumeError) -> SecureVolume {
  try SealedVolume(disk).unlock(with: makeKey(), anchor: anchor)
}

func accept(_ disk: any BlockDevice, _ anchor: any FreshnessAnchor) throws(VolumeError) -> SecureVolume {
  try SealedVolume(disk).unlock(with: makeKey(), accepting: anchor)
}

/// Fills one sector with `stamp`.
func commit(_ volume: SecureVolume, _ stamp: UInt8, sector: Int = 0) throws(VolumeError) {
  var changes = SectorChanges(sectorSize: volume.sectorSize)
  let place = changes.append(SectorIndex(sector))
  var out = changes.mutablePlaintext(place)
  out.fill(stamp)
  try volume.commit(changes)
}

/// The first byte of a sector.
func stamp(_ volume: SecureVolume, sector: Int = 0) throws(VolumeError) -> UInt8 {
  var buffer = ByteBuffer(count: volume.sectorSize)
  try volume.read(SectorIndex(sector), into: buffer.mutableSpan)
  return buffer.span[0]
}

/// A disk that holds `bytes`.
func disk(_ bytes: [UInt8], name: String = "image") -> SimulatedDisk { SimulatedDisk(copyOf: bytes, name: name) }

func newDisk() -> SimulatedDisk { SimulatedDisk(size: smallGeometry.imageSize, name: "image") }
func newAnchorDisk() -> SimulatedDisk { SimulatedDisk(size: FileAnchor.size, name: "anchor") }

/// How opening an image with an anchor ends: nil where it opens.
func refusal(_ disk: any BlockDevice, _ anchor: any FreshnessAnchor) -> VolumeError? {
  do {
    _ = try open(disk, anchor)
    return nil
  } catch { return error }
}
