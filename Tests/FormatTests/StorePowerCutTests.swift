import BlobStore
import BlockIO
import Crypto
import Primitives
import SecureVolume
import StorageSimulation
import Testing

/// Power cuts seen from the blob store: entries are added, grown, shrunk and removed between writes, and each of these
/// is as atomic as any commit.
struct StorePowerCutTests {
  typealias Content = [String: [UInt8]]

  /// What was acknowledged, and what was asked for since.
  final class Oracle {
    var acknowledged: Content
    var requested: Content
    init(_ content: Content) { (acknowledged, requested) = (content, content) }
  }

  @Test func layoutChangesAreAtomic() throws {
    let key: [UInt8] = (0..<32).map { $0 * 7 }
    let names: [EntryName] = ["tpm", "vars", "rtc"]
    let first = zip(names, [9000, 700, 60]).map { EntrySpecification(name: $0, capacity: ByteCount($1)) }
    let layout = try StreamLayout(first)
    guard let geometry = Geometry(holding: layout.size + ByteCount(24_000), blockSize: 4096) else {
      preconditionFailure("within the limits")
    }
    let disk = SimulatedDisk(size: geometry.imageSize)
    try VolumeFormatter.format(disk, geometry: geometry, key: Self.key(key), name: "k", created: 1) {
      (sector, out) throws(VolumeError) in layout.fillPlaintext(sector, sectorSize: 4096, into: out)
    }
    let oracle = Oracle(["tpm": [], "vars": [], "rtc": []])
    var random = SeededGenerator(seed: 99)
    var tried = 0
    var failure: String?
    disk.afterOperation = { operation in
      for _ in 0..<20 where failure == nil {
        tried += 1
        let found = Self.contents(disk.crashed(using: &random), key)
        if found != .success(oracle.acknowledged), found != .success(oracle.requested) {
          failure = "operation \(operation): \(found)"
        }
      }
    }
    let volume = try SealedVolume(disk).unlock(with: Self.key(key))
    let store = try BlobStore(volume)
    var work = SeededGenerator(seed: 5)
    for step in 0..<40 where failure == nil {
      try Self.step(step, store, names, oracle, &work)
      oracle.acknowledged = oracle.requested
      if step % 5 == 4 { while try volume.maintain() {} }
    }
    try volume.close()
    disk.afterOperation = nil
    #expect(failure == nil)
    print("power cuts in layout changes: \(tried) states tried, \(disk.operations) operations")
  }

  /// Sets what is requested to what is asked for, then asks for it.
  private static func step(
    _ step: Int, _ store: BlobStore, _ names: [EntryName], _ oracle: Oracle, _ random: inout SeededGenerator
  ) throws {
    let added: EntryName = "added"
    switch step % 8 {
    case 2:
      oracle.requested["added"] = []
      try store.add(EntrySpecification(name: added, capacity: ByteCount(3000)))
    case 4:
      let capacity = (store.entry(names[1])?.capacity.value ?? 700) + 500
      try store.resize(names[1], capacity: ByteCount(capacity))
    case 6:
      oracle.requested["added"] = nil
      try store.remove(added)
    default:
      let name = names[step % 3]
      let size = Int.random(in: 0...Int(store.entry(name)?.capacity.value ?? 1), using: &random)
      let content = random.bytes(size)
      oracle.requested[name.text] = content
      try store.stageReplace(name, content.span)
      try store.commit()
    }
  }

  private static func key(_ bytes: [UInt8]) -> KeyEncryptionKey {
    KeyEncryptionKey(.keyring, SecretBytes(copying: bytes.span))
  }

  struct Refusal: Error, Equatable, CustomStringConvertible { let description: String }

  private static func contents(_ disk: SimulatedDisk, _ key: [UInt8]) -> Result<Content, Refusal> {
    do {
      let store = try BlobStore(SealedVolume(disk).unlock(with: Self.key(key)))
      try store.check()
      var content = Content()
      for entry in store.entries { content[entry.name.text] = try store.read(entry.name, limit: 1 << 20) }
      return .success(content)
    } catch { return .failure(Refusal(description: "\(error)")) }
  }
}
