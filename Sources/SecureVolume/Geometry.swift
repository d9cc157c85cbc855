import Primitives

/// Where everything lies, as FORMAT §1 computes it from three numbers. A value of this type is within all limits, so
/// that nothing computed from it overflows.
public struct Geometry: Hashable, Sendable {
  /// 512 or 4096 bytes.
  public let sectorSize: Int
  /// The unit of a power cut: 4096, 8192 or 16384 bytes.
  public let blockSize: Int
  public let sectorCount: UInt64

  /// `nil` where a number is outside FORMAT's limits.
  public init?(sectorSize: Int, blockSize: Int, sectorCount: UInt64) {
    guard sectorSize == 512 || sectorSize == 4096, [4096, 8192, 16384].contains(blockSize),
      (1...Format.maximumSectorCount).contains(sectorCount)
    else { return nil }
    self.sectorSize = sectorSize
    self.blockSize = blockSize
    self.sectorCount = sectorCount
  }

  /// The smallest volume that holds `content` bytes.
  public init?(holding content: ByteCount, sectorSize: Int, blockSize: Int) {
    guard sectorSize > 0, content.value <= Format.maximumSectorCount * UInt64(sectorSize) else { return nil }
    let sectors = (content.value + UInt64(sectorSize) - 1) / UInt64(sectorSize)
    self.init(sectorSize: sectorSize, blockSize: blockSize, sectorCount: max(1, sectors))
  }

  /// The largest volume that fits into an image of `imageSize` bytes; `nil` where not even one sector does.
  public init?(fitting imageSize: ByteCount, sectorSize: Int, blockSize: Int) {
    guard let one = Geometry(sectorSize: sectorSize, blockSize: blockSize, sectorCount: 1), one.imageSize <= imageSize
    else { return nil }
    var (fits, tooMany) = (UInt64(1), Format.maximumSectorCount + 1)
    while tooMany - fits > 1 {
      let middle = fits + (tooMany - fits) / 2
      let candidate = Geometry(sectorSize: sectorSize, blockSize: blockSize, sectorCount: middle)
      if let candidate, candidate.imageSize <= imageSize { fits = middle } else { tooMany = middle }
    }
    self.init(sectorSize: sectorSize, blockSize: blockSize, sectorCount: fits)
  }

  private func blocks(_ bytes: UInt64) -> UInt64 { (bytes + UInt64(blockSize) - 1) / UInt64(blockSize) }
  private func rounded(_ bytes: UInt64) -> UInt64 { blocks(bytes) * UInt64(blockSize) }

  /// What the blob store has, in bytes.
  public var volumeSize: ByteCount { ByteCount(sectorCount * UInt64(sectorSize)) }
  var dataSize: UInt64 { rounded(sectorCount * UInt64(sectorSize)) }
  var leafTableSize: UInt64 { rounded(sectorCount * UInt64(Format.leafSize)) }
  var leafBlocks: Int { Int(leafTableSize) / blockSize }
  var leavesPerBlock: Int { blockSize / Format.leafSize }
  /// How many blocks a checkpoint may overwrite in part.
  var imageBlocks: UInt64 { blocks(leafTableSize) + (sectorSize < blockSize ? blocks(dataSize) : 0) }

  /// A record's length with its padding, in bytes.
  func recordSize(entries: UInt64, payload: UInt64) -> UInt64 {
    rounded(UInt64(Format.recordHeaderSize + Format.macSize) + UInt64(Format.recordEntrySize) * entries + payload)
  }
  func commitSize(sectors: Int) -> UInt64 {
    recordSize(entries: UInt64(sectors), payload: UInt64(sectors) * UInt64(sectorSize))
  }
  func imagesSize(blocks: UInt64) -> UInt64 { recordSize(entries: blocks, payload: blocks * UInt64(blockSize)) }
  var maximumImagesSize: UInt64 { imagesSize(blocks: imageBlocks) }

  var ringOffset: UInt64 { Format.ringOffset }
  var ringSize: UInt64 {
    max(Format.minimumRingSize, commitSize(sectors: Int(sectorCount)) + maximumImagesSize)
  }
  var leafOffset: UInt64 { ringOffset + ringSize }
  var dataOffset: UInt64 { leafOffset + leafTableSize }
  /// What an image needs, in bytes.
  public var imageSize: ByteCount { ByteCount(dataOffset + dataSize) }

  /// Where sector `index` lies when no record of the journal has it.
  func place(of sector: SectorIndex) -> ByteOffset {
    ByteOffset(dataOffset + sector.value * UInt64(sectorSize))
  }
}
