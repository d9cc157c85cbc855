import BlockIO
import Crypto
import Primitives

// Copying a whole store, also while another process writes to it, into an image that was closed cleanly.
extension SecureVolume {
  /// How many states of a store in use are tried before its copying is given up.
  private static var mostStates: Int { 200 }

  /// Writes this store, as it is at one moment between the call and its return, into `destination`, which must be at
  /// least as large as the image and hold zeros. The copy is closed cleanly, and its journal is empty; every sector was
  /// verified.
  ///
  /// Where nothing was to be replayed the copy's header is the store's own; else its number is one more, and so less
  /// than that of any header that the store gets when it is opened the next time.
  ///
  /// - Parameter progress: called with sectors done, now and then.
  /// - Throws: `.notAuthentic` where a sector doesn't verify, and isn't being written; `.device`, `.device(.inUse)` where
  ///   sectors were written faster than copied.
  /// - Returns: the copy, opened for reading from `destination`, where all of it is durable.
  public func copy(
    to destination: any BlockDevice, progress: (UInt64) -> Void = { _ in }
  ) throws(VolumeError) -> SecureVolume {
    var target = Medium(destination)
    guard destination.size >= geometry.imageSize else {
      throw VolumeError(.noSpace, store: target.name, "has \(destination.size), and \(geometry.imageSize) are needed")
    }
    var copied = LeafTable(geometry: geometry, current: 0)
    var state = self
    var failed = try state.copySectors(to: &target, &copied, progress: progress)
    var tries = 1
    while !failed.isEmpty {
      let newer = try state.newerState(after: failed, tries)
      failed = try newer.copySectors(to: &target, &copied, progress: progress)
      state = newer
      tries += 1
    }
    return try state.finishCopy(&target)
  }

  /// The store's state now, after sectors of this one couldn't be read any more.
  private func newerState(after failed: [SectorIndex: Leaf], _ tries: Int) throws(VolumeError) -> SecureVolume {
    guard medium.device.mayChange else { throw damaged(failed) }
    guard tries < Self.mostStates else {
      throw VolumeError(
        .device(.inUse), store: name, "is written faster than it can be copied; try again when less is written")
    }
    let newer = try StoreInUse.open(Medium(medium.device), keys)
    guard newer.geometry == geometry else {
      throw VolumeError(.device(.inUse), store: name, "was replaced by another store while it was copied")
    }
    // One that was overwritten in place has another leaf by then, since the record came before; one that was in the
    // ring is elsewhere.
    let stale = failed.filter { newer.leaves[$0.key] == $0.value && newer.place(of: $0.key) == place(of: $0.key) }
    guard stale.isEmpty else { throw newer.damaged(stale) }
    return newer
  }

  private func damaged(_ failed: [SectorIndex: Leaf]) -> VolumeError {
    let sector = failed.keys.min() ?? SectorIndex(0)
    return VolumeError(
      .notAuthentic(.sector), store: name,
      "\(sector) at \(place(of: sector)) is damaged or was changed, so that this would be no whole copy; `vnvram salvage` "
        + "recovers what verifies")
  }

  /// Copies the sectors of which `copied` has another version; returns those that don't verify.
  private func copySectors(
    to target: inout Medium, _ copied: inout LeafTable, progress: (UInt64) -> Void
  ) throws(VolumeError) -> [SectorIndex: Leaf] {
    var failed: [SectorIndex: Leaf] = [:]
    var index: UInt64 = 0
    while index < sectorCount {
      guard copied[SectorIndex(index)] != leaves[SectorIndex(index)] else {
        index += 1
        continue
      }
      let first = SectorIndex(index)
      var wanted = 1
      while wanted < geometry.batch, index + UInt64(wanted) < sectorCount,
        copied[SectorIndex(index + UInt64(wanted))] != leaves[SectorIndex(index + UInt64(wanted))]
      { wanted += 1 }
      let run = try fetch(first, upTo: wanted)
      let bad = try failing(first, count: run)
      for i in 0..<run {
        let sector = SectorIndex(index + UInt64(i))
        if bad & 1 << UInt64(i) != 0 { failed[sector] = leaves[sector] } else { copied[sector] = leaves[sector] }
      }
      if bad == 0 {
        try target.write(ciphertext, 0..<run * sectorSize, at: geometry.place(of: first).value)
      } else {
        for i in 0..<run where bad & 1 << UInt64(i) == 0 {
          let place = geometry.place(of: SectorIndex(index + UInt64(i))).value
          try target.write(ciphertext, i * sectorSize..<(i + 1) * sectorSize, at: place)
        }
      }
      index += UInt64(run)
      progress(index)
    }
    return failed
  }

  /// Leaves, and the headers last: what is cut short is no image.
  private func finishCopy(_ target: inout Medium) throws(VolumeError) -> SecureVolume {
    let next = try settledHeader()
    try target.write(leaves.bytes, 0..<leaves.bytes.count, at: geometry.leafTableOffset(next.leafTable))
    try target.sync()
    for copy in next.copyOrder {
      let bytes: ByteBuffer
      do { bytes = try next.sealed(copy: copy, with: &keys.structure) } catch { throw VolumeError(error, store: name) }
      try target.write(bytes, 0..<bytes.count, at: Format.copyOffsets[copy])
      try target.sync()
    }
    let own = try keys.copy(store: target.name)
    return try Recovery.read(
      medium: Medium(target.device), keys: own, choice: HeaderPair.Choice(header: next, twin: .equal), mode: .strict)
  }

  /// The header of this state with everything in place.
  private func settledHeader() throws(VolumeError) -> Header {
    guard !header.isClean else { return header }
    var next = header
    next.sequence = try counted(header.sequence, "its headers")
    next.isClean = true
    next.generation = generation
    next.cursor = journal.head
    next.root = try root(at: generation)
    return next
  }
}
