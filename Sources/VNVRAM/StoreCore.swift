// An opened store, single-threaded: it serves requests one after the other and knows nothing of threads, queues and
// keys. Writes that follow one another go out in one commit, each staged by itself, so that one that can't be staged
// fails alone.
import BlobStore
import BlockIO
import Primitives
import SecureVolume

/// The volume and its entries. Belongs to the thread that has taken it.
package final class StoreCore {
  package let blobs: BlobStore
  /// `nil` for a plain image.
  package let volume: SecureVolume?
  private let isWritable: Bool
  /// Set once a commit has failed: the store is of no more use.
  package private(set) var failure: NVRAMError?
  /// A commit is not made larger than this by taking in more requests.
  private static let groupLimit = 1 << 20

  package init(sealed volume: SecureVolume) throws(NVRAMError) {
    do { blobs = try BlobStore(volume) } catch { throw NVRAMError(error, store: volume.name) }
    self.volume = volume
    isWritable = volume.isWritable
  }

  init(plain device: any BlockDevice) throws(NVRAMError) {
    do { blobs = try BlobStore(PlainVolume(device)) } catch { throw NVRAMError(error, store: device.name) }
    volume = nil
    isWritable = device.isWritable
  }

  var name: String { blobs.name }

  // MARK: Serving

  /// Serves requests in their order. On return each is done or failed; after a commit that failed, all the others are.
  package func serve(_ requests: [Request]) {
    var start = 0
    for index in requests.indices {
      let request = requests[index]
      if let failure {
        request.settle(failure)
        continue
      }
      switch request.operation {
      case .write, .replace: stage(request)
      case .read, .readAll, .barrier:
        // A read sees every write before it, and only what is durable.
        commit(requests[start..<index])
        start = index
        if let failure { request.settle(failure) } else { answer(request) }
      }
      if blobs.stagedSectors * groupSectorSize >= Self.groupLimit {
        commit(requests[start...index])
        start = index + 1
      }
    }
    commit(requests[start...])
  }

  private var groupSectorSize: Int { volume?.sectorSize ?? 4096 }

  private func stage(_ request: Request) {
    guard let entry = request.entry else { preconditionFailure("a write has an entry") }
    do throws(NVRAMError) {
      try request.withSource { (bytes) throws(NVRAMError) in try stage(entry, request.operation, bytes) }
      request.stage()
    } catch { request.settle(error) }
  }

  private func stage(
    _ entry: RegisteredEntry, _ operation: Request.Operation, _ bytes: Span<UInt8>
  ) throws(NVRAMError) {
    try check(entry)
    guard isWritable else {
      throw NVRAMError(.volume(.readOnly), .refused, store: name, "was opened for reading only")
    }
    do {
      if case .write(let offset) = operation {
        try blobs.stage(entry.name, at: ByteOffset(offset), bytes)
      } else {
        try blobs.stageReplace(entry.name, bytes)
      }
    } catch { throw NVRAMError(error, store: name) }
  }

  /// Makes what these requests have staged durable.
  private func commit(_ requests: ArraySlice<Request>) {
    let error = commit()
    for request in requests where request.isStaged { request.settle(error) }
  }

  /// `nil` where it went well.
  private func commit() -> NVRAMError? {
    guard blobs.hasStagedWrites else { return nil }
    do { try blobs.commit() } catch {
      if failure == nil { failure = NVRAMError(error, store: name) }
      return failure
    }
    return nil
  }

  private func answer(_ request: Request) {
    guard let entry = request.entry else { return request.settle(nil) }
    do throws(NVRAMError) {
      try check(entry)
      var offset: UInt64 = 0
      if case .read(let start) = request.operation { offset = start }
      if case .readAll = request.operation { request.reserve(try size(of: entry)) }
      try request.withDestination { (destination) throws(NVRAMError) in try read(entry, at: offset, into: destination) }
      request.settle(nil)
    } catch { request.settle(error) }
  }

  // MARK: One request, without copying

  /// Writes, durably.
  package func write(_ entry: RegisteredEntry, _ operation: Request.Operation, _ bytes: Span<UInt8>) throws(NVRAMError)
  {
    try stage(entry, operation, bytes)
    if let error = commit() { throw error }
  }

  /// Reads as much of `destination` as the content fills from `offset` on; returns how many bytes that is.
  func read(
    _ entry: RegisteredEntry, at offset: UInt64, into destination: consuming MutableSpan<UInt8>
  ) throws(NVRAMError) -> Int {
    try check(entry)
    do { return try blobs.read(entry.name, at: ByteOffset(offset), into: destination) } catch {
      throw NVRAMError(error, store: name)
    }
  }

  /// How many bytes of content there are.
  ///
  /// - Throws: `.tooLarge` where a device of that capacity can't take them.
  func size(of entry: RegisteredEntry) throws(NVRAMError) -> Int {
    try check(entry)
    let size = blobs.entry(entry.name)?.size.value ?? 0
    guard size <= entry.capacity else {
      throw NVRAMError(
        .tooLarge, .noSpace, store: name,
        "entry \"\(entry.name)\" has \(size) bytes, and is registered with \(entry.capacity); register it larger")
    }
    return Int(size)
  }

  // MARK: Entries

  /// Whether the image has room for a registered entry.
  func mismatch(_ entry: RegisteredEntry) -> EntryMismatch? {
    let place = blobs.entry(entry.name)
    if let place, place.capacity.value >= entry.capacity { return nil }
    return EntryMismatch(name: entry.name.text, registered: entry.capacity, inImage: place?.capacity.value)
  }

  private func check(_ entry: RegisteredEntry) throws(NVRAMError) {
    guard let mismatch = mismatch(entry) else { return }
    guard let size = mismatch.inImage else {
      throw NVRAMError(
        .entryMissing, .notFound, store: name, "has no entry \"\(entry.name)\", which is registered; add it first")
    }
    throw NVRAMError(
      .entryTooSmall, .noSpace, store: name,
      "entry \"\(entry.name)\" has room for \(size) bytes and is registered with \(entry.capacity); grow it first")
  }

  // MARK: The volume

  package var wantsMaintenance: Bool { failure == nil && volume?.wantsMaintenance == true }

  /// One bounded piece of work towards free space for commits. True: there is more to do.
  package func maintain() -> Bool {
    guard let volume, failure == nil else { return false }
    do { return try volume.maintain() } catch {
      failure = NVRAMError(error)
      return false
    }
  }

  /// Closes the image cleanly, durably. Keys go with the last reference to this.
  package func close() throws(NVRAMError) {
    guard failure == nil else { return }
    do { try volume?.close() } catch { throw NVRAMError(error) }
  }
}
