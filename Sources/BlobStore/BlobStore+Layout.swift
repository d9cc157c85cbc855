import Primitives
import SecureVolume

// Adding, growing, shrinking and removing entries: a new layout, to which everything that lies elsewhere moves, in one
// commit. Memory is taken for every sector that changes, which can be as much as the stream.
extension BlobStore {
  /// Adds an empty entry at the stream's end. Durable on return. Nothing may be staged.
  ///
  /// - Throws: `.exists`, `.overLimit`, `.noSpace` with the size that the volume would need; `.damaged` where an entry
  ///   isn't as FORMAT §8 says.
  public func add(_ entry: EntrySpecification) throws(BlobStoreError) {
    guard directory.index(of: entry.name) == nil else {
      throw BlobStoreError(.exists, store: name, entry: entry.name, "has an entry \"\(entry.name)\" already")
    }
    try relayout(directory.layout.places.map(\.specification) + [entry])
  }

  /// Gives an entry another capacity. All contents are kept. Durable on return. Nothing may be staged.
  ///
  /// - Throws: `.noSuchEntry`; `.tooLarge` where the content doesn't fit; `.overLimit`; `.noSpace`; `.damaged` where
  ///   an entry isn't as FORMAT §8 says.
  public func resize(_ name: EntryName, capacity: ByteCount) throws(BlobStoreError) {
    let index = try index(of: name)
    guard directory.sizes[index] <= capacity.value else {
      throw BlobStoreError(
        .tooLarge, store: self.name, entry: name,
        "entry \"\(name)\" has \(directory.sizes[index]) bytes, which \(capacity.value) don't hold; replace it first")
    }
    var specifications = directory.layout.places.map(\.specification)
    specifications[index] = EntrySpecification(name: name, capacity: capacity)
    try relayout(specifications)
  }

  /// Removes an entry; what it held is overwritten by what followed it, or by zeros. Durable on return. Nothing may be
  /// staged.
  ///
  /// - Throws: `.noSuchEntry`; `.damaged` where another entry isn't as FORMAT §8 says.
  public func remove(_ name: EntryName) throws(BlobStoreError) {
    let index = try index(of: name)
    var specifications = directory.layout.places.map(\.specification)
    specifications.remove(at: index)
    try relayout(specifications)
  }

  private func relayout(_ specifications: [EntrySpecification]) throws(BlobStoreError) {
    precondition(changes.isEmpty, "a layout changes with nothing staged")
    let old = directory
    let layout = try StreamLayout(specifications)
    try Self.checkSpace(for: layout, in: volume)
    let origins = layout.places.map { old.index(of: $0.name) }
    // What stays is encoded anew here and there, and that must not hide what was wrong with it.
    for case let origin? in origins { try verify(origin) }
    let new = EntryDirectory(
      layout: layout, sizes: origins.map { index in index.map { old.sizes[$0] } ?? 0 },
      verified: origins.map { _ in true })
    do {
      defer { reader.forget() }
      try stageMove(from: old, to: new, origins: origins)
    } catch {
      changes.removeAll()
      throw error
    }
    do {
      try volume.commit(changes)
    } catch {
      changes.removeAll()
      throw BlobStoreError(error)
    }
    changes.removeAll()
    remembered.forget()
    directory = new
  }

  /// Puts every sector that differs between two layouts into the changes.
  private func stageMove(
    from old: EntryDirectory, to new: EntryDirectory, origins: [Int?]
  ) throws(BlobStoreError) {
    let size = UInt64(volume.sectorSize)
    let end = max(old.layout.size.value, new.layout.size.value)
    var start: UInt64 = 0
    while start < end {
      if let next = endOfUnmoved(start, from: old, to: new, origins: origins) {
        start = next
        continue
      }
      let sector = SectorIndex(start / size)
      let place = changes.append(sector)
      var plaintext = changes.mutablePlaintext(place)
      new.layout.fill(from: start, sizes: new.sizes, into: &plaintext)
      try fillContent(from: start, of: old, in: new, origins: origins, place: place)
      do { try volume.read(sector, into: scratch.mutableSpan) } catch { throw BlobStoreError(error) }
      if scratch.span.equals(changes.plaintext(place)) { changes.removeLast(downTo: place) }
      start += size
    }
    scratch.wipe(0..<scratch.count)
  }

  /// Where the sector at `start` is all content that stays where it is: the end of the last such sector of the entry.
  private func endOfUnmoved(
    _ start: UInt64, from old: EntryDirectory, to new: EntryDirectory, origins: [Int?]
  ) -> UInt64? {
    let index = new.layout.firstPlace(endingAfter: start)
    guard index < origins.count, let origin = origins[index] else { return nil }
    let (before, after) = (old.layout.places[origin], new.layout.places[index])
    guard before.content == after.content, start >= after.content else { return nil }
    let size = UInt64(volume.sectorSize)
    let next = min(before.end, after.end) / size * size
    return next > start ? next : nil
  }

  /// Fills a sector of the new layout with the contents that lie in it.
  private func fillContent(
    from start: UInt64, of old: EntryDirectory, in new: EntryDirectory, origins: [Int?], place: Int
  ) throws(BlobStoreError) {
    let end = start + UInt64(volume.sectorSize)
    var index = new.layout.firstPlace(endingAfter: start)
    while index < origins.count, new.layout.places[index].start < end {
      let target = new.layout.places[index]
      if let origin = origins[index] {
        let from = max(start, target.content)
        let to = min(end, target.content + new.sizes[index])
        if from < to {
          let source = old.layout.places[origin].content + (from - target.content)
          var plaintext = changes.mutablePlaintext(place)
          try reader.read(
            ByteOffset(source), into: plaintext._mutatingExtracting(Int(from - start)..<Int(to - start)))
        }
      }
      index += 1
    }
  }
}
