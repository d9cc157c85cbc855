import BlockIO
import Primitives

@testable import SecureVolume

/// Images with valid MACs: a real one, of which the fuzzer sets fields of headers, slots, records, entries, leaves and
/// sectors, and whose tags, roots and MACs are then made to fit as one with the store key could. So everything behind
/// the MACs is reached. What opens for reading opens for writing with the same content, and is whole afterwards.
enum SealedTarget {
  typealias Field = (offset: Int, width: Int)
  // FORMAT §2, §3, §7, §5: every field, and reserved bytes.
  static let header: [Field] = [
    (0, 8), (9, 8), (16, 4), (20, 4), (24, 4), (28, 4), (32, 4), (36, 4), (40, 8), (56, 4), (60, 4), (64, 8), (72, 8),
    (80, 8), (88, 8), (96, 8), (104, 8), (112, 8), (120, 8), (128, 4), (132, 4), (136, 8), (144, 8), (152, 8), (168, 8),
    (176, 8), (184, 4), (188, 4), (192, 8), (224, 8), (256, 8), (288, 8), (296, 4), (300, 4), (304, 8), (336, 8),
    (376, 8), (2824, 8), (2864, 8), (2880, 8), (2920, 8), (2928, 8), (3376, 8), (3392, 4), (3396, 8), (3632, 8),
    (3760, 8), (4056, 8), (36824, 8),
  ]
  static let slot: [Field] = [
    (0, 4), (4, 4), (8, 4), (12, 4), (16, 4), (20, 4), (24, 8), (32, 8), (64, 8), (76, 8), (108, 8), (124, 4), (128, 8),
    (240, 8), (248, 4), (252, 8), (372, 4), (376, 8), (408, 8), (440, 8), (480, 8), (2040, 8),
  ]
  static let record: [Field] = [
    (0, 8), (8, 4), (12, 4), (16, 8), (24, 8), (32, 8), (48, 8), (80, 8), (88, 8), (96, 8), (120, 8), (128, 8),
    (152, 8),
  ]
  private static let entry: [Field] = [(0, 8), (8, 8), (24, 8), (32, 4), (36, 4)]
  static let leaf: [Field] = [(0, 8), (16, 8), (24, 4), (28, 4)]
  private static let operationLimit = 24

  /// `u8 store, u8 moment, u8 all but what is repaired, u8 options, operations`.
  static func run(_ bytes: [UInt8]) {
    var input = FuzzInput(bytes)
    let history = StoreHistory.all[Int(input.byte()) % StoreHistory.all.count]
    let moment = Int(input.byte()) % history.images.count
    let repairs = ForgedImage.Repairs(rawValue: ~input.byte())
    let options = input.byte()
    let image = ForgedImage(history.images[moment], geometry: history.geometry, storeKey: history.storeKey)
    var operations = 0
    while !input.isAtEnd, operations < operationLimit {
      operations += 1
      apply(&input, to: image)
    }
    image.repair(repairs, digestOf: Int(options & 1))
    let failure = options & 2 != 0 ? Int(options >> 2) : nil
    if let failure {
      // A device that fails: refused or not, nothing more is asked than that it doesn't trap.
      _ = VolumeProbe.opened(
        MemoryDevice(image.bytes, isWritable: options & 128 != 0, failingAfter: failure), StoreHistory.openingKey())
      return
    }
    let kind: SlotKind = options & 4 != 0 ? .recovery : .keyring
    VolumeProbe.salvage(image.bytes, StoreHistory.openingKey(kind))
    let reading = VolumeProbe.open(MemoryDevice(image.bytes), StoreHistory.openingKey(kind))
    let writing = VolumeProbe.open(MemoryDevice(image.bytes, isWritable: true), StoreHistory.openingKey(kind))
    require(reading.agrees(with: writing), "for reading \(reading), for writing \(writing)")
  }

  private static func apply(_ input: inout FuzzInput, to image: ForgedImage) {
    switch input.byte() % 12 {
    case 0:
      let copies = Self.copies(&input)
      let field = header[Int(input.byte()) % header.count]
      vary(field, in: copies.map(ForgedImage.copyOffset), of: image, &input)
    case 1:
      let copies = Self.copies(&input)
      let offset = input.u16() % Format.headerMACOffset
      let value = input.byte()
      for copy in copies { image.put([value], ForgedImage.copyOffset(copy) + offset) }
    case 2:
      let copies = Self.copies(&input)
      let start = Format.slotsOffset + Int(input.byte() % 16) * Format.slotSize
      let field = slot[Int(input.byte()) % slot.count]
      vary(field, in: copies.map { ForgedImage.copyOffset($0) + start }, of: image, &input)
    case 3: copySlot(&input, in: image)
    case 4: varyRecord(&input, in: image)
    case 5: varyEntry(&input, in: image)
    case 6:
      let index = Int(input.byte()) % (Int(image.geometry.leafTableSize) / 32)
      let field = leaf[Int(input.byte()) % leaf.count]
      vary(field, in: [image.leafTable(of: 0).lowerBound + 32 * index], of: image, &input)
    case 7:
      let offset = input.u24()
      ImageTarget.put(input.take(Int(input.byte()) + 1), into: &image.bytes, at: offset)
    case 8:
      let sectors = (0..<Int(input.byte() % 5)).map { _ in UInt64(input.byte() & 31) }
      image.append(sectors.sorted())
    case 9:
      guard let record = record(&input, of: image) else { return }
      let sequence = input.variant(of: image.get(image.place(record + 16), 8))
      image.stray(record, to: UInt64(input.byte()), sequence: sequence)
    case 10:
      let geometry = Geometry(
        blockSize: 4096 << Int(input.byte() % 3), sectorCount: UInt64(input.byte()))
      if let geometry { image.change(geometry) }
    default:
      // One copy in place of the other, as whoever mixes moments does.
      let (from, to) = input.byte() & 1 == 0 ? (0, 1) : (1, 0)
      image.put(image.slice(ForgedImage.copyOffset(from), Format.headerSize), ForgedImage.copyOffset(to))
      image.set(ForgedImage.copyOffset(to) + 128, 4, UInt64(to))
    }
  }

  private static func copies(_ input: inout FuzzInput) -> [Int] {
    switch input.byte() % 4 {
    case 0: [0]
    case 1: [1]
    default: [0, 1]
    }
  }

  private static func vary(_ field: Field, in places: [Int], of image: ForgedImage, _ input: inout FuzzInput) {
    let value = input.variant(of: image.get(places[0] + field.offset, field.width))
    for place in places { image.set(place + field.offset, field.width, value) }
  }

  private static func copySlot(_ input: inout FuzzInput, in image: ForgedImage) {
    let copies = Self.copies(&input)
    let (from, to) = (Int(input.byte() % 16), Int(input.byte() % 16))
    for copy in copies {
      let slots = ForgedImage.copyOffset(copy) + Format.slotsOffset
      var slot = image.slice(slots + from * Format.slotSize, Format.slotSize)
      // With a name of its own, or not.
      if slot.count == Format.slotSize { slot[128] = slot[128] &+ UInt8(to & 1) }
      image.put(slot, slots + to * Format.slotSize)
    }
  }

  private static func record(_ input: inout FuzzInput, of image: ForgedImage) -> UInt64? {
    let index = Int(input.byte())
    return image.records.isEmpty ? nil : image.records[index % image.records.count]
  }

  private static func varyRecord(_ input: inout FuzzInput, in image: ForgedImage) {
    guard let start = record(&input, of: image) else { return }
    let field = record[Int(input.byte()) % record.count]
    vary(field, in: [image.place(start)], of: image, &input)
  }

  private static func varyEntry(_ input: inout FuzzInput, in image: ForgedImage) {
    guard let start = record(&input, of: image) else { return }
    let entryStart = start + 128 + 40 * UInt64(input.byte() & 7)
    let field = entry[Int(input.byte()) % entry.count]
    vary(field, in: [image.place(entryStart)], of: image, &input)
  }
}
