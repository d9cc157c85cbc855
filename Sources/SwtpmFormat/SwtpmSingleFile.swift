import Primitives

/// The file of swtpm's backend `file://`: all of a TPM's states in one. Little-endian:
///
///     header    u64 magic "swtpmlin" as a number, u8 version 1, u8 0, u16 header size 192
///     sections  15 of: u32 offset, u32 size of what is in it, u32 size of the section; the states in the order of
///               `SwtpmStateKind`, those that aren't there with a size of 0, then unused ones
///
/// In a section lies what a state directory's file has (`SwtpmContainer`). Which version of TPM it is of the file
/// doesn't say.
///
/// Facts from files that Debian's swtpm 0.7.1 made and started from (`SwtpmSingleFileTests`). It gives a section the
/// power of two that has room for its content, at least 1024 bytes, in the order in which states first come.
public enum SwtpmSingleFile {
  public static let headerSize = 192
  private static let magic: UInt64 = 0x7377_7470_6D6C_696E
  private static let sectionCount = 15
  private static let firstSection = 12
  private static let sectionSize = 12
  /// No file that swtpm makes is larger: three sections that have room for the largest container.
  public static let maximumSize = headerSize + 3 * 524_288

  /// Whether a file begins as one does.
  public static func isBeginning(_ bytes: Span<UInt8>) -> Bool {
    bytes.count >= 8 && bytes.load(UInt64.self, at: 0) == magic
  }

  /// Where the containers of the states lie that are there.
  ///
  /// - Throws: `.malformed` where a section isn't within the file, or touches another.
  public static func sections(
    of header: Span<UInt8>, fileSize: Int
  ) throws(SwtpmFormatError) -> [(kind: SwtpmStateKind, range: Range<Int>)] {
    guard header.count >= headerSize, fileSize >= headerSize else {
      throw .malformed("\(min(header.count, fileSize)) bytes are too few for a header")
    }
    guard isBeginning(header) else { throw .malformed("it doesn't begin with swtpm's magic number") }
    guard header[8] == 1 else { throw .unknownVersion(header[8]) }
    let size = Int(header.load(UInt16.self, at: 10))
    guard size == headerSize else { throw .headerSize(size) }
    var found: [(kind: SwtpmStateKind, range: Range<Int>)] = []
    for index in 0..<sectionCount {
      let place = firstSection + index * sectionSize
      let offset = Int(header.load(UInt32.self, at: place))
      let count = Int(header.load(UInt32.self, at: place + 4))
      let room = Int(header.load(UInt32.self, at: place + 8))
      guard count > 0 else { continue }
      guard index < SwtpmStateKind.allCases.count else { throw .malformed("a section that no state has") }
      guard offset >= headerSize, count <= room, offset <= fileSize, count <= fileSize - offset else {
        throw .malformed("a section isn't within the file")
      }
      let range = offset..<offset + count
      guard !found.contains(where: { $0.range.overlaps(range) }) else {
        throw .malformed("two sections are in one place")
      }
      found.append((SwtpmStateKind.allCases[index], range))
    }
    return found
  }

  /// A whole file of these containers, each at most as large as a container may be.
  public static func file(of containers: [(kind: SwtpmStateKind, bytes: [UInt8])]) -> [UInt8] {
    let rooms = containers.map { room(for: $0.bytes.count) }
    var file = [UInt8](repeating: 0, count: headerSize + rooms.reduce(0, +))
    var out = file.mutableSpan
    out.store(magic, at: 0)
    out[8] = 1
    out.store(UInt16(headerSize), at: 10)
    var offset = headerSize
    for ((kind, bytes), room) in zip(containers, rooms) {
      guard let index = SwtpmStateKind.allCases.firstIndex(of: kind) else { continue }
      let place = firstSection + index * sectionSize
      out.store(UInt32(offset), at: place)
      out.store(UInt32(bytes.count), at: place + 4)
      out.store(UInt32(room), at: place + 8)
      out.copy(from: bytes.span, at: offset)
      offset += room
    }
    return file
  }

  private static func room(for count: Int) -> Int {
    var room = 1024
    while room < count { room *= 2 }
    return room
  }
}
