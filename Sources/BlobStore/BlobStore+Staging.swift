import Primitives
import SecureVolume

// Writing: any number of writes are staged, then go out in one commit of the volume. A write that can't be staged
// leaves what was staged before as it was: all that can fail (names, capacities, reading what a sector keeps) is done
// before the first byte is changed.
extension BlobStore {
  /// Whether anything is staged.
  public var hasStagedWrites: Bool { !changes.isEmpty }

  /// Sectors that the next commit writes.
  public var stagedSectors: Int { changes.count }

  /// Stages a write of `bytes` at byte `offset` of an entry's content. Behind the content's end it extends it; bytes
  /// between the old end and `offset` are zeros: what it is extended over is verified first, as reading does it.
  ///
  /// - Throws: `.noSuchEntry`; `.tooLarge` behind the capacity; `.damaged` where the entry isn't as FORMAT §8 says;
  ///   what the volume throws. Nothing is staged then.
  public func stage(
    _ name: EntryName, at offset: ByteOffset, _ bytes: Span<UInt8>
  ) throws(BlobStoreError) {
    let index = try index(of: name)
    let place = directory.layout.places[index]
    let count = UInt64(bytes.count)
    guard offset.value <= place.capacity, count <= place.capacity - offset.value else {
      throw tooLarge(place, ByteCount(offset.value.addingReportingOverflow(count).partialValue))
    }
    guard count > 0 else { return }
    let start = place.content + offset.value
    let size = max(directory.stagedSizes[index], offset.value + count)
    if size > directory.stagedSizes[index] { try verify(index) }
    let kept = changes.count
    do {
      try prepare(start..<start + count)
      try prepareSize(size, of: index)
    } catch {
      changes.removeLast(downTo: kept)
      throw error
    }
    remembered.forget(index)
    put(bytes, at: start)
    putSize(size, of: index)
  }

  /// Stages the replacement of all of an entry's content. What it used before beyond the new end becomes zeros. Sectors
  /// that are so already are left out, but for one: a replacement is always a commit, and fails with it. A small
  /// content is compared with what is remembered of the last one, one that can't be remembered with what is on the
  /// medium.
  ///
  /// - Throws: as `stage(_:at:_:)`, without `.damaged`.
  public func stageReplace(_ name: EntryName, _ content: Span<UInt8>) throws(BlobStoreError) {
    let index = try index(of: name)
    let place = directory.layout.places[index]
    let size = UInt64(content.count)
    guard size <= place.capacity else { throw tooLarge(place, ByteCount(size)) }
    let used = max(size, directory.stagedSizes[index])
    let all = place.content..<place.end
    // One sector is written in any case.
    let isRead = content.count > max(remembered.most, volume.sectorSize)
    var comparison = comparison(index)
    let kept = changes.count
    do {
      try prepare(place.content..<place.content + used, of: all) { part in
        let (start, end) = (Int(part.lowerBound - place.content), Int(part.upperBound - place.content))
        guard isRead else { return self.remembered.has(start..<end, of: content, in: index) }
        return comparison.has(content.extracting(min(start, content.count)..<min(end, content.count)), at: part)
      }
      if changes.isEmpty, used > 0 { try prepare(place.content..<place.content + 1, of: all) }
      try prepareSize(size, of: index)
    } catch {
      changes.removeLast(downTo: kept)
      throw error
    }
    let isKnown = remembered.holds(content.count, of: index)
    put(content, at: place.content) { if isKnown { self.remembered.update($0, of: content) } }
    putZeros(place.content + size..<place.content + used)
    putSize(size, of: index)
    if !isKnown { remembered.remember(content, of: index, sectorSize: volume.sectorSize) }
  }

  /// Stages the replacement of all of an entry's content by what `next` gives, as the other `stageReplace`, but always
  /// compared with what is on the medium. Memory is taken for the sectors that differ and one piece.
  ///
  /// - Parameter next: fills a piece and returns how many bytes it had; the first that it doesn't fill is the last.
  /// - Returns: the content's size.
  /// - Throws: as `stageReplace`, or what `next` throws. Then nothing is staged, nor what was before.
  @discardableResult
  public func stageReplace(
    _ name: EntryName, from next: (consuming MutableSpan<UInt8>) throws -> Int
  ) throws -> ByteCount {
    let index = try index(of: name)
    do {
      remembered.forget(index)
      let place = directory.layout.places[index]
      var comparison = comparison(index)
      var window = ByteBuffer(count: Self.pieceSize)
      // No sector is in two pieces.
      var pieceSize = Self.pieceSize - Int(place.content % UInt64(volume.sectorSize))
      var size: UInt64 = 0
      while true {
        let count = try next(window.mutableSpan(0..<pieceSize))
        guard UInt64(count) <= place.capacity - size else { throw tooLarge(place, ByteCount(size + UInt64(count))) }
        try stagePiece(window.span(0..<count), at: place.content + size, of: place, &comparison)
        size += UInt64(count)
        guard count == pieceSize else { break }
        pieceSize = Self.pieceSize
      }
      try stageEnd(size, of: index, &comparison)
      return ByteCount(size)
    } catch {
      rollBackStaged()
      throw error
    }
  }

  /// Writes everything staged, all or nothing; durable on return. With nothing staged it does nothing.
  ///
  /// After an error nothing is staged, sizes are those on the medium, and the volume takes no more writes.
  public func commit() throws(BlobStoreError) {
    guard !changes.isEmpty else { return }
    do {
      try volume.commit(changes)
    } catch {
      rollBackStaged()
      throw BlobStoreError(error)
    }
    directory.commit()
    changes.removeAll()
  }

  /// Forgets everything staged.
  public func rollBackStaged() {
    directory.rollBack()
    changes.removeAll()
    remembered.forget()
  }

  private static let pieceSize = 1 << 18

  private func comparison(_ index: Int) -> ContentComparison {
    let start = directory.layout.places[index].content
    return ContentComparison(reader, committed: start..<start + directory.sizes[index])
  }

  /// Stages a piece of a new content that begins at a sector of its own, or at the content's beginning.
  private func stagePiece(
    _ bytes: Span<UInt8>, at start: UInt64, of place: StreamLayout.Place, _ comparison: inout ContentComparison
  ) throws(BlobStoreError) {
    try prepare(start..<start + UInt64(bytes.count), of: place.content..<place.end) { part in
      comparison.has(bytes.extracting(Int(part.lowerBound - start)..<Int(part.upperBound - start)), at: part)
    }
    put(bytes, at: start)
  }

  /// Stages the end of a new content whose pieces are staged.
  private func stageEnd(_ size: UInt64, of index: Int, _ comparison: inout ContentComparison) throws(BlobStoreError) {
    let place = directory.layout.places[index]
    let (end, old) = (place.content + size, place.content + directory.stagedSizes[index])
    try prepare(end..<max(end, old), of: end..<place.end) { part in comparison.has(Span(), at: part) }
    putZeros(end..<max(end, old))
    if changes.isEmpty, max(end, old) > place.content { try prepare(place.content..<place.content + 1) }
    try prepareSize(size, of: index)
    putSize(size, of: index)
  }

  private func tooLarge(_ place: StreamLayout.Place, _ end: ByteCount) -> BlobStoreError {
    BlobStoreError(
      .tooLarge, store: name, entry: place.name,
      "entry \"\(place.name)\" has room for \(place.capacity) bytes, not \(end.value); `vnvram` can grow it")
  }

  // MARK: Sectors

  /// Sees to it that every sector of a range of the stream is among the changes, but those of which `isUnchanged` says
  /// that their part of the range needs no writing. A sector that is not going to be overwritten as a whole is read,
  /// unless all of it lies in `replaced`, of which nothing is kept: then it is zeros.
  private func prepare(
    _ range: Range<UInt64>, of replaced: Range<UInt64> = 0..<0,
    except isUnchanged: (Range<UInt64>) -> Bool = { _ in false }
  ) throws(BlobStoreError) {
    guard !range.isEmpty else { return }
    let size = UInt64(volume.sectorSize)
    for number in range.lowerBound / size...(range.upperBound - 1) / size {
      let sector = SectorIndex(number)
      guard changes.place(of: sector) == nil else { continue }
      let (start, end) = (number * size, (number + 1) * size)
      let part = max(range.lowerBound, start)..<min(range.upperBound, end)
      if isUnchanged(part) { continue }
      let place = changes.append(sector)
      if UInt64(part.count) < size, start < replaced.lowerBound || end > replaced.upperBound {
        do { try volume.read(sector, into: changes.mutablePlaintext(place)) } catch { throw BlobStoreError(error) }
      }
    }
  }

  /// The sectors of the real size, where it changes.
  private func prepareSize(_ size: UInt64, of index: Int) throws(BlobStoreError) {
    guard size != directory.stagedSizes[index] else { return }
    let field = directory.layout.places[index].sizeField
    try prepare(field..<field + 8)
  }

  private func putSize(_ size: UInt64, of index: Int) {
    guard size != directory.stagedSizes[index] else { return }
    let field = directory.layout.places[index].sizeField
    let bytes = InlineArray<8, UInt8> { UInt8(truncatingIfNeeded: size >> UInt64(8 * (7 - $0))) }
    put(bytes.span, at: field)
    directory.stage(size: size, of: index)
  }

  /// Changes bytes of prepared sectors, and tells which; a sector that isn't among the changes has those bytes already.
  private func put(_ bytes: Span<UInt8>, at start: UInt64, changed: (Range<Int>) -> Void = { _ in }) {
    let size = UInt64(volume.sectorSize)
    var done = 0
    while done < bytes.count {
      let offset = start + UInt64(done)
      let skipped = Int(offset % size)
      let count = min(bytes.count - done, volume.sectorSize - skipped)
      if let place = changes.place(of: SectorIndex(offset / size)) {
        var sector = changes.mutablePlaintext(place)
        sector.copy(from: bytes.extracting(done..<done + count), at: skipped)
        changed(done..<done + count)
      }
      done += count
    }
  }

  private func putZeros(_ range: Range<UInt64>) {
    let size = UInt64(volume.sectorSize)
    var offset = range.lowerBound
    while offset < range.upperBound {
      let skipped = Int(offset % size)
      let count = Int(min(range.upperBound - offset, size - UInt64(skipped)))
      if let place = changes.place(of: SectorIndex(offset / size)) {
        var sector = changes.mutablePlaintext(place)
        var part = sector._mutatingExtracting(skipped..<skipped + count)
        part.fill(0)
      }
      offset += UInt64(count)
    }
  }
}
