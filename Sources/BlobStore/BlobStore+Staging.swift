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
  /// between the old end and `offset` are zeros.
  ///
  /// - Throws: `.noSuchEntry`; `.tooLarge` behind the capacity; what the volume throws. Nothing is staged then.
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
  /// that are known to be so already are left out, but for one: a replacement is always a commit, and fails with it.
  ///
  /// - Throws: as `stage(_:at:_:)`.
  public func stageReplace(_ name: EntryName, _ content: Span<UInt8>) throws(BlobStoreError) {
    let index = try index(of: name)
    let place = directory.layout.places[index]
    let size = UInt64(content.count)
    guard size <= place.capacity else { throw tooLarge(place, ByteCount(size)) }
    let used = max(size, directory.stagedSizes[index])
    let all = place.content..<place.content + place.capacity
    let kept = changes.count
    do {
      try prepare(place.content..<place.content + used, of: all) { piece in
        self.remembered.has(piece, of: content, in: index)
      }
      if changes.isEmpty, used > 0 { try prepare(place.content..<place.content + 1, of: all) }
      try prepareSize(size, of: index)
    } catch {
      changes.removeLast(downTo: kept)
      throw error
    }
    put(content, at: place.content)
    putZeros(place.content + size..<place.content + used)
    putSize(size, of: index)
    remembered.remember(content, of: index, sectorSize: volume.sectorSize)
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

  private func tooLarge(_ place: StreamLayout.Place, _ end: ByteCount) -> BlobStoreError {
    BlobStoreError(
      .tooLarge, store: name, entry: place.name,
      "entry \"\(place.name)\" has room for \(place.capacity) bytes, not \(end.value); `vnvram` can grow it")
  }

  // MARK: Sectors

  /// Sees to it that every sector of a range of the stream is among the changes, but those of which `isUnchanged` says
  /// that their part of the range, counted from its start, needs no writing. A sector that is not going to be
  /// overwritten as a whole is read, unless all of it lies in `replaced`, of which nothing is kept: then it is zeros.
  private func prepare(
    _ range: Range<UInt64>, of replaced: Range<UInt64> = 0..<0,
    except isUnchanged: (Range<Int>) -> Bool = { _ in false }
  ) throws(BlobStoreError) {
    guard !range.isEmpty else { return }
    let size = UInt64(volume.sectorSize)
    for number in range.lowerBound / size...(range.upperBound - 1) / size {
      let sector = SectorIndex(number)
      guard changes.place(of: sector) == nil else { continue }
      let (start, end) = (number * size, (number + 1) * size)
      let part = max(range.lowerBound, start)..<min(range.upperBound, end)
      if isUnchanged(Int(part.lowerBound - range.lowerBound)..<Int(part.upperBound - range.lowerBound)) { continue }
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

  /// Changes bytes of prepared sectors; a sector that isn't among the changes has those bytes already.
  private func put(_ bytes: Span<UInt8>, at start: UInt64) {
    let size = UInt64(volume.sectorSize)
    var done = 0
    while done < bytes.count {
      let offset = start + UInt64(done)
      let skipped = Int(offset % size)
      let count = min(bytes.count - done, volume.sectorSize - skipped)
      if let place = changes.place(of: SectorIndex(offset / size)) {
        var sector = changes.mutablePlaintext(place)
        sector.copy(from: bytes.extracting(done..<done + count), at: skipped)
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
      guard let place = changes.place(of: SectorIndex(offset / size)) else { preconditionFailure("not prepared") }
      var sector = changes.mutablePlaintext(place)
      var part = sector._mutatingExtracting(skipped..<skipped + count)
      part.fill(0)
      offset += UInt64(count)
    }
  }
}
