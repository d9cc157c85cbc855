// The constants of FORMAT.md. Nothing else knows a number of the format.

enum Format {
  /// FORMAT §2.
  static let headerMagic: [UInt8] = [0x89, 0x56, 0x4E, 0x56, 0x52, 0x41, 0x4D, 0x0A]
  static let version: UInt32 = 1
  static let suite: UInt32 = 1
  static let headerSize = 8192
  static let headerMACOffset = headerSize - 32
  /// The part of a header that names format and store: what a wrapped key is bound to (FORMAT §3).
  static let identitySize = 40
  /// The part that the geometry digest covers.
  static let geometryPart = 128
  static let slotCount = 16
  static let slotSize = 256
  static let slotsOffset = 512
  static let copyOffsets: [UInt64] = [0, 16384]
  static let ringOffset: UInt64 = 32768
  static let cleanFlag: UInt32 = 1
  static let keyEpoch: UInt32 = 1

  /// FORMAT §1.
  static let maximumSectorCount: UInt64 = 1 << 20
  static let minimumRingSize: UInt64 = 262_144
  static let leafSize = 32

  /// FORMAT §7: "vnvram-J".
  static let recordMagic: [UInt8] = [0x76, 0x6E, 0x76, 0x72, 0x61, 0x6D, 0x2D, 0x4A]
  static let recordHeaderSize = 160
  static let recordEntrySize = 40
  static let macSize = 32

  /// FORMAT §12: "vnvram-A".
  static let anchorMagic: [UInt8] = [0x76, 0x6E, 0x76, 0x72, 0x61, 0x6D, 0x2D, 0x41]
  static let anchorVersion: UInt32 = 1
  static let anchorMACOffset = AnchorRecord.size - 32

  /// The first word of every authenticated input.
  enum InputType: UInt32 {
    case header = 1
    case leafBlock = 2
    case root = 3
    case record = 4
    case image = 5
    case anchor = 6
    case sector = 16
  }

  /// FORMAT §4.
  enum Label: String {
    case sectorCipher = "sector cipher"
    case sectorTag = "sector tag"
    case structure = "structure"
    case slot = "slot"
  }

  /// `"vnvram" ‖ u32(version) ‖ u32(suite) ‖ label`.
  static func info(_ label: Label) -> [UInt8] {
    Array("vnvram".utf8) + bytes(version) + bytes(suite) + Array(label.rawValue.utf8)
  }

  private static func bytes(_ value: UInt32) -> [UInt8] { (0..<4).map { UInt8(truncatingIfNeeded: value >> (8 * $0)) } }
}
