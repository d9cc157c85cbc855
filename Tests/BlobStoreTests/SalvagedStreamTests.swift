import BlockIO
import Crypto
import Primitives
import SecureVolume
import StorageSimulation
import Testing

@testable import BlobStore

/// Entries out of a stream of which parts don't verify.
struct SalvagedStreamTests {
  private let items = [
    Item(name: "permall", capacity: 9000, content: (0..<9000).map { UInt8(truncatingIfNeeded: $0 &* 7 &+ 1) }),
    Item(name: "small", capacity: 100, content: Array("hello".utf8)),
    Item(name: "state", capacity: 5000, content: (0..<4500).map { UInt8(truncatingIfNeeded: $0 &* 5) }),
  ]

  private func makeKey() -> KeyEncryptionKey {
    var secret = SecretBytes(count: 32)
    var out = secret.mutableSpan
    for i in 0..<32 { out[i] = UInt8(i + 1) }
    return KeyEncryptionKey(.keyring, secret)
  }

  private func makeDisk() throws -> (SimulatedDisk, StreamLayout, Geometry) {
    let layout = try StreamLayout(items.map(\.specification))
    let geometry = try #require(Geometry(holding: layout.size, blockSize: 4096))
    let disk = SimulatedDisk(size: geometry.imageSize)
    try VolumeFormatter.format(disk, geometry: geometry, key: makeKey(), name: "k", created: 1) {
      (sector, out) throws(VolumeError) in
      layout.fillPlaintext(sector, sectorSize: 4096, into: out)
    }
    let volume = try SealedVolume(disk).unlock(with: makeKey())
    let store = try BlobStore(volume)
    for item in items { try store.put(EntryName(item.name), item.content) }
    try store.commit()
    try volume.close()
    return (disk, layout, geometry)
  }

  /// The entries that are left, by name; the others' names without content.
  private func salvage(_ disk: SimulatedDisk, _ layout: StreamLayout?) throws -> ([String: [UInt8]?], String?) {
    let volume = try SealedVolume(SimulatedDisk(copyOf: disk.bytes, isWritable: false), for: .salvage)
      .unlock(with: makeKey())
    let stream = try SalvagedStream(volume, layout: layout)
    var found: [String: [UInt8]?] = [:]
    for entry in stream.entries {
      guard stream.damagedSectors(of: entry).isEmpty else {
        found.updateValue(nil, forKey: entry.name.text)
        continue
      }
      var content = [UInt8](repeating: 0, count: Int(entry.count.value))
      let count = try stream.read(entry, at: 0, into: content.mutableSpan)
      #expect(count == content.count)
      found[entry.name.text] = content
    }
    return (found, stream.problem)
  }

  @Test func aWholeStream() throws {
    let (disk, _, _) = try makeDisk()
    let (found, problem) = try salvage(disk, nil)
    #expect(found == ["permall": items[0].content, "small": items[1].content, "state": items[2].content])
    #expect(problem == nil)
  }

  /// Sector by sector: what doesn't lie in it is recovered, and the layout finds what comes behind a damaged head.
  @Test func everySector() throws {
    let (made, layout, geometry) = try makeDisk()
    let dataOffset = Int(geometry.imageSize.value) - Int(geometry.volumeSize.value)
    for sector in 0..<Int(geometry.sectorCount) {
      let disk = made.snapshot()
      disk.flip(bit: (dataOffset + sector * 4096 + 17) * 8)
      let (alone, problem) = try salvage(disk, nil)
      let (found, none) = try salvage(disk, layout)
      #expect(none == nil && found.count == 3)
      for (item, place) in zip(items, layout.places) {
        let content = Int(place.content)..<Int(place.content) + item.content.count
        let isHit = content.overlaps(sector * 4096..<(sector + 1) * 4096)
        if isHit {
          #expect(found[item.name] == .some(nil), "\(item.name), sector \(sector)")
        } else if Int(place.sizeField) / 4096 != sector {
          #expect(found[item.name] == item.content, "\(item.name), sector \(sector)")
        } else {
          // Without its size all of the capacity is given, and what lies behind the content is zero.
          let expected = item.content + [UInt8](repeating: 0, count: item.capacity - item.content.count)
          #expect(found[item.name] == expected || found[item.name] == .some(nil), "\(item.name), sector \(sector)")
        }
        if let recovered = alone[item.name] { #expect(recovered == nil || recovered == item.content) }
      }
      // Without a layout, a damaged head ends it: the entries before it are found, and it is said that there may be
      // more.
      #expect((problem == nil) == (alone.count == 3))
      if sector == 0 { #expect(alone.isEmpty) }
    }
  }

  @Test func anotherLayoutIsRefused() throws {
    let (disk, _, geometry) = try makeDisk()
    disk.flip(bit: (Int(geometry.imageSize.value) - Int(geometry.volumeSize.value)) * 8)
    for names in [["permall", "other", "state"], ["state", "small", "permall"]] {
      let wrong = try StreamLayout(zip(names, items).map { Item(name: $0, capacity: $1.capacity).specification })
      #expect(throws: BlobStoreError(.damaged, store: nil, "")) { _ = try salvage(disk, wrong) }
    }
    let large = try StreamLayout([Item(name: "permall", capacity: 90_000).specification])
    #expect(thrown { _ = try salvage(disk, large) }?.status == .noSpace)
  }
}
