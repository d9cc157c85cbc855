import Crypto
import Primitives

// Writing headers: one copy after the other, each durable before the next, in the order that lets a reader tell every
// power cut from tampering (FORMAT §2).
extension Header {
  /// Which copy is written first.
  var copyOrder: [Int] { isClean ? [0, 1] : [1, 0] }

  /// The bytes of one copy with its MAC, and zeros behind it up to whole blocks.
  func sealed(copy: Int, with structure: inout StructureMAC) throws(CryptoError) -> ByteBuffer {
    var bytes = encode(copy: copy)
    try structure.startInput(.header)
    try structure.update(bytes, 0..<Format.headerMACOffset)
    let mac = try structure.finish()
    bytes.store(mac, at: Format.headerMACOffset)
    return bytes
  }
}

extension SecureVolume {
  /// The header that comes next, to be changed and written.
  ///
  /// - Throws: `.noSpace` where its number would be none any more.
  func nextHeader() throws(VolumeError) -> Header {
    var next = header
    next.sequence = try counted(header.sequence, "its headers")
    if let anchored { next.lineage.noteAnchored(anchored) }
    return next
  }

  /// The number after this one.
  func counted(_ number: UInt64, _ what: String) throws(VolumeError) -> UInt64 {
    guard number < Format.numberLimit - 1 else {
      throw VolumeError(
        .noSpace, store: name,
        "has no number left for \(what), which no store reaches by counting; copy its entries into a new image")
    }
    return number + 1
  }

  /// Adds an epoch to a header that is about to be written.
  func beginEpoch(_ epoch: InlineBytes16, in next: inout Header) throws(VolumeError) {
    next.epoch = epoch
    do {
      try next.lineage.begin(
        epoch, after: header.generation, auditHeads: next.auditHeads, digest: digest, with: &keys.structure)
    } catch { throw VolumeError(error, store: name) }
  }

  /// Gives both copies new content; durable on return.
  func writeHeaders(_ next: Header) throws(VolumeError) {
    for copy in next.copyOrder.prefix(Mutant.skipSecondHeaderCopy.isOn ? 1 : 2) { try writeHeader(next, copy: copy) }
    header = next
  }

  /// Writes one copy; durable on return.
  func writeHeader(_ next: Header, copy: Int) throws(VolumeError) {
    try putHeader(next, copy: copy)
    try medium.sync()
  }

  /// Writes one copy; not durable yet.
  func putHeader(_ next: Header, copy: Int) throws(VolumeError) {
    let bytes: ByteBuffer
    do { bytes = try next.sealed(copy: copy, with: &keys.structure) } catch { throw VolumeError(error, store: name) }
    try medium.write(bytes, 0..<bytes.count, at: Format.copyOffsets[copy])
  }

  /// Ends this writer where the headers on the device aren't its own any more: another host, which no lock keeps out,
  /// writes there. It detects, and doesn't prevent.
  func requireOwnHeaders() throws(VolumeError) {
    var found = ByteBuffer(count: Format.fixedPart)
    for copy in 0...1 {
      try medium.readPastCache(at: Format.copyOffsets[copy], into: &found)
      let own = header.encode(copy: copy)
      guard found.span.equals(own.span(0..<Format.fixedPart)) else {
        let error = VolumeError(
          .anotherWriter, store: name,
          "was written by another process or host while this one had it open for writing: nothing more is written; "
            + "stop the other one, check the image, and open it anew")
        medium.giveUp(error)
        throw error
      }
    }
  }
}
