import BlobStore
import BlockIO
import Primitives

@testable import SecureVolume

/// Images without valid MACs: what whoever can write to an image, and has no key, could make of it.
///
/// Either parts of one store's past are put together and bytes are changed; then whatever opens and verifies must be a
/// state that the store was in. Or all bytes are the fuzzer's own (with the key of the published vectors, from which
/// the corpus comes), and the device may claim any size.
enum ImageTarget {
  /// The key of nearly all of Tests/Vectors/images.
  static let vectorKey: [UInt8] = [
    0x7B, 0xDB, 0x2C, 0x7A, 0xEB, 0x69, 0x78, 0x3B, 0xAD, 0xF5, 0x77, 0x52, 0x38, 0x7E, 0xBA, 0x09, 0x54, 0x05, 0x3A,
    0x55, 0xE6, 0xCE, 0xC5, 0x9E, 0x31, 0x93, 0x6C, 0x32, 0x67, 0x64, 0xB2, 0x30,
  ]
  static let rawFlag: UInt8 = 0x80
  static let largest = 3 << 18

  static func run(_ bytes: [UInt8]) {
    var input = FuzzInput(bytes)
    let selector = input.byte()
    if selector & rawFlag != 0 {
      raw(&input, claims: selector & 1 != 0)
    } else {
      splice(StoreHistory.all[Int(selector) % StoreHistory.all.count], &input)
    }
  }

  /// `u24 size, [u64 size claimed,] (u24 offset, u8 count - 1, bytes)…`.
  private static func raw(_ input: inout FuzzInput, claims: Bool) {
    var image = [UInt8](repeating: 0, count: min(input.u24(), largest))
    let claimed = claims ? input.u64() : 0
    while !input.isAtEnd {
      let offset = input.u24()
      put(input.take(Int(input.byte()) + 1), into: &image, at: offset)
    }
    let key = { KeyEncryptionKey(.keyring, SecretBytes(copying: vectorKey.span)) }
    let reading = VolumeProbe.open(MemoryDevice(image, claimed: claimed), key())
    guard claimed <= UInt64(image.count) else { return }
    let writing = VolumeProbe.open(MemoryDevice(image, isWritable: true), key())
    require(reading.agrees(with: writing), "for reading \(reading), for writing \(writing)")
  }

  private static func splice(_ history: StoreHistory, _ input: inout FuzzInput) {
    var image = history.images[Int(input.byte()) % history.images.count]
    let blockSize = input.byte() == 255 ? 65536 : 4096
    var operations = 0
    while !input.isAtEnd, operations < 64 {
      operations += 1
      edit(&image, history, &input)
    }
    VolumeProbe.salvage(image, StoreHistory.openingKey())
    let reading = VolumeProbe.open(MemoryDevice(image), StoreHistory.openingKey())
    let writing = VolumeProbe.open(
      MemoryDevice(image, isWritable: true, blockSize: blockSize), StoreHistory.openingKey())
    if blockSize <= history.geometry.blockSize {
      require(reading.agrees(with: writing), "for reading \(reading), for writing \(writing)")
    }
    for case .state(let generation, let content, _) in [reading, writing] {
      require(history.contents[generation] == content, "generation \(generation) was never so")
    }
  }

  /// One change, as someone without the key can make it.
  private static func edit(_ image: inout [UInt8], _ history: StoreHistory, _ input: inout FuzzInput) {
    switch input.byte() % 6 {
    case 0:
      let offset = input.u24()
      put(input.take(Int(input.byte()) + 1), into: &image, at: offset)
    case 1:
      let offset = input.u24()
      if offset < image.count { image[offset] ^= input.byte() }
    case 2:
      // Whole blocks of another moment, in their place.
      let other = history.images[Int(input.byte()) % history.images.count]
      let (from, count) = (Int(input.byte()) * 4096, (Int(input.byte()) + 1) * 4096)
      put(part(other, from, count), into: &image, at: from)
    case 3:
      let other = history.images[Int(input.byte()) % history.images.count]
      let (from, to) = (input.u24(), input.u24())
      put(part(other, from, input.u16()), into: &image, at: to)
    case 4:
      let offset = input.u24()
      put([UInt8](repeating: 0, count: input.u16()), into: &image, at: offset)
    default:
      let size = min(input.u24(), largest)
      if size < image.count { image.removeLast(image.count - size) }
      image += [UInt8](repeating: 0, count: size - image.count)
    }
  }

  private static func part(_ image: [UInt8], _ from: Int, _ count: Int) -> [UInt8] {
    Array(image[min(from, image.count)..<min(from + count, image.count)])
  }

  static func put(_ bytes: [UInt8], into image: inout [UInt8], at offset: Int) {
    guard offset < image.count else { return }
    let count = min(bytes.count, image.count - offset)
    image.replaceSubrange(offset..<offset + count, with: bytes[..<count])
  }
}
