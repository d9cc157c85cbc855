import Primitives
import StorageSimulation
import Testing

@testable import BlobStore

struct StreamLayoutTests {
  /// The layout of an empty store, put together from its sectors.
  private func stream(_ items: [Item], sectorSize: Int = 4096) throws -> [UInt8] {
    let layout = try StreamLayout(items.map(\.specification))
    var bytes: [UInt8] = []
    var sector = ByteBuffer(count: sectorSize)
    for index in 0..<Int(layout.size.value) / sectorSize + 2 {
      layout.fillPlaintext(SectorIndex(index), sectorSize: sectorSize, into: sector.mutableSpan)
      bytes += sector.span.array
    }
    #expect(bytes[Int(layout.size.value)...].allSatisfy { $0 == 0 })
    return Array(bytes[..<Int(layout.size.value)])
  }

  @Test func emptyStream() throws {
    let bytes = try stream([])
    #expect(bytes == [0x30, 12, 0x0C, 10] + Array("qemu-nvram".utf8))
  }

  @Test(arguments: [
    1, 90, 100, 105, 109, 110, 111, 112, 113, 127, 128, 200, 227, 228, 229, 230, 231, 232, 233, 240, 255, 256, 4094,
    4095,
    4096, 4097, 57000, 61380, 65535, 65536, 65537,
  ])
  func capacities(_ capacity: Int) throws {
    for name in ["a", "ab", String(repeating: "n", count: 120)] {
      let items = [Item(name: name, capacity: capacity), Item(name: "b2", capacity: 5000)]
      #expect(try stream(items) == makeStream(items))
      let layout = try StreamLayout(items.map(\.specification))
      for place in layout.places where place.capacity >= 4096 { #expect(place.content % 4096 == 0) }
    }
  }

  /// Names of every length before an aligned entry: every distance to the next page occurs, among them those that no
  /// padding element can take.
  @Test func everyDistance() throws {
    var paddings: Set<UInt64> = []
    for first in 3560...4095 {
      let items = [Item(name: "a", capacity: first), Item(name: "b", capacity: 4096)]
      let layout = try StreamLayout(items.map(\.specification))
      let place = layout.places[1]
      #expect(place.content % 4096 == 0)
      #expect(layout.header.elementSize == UInt64(makeStream(items).count))
      paddings.insert(place.padding)
    }
    for missing in [1, 130, 259] as [UInt64] {
      #expect(!paddings.contains(missing))
      #expect(paddings.contains(missing + 4096), "\(missing)")
      #expect(paddings.contains(missing - 1), "\(missing)")
      #expect(paddings.contains(missing + 1), "\(missing)")
    }
  }

  /// A total at the edge between two sizes of the outer header, where with either size the other would be needed: the
  /// entry moves on by a page.
  @Test func outerHeaderAtItsEdge() throws {
    var moved = 0
    for capacity in 65536 - 4096 - 80...65536 - 4096 + 80 {
      let items = [Item(name: "edge", capacity: capacity)]
      #expect(try stream(items) == makeStream(items))
      if try StreamLayout(items.map(\.specification)).places[0].content > 4096 { moved += 1 }
    }
    #expect(moved > 0)
  }

  /// The blob's or the entry's header grows with the padding.
  @Test func innerHeadersAtTheirEdge() throws {
    for first in [1, 3000, 3990, 4040, 4080] {
      for capacity in stride(from: 65536 - 4300, through: 65536 + 40, by: 13) {
        let items = [Item(name: "a", capacity: first), Item(name: "b", capacity: capacity)]
        let layout = try StreamLayout(items.map(\.specification))
        #expect(layout.header.elementSize == UInt64(makeStream(items).count))
        #expect(layout.places[1].content % 4096 == 0)
      }
    }
  }

  @Test func randomShapes() throws {
    var random = SeededGenerator(seed: 7)
    for _ in 0..<40 {
      let items = randomItems(&random).map { Item(name: $0.name, capacity: $0.capacity) }
      let bytes = try stream(items, sectorSize: [4096, 16384, 65536].randomElement(using: &random) ?? 4096)
      #expect(bytes == makeStream(items))
    }
  }

  @Test func limits() throws {
    func error(_ entries: [EntrySpecification]) -> BlobStoreError.Code? {
      thrown { _ = try StreamLayout(entries) }?.code
    }
    func entry(_ name: String, _ capacity: UInt64) -> EntrySpecification {
      EntrySpecification(name: EntryName(stringLiteral: name), capacity: ByteCount(capacity))
    }
    #expect(error([entry("a", 0)]) == .overLimit)
    #expect(error([entry("a", (1 << 28) + 1)]) == .overLimit)
    #expect(error([entry("a", .max)]) == .overLimit)
    #expect(error([entry("a", 1), entry("a", 2)]) == .exists)
    #expect(error((0...1024).map { entry("\($0)", 1) }) == .overLimit)
    let most = try StreamLayout((0..<1024).map { entry("\($0)", 1 << 28) })
    #expect(most.size.value > 1024 * (1 << 28))
    #expect(most.places.allSatisfy { $0.content % 4096 == 0 })
  }
}

struct EntryNameTests {
  @Test(arguments: [
    "", String(repeating: "a", count: 121), "a\n", "\u{7F}", "\u{85}", "a\0", String(repeating: "é", count: 61),
  ])
  func refused(_ text: String) {
    let error = thrown { _ = try EntryName(text) }
    #expect(error?.status == .usage)
  }

  @Test func comparedByBytes() {
    let composed = EntryName("\u{E9}")
    let decomposed = EntryName("e\u{301}")
    #expect(composed != decomposed)
    #expect(Set([composed, decomposed]).count == 2)
    #expect(EntryName([0xC3]) == nil)
    #expect(EntryName([0xED, 0xA0, 0x80]) == nil)
  }
}
