import Primitives

/// The content of a disk as an array of blocks, each an array of bytes. Copies share blocks until one is written, so
/// that a crashed image costs only the blocks in which it differs.
struct BlockStore {
  typealias Block = [UInt8]

  let unit: Int
  private(set) var size: Int
  private var blocks: [Block]

  /// Zeros.
  init(size: Int, unit: Int) {
    self.unit = unit
    self.size = size
    blocks = [Block](repeating: Block(repeating: 0, count: unit), count: (size + unit - 1) / unit)
  }

  init(_ bytes: [UInt8], unit: Int) {
    self.init(size: bytes.count, unit: unit)
    write(bytes.span, at: 0)
  }

  subscript(block: Int) -> Block {
    get { blocks[block] }
    set { blocks[block] = newValue }
  }

  /// The blocks that a transfer touches.
  func range(_ offset: Int, _ count: Int) -> Range<Int> {
    count == 0 ? 0..<0 : offset / unit..<(offset + count - 1) / unit + 1
  }

  /// What `block` becomes when `source` is written at `offset`.
  func written(_ block: Int, _ source: Span<UInt8>, at offset: Int) -> Block {
    let start = max(offset, block * unit)
    let end = min(offset + source.count, (block + 1) * unit)
    let part = source.extracting(start - offset..<end - offset)
    if part.count == unit { return part.array }
    var bytes = blocks[block]
    var out = bytes.mutableSpan
    out.copy(from: part, at: start - block * unit)
    return bytes
  }

  mutating func write(_ source: Span<UInt8>, at offset: Int) {
    for block in range(offset, source.count) { blocks[block] = written(block, source, at: offset) }
  }

  func read(at offset: Int, into destination: consuming MutableSpan<UInt8>) {
    var destination = destination
    let end = offset + destination.count
    for block in range(offset, destination.count) {
      let from = max(offset, block * unit)
      let to = min(end, (block + 1) * unit)
      let bytes = blocks[block]
      destination.copy(from: bytes.span.extracting(from - block * unit..<to - block * unit), at: from - offset)
    }
  }

  /// Cuts off, or adds zeros.
  mutating func resize(to size: Int) {
    let count = (size + unit - 1) / unit
    if count < blocks.count { blocks.removeLast(blocks.count - count) }
    if size < self.size, size % unit != 0, count > 0 {
      let end = size - (count - 1) * unit
      blocks[count - 1].replaceSubrange(end..<unit, with: repeatElement(0, count: unit - end))
    }
    while blocks.count < count { blocks.append(Block(repeating: 0, count: unit)) }
    self.size = size
  }

  var bytes: [UInt8] {
    var all = [UInt8](repeating: 0, count: size)
    read(at: 0, into: all.mutableSpan)
    return all
  }
}
