import BlobStore
import Primitives

// Reading and writing. With a key missing, requests wait in their order; a deadline is for that wait, and for the one
// behind other requests. What is being served is not called off: its outcome is what is reported.
extension NVRAM {
  // MARK: Waiting

  /// Replaces an entry's content by what its callback visits now. Durable on return.
  ///
  /// - Parameter deadline: how long it may wait, from now. With none it waits until the key comes or the store closes.
  /// - Throws: `.fields`, `.notRegistered`, `.entryMissing`, `.entryTooSmall`, `.queueFull`, `.timedOut`, `.cancelled`,
  ///   `.closed`, `.notStarted`, `.failedEarlier`, `.wouldDeadlock`, or the store's error. Only after the last may the
  ///   content be the new one.
  public func write(_ entry: EntryName, deadline: Duration? = nil) throws(NVRAMError) {
    let visitor = try encode(entry)
    try visitor.withContent { (content) throws(NVRAMError) in
      try transferIn(entry, .replace, content, deadline)
    }
  }

  /// Has an entry's callback set its fields from the content, on the calling thread. Throws as `write` does.
  public func read(_ entry: EntryName, deadline: Duration? = nil) throws(NVRAMError) {
    let callback = try callback(of: entry)
    let request = try wait(entry, .readAll, nil, deadline)
    let content = request.takeContent()
    monitor.withLock { $0.recycle(request) }
    try Self.decode(entry, content.buffer, count: content.count, callback, store: name)
  }

  /// Replaces all of an entry's content. Durable on return. Throws as `write` does, and `.tooLarge`.
  public func replaceContent(
    _ entry: EntryName, _ content: Span<UInt8>, deadline: Duration? = nil
  ) throws(NVRAMError) {
    try transferIn(entry, .replace, content, deadline)
  }

  /// Writes within an entry's content, extending it where it goes beyond. Durable on return. Throws as `replaceContent`.
  public func writeContent(
    _ entry: EntryName, at offset: ByteOffset, _ bytes: Span<UInt8>, deadline: Duration? = nil
  ) throws(NVRAMError) {
    try transferIn(entry, .write(at: offset.value), bytes, deadline)
  }

  /// Reads from `offset` on as much of `destination` as the content fills, and returns how many bytes that is; 0 at or
  /// behind the end. Throws as `write` does.
  public func readContent(
    _ entry: EntryName, at offset: ByteOffset, into destination: consuming MutableSpan<UInt8>,
    deadline: Duration? = nil
  ) throws(NVRAMError) -> Int {
    if let taken = try takeIfFree(entry) {
      defer { giveBack(taken) }
      return try taken.core.read(taken.entry, at: offset.value, into: destination)
    }
    let request = try wait(entry, .read(at: offset.value), nil, deadline, reading: destination.count)
    let count = request.count
    request.copyContent(to: destination)
    monitor.withLock { $0.recycle(request) }
    return count
  }

  /// All of an entry's content. Throws as `write` does, and `.tooLarge` where that is more than was registered.
  public func readContent(_ entry: EntryName, deadline: Duration? = nil) throws(NVRAMError) -> [UInt8] {
    let request = try wait(entry, .readAll, nil, deadline)
    let content = request.content
    monitor.withLock { $0.recycle(request) }
    return content
  }

  /// Waits until every request that was made before has ended and its completion has returned. (From a completion, which
  /// would wait for itself: until all have been served.)
  ///
  /// - Throws: `.timedOut`, `.closed`, `.cancelled`, `.notStarted`, `.wouldDeadlock`, or what ended the store.
  public func processRequests(deadline: Duration? = nil) throws(NVRAMError) {
    let isWorker = monitor.withLock { $0.worker?.isCurrent == true }
    if isWorker {
      let request = try wait(nil, .barrier, nil, deadline)
      return monitor.withLock { $0.recycle(request) }
    }
    let gate = Gate()
    try submit(nil, .barrier, nil, deadline) { gate.open($0.failure) }
    if let error = gate.wait() { throw error }
  }

  // MARK: Not waiting

  /// Replaces an entry's content by what its callback visits now, and returns at once. `completion` is called exactly
  /// once, when the content is durable or the request has failed; not where this throws.
  ///
  /// - Throws: `.fields`, `.notRegistered`, `.queueFull`, `.closed`, `.notStarted`, `.failedEarlier`.
  @discardableResult
  public func write(
    _ entry: EntryName, deadline: Duration? = nil,
    completion: @escaping @Sendable (Result<Void, NVRAMError>) -> Void
  ) throws(NVRAMError) -> NVRAMRequestID {
    let visitor = try encode(entry)
    return try visitor.withContent { (content) throws(NVRAMError) in
      try submit(entry, .replace, content, deadline) { completion($0.result) }
    }
  }

  /// Has an entry's callback set its fields from the content, and then calls `completion`, both on the NVRAM's thread.
  @discardableResult
  public func read(
    _ entry: EntryName, deadline: Duration? = nil,
    completion: @escaping @Sendable (Result<Void, NVRAMError>) -> Void
  ) throws(NVRAMError) -> NVRAMRequestID {
    let callback = try callback(of: entry)
    let store = name
    return try submit(entry, .readAll, nil, deadline) { request in
      completion(
        Result { () throws(NVRAMError) in
          try request.result.get()
          let content = request.takeContent()
          try Self.decode(entry, content.buffer, count: content.count, callback, store: store)
        })
    }
  }

  /// Replaces all of an entry's content, as `write(_:deadline:completion:)`; `.tooLarge` is thrown.
  @discardableResult
  public func replaceContent(
    _ entry: EntryName, _ content: Span<UInt8>, deadline: Duration? = nil,
    completion: @escaping @Sendable (Result<Void, NVRAMError>) -> Void
  ) throws(NVRAMError) -> NVRAMRequestID {
    try submit(entry, .replace, content, deadline) { completion($0.result) }
  }

  /// Writes within an entry's content, as `write(_:deadline:completion:)`; `.tooLarge` is thrown.
  @discardableResult
  public func writeContent(
    _ entry: EntryName, at offset: ByteOffset, _ bytes: Span<UInt8>, deadline: Duration? = nil,
    completion: @escaping @Sendable (Result<Void, NVRAMError>) -> Void
  ) throws(NVRAMError) -> NVRAMRequestID {
    try submit(entry, .write(at: offset.value), bytes, deadline) { completion($0.result) }
  }

  /// Reads all of an entry's content, as `write(_:deadline:completion:)`.
  @discardableResult
  public func readContent(
    _ entry: EntryName, deadline: Duration? = nil,
    completion: @escaping @Sendable (Result<[UInt8], NVRAMError>) -> Void
  ) throws(NVRAMError) -> NVRAMRequestID {
    try submit(entry, .readAll, nil, deadline) { request in
      completion(request.result.map { request.content })
    }
  }

  /// Calls a request off: it fails with `.cancelled` unless it is being served or has ended already. Whether it was
  /// called off.
  @discardableResult
  public func cancel(_ id: NVRAMRequestID) -> Bool {
    monitor.withLock { s in cancel(s) { $0.number == id.number } > 0 }
  }

  /// Calls off every request that waits, in order. Returns how many there were.
  @discardableResult
  public func cancelAll() -> Int { monitor.withLock { s in cancel(s) { _ in true } } }

  private func cancel(_ s: NVRAMShared, where isMeant: (Request) -> Bool) -> Int {
    // A request whose waiter was given the core keeps it: it is as good as being served.
    let requests = s.queue.take { isMeant($0) && !$0.mayLead }
    s.fail(requests, NVRAMError(.cancelled, .failed, store: name, "the request was called off while it waited"))
    return requests.count
  }
}
