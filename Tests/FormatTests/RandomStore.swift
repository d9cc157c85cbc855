import BlobStore
import BlockIO
import Crypto
import Primitives
import SecureVolume
import StorageSimulation

/// A store of random shape with a random history, on a simulated disk, and what should be in it.
final class RandomStore {
  let disk: SimulatedDisk
  let key: [UInt8]
  /// Name, capacity and content, in the stream's order.
  private(set) var entries: [(name: EntryName, capacity: Int, content: [UInt8])] = []
  let volume: SecureVolume
  let store: BlobStore

  init(seed: UInt64) throws {
    var random = SeededGenerator(seed: seed)
    key = random.bytes(32)
    let shape = Self.shape(&random)
    entries = shape.map { ($0.name, Int($0.capacity.value), []) }
    (disk, volume) = try Self.format(shape, key, seed, &random)
    store = try BlobStore(volume)
    for _ in 0..<Int.random(in: 0...25, using: &random) { try step(&random) }
    if Bool.random(using: &random) { try volume.close() }
  }

  /// Capacities around the places where DER lengths grow, and where padding begins.
  private static func shape(_ random: inout SeededGenerator) -> [EntrySpecification] {
    (0..<Int.random(in: 0...6, using: &random)).compactMap { i in
      let around = [1, 100, 127, 255, 300, 4095, 4096, 5000, 20_000, 65_535].randomElement(using: &random) ?? 1
      let capacity = max(1, around + Int.random(in: -3...3, using: &random))
      let suffix = ["", "é", " with spaces", ".permall"].randomElement(using: &random) ?? ""
      guard let name = try? EntryName("entry\(i)\(suffix)") else { return nil }
      return EntrySpecification(name: name, capacity: ByteCount(capacity))
    }
  }

  private static func format(
    _ shape: [EntrySpecification], _ key: [UInt8], _ seed: UInt64, _ random: inout SeededGenerator
  ) throws -> (SimulatedDisk, SecureVolume) {
    let layout = try StreamLayout(shape)
    let spare = ByteCount(Int.random(in: 0...30_000, using: &random))
    let blockSize = [4096, 4096, 4096, 8192, 16384, 32768, 65536].randomElement(using: &random) ?? 4096
    guard let geometry = Geometry(holding: layout.size + spare, blockSize: blockSize) else {
      preconditionFailure("within the limits")
    }
    let disk = SimulatedDisk(size: geometry.imageSize)
    try VolumeFormatter.format(disk, geometry: geometry, key: sealed(key), name: "k", created: seed) {
      (sector, out) throws(VolumeError) in
      layout.fillPlaintext(sector, sectorSize: blockSize, into: out)
    }
    let found = try SealedVolume(disk)
    return (disk, try found.unlock(with: sealed(key)))
  }

  private static func sealed(_ key: [UInt8]) -> KeyEncryptionKey {
    KeyEncryptionKey(.keyring, SecretBytes(copying: key.span))
  }

  private func step(_ random: inout SeededGenerator) throws {
    switch Int.random(in: 0..<12, using: &random) {
    case _ where entries.isEmpty: try addEntry(&random)
    case 0: try addEntry(&random)
    case 1:
      let entry = entries.remove(at: Int.random(in: entries.indices, using: &random))
      try store.remove(entry.name)
    case 2:
      while try volume.maintain() {}
      try volume.scrub()
    case 3...7: try replace(Int.random(in: entries.indices, using: &random), &random)
    default: try overwrite(Int.random(in: entries.indices, using: &random), &random)
    }
  }

  private func replace(_ i: Int, _ random: inout SeededGenerator) throws {
    let content = random.bytes(Int.random(in: 0...entries[i].capacity, using: &random))
    try store.stageReplace(entries[i].name, content.span)
    try store.commit()
    entries[i].content = content
  }

  private func overwrite(_ i: Int, _ random: inout SeededGenerator) throws {
    let bytes = random.bytes(Int.random(in: 1...entries[i].capacity, using: &random))
    let offset = Int.random(in: 0...(entries[i].capacity - bytes.count), using: &random)
    try store.stage(entries[i].name, at: ByteOffset(offset), bytes.span)
    try store.commit()
    let missing = max(0, offset + bytes.count - entries[i].content.count)
    entries[i].content += [UInt8](repeating: 0, count: missing)
    entries[i].content.replaceSubrange(offset..<offset + bytes.count, with: bytes)
  }

  private func addEntry(_ random: inout SeededGenerator) throws {
    let name = try EntryName("added\(random.next())")
    let entry = EntrySpecification(name: name, capacity: ByteCount(Int.random(in: 1...6000, using: &random)))
    let specifications = store.entries.map(\.specification) + [entry]
    let needed = try BlobStore.size(of: specifications)
    guard needed <= ByteCount(volume.sectorCount * UInt64(volume.sectorSize)) else { return }
    try store.add(entry)
    entries.append((name, Int(entry.capacity.value), []))
  }
}
