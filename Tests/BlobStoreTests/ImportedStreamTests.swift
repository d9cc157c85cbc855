import Primitives
import SecureVolume
import StorageSimulation
import Testing

@testable import BlobStore

struct ImportedStreamTests {
  private func source(_ bytes: [UInt8]) -> StreamSource {
    { (offset: ByteOffset, out: consuming MutableSpan<UInt8>) throws(BlobStoreError) in
      out.copy(from: bytes.span.extracting(Int(offset.value)..<Int(offset.value) + out.count))
    }
  }

  private func parse(_ bytes: [UInt8]) throws -> ImportedStream {
    try ImportedStream(name: "file", total: ByteCount(bytes.count), from: source(bytes))
  }

  private func importing(_ bytes: [UInt8]) throws -> [(String, [UInt8])] {
    let stream = try parse(bytes)
    let (volume, _) = makeVolume(1 << 18)
    try BlobStore.initialise(volume, entries: stream.specifications)
    let store = try BlobStore(volume)
    try store.importContents(of: stream, from: source(bytes))
    try store.check()
    return try store.entries.map { ($0.name.text, try store.content($0.name)) }
  }

  @Test func ownStream() throws {
    var random = SeededGenerator(seed: 11)
    for _ in 0..<10 {
      let items = randomItems(&random)
      let bytes = makeStream(items) + [UInt8](repeating: 0, count: Int.random(in: 0...5000, using: &random))
      let imported = try importing(bytes)
      #expect(imported.map(\.0) == items.map(\.name))
      #expect(imported.map(\.1) == items.map(\.content))
      #expect(try parse(bytes).hasSizes)
    }
  }

  private let magic = der(0x0C, Array("qemu-nvram".utf8))
  private func entry(_ name: String, _ blob: [UInt8]) -> [UInt8] { der(0x30, der(0x0C, Array(name.utf8)) + blob) }

  /// As the 2013 devices wrote them: any ASN.1. One that looks like ours is still taken as it is.
  @Test func streamOf2013() throws {
    let blobs = [
      der(0x30, der(0x02, [1]) + der(0x04, [UInt8](repeating: 5, count: 70000))), der(0x04, [1, 2, 3]), der(0x05, []),
      der(0x30, der(0x04, [0, 0, 0, 0, 0, 0, 0, 1]) + der(0x04, [1])), der(0x30, []),
    ]
    let stream = der(0x30, magic + blobs.enumerated().flatMap { entry("e\($0)", $1) })
    #expect(try !parse(stream).hasSizes)
    let imported = try importing(stream)
    #expect(imported.map(\.1) == blobs)
    #expect(imported.map(\.0) == ["e0", "e1", "e2", "e3", "e4"])
  }

  @Test func refused() {
    let raw = der(0x04, [1])
    let size: [UInt8] = [4, 8, 0, 0, 0, 0, 0, 0, 0, 1]
    let bad: [String: [UInt8]] = [
      "empty": [], "trailing byte": der(0x30, magic + entry("a", raw)) + [0, 1],
      "cut short": Array(der(0x30, magic + entry("a", raw)).dropLast()),
      "duplicate": der(0x30, magic + entry("a", raw) + entry("a", raw)),
      "two blobs": der(0x30, magic + der(0x30, der(0x0C, [0x61]) + raw + raw)),
      "indefinite blob": der(0x30, magic + entry("a", [0x30, 0x80, 0, 0])),
      "long length": der(0x30, magic + entry("a", [0x04, 0x81, 1, 1])),
      "tag of two bytes": der(0x30, magic + entry("a", [0x1F, 0x20, 0])),
      "used beyond the size": der(0x30, magic + entry("a", der(0x30, size + der(0x04, [1, 2])))),
      "size above the capacity": der(0x30, magic + entry("a", der(0x30, size + der(0x04, [])))),
      "wrong padding": der(0x30, magic + entry("a", der(0x30, size + der(0x80, []) + der(0x04, [1])))),
    ]
    for (what, bytes) in bad { #expect(thrown { _ = try parse(bytes) }?.code == .damaged, "\(what)") }
  }

  @Test func dirtyPadding() throws {
    var bytes = makeStream([Item(name: "a", capacity: 5000)])
    bytes[500] = 1
    #expect(thrown { _ = try parse(bytes) }?.offset == ByteOffset(500))
  }

  /// Nothing is written where an entry is missing or too small; a source that fails leaves what was committed.
  @Test func refusedContents() throws {
    let bytes = makeStream([
      Item(name: "a", capacity: 10, content: [1]), Item(name: "b", capacity: 10, content: [1, 2]),
    ])
    let stream = try parse(bytes)
    let (small, disk) = try makeStore([Item(name: "a", capacity: 5), Item(name: "b", capacity: 1)], volumeSize: 8192)
    let before = disk.bytes
    #expect(thrown { try small.importContents(of: stream, from: source(bytes)) }?.code == .tooLarge)
    #expect(disk.bytes == before)
    let (none, _) = try makeStore([Item(name: "a", capacity: 5)], volumeSize: 8192)
    #expect(thrown { try none.importContents(of: stream, from: source(bytes)) }?.code == .noSuchEntry)
    let (store, _) = try makeStore([Item(name: "a", capacity: 5, content: [8])], volumeSize: 8192)
    let one = makeStream([Item(name: "a", capacity: 10, content: [1])])
    let error = thrown {
      try store.importContents(of: try parse(one)) { (_, _) throws(BlobStoreError) in
        throw BlobStoreError(.tooLarge, store: nil, "a source that fails")
      }
    }
    #expect(error?.code == .tooLarge)
    #expect(!store.hasStagedWrites)
    #expect(try store.content("a") == [8])
  }
}
