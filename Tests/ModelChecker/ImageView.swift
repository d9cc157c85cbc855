// An image as someone sees it who has FORMAT.md and a hex editor: where regions lie, and the journal's records by what
// their fixed parts say. Written from FORMAT.md and not from the code under test.
import Primitives
import StorageSimulation

/// The regions of FORMAT §1.
enum Region: CaseIterable {
  case headerA, headerB, ring, leaves0, leaves1, data
}

/// What a record's fixed part says (FORMAT §7).
struct RecordView {
  let position: Int
  let count: Int
  let sequence: UInt64
  let generation: UInt64
  let epoch: [UInt8]
  let previous: [UInt8]
  let mac: [UInt8]
  /// With padding.
  let size: Int
}

/// An image of which nothing is verified.
struct ImageView {
  let disk: SimulatedDisk
  let blockSize: Int
  let ringSize: Int
  let leafOffset: Int
  let dataOffset: Int
  let imageSize: Int
  static let ringOffset = 131072
  static let headerSize = 36864
  static let copyOffsets = [0, 65536]

  /// The header with the higher number.
  let header: [UInt8]

  /// `nil` where neither header begins as one does.
  init?(_ disk: SimulatedDisk) {
    let copies = Self.copyOffsets.map { disk.bytes($0..<$0 + Self.headerSize) }.filter {
      Self.isPlausible($0, disk)
    }
    guard let header = copies.max(by: { $0.u64(136) < $1.u64(136) }) else { return nil }
    self.disk = disk
    self.header = header
    blockSize = Int(header.u32(56))
    ringSize = Int(header.u64(80))
    leafOffset = Int(header.u64(88))
    dataOffset = Int(header.u64(104))
    imageSize = Int(header.u64(112))
  }

  /// A torn copy may say anything.
  private static func isPlausible(_ header: [UInt8], _ disk: SimulatedDisk) -> Bool {
    header[9] == 0x89 && [4096, 8192, 16384, 32768, 65536].contains(header.u32(56))
      && header.u64(72) == UInt64(ringOffset) && header.u64(88) &- header.u64(80) == UInt64(ringOffset)
      && header.u64(104) &- header.u64(88) == 2 &* header.u64(96) && header.u64(104) < header.u64(112)
      && header.u64(88) < header.u64(104) && header.u64(112) <= disk.size.value && header.u64(168) < header.u64(80)
  }

  var sectorCount: Int { (imageSize - dataOffset) / blockSize }
  var isClean: Bool { header.u32(132) & 1 == 1 }
  var epoch: [UInt8] { Array(header[152..<168]) }

  func range(_ region: Region) -> Range<Int> {
    switch region {
    case .headerA: 0..<Self.headerSize
    case .headerB: Self.copyOffsets[1]..<Self.copyOffsets[1] + Self.headerSize
    case .ring: Self.ringOffset..<leafOffset
    case .leaves0: leafOffset..<(leafOffset + dataOffset) / 2
    case .leaves1: (leafOffset + dataOffset) / 2..<dataOffset
    case .data: dataOffset..<imageSize
    }
  }

  /// Bytes of the ring, going on at its start.
  func ring(_ position: Int, _ count: Int) -> [UInt8] {
    let start = position % ringSize
    let first = min(count, ringSize - start)
    let bytes = disk.bytes(Self.ringOffset + start..<Self.ringOffset + start + first)
    return first == count ? bytes : bytes + disk.bytes(Self.ringOffset..<Self.ringOffset + count - first)
  }

  func putRing(_ position: Int, _ bytes: [UInt8]) {
    let start = position % ringSize
    let first = min(bytes.count, ringSize - start)
    disk.overwrite(ByteOffset(Self.ringOffset + start), with: Array(bytes[..<first]))
    if first < bytes.count { disk.overwrite(ByteOffset(Self.ringOffset), with: Array(bytes[first...])) }
  }

  /// What may be a record at a place of the ring.
  func record(at position: Int) -> RecordView? {
    let fixed = ring(position, 160)
    guard fixed[0..<8].elementsEqual("vnvram-J".utf8) else { return nil }
    let count = Int(fixed.u32(12))
    guard fixed.u32(8) == 1, count >= 1, count <= sectorCount else { return nil }
    let size = headSize(count) + count * blockSize
    guard size <= ringSize / 2 else { return nil }
    return RecordView(
      position: position, count: count, sequence: fixed.u64(16), generation: fixed.u64(24),
      epoch: Array(fixed[32..<48]), previous: Array(fixed[48..<80]), mac: ring(position + 128 + 40 * count, 32),
      size: size)
  }

  /// Bytes of a record before its payload.
  func headSize(_ count: Int) -> Int { (160 + 40 * count + blockSize - 1) / blockSize * blockSize }

  /// Everything in the ring that looks like a record.
  var allRecords: [RecordView] { stride(from: 0, to: ringSize, by: blockSize).compactMap(record) }

  /// The records that follow one another from where the header says.
  var chain: [RecordView] {
    var records: [RecordView] = []
    guard !isClean else { return [] }
    var next = tail
    while next.used < ringSize, let record = record(at: next.position), record.epoch == epoch,
      record.sequence == next.sequence, record.previous == next.previous
    {
      records.append(record)
      next.follow(record, ringSize)
    }
    return records
  }

  /// Where the next record would go.
  struct Cursor {
    var position: Int
    var sequence: UInt64
    var generation: UInt64
    var previous: [UInt8]
    var used = 0

    mutating func follow(_ record: RecordView, _ ringSize: Int) {
      position = (position + record.size) % ringSize
      sequence += 1
      generation = record.generation
      previous = record.mac
      used += record.size
    }
  }

  var tail: Cursor {
    Cursor(
      position: Int(header.u64(168)), sequence: header.u64(176), generation: header.u64(144),
      previous: Array(header[192..<224]))
  }

  /// Bytes of the ring that a commit may take up.
  var room: Int { ringSize - head.used }

  var head: Cursor { chain.reduce(into: tail) { $0.follow($1, ringSize) } }
}

extension [UInt8] {
  func u32(_ offset: Int) -> UInt32 { span.load(UInt32.self, at: offset) }
  func u64(_ offset: Int) -> UInt64 { span.load(UInt64.self, at: offset) }

  mutating func put(_ value: UInt64, at offset: Int) {
    for i in 0..<8 { self[offset + i] = UInt8(truncatingIfNeeded: value >> (8 * UInt64(i))) }
  }

  mutating func put(_ bytes: [UInt8], at offset: Int) { replaceSubrange(offset..<offset + bytes.count, with: bytes) }
}
