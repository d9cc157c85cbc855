import Primitives
import SecureVolume

@testable import BlobStore

/// Lists of names and capacities of any size: the layout that follows from one is what a reader finds in the stream
/// that was written from it. Nothing but headers is made, so that streams of terabytes cost nothing.
enum LayoutTarget {
  static func run(_ bytes: [UInt8]) {
    var input = FuzzInput(bytes)
    geometry(&input)
    let spare = UInt64(input.byte())
    var entries: [EntrySpecification] = []
    var sizes: [UInt64] = []
    while !input.isAtEnd, entries.count < 40 {
      let name = String(decoding: input.take(Int(input.byte() & 127)), as: UTF8.self)
      let edge: UInt64 = [0, 100, 3900, 4096, 65_400, 1 << 24, (1 << 28) - 9, 1 << 28][Int(input.byte() & 7)]
      let capacity = edge &+ UInt64(input.u16())
      guard let name = try? EntryName(name) else { continue }
      entries.append(EntrySpecification(name: name, capacity: ByteCount(capacity)))
      sizes.append(min(input.variant(of: capacity), capacity))
    }
    let layout: StreamLayout
    do { layout = try StreamLayout(entries) } catch {
      require(error.code == .overLimit || error.code == .exists, "\(error)")
      require(
        Set(entries.map(\.name)).count < entries.count
          || entries.contains { !(1...EntrySpecification.maximumCapacity).contains($0.capacity.value) },
        "refused without a reason: \(error)")
      return
    }
    readBack(layout, sizes, spare)
  }

  private static func readBack(_ layout: StreamLayout, _ sizes: [UInt64], _ spare: UInt64) {
    for place in layout.places where place.capacity >= StreamLayout.alignment {
      require(place.content % StreamLayout.alignment == 0, "content that isn't aligned")
    }
    let parser = StreamParser(store: "layout", available: layout.size + ByteCount(spare)) {
      (offset, destination) throws(BlobStoreError) in
      var out = destination
      layout.fill(from: offset.value, sizes: sizes, into: &out)
    }
    do {
      let result = try parser.parse()
      require(result.layout.places == layout.places && result.layout.header == layout.header, "another layout")
      require(result.sizes == sizes, "other sizes")
    } catch { fatalError("a stream of our own is refused: \(error)") }
    guard layout.size.value <= 65_536 else { return }
    var whole = [UInt8](repeating: 0, count: Int(layout.size.value + 4095) / 4096 * 4096)
    var window = whole.mutableSpan
    layout.fill(from: 0, sizes: [], into: &window)
    for sector in 0..<whole.count / 4096 {
      var part = [UInt8](repeating: 1, count: 4096)
      layout.fillPlaintext(SectorIndex(sector), sectorSize: 4096, into: part.mutableSpan)
      require(part[...] == whole[sector * 4096..<(sector + 1) * 4096], "a sector that differs from the whole")
    }
  }

  /// FORMAT §1: what is within the limits is computed without an overflow, and fits.
  private static func geometry(_ input: inout FuzzInput) {
    let blockSize = [4096, 8192, 16384, 32768, 65536, 512, 0, 12288][Int(input.byte() & 7)]
    let bytes = ByteCount(input.variant(of: 1 << 20))
    if let holding = Geometry(holding: bytes, blockSize: blockSize) {
      require(holding.volumeSize >= bytes, "too small for what it is to hold")
      require(holding.imageSize > holding.volumeSize, "an image without room for its tables")
    }
    if let fitting = Geometry(fitting: bytes, blockSize: blockSize) {
      require(fitting.imageSize <= bytes, "larger than what it is to fit into")
      let more = Geometry(blockSize: blockSize, sectorCount: fitting.sectorCount + 1)
      require(more.map { $0.imageSize > bytes } ?? true, "one more sector would fit")
    }
  }
}
