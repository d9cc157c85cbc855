import BlockIO
import Primitives

@testable import SecureVolume

/// Images with valid MACs: a real one, of which the fuzzer sets fields of headers, slots, records, entries, leaves and
/// sectors, and whose tags, roots and MACs are then made to fit as one with the store key could. So everything behind the
/// MACs is reached. What opens for reading opens for writing with the same content, and is whole afterwards.
enum SealedTarget {
  private typealias Field = (offset: Int, width: Int)
  // FORMAT §2, §3, §7, §5: every field, and reserved bytes.
  private static let header: [Field] = [
    (0, 8), (8, 4), (12, 4), (16, 4), (20, 4), (24, 8), (40, 4), (44, 4), (48, 8), (56, 8), (64, 8), (72, 8), (80, 8),
    (88, 8), (96, 8), (104, 8), (112, 8), (128, 4), (132, 4), (136, 8), (144, 8), (152, 8), (168, 8), (176, 8),
    (184, 4), (188, 4), (192, 8), (224, 8), (256, 8), (504, 8), (4608, 8), (8152, 8),
  ]
  private static let slot: [Field] = [
    (0, 4), (4, 4), (8, 4), (12, 4), (16, 4), (20, 4), (24, 8), (56, 8), (68, 8), (100, 8), (116, 4), (120, 8),
    (128, 4), (132, 4), (136, 8), (144, 8), (252, 4),
  ]
  private static let record: [Field] = [
    (0, 8), (8, 4), (12, 4), (16, 8), (24, 8), (32, 8), (48, 8), (80, 8), (88, 8), (96, 8), (128, 8), (152, 8),
  ]
  private static let entry: [Field] = [(0, 8), (8, 8), (24, 8), (32, 4), (36, 4)]
  private static let leaf: [Field] = [(0, 8), (16, 8), (24, 4), (28, 4)]
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
      vary(field, in: [Int(image.geometry.leafOffset) + 32 * index], of: image, &input)
    case 7:
      let offset = input.u24()
      ImageTarget.put(input.take(Int(input.byte()) + 1), into: &image.bytes, at: offset)
    case 8:
      let images = input.byte() & 1 == 1
      let start = images ? image.geometry.leafOffset : 0
      let step = images ? UInt64(image.geometry.blockSize) : 1
      let values = (0..<Int(input.byte() % 5)).map { _ in start + step * UInt64(input.byte() & 31) }
      image.append(images: images, values: values.sorted())
    case 9:
      guard let record = record(&input, of: image) else { return }
      let sequence = input.variant(of: image.get(image.place(record + 16), 8))
      image.stray(record, to: UInt64(input.byte()), sequence: sequence)
    case 10:
      let geometry = Geometry(
        sectorSize: input.byte() & 1 == 0 ? 512 : 4096, blockSize: 4096 << Int(input.byte() % 3),
        sectorCount: UInt64(input.byte()))
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
      if slot.count == Format.slotSize { slot[132] = slot[132] &+ UInt8(to & 1) }
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
    let entryStart = start + 160 + 40 * UInt64(input.byte() & 7)
    let field = entry[Int(input.byte()) % entry.count]
    vary(field, in: [image.place(entryStart)], of: image, &input)
  }
}
