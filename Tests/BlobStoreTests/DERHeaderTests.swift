import Testing

@testable import BlobStore

struct DERHeaderTests {
  @Test(
    arguments: [
      (0, [0x04, 0x00]), (127, [0x04, 0x7F]), (128, [0x04, 0x81, 0x80]), (255, [0x04, 0x81, 0xFF]),
      (256, [0x04, 0x82, 0x01, 0x00]), (65535, [0x04, 0x82, 0xFF, 0xFF]), (65536, [0x04, 0x83, 0x01, 0x00, 0x00]),
      (1 << 24, [0x04, 0x84, 0x01, 0x00, 0x00, 0x00]),
      (UInt64(Int64.max), [0x04, 0x88, 0x7F, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF]),
    ] as [(UInt64, [UInt8])])
  func lengths(length: UInt64, bytes: [UInt8]) throws {
    let header = DERHeader(tag: 0x04, length: length)
    #expect(header.bytes == bytes)
    #expect(header.size == bytes.count)
    let parsed = try DERHeader(bytes.span, at: 0)
    #expect(parsed == header)
  }

  @Test(
    arguments: [
      ([], .truncated), ([0x30], .truncated), ([0x30, 0x82, 0x01], .truncated), ([0x30, 0x80], .indefiniteLength),
      ([0x30, 0x81, 0x7F], .longLength), ([0x30, 0x81, 0x00], .longLength), ([0x30, 0x82, 0x00, 0xFF], .longLength),
      ([0x30, 0x83, 0x00, 0xFF, 0xFF], .longLength), ([0x1F, 0x01], .longTag), ([0xBF, 0x1F, 0x00], .longTag),
      ([0x30, 0x88, 0x80, 0, 0, 0, 0, 0, 0, 0], .hugeLength), ([0x30, 0x89, 1, 0, 0, 0, 0, 0, 0, 0, 0], .hugeLength),
      ([0x30, 0xFF], .hugeLength),
    ] as [([UInt8], DERHeader.Malformation)])
  func refused(bytes: [UInt8], reason: DERHeader.Malformation) {
    #expect(throws: reason) { try DERHeader(bytes.span, at: 0) }
  }

  /// Every header of up to four bytes: one that is read is the one that would be written.
  @Test func oneEncoding() {
    var accepted = 0
    for first in 0..<0x100 {
      for second in [0x00, 0x01, 0x7F, 0x80, 0x81, 0xFF] {
        for third in [0x00, 0x7F, 0x80, 0xFF] {
          let bytes: [UInt8] = [0x04, UInt8(first), UInt8(second), UInt8(third)]
          guard let header = try? DERHeader(bytes.span, at: 0) else { continue }
          accepted += 1
          #expect(header.bytes == Array(bytes.prefix(header.size)))
        }
      }
    }
    #expect(accepted > 128)
  }
}
