import Primitives

// The bytes of a stream that are not content: headers, names, real sizes, padding. They are made window by window, so
// that a stream of any size is written, moved and checked without being held in memory.
extension StreamLayout {
  /// Fills one sector of a volume that holds this stream with every entry empty: what a new store begins with.
  public func fillPlaintext(_ sector: SectorIndex, sectorSize: Int, into plaintext: consuming MutableSpan<UInt8>) {
    precondition(plaintext.count == sectorSize)
    fill(from: sector.value * UInt64(sectorSize), sizes: [], into: &plaintext)
  }

  /// Fills `window`, which begins at byte `start` of the volume, with all of the stream but contents, which are left
  /// zero, as is what lies behind the stream. `sizes` are the entries' real sizes; empty: all are 0.
  @_lifetime(window: copy window)
  func fill(from start: UInt64, sizes: [UInt64], into window: inout MutableSpan<UInt8>) {
    window.fill(0)
    let end = start + UInt64(window.count)
    if start < UInt64(header.size) + Self.magicSize {
      window.overlay(header.bytes + Self.magicBytes, at: 0, windowStart: start)
    }
    var index = firstPlace(endingAfter: start)
    while index < places.count, places[index].start < end {
      let place = places[index]
      if start < place.content {
        window.overlay(place.head(size: sizes.isEmpty ? 0 : sizes[index]), at: place.start, windowStart: start)
        let content = place.contentHeader
        window.overlay(content.bytes, at: place.content - UInt64(content.size), windowStart: start)
      }
      index += 1
    }
  }

  /// The magic's element.
  static var magicBytes: [UInt8] {
    DERHeader(tag: DERHeader.Tag.utf8String, length: magic.utf8.count).bytes + Array(magic.utf8)
  }
}

extension StreamLayout.Place {
  /// From the entry's start up to the padding's zeros, or to the content's header where there is no padding.
  func head(size: UInt64) -> [UInt8] {
    var bytes = entryHeader.bytes
    bytes += DERHeader(tag: DERHeader.Tag.utf8String, length: name.size).bytes
    bytes += name.text.utf8
    bytes += blobHeader.bytes
    bytes += DERHeader(tag: DERHeader.Tag.octetString, length: 8).bytes
    bytes += (0..<8).map { UInt8(truncatingIfNeeded: size >> UInt64(8 * (7 - $0))) }
    if let zeros = StreamLayout.paddingLength(padding) {
      bytes += DERHeader(tag: DERHeader.Tag.padding, length: zeros).bytes
    }
    return bytes
  }
}

extension MutableSpan<UInt8> {
  /// Copies the part of `bytes` that lies in this window. Both places are offsets in the stream.
  @_lifetime(self: copy self)
  mutating func overlay(_ bytes: [UInt8], at offset: UInt64, windowStart: UInt64) {
    let from = Swift.max(offset, windowStart)
    let to = Swift.min(offset + UInt64(bytes.count), windowStart + UInt64(count))
    guard from < to else { return }
    copy(
      from: bytes.span.extracting(Int(from - offset)..<Int(to - offset)), at: Int(from - windowStart))
  }
}
