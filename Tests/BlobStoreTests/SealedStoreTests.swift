import BlockIO
import Crypto
import Primitives
import SecureVolume
import StorageSimulation
import Testing

@testable import BlobStore

/// The blob store on a volume that is encrypted, from formatting on.
struct SealedStoreTests {
  private func makeKey() -> KeyEncryptionKey {
    var secret = SecretBytes(count: 32)
    var out = secret.mutableSpan
    for i in 0..<32 { out[i] = UInt8(3 * i + 1) }
    return KeyEncryptionKey(.keyring, secret)
  }

  @Test(arguments: [4096, 16384, 65536]) func formatWriteReopen(sectorSize: Int) throws {
    var items = [
      Item(name: "permall", capacity: 20000), Item(name: "volatilestate", capacity: 9000),
      Item(name: "x", capacity: 30),
    ]
    let layout = try StreamLayout(items.map(\.specification))
    let geometry = try #require(Geometry(holding: layout.size, blockSize: sectorSize))
    let disk = SimulatedDisk(size: geometry.imageSize)
    let key = makeKey()
    try VolumeFormatter.format(disk, geometry: geometry, key: key, name: "k", created: 1) {
      (sector, out) throws(VolumeError) in
      layout.fillPlaintext(sector, sectorSize: sectorSize, into: out)
    }
    let volume = try SealedVolume(disk).unlock(with: key)
    let store = try BlobStore(volume)
    try store.check()
    var random = SeededGenerator(seed: 1)
    for round in 0..<20 {
      for i in items.indices {
        items[i].content = random.bytes(Int.random(in: 0...items[i].capacity, using: &random))
        try store.put(EntryName(items[i].name), items[i].content)
      }
      try store.commit()
      #expect(volume.generation == Generation(UInt64(round + 1)))
    }
    try store.check()
    try volume.close()
    let again = try BlobStore(SealedVolume(disk).unlock(with: key))
    try again.check()
    let bytes = try again.dumped()
    #expect(bytes == makeStream(items))
    let error = thrown { try again.add(Item(name: "y", capacity: 60000).specification) }
    #expect(error?.status == .noSpace)
    try again.remove("permall")
    items.removeFirst()
    try again.check()
    for item in items { #expect(try again.content(EntryName(item.name)) == item.content) }
  }
}
