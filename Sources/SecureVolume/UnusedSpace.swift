import Primitives

/// Something in space that means nothing (FORMAT §7, "Unused space"). No damage: the image can be trusted nevertheless.
public struct UnusedSpaceFinding: Equatable, Sendable {
  /// The stable name in `--json`.
  public enum Code: String, Sendable, CaseIterable {
    /// Content of the store as it is now, or what its stream has around it, that isn't encrypted.
    case plaintext = "plaintext-left-over"
    /// What looks like a key slot: whoever has its key may open the store with it.
    case staleWrap = "stale-wrap"
    /// Bytes that are zero from formatting on and aren't any more.
    case notZero = "not-zero"
    /// Ciphertext of earlier commits, that a scrub overwrites. To be expected.
    case oldCiphertext = "old-ciphertext"
    case unreadable
  }

  public let code: Code
  /// The first byte in question.
  public let offset: ByteOffset
  /// How many there are in that region.
  public let count: UInt64
  /// One sentence: what there is and what to do.
  public let detail: String
}

/// A stretch of an image that means nothing.
struct UnusedRegion: Equatable {
  enum Kind: Equatable {
    /// Zeros from formatting on.
    case zeros(String)
    /// Of the ring: ciphertext of earlier commits.
    case ring
    /// The leaf table that doesn't count: leaves of earlier commits.
    case leaves
    /// Sectors in place whose newer version is in the journal.
    case replaced
  }

  let kind: Kind
  let range: Range<UInt64>
}

extension SecureVolume {
  /// All of the image's unused space.
  func unusedRegions() throws(VolumeError) -> [UnusedRegion] {
    let headerEnds = Format.copyOffsets.map { $0 + UInt64(Format.headerSize) }
    var regions = [
      UnusedRegion(kind: .zeros("behind header copy A"), range: headerEnds[0]..<Format.copyOffsets[1]),
      UnusedRegion(kind: .zeros("behind header copy B"), range: headerEnds[1]..<geometry.ringOffset),
    ]
    regions += unusedInRing.map {
      UnusedRegion(kind: .ring, range: geometry.ringOffset + $0.lowerBound..<geometry.ringOffset + $0.upperBound)
    }
    regions += try paddings()
    for sector in journal.versions.keys.sorted() {
      let start = geometry.place(of: sector).value
      regions.append(UnusedRegion(kind: .replaced, range: start..<start + UInt64(sectorSize)))
    }
    let table = geometry.leafTableOffset(1 - header.leafTable)
    regions.append(UnusedRegion(kind: .leaves, range: table..<table + geometry.leafTableSize))
    let imageEnd = geometry.imageSize.value
    if medium.device.size.value > imageEnd {
      regions.append(
        UnusedRegion(kind: .zeros("behind the image's end"), range: imageEnd..<medium.device.size.value))
    }
    return regions.filter { !$0.range.isEmpty }
  }

  /// The ring but for what counts in it, in its own offsets.
  private var unusedInRing: [Range<UInt64>] {
    let size = geometry.ringSize
    guard !journal.isEmpty else { return [0..<size] }
    let start = journal.tail.position
    let end = start + journal.used
    return end <= size ? [0..<start, end..<size] : [end - size..<start]
  }

  /// What lies between the head of a record that counts and its payload.
  private func paddings() throws(VolumeError) -> [UnusedRegion] {
    var reader = JournalReader(medium, geometry, digest: digest)
    var regions: [UnusedRegion] = []
    var done: UInt64 = 0
    while done < journal.used {
      let position = journal.position(journal.tail.position, plus: done)
      // Opening has verified it; a checkpoint or another process may have gone over it since.
      guard
        let record = try reader.record(at: position, from: 0, epoch: header.epoch, with: &keys.structure)
      else { break }
      let (used, size) = (UInt64(record.headBytes), UInt64(geometry.recordHeadSize(record.count)))
      // Less than a block, and so never around the ring's end.
      let start = geometry.ringOffset + journal.position(position, plus: used)
      regions.append(UnusedRegion(kind: .zeros("in a record of the journal"), range: start..<start + size - used))
      done += geometry.recordSize(record.count)
    }
    return regions
  }

  /// Looks at every byte of the image that means nothing, and at what lies behind its end.
  ///
  /// - Parameters:
  ///   - search: what plaintext there could be; `nil`: it isn't looked for.
  ///   - progress: called with the number of bytes done, now and then.
  public func checkUnusedSpace(
    for search: LeftOverSearch?, progress: (UInt64) -> Void = { _ in }
  ) throws(VolumeError) -> [UnusedSpaceFinding] {
    var findings: [UnusedSpaceFinding] = []
    var done: UInt64 = 0
    for region in try unusedRegions() {
      var scan = UnusedSpaceScan(region: region, search: search, slots: header.slots)
      try scan.run(medium) { progress(done + $0) }
      done += UInt64(region.range.count)
      findings += scan.findings
    }
    return findings
  }
}
