// The constants of FORMAT.md. Nothing else knows a number of the format.

enum Format {
  /// FORMAT §2: swtpm's magic, and a version of its single-file store that it refuses.
  static let foreignMagic: [UInt8] = [0x6E, 0x69, 0x6C, 0x6D, 0x70, 0x74, 0x77, 0x73, 0xFF]
  static let ownMagic: [UInt8] = [0x89, 0x56, 0x4E, 0x56, 0x52, 0x41, 0x4D, 0x0A]
  static let headerMagic = foreignMagic + ownMagic
  static let version: UInt32 = 2
  static let suite: UInt32 = 1
  static let headerSize = 36864
  static let headerMACOffset = headerSize - macSize
  /// The part of a header that names format and store: what a wrapped key is bound to (FORMAT §3).
  static let identitySize = 56
  /// The part that the geometry digest covers.
  static let geometryPart = 128
  /// The part before the slots.
  static let fixedPart = 4064
  static let slotCount = 16
  static let slotSize = 2048
  static let slotsOffset = fixedPart
  static let headerPlace: UInt64 = 65536
  static let copyOffsets: [UInt64] = [0, headerPlace]
  static let ringOffset: UInt64 = 131_072
  static let cleanFlag: UInt32 = 1
  static let keyEpoch: UInt32 = 1
  /// Sequence numbers and generations are below it.
  static let numberLimit: UInt64 = 1 << 63

  /// Places of the header's fields that only later versions use, carried over as they are.
  static let auditHeads = 2864..<3376
  static let binding = 3376..<3632
  static let previousKey = 3632..<3760

  static let anchoredOffset = 256
  static let lineageOffset = 304
  static let lineageCount = 64
  static let lineageEntrySize = 40

  /// FORMAT §1.
  static let blockSizes = [4096, 8192, 16384, 32768, 65536]
  static let maximumVolumeSize: UInt64 = 1 << 28
  static let minimumRingBlocks: UInt64 = 64
  static let leafSize = 32

  /// FORMAT §7: "vnvram-J".
  static let recordMagic: [UInt8] = [0x76, 0x6E, 0x76, 0x72, 0x61, 0x6D, 0x2D, 0x4A]
  static let recordType: UInt32 = 1
  static let recordHeaderSize = 128
  static let recordEntrySize = 40
  static let macSize = 32

  /// FORMAT §12: "vnvram-A".
  static let anchorMagic: [UInt8] = [0x76, 0x6E, 0x76, 0x72, 0x61, 0x6D, 0x2D, 0x41]
  static let anchorVersion: UInt32 = 2
  static let anchorMACOffset = AnchorRecord.size - macSize

  /// FORMAT §3: what trying all passphrase slots of a header may cost, as the sum of N × r × p.
  static let passphraseCostLimit: UInt64 = 1 << 26

  /// The first word of every authenticated input.
  enum InputType: UInt32 {
    case header = 1
    case leafBlock = 2
    case root = 3
    case record = 4
    case anchor = 6
    case lineage = 7
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
