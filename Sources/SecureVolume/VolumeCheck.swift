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
    var runs: [SectorRun] = []
    var plaintext = ByteBuffer(count: geometry.batchSize)
    var isRead: UInt64 = 0
    for index in 0..<sectorCount {
      let sector = SectorIndex(index)
      let start = Int(index % UInt64(geometry.batch)) * sectorSize
      if start == 0 { isRead = readBatch(sector, into: &plaintext) }
      do throws(VolumeError) {
        // One by one where not all of them can be had.
        if index >= isRead { try read(sector, into: plaintext.mutableSpan(start..<start + sectorSize)) }
        leftOvers?.add(plaintext.span(start..<start + sectorSize), sector: sector)
      } catch {
        let flaw: SectorRun.Flaw
        switch error.code {
        case .notAuthentic: flaw = .changed
        case .device(.notAuthentic): flaw = .missing
        case .device: flaw = .unreadable
        default: throw error
        }
        if runs.last?.goesOn(with: sector, flaw) != true {
          runs.append(SectorRun(flaw: flaw, first: sector, offset: place(of: sector), detail: error.detail))
        }
        runs[runs.count - 1].count += 1
      }
      if index % 256 == 255 { progress(index + 1) }
    }
    progress(sectorCount)
    return opening.findings + runs.map(\.finding) + suspectLeafBlocks(runs)
  }

  /// Reads as many sectors as a batch has.
  ///
  /// - Returns: the first sector behind them; 0 where one of them fails.
  private func readBatch(_ first: SectorIndex, into plaintext: inout ByteBuffer) -> UInt64 {
    let count = min(UInt64(geometry.batch), sectorCount - first.value)
    do { try read(first, into: plaintext.mutableSpan(0..<Int(count) * sectorSize)) } catch { return 0 }
    return first.value + count
  }

  /// Where the tree doesn't verify, its root doesn't tell which part of it is wrong: the sectors do.
  private func suspectLeafBlocks(_ runs: [SectorRun]) -> [VolumeFinding] {
    guard opening.trust == .sectors else { return [] }
    var failed = [Int](repeating: 0, count: geometry.leafBlocks)
    for run in runs {
      for sector in run.first.value..<run.first.value + run.count { failed[Int(sector) / geometry.leavesPerBlock] += 1 }
    }
    var findings: [VolumeFinding] = []
    var block = 0
    while block < failed.count {
      let end = failed[block...].firstIndex(of: 0) ?? failed.count
      if end > block { findings.append(suspect(block..<end, failed[block..<end].reduce(0, +))) }
      block = end + 1
    }
    return findings
  }

  private func suspect(_ blocks: Range<Int>, _ failed: Int) -> VolumeFinding {
    let first = blocks.lowerBound * geometry.leavesPerBlock
    let sectors = min(blocks.count * geometry.leavesPerBlock, Int(sectorCount) - first)
    let offset = geometry.leafTableOffset(header.leafTable) + UInt64(blocks.lowerBound * geometry.blockSize)
    let which =
      blocks.count == 1
      ? "leaf block \(blocks.lowerBound)" : "leaf blocks \(blocks.lowerBound) to \(blocks.upperBound - 1)"
    return VolumeFinding(
      .tree, .damage, at: ByteOffset(offset),
      "\(which), for \(sectors) sectors from sector \(first) on, may be damaged: \(failed) of them don't verify")
  }
}

/// Sectors side by side that have the same wrong with them.
private struct SectorRun {
  enum Flaw: Equatable {
    case changed, missing, unreadable
  }

  let flaw: Flaw
  let first: SectorIndex
  /// Where the first one lies.
  let offset: ByteOffset
  /// What reading the first one gave.
  let detail: String
  var count: UInt64 = 0

  func goesOn(with sector: SectorIndex, _ flaw: Flaw) -> Bool {
    flaw == self.flaw && sector.value == first.value + count
  }

  var finding: VolumeFinding {
    let (name, are) = count == 1 ? ("\(first)", "is") : ("sectors \(first.value) to \(first.value + count - 1)", "are")
    let one = count == 1
    return switch flaw {
    case .changed:
      VolumeFinding(
        .sector, .damage, at: offset, sector: first, count: count,
        "\(name) \(are) damaged or \(one ? "was" : "were") changed")
    case .missing:
      VolumeFinding(
        .sector, .damage, at: offset, sector: first, count: count, "\(name) \(are) missing: the image is cut short")
    case .unreadable:
      VolumeFinding(
        .unreadable, .unreadable, at: offset, sector: first, count: count, "\(name) can't be read (\(detail))")
    }
  }
}
