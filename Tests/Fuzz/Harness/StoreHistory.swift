import BlobStore
import BlockIO
import Crypto
import Primitives

@testable import SecureVolume

/// A real store and its past: images of it at many moments of its life, and what was in it after each commit. Made once
/// in a process, so that MACs and nonces differ from run to run, and an input names places and not values.
final class StoreHistory: Sendable {
  /// The key that opens all of them; a fixed one, known to nobody but the fuzzers.
  static let key: [UInt8] = (0..<32).map { $0 &* 37 &+ 11 }
  static let all: [StoreHistory] = [
    StoreHistory(blockSize: 4096, sectors: 5), StoreHistory(blockSize: 4096, sectors: 21),
    StoreHistory(blockSize: 8192, sectors: 3),
  ]

  let geometry: Geometry
  /// After every sync, the one-but-last before the last: old enough headers, half a checkpoint, two of everything.
  let images: [[UInt8]]
  /// What the key opens: nobody's secret.
  let storeKey: [UInt8]
  /// By generation: the SHA-256 of all plaintext.
  let contents: [UInt64: InlineBytes32]

  static func openingKey(_ kind: SlotKind = .keyring) -> KeyEncryptionKey {
    KeyEncryptionKey(kind, SecretBytes(copying: key.span))
  }

  private final class Recorder {
    var images: [[UInt8]] = []
    var contents: [UInt64: InlineBytes32] = [:]
  }

  private init(blockSize: Int, sectors: UInt64) {
    guard let geometry = Geometry(blockSize: blockSize, sectorCount: sectors) else {
      fatalError("within the limits")
    }
    let recorder = Recorder()
    do { try Self.live(geometry, recorder) } catch { fatalError("making a store: \(error)") }
    self.geometry = geometry
    images = Self.thinned(recorder.images)
    storeKey = Self.unwrap(images[0])
    contents = recorder.contents
  }

  /// The store's life: commits, a checkpoint, an unclean end, a second slot, the ring all around, a clean close.
  private static func live(_ geometry: Geometry, _ recorder: Recorder) throws {
    let device = MemoryDevice([UInt8](repeating: 0, count: Int(geometry.imageSize.value)), isWritable: true)
    let layout = try StreamLayout(entries(geometry))
    try VolumeFormatter.format(
      device, geometry: geometry, key: openingKey(), name: "fuzz", created: 1_700_000_000
    ) { (sector, out) throws(VolumeError) in
      layout.fillPlaintext(sector, sectorSize: geometry.blockSize, into: out)
    }
    device.afterSync = { recorder.images.append($0) }
    recorder.images.append(device.bytes)
    try session(device, recorder, commits: 3, closes: false)
    try session(device, recorder, commits: 2, closes: true) { volume in
      try volume.scrub()
      let recovery = KeyEncryptionKey(.recovery, SecretBytes(copying: key.span))
      try volume.addSlot(recovery, name: "recovery", created: 1_700_000_001)
    }
    try session(device, recorder, commits: 40, closes: false)
    try session(device, recorder, commits: 4, closes: true)
  }

  private static func session(
    _ device: MemoryDevice, _ recorder: Recorder, commits: Int, closes: Bool,
    _ between: (SecureVolume) throws -> Void = { _ in }
  ) throws {
    let volume = try SealedVolume(device).unlock(with: openingKey())
    let store = try BlobStore(volume)
    recorder.contents[volume.generation.value] = try digest(volume)
    try between(volume)
    for i in 0..<commits {
      let text = [UInt8](repeating: UInt8(truncatingIfNeeded: i &* 7 &+ commits), count: 30 + 11 * (i % 9))
      try store.stageReplace(i % 3 == 0 ? "small" : "large", text.span)
      try store.commit()
      recorder.contents[volume.generation.value] = try digest(volume)
      if i == 1 { while try volume.maintain() {} }
    }
    if closes { try volume.close() }
  }

  private static func entries(_ geometry: Geometry) -> [EntrySpecification] {
    // The larger one's content begins at a page (FORMAT §8), and something is left behind it.
    let capacity = geometry.volumeSize.value - 4096 - 512
    return [
      EntrySpecification(name: "small", capacity: ByteCount(200)),
      EntrySpecification(name: "large", capacity: ByteCount(capacity)),
    ]
  }

  private static func unwrap(_ image: [UInt8]) -> [UInt8] {
    var bytes = ByteBuffer(count: Format.headerSize)
    bytes.copy(from: image.span.extracting(0..<Format.headerSize))
    let copy = HeaderCopy(index: 0, bytes: bytes)
    guard let key = try? copy.unwrap(slot: 0, with: openingKey()) else { fatalError("the first slot doesn't open") }
    return key.span.array
  }

  /// The SHA-256 of all sectors' plaintext, each of them verified.
  static func digest(_ volume: SecureVolume) throws(VolumeError) -> InlineBytes32 {
    var plaintext = ByteBuffer(count: Int(volume.geometry.volumeSize.value))
    try volume.read(SectorIndex(UInt64(0)), into: plaintext.mutableSpan)
    do { return try Digest.sha256(plaintext.span) } catch { fatalError("\(error)") }
  }

  /// At most 48, with all of the first and the last ones: the middle of a long life is all alike.
  private static func thinned(_ images: [[UInt8]]) -> [[UInt8]] {
    guard images.count > 48 else { return images }
    let middle = images[20..<images.count - 14]
    return images[..<20]
      + stride(from: middle.startIndex, to: middle.endIndex, by: max(1, middle.count / 13)).map { middle[$0] }
      + images[(images.count - 14)...]
  }
}
