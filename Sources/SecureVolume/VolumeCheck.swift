import Primitives

/// Something that `check` found.
public struct VolumeFinding: Equatable, Sendable {
  public let evidence: VolumeError.Evidence
  /// Where in the image it lies.
  public let offset: ByteOffset
  /// The sector, where it is one.
  public let sector: SectorIndex?
  /// One sentence: what is wrong, and with what.
  public let detail: String
}

extension SecureVolume {
  /// Verifies every sector and goes on after the first that fails. What opening has verified (headers, journal, tree)
  /// isn't done again; a header copy that opening had to do without is a finding.
  ///
  /// - Parameter progress: called with the number of sectors done, now and then.
  /// - Returns: what does not verify; empty where every byte that means something is as the key's holder wrote it.
  public func check(progress: (UInt64) -> Void = { _ in }) throws(VolumeError) -> [VolumeFinding] {
    var findings: [VolumeFinding] = []
    if let copy = opening.outdatedHeaderCopy {
      findings.append(
        VolumeFinding(
          evidence: .headerPair, offset: ByteOffset(Format.copyOffsets[copy]), sector: nil,
          detail:
            "header copy \(copy == 0 ? "A" : "B") is behind or damaged; a power cut explains it, and opening for writing mends it"
        ))
    }
    var plaintext = ByteBuffer(count: sectorSize)
    for index in 0..<sectorCount {
      let sector = SectorIndex(index)
      do { try read(sector, into: plaintext.mutableSpan) } catch {
        guard case .notAuthentic(let evidence) = error.code else { throw error }
        findings.append(
          VolumeFinding(
            evidence: evidence, offset: place(of: sector), sector: sector,
            detail: "\(sector) is damaged or was changed"))
      }
      if index % 256 == 255 { progress(index + 1) }
    }
    progress(sectorCount)
    return findings
  }

  /// Where the newest version of a sector lies in the image now.
  public func place(of sector: SectorIndex) -> ByteOffset {
    journal.versions[sector].map { ByteOffset(geometry.ringOffset + $0.position) } ?? geometry.place(of: sector)
  }

  /// Brings everything in place and overwrites the ring with zeros, so that what was deleted or replaced is gone from
  /// every logical address of the image; durable on return. What copy-on-write, thin provisioning and flash keep below
  /// that is out of reach (DESIGN P7).
  public func scrub() throws(VolumeError) {
    // After this the ring holds nothing that counts, so that zeros in it are no damage.
    try settle { _ in }
    let zeros = ByteBuffer(count: 65536)
    var offset = geometry.ringOffset
    while offset < geometry.leafOffset {
      let size = Int(min(65536, geometry.leafOffset - offset))
      try medium.write(zeros, 0..<size, at: offset)
      offset += UInt64(size)
    }
    try medium.sync()
  }
}
