import Primitives

// Verifying what an image holds, all of it, past whatever is wrong.
extension SecureVolume {
  /// Verifies every sector and goes on after those that fail or can't be read. What opening has verified (headers,
  /// journal, tree) isn't done again; what opening had to do without is a finding.
  ///
  /// - Parameters:
  ///   - leftOvers: is told the content of every sector, for `unusedSpace` to look for.
  ///   - progress: called with the number of sectors done, now and then.
  /// - Returns: what does not verify; empty where every byte that means something is as the key's holder wrote it.
  public func check(
    for leftOvers: LeftOverSearch? = nil, progress: (UInt64) -> Void = { _ in }
  ) throws(VolumeError) -> [VolumeFinding] {
    var findings = opening.findings
    var plaintext = ByteBuffer(count: sectorSize)
    for index in 0..<sectorCount {
      let sector = SectorIndex(index)
      do throws(VolumeError) {
        try read(sector, into: plaintext.mutableSpan)
        leftOvers?.add(plaintext.span, sector: sector)
      } catch {
        switch error.code {
        case .notAuthentic:
          findings.append(
            VolumeFinding(
              .sector, .damage, at: place(of: sector), sector: sector, "\(sector) is damaged or was changed"))
        case .device(.notAuthentic):
          findings.append(
            VolumeFinding(
              .sector, .damage, at: place(of: sector), sector: sector, "\(sector) is missing: the image is cut short"))
        case .device:
          findings.append(
            VolumeFinding(
              .unreadable, .unreadable, at: place(of: sector), sector: sector,
              "\(sector) can't be read (\(error.detail))"))
        default: throw error
        }
      }
      if index % 256 == 255 { progress(index + 1) }
    }
    progress(sectorCount)
    return findings + suspectLeafBlocks(findings)
  }

  /// Where the tree doesn't verify, its root doesn't tell which part of it is wrong: the sectors do.
  private func suspectLeafBlocks(_ findings: [VolumeFinding]) -> [VolumeFinding] {
    guard opening.trust == .sectors else { return [] }
    var failed: [Int: Int] = [:]
    for case let sector? in findings.map(\.sector) {
      failed[Int(sector.value) / geometry.leavesPerBlock, default: 0] += 1
    }
    return failed.sorted { $0.key < $1.key }.map { block, count in
      let first = block * geometry.leavesPerBlock
      let sectors = min(geometry.leavesPerBlock, Int(sectorCount) - first)
      return VolumeFinding(
        .tree, .damage, at: ByteOffset(geometry.leafTableOffset(header.leafTable) + UInt64(block * geometry.blockSize)),
        "leaf block \(block), for \(sectors) sectors from sector \(first) on, may be damaged: \(count) of them don't verify"
      )
    }
  }
}
