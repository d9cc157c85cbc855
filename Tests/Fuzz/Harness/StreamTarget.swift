import BlockIO
import Primitives
import SecureVolume

@testable import BlobStore

/// The DER stream as it is read when a store opens and when one is imported. The two readers agree on what is a stream
/// of ours, and what they accept is, byte for byte, the one encoding of its entries.
enum StreamTarget {
  static let largest = 1 << 16

  /// `u8 flags, the stream's bytes`. Flags: 2 zeros behind the stream, 4 work with it.
  static func run(_ bytes: [UInt8]) {
    var input = FuzzInput(bytes)
    let flags = input.byte()
    var stream = input.take(largest)
    if flags & 2 != 0 { stream += [UInt8](repeating: 0, count: 5000) }
    let device = MemoryDevice(stream, isWritable: true)
    let store = accepted(PlainVolume(device))
    let imported = try? ImportedStream(name: "stream", total: ByteCount(stream.count), from: source(of: stream))
    require((store != nil) == (imported?.hasSizes == true), "one reader takes it and the other doesn't")
    if let store {
      require(encoded(store) + zeros(upTo: stream.count, from: store.streamSize) == stream, "a second encoding")
      require(imported?.specifications == store.entries.map(\.specification), "the readers' entries differ")
      require(imported?.items.map(\.size) == store.entries.map(\.size), "the readers' sizes differ")
    } else if let imported {
      let whole = encoded(imported, stream)
      require(whole + [UInt8](repeating: 0, count: stream.count - whole.count) == stream, "a second encoding")
    }
    if flags & 4 != 0, let imported { use(imported, store, stream) }
  }

  private static func zeros(upTo end: Int, from start: ByteCount) -> [UInt8] {
    [UInt8](repeating: 0, count: end - Int(start.value))
  }

  static func source(of bytes: [UInt8]) -> StreamSource {
    { (offset, destination) throws(BlobStoreError) in
      var out = destination
      out.copy(from: bytes.span.extracting(Int(offset.value)..<Int(offset.value) + out.count))
    }
  }

  private static func accepted(_ volume: PlainVolume) -> BlobStore? {
    guard let store = try? BlobStore(volume), (try? store.check()) != nil else { return nil }
    return store
  }

  /// The stream of a store's entries, made from its layout and contents alone.
  private static func encoded(_ store: BlobStore) -> [UInt8] {
    let size = Int(store.streamSize.value)
    var bytes = [UInt8](repeating: 0, count: size)
    var window = bytes.mutableSpan
    store.directory.layout.fill(from: 0, sizes: store.entries.map(\.size.value), into: &window)
    for entry in store.entries {
      guard let content = try? store.read(entry.name, limit: size) else { fatalError("an entry can't be read") }
      require(content.count == Int(entry.size.value), "another size than the entry's")
      window.copy(from: content.span, at: Int(entry.offset.value))
    }
    return bytes
  }

  /// A 2013 stream, put together again by its definition.
  private static func encoded(_ imported: ImportedStream, _ stream: [UInt8]) -> [UInt8] {
    var body = element(0x0C, Array("qemu-nvram".utf8))
    for item in imported.items {
      let start = Int(item.offset.value)
      let blob = stream[start..<start + Int(item.size.value)]
      body += element(0x30, element(0x0C, Array(item.specification.name.text.utf8)) + blob)
    }
    return element(0x30, body)
  }

  static func element(_ tag: UInt8, _ content: [UInt8]) -> [UInt8] {
    guard content.count >= 128 else { return [tag, UInt8(content.count)] + content }
    let length = (0..<8).map { UInt8(truncatingIfNeeded: content.count >> (56 - 8 * $0)) }.drop { $0 == 0 }
    return [tag, 0x80 | UInt8(length.count)] + length + content
  }

  /// Imports it into a new store; changes what was opened, which is then as well-formed as before.
  private static func use(_ imported: ImportedStream, _ store: BlobStore?, _ stream: [UInt8]) {
    do {
      let size = try BlobStore.size(of: imported.specifications)
      guard size.value <= UInt64(4 * largest) else { return }
      let device = MemoryDevice([UInt8](repeating: 0, count: Int(size.value)), isWritable: true)
      let volume = PlainVolume(device)
      try BlobStore.initialise(volume, entries: imported.specifications)
      let copy = try BlobStore(volume)
      try copy.importContents(of: imported, from: source(of: stream))
      try copy.check()
      if imported.hasSizes {
        require(stream.starts(with: device.bytes), "importing a stream of ours gives another")
      }
      if let store, let entry = store.entries.last { try change(entry, of: store) }
    } catch { fatalError("what was accepted can't be worked with: \(error)") }
  }

  /// Stages a change, which only those see who ask for it, and commits it.
  private static func change(_ entry: Entry, of store: BlobStore) throws(BlobStoreError) {
    let before = try store.read(entry.name, limit: largest)
    try store.stageReplace(entry.name, [0x5A].span)
    require(try store.read(entry.name, limit: largest) == before, "staged, and read as if it were committed")
    require(try store.read(entry.name, limit: 1, staged: true) == [0x5A], "what was staged isn't read")
    try store.commit()
    try store.check()
    require(store.entry(entry.name)?.size == ByteCount(1), "another size than was written")
    require(try store.read(entry.name, limit: 1) == [0x5A], "what was written isn't read")
    let nothing = try? store.read(entry.name, limit: 0)
    require(nothing == nil, "more was read than the limit")
  }
}
