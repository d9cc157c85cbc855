import Primitives
import SecureVolume
import StorageSimulation
import Testing

@testable import BlobStore

struct StreamParserTests {
  private func open(_ bytes: [UInt8], size: Int? = nil) throws -> BlobStore {
    try BlobStore(PlainVolume(makeDisk(holding: bytes, size: size)))
  }

  /// Whether a stream is refused on opening or by `check`.
  private func isRefused(_ bytes: [UInt8]) -> Bool {
    thrown { try open(bytes).check() }?.code == .damaged
  }

  private let items = [
    Item(name: "small", capacity: 40, content: [1, 2, 3]), Item(name: "page", capacity: 4096, content: [4, 5]),
    Item(name: "last", capacity: 200, content: [UInt8](repeating: 9, count: 200)),
  ]

  @Test func goodStream() throws {
    let store = try open(makeStream(items))
    try store.check()
    #expect(store.entries.map(\.name.text) == ["small", "page", "last"])
    #expect(store.entries.map(\.size.value) == [3, 2, 200])
    #expect(store.entries.map(\.capacity.value) == [40, 4096, 200])
    #expect(store.entries[1].offset.value % 4096 == 0)
    for item in items { #expect(try store.content(EntryName(item.name)) == item.content) }
    try open(makeStream(items) + [UInt8](repeating: 0, count: 3000)).check()
  }

  /// Every byte outside the contents changed in several ways: what is still accepted is another stream, and the one
  /// encoding of what it says.
  @Test func everyByteChanged() throws {
    let good = makeStream(items)
    let layout = try StreamLayout(items.map(\.specification))
    let page = layout.places[1]
    var accepted = 0
    for offset in good.indices where !(page.content..<page.end).contains(UInt64(offset)) {
      // Of the padding's zeros some are enough.
      if offset > 200, UInt64(offset) < page.content - 20, offset % 61 != 0 { continue }
      for change in [0x01, 0x02, 0x80, 0xFF, 0x20] as [UInt8] {
        var bytes = good
        bytes[offset] ^= change
        guard let store = try? open(bytes), (try? store.check()) != nil else { continue }
        accepted += 1
        let read = try store.entries.map {
          Item(name: $0.name.text, capacity: Int($0.capacity.value), content: try store.content($0.name))
        }
        #expect(makeStream(read) == bytes, "byte \(offset) ^ \(change)")
      }
    }
    // Names, contents and sizes may change; headers and padding may not.
    #expect(accepted > 0)
  }

  @Test func headersNotInTheirOneForm() {
    let magic = der(0x0C, Array("qemu-nvram".utf8))
    func entry(_ name: [UInt8], _ blob: [UInt8]) -> [UInt8] { der(0x30, name + blob) }
    let name = der(0x0C, [0x61])
    let size: [UInt8] = [4, 8, 0, 0, 0, 0, 0, 0, 0, 1]
    let blob = der(0x30, size + der(0x04, [7]))
    #expect(!isRefused(der(0x30, magic + entry(name, blob))))
    let bad: [String: [UInt8]] = [
      "empty": [], "zeros": [UInt8](repeating: 0, count: 100), "no magic": der(0x30, []),
      "another magic": der(0x30, der(0x0C, Array("qemu-nvran".utf8))),
      "a longer magic": der(0x30, der(0x0C, Array("qemu-nvram1".utf8))),
      "the magic's tag": der(0x30, der(0x13, Array("qemu-nvram".utf8))),
      "outer length not minimal": [0x30, 0x81, 12] + magic,
      "indefinite length": [0x30, 0x80] + magic + [0, 0],
      "magic's length not minimal": der(0x30, [0x0C, 0x81, 10] + Array("qemu-nvram".utf8)),
      "name's length not minimal": der(0x30, magic + entry([0x0C, 0x81, 1, 0x61], blob)),
      "a set": der(0x31, magic), "longer than the volume": [0x30, 0x84, 0x7F, 0xFF, 0xFF, 0xFF] + magic,
      "longer than 2^63": [0x30, 0x88, 0xFF, 0, 0, 0, 0, 0, 0, 0] + magic,
      "trailing byte": der(0x30, magic) + [1], "trailing zeros inside": der(0x30, magic + [0]),
      "trailing null inside": der(0x30, magic + [5, 0]),
      "duplicate": der(0x30, magic + entry(name, blob) + entry(name, blob)),
      "empty name": der(0x30, magic + entry(der(0x0C, []), blob)),
      "control character": der(0x30, magic + entry(der(0x0C, [0x0A]), blob)),
      "not UTF-8": der(0x30, magic + entry(der(0x0C, [0xC0, 0x80]), blob)),
      "long name": der(0x30, magic + entry(der(0x0C, [UInt8](repeating: 0x61, count: 121)), blob)),
      "printable string": der(0x30, magic + entry(der(0x13, [0x61]), blob)),
      "something after the blob": der(0x30, magic + der(0x30, name + blob + [5, 0])),
      "no blob": der(0x30, magic + der(0x30, name)), "blob no sequence": der(0x30, magic + entry(name, der(0x04, [1]))),
      "no content": der(0x30, magic + entry(name, der(0x30, size))),
      "empty content": der(0x30, magic + entry(name, der(0x30, size + der(0x04, [])))),
      "size of seven bytes": der(
        0x30, magic + entry(name, der(0x30, der(0x04, [0, 0, 0, 0, 0, 0, 1]) + der(0x04, [7])))),
      "size above capacity": der(
        0x30, magic + entry(name, der(0x30, der(0x04, [0, 0, 0, 0, 0, 0, 0, 2]) + der(0x04, [7])))),
      "huge size": der(0x30, magic + entry(name, der(0x30, der(0x04, [255, 0, 0, 0, 0, 0, 0, 2]) + der(0x04, [7])))),
      "padding where none belongs": der(0x30, magic + entry(name, der(0x30, size + der(0x80, []) + der(0x04, [7])))),
      "two contents": der(0x30, magic + entry(name, der(0x30, size + der(0x04, [7]) + der(0x04, [7])))),
      "used beyond the size": der(
        0x30, magic + entry(name, der(0x30, der(0x04, [UInt8](repeating: 0, count: 8)) + der(0x04, [7])))),
    ]
    for (what, bytes) in bad { #expect(isRefused(bytes), "\(what)") }
  }

  /// Paddings that reach a page, but not the way the rule says.
  @Test func wrongPadding() throws {
    let magic = der(0x0C, Array("qemu-nvram".utf8))
    func stream(_ zeros: Int?, content: Int = 5000) -> [UInt8] {
      let size = [4, 8] + [UInt8](repeating: 0, count: 8)
      let padding = zeros.map { der(0x80, [UInt8](repeating: 0, count: $0)) } ?? []
      let blob = der(0x30, size + padding + der(0x04, [UInt8](repeating: 0, count: content)))
      return der(0x30, magic + der(0x30, der(0x0C, [0x61]) + blob))
    }
    let good = makeStream([Item(name: "a", capacity: 5000)])
    let right = try #require((3900..<4096).first { stream($0) == good })
    for zeros in [nil, 0, right - 1, right + 1, right + 4096] { #expect(isRefused(stream(zeros)), "\(zeros ?? -1)") }
    var dirty = good
    dirty[200] = 1
    let error = thrown { try open(dirty).check() }
    #expect(error?.code == .damaged)
    #expect(error?.offset == ByteOffset(200))
    #expect(error?.entry == "a")
    #expect(isRefused(stream(10, content: 4095)))
  }

  /// One entry's padding is a byte short and the next one's a byte long: the total is right, the place isn't.
  @Test func paddingThatMakesUp() throws {
    let items = [Item(name: "a", capacity: 5000), Item(name: "b", capacity: 5000)]
    let places = try StreamLayout(items.map(\.specification)).places
    func stream(_ shift: Int) throws -> [UInt8] {
      var body = der(0x0C, Array("qemu-nvram".utf8))
      for (place, change) in zip(places, [-shift, shift]) {
        let zeros = Int(try #require(StreamLayout.paddingLength(place.padding))) + change
        let blob =
          [4, 8] + [UInt8](repeating: 0, count: 8) + der(0x80, [UInt8](repeating: 0, count: zeros))
          + der(0x04, [UInt8](repeating: 0, count: 5000))
        body += der(0x30, der(0x0C, Array(place.name.text.utf8)) + der(0x30, blob))
      }
      return der(0x30, body)
    }
    #expect(try stream(0) == makeStream(items))
    #expect(try stream(1).count == stream(0).count)
    #expect(thrown { _ = try open(stream(1)) }?.code == .damaged, "on opening, before any check of contents")
  }

  /// Also where only zeros are missing and all would fit into the last sector; the fuzzer found that.
  @Test func fileThatEndsWithinTheStream() throws {
    let good = makeStream([Item(name: "a", capacity: 300, content: [1])])
    #expect(!isRefused(good))
    for missing in [1, 5, 200] {
      let error = thrown { _ = try open(Array(good.dropLast(missing))) }
      #expect(error?.code == .damaged, "\(missing) bytes short")
    }
  }

  @Test func tooManyEntries() {
    var body = der(0x0C, Array("qemu-nvram".utf8))
    let size = [4, 8] + [UInt8](repeating: 0, count: 8)
    for i in 0..<1025 { body += der(0x30, der(0x0C, Array("\(i)".utf8)) + der(0x30, size + der(0x04, [0]))) }
    #expect(isRefused(der(0x30, body)))
  }

  /// Only sectors with headers are read: one that can't be read in the midst of content stands in nobody's way.
  @Test func readsOnlyHeaders() throws {
    let disk = makeDisk(holding: makeStream([Item(name: "a", capacity: 1 << 20), Item(name: "b", capacity: 9)]))
    disk.makeUnreadable(block: 17)
    let store = try BlobStore(PlainVolume(disk))
    #expect(try store.content("b") == [])
    let error = thrown { try store.check() }
    #expect(error?.status == .inputOutput)
  }

  @Test func randomBytes() {
    var random = SeededGenerator(seed: 3)
    for _ in 0..<300 {
      var bytes = random.bytes(600)
      if Bool.random(using: &random) {
        bytes.replaceSubrange(0..<16, with: [0x30, 0x82, 0x02, 0x54, 0x0C, 10] + Array("qemu-nvram".utf8))
      }
      #expect(isRefused(bytes))
    }
  }
}
