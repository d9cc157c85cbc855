import Primitives

/// Where everything lies, as FORMAT §1 computes it from two numbers. A value of this type is within all limits, so
/// that nothing computed from it overflows.
public struct Geometry: Hashable, Sendable {
  /// Bytes of a sector, and the unit of a power cut: a power of two from 4096 to 65536.
  public let blockSize: Int
  public let sectorCount: UInt64

  /// `nil` where a number is outside FORMAT's limits.
  public init?(blockSize: Int, sectorCount: UInt64) {
    guard Format.blockSizes.contains(blockSize),
      (1...Format.maximumVolumeSize / UInt64(blockSize)).contains(sectorCount)
    else { return nil }
    self.blockSize = blockSize
    self.sectorCount = sectorCount
  }

  /// The smallest volume that holds `content` bytes; `nil` where that is more than a volume may have.
  public init?(holding content: ByteCount, blockSize: Int) {
    guard blockSize > 0, content.value <= Format.maximumVolumeSize else { return nil }
    let sectors = (content.value + UInt64(blockSize) - 1) / UInt64(blockSize)
    self.init(blockSize: blockSize, sectorCount: max(1, sectors))
  }

  /// The largest volume that fits into an image of `imageSize` bytes; `nil` where not even one sector does.
  public init?(fitting imageSize: ByteCount, blockSize: Int) {
    guard let one = Geometry(blockSize: blockSize, sectorCount: 1), one.imageSize <= imageSize else { return nil }
    var (fits, tooMany) = (UInt64(1), Format.maximumVolumeSize / UInt64(blockSize) + 1)
    while tooMany - fits > 1 {
      let middle = fits + (tooMany - fits) / 2
      let candidate = Geometry(blockSize: blockSize, sectorCount: middle)
      if let candidate, candidate.imageSize <= imageSize { fits = middle } else { tooMany = middle }
    }
    self.init(blockSize: blockSize, sectorCount: fits)
  }

  /// The most bytes that a volume may have.
  public static var maximumVolumeSize: ByteCount { ByteCount(Format.maximumVolumeSize) }

  private func rounded(_ bytes: UInt64) -> UInt64 {
    (bytes + UInt64(blockSize) - 1) / UInt64(blockSize) * UInt64(blockSize)
  }

  /// What the blob store has, in bytes.
  public var volumeSize: ByteCount { ByteCount(sectorCount * UInt64(blockSize)) }
  /// Of one of the two tables, in bytes.
  var leafTableSize: UInt64 { rounded(sectorCount * UInt64(Format.leafSize)) }
  var leafBlocks: Int { Int(leafTableSize) / blockSize }
  var leavesPerBlock: Int { blockSize / Format.leafSize }

  /// Bytes of a record of so many sectors before its payload.
  func recordHeadSize(_ sectors: Int) -> Int {
    Int(rounded(UInt64(Format.recordHeaderSize + Format.recordEntrySize * sectors + Format.macSize)))
  }
  /// Bytes of a record of so many sectors.
  func recordSize(_ sectors: Int) -> UInt64 { UInt64(recordHeadSize(sectors) + sectors * blockSize) }

  var ringOffset: UInt64 { Format.ringOffset }
  var ringSize: UInt64 { max(Format.minimumRingBlocks * UInt64(blockSize), 2 * recordSize(Int(sectorCount))) }
  /// Where table 0 lies; table 1 follows it.
  var leafOffset: UInt64 { ringOffset + ringSize }
  func leafTableOffset(_ table: Int) -> UInt64 { leafOffset + UInt64(table) * leafTableSize }
  var dataOffset: UInt64 { leafOffset + 2 * leafTableSize }
  /// What an image needs, in bytes.
  public var imageSize: ByteCount { ByteCount(dataOffset + volumeSize.value) }

  /// Bytes that a header copy is written with: whole blocks.
  var headerSpace: Int { Int(rounded(UInt64(Format.headerSize))) }

  /// Where sector `index` lies when no record of the journal has it.
  func place(of sector: SectorIndex) -> ByteOffset { ByteOffset(dataOffset + sector.value * UInt64(blockSize)) }
}
