import BlobStore
import Primitives

// Reading and writing. With a key missing, requests wait in their order; a deadline is for that wait, and for the one
// behind other requests. What is being served is not called off: its outcome is what is reported.
extension NVRAM {
  // MARK: Waiting

  /// Replaces an entry's content by what its callback visits now, on the calling thread. Durable on return.
  ///
  /// - Parameter deadline: how long it may wait, from when the callback has returned. With none it waits until the key
  ///   comes or the store closes.
  /// - Throws: `.fields`, `.notRegistered` (also for an entry without a callback), `.entryMissing`, `.entryTooSmall`,
  ///   `.queueFull`, `.timedOut`, `.cancelled`, `.closed`, `.notStarted`, `.failedEarlier`, `.wouldDeadlock`, or the
  ///   store's error. Only after the last may the content be the new one.
  public func write(_ entry: EntryName, deadline: Duration? = nil) throws(NVRAMError) {
    try withCallback(of: entry) { (registered) throws(NVRAMError) in
      let visitor = try encode(registered)
      try visitor.withContent { (content) throws(NVRAMError) in
        try transferIn(entry, as: registered, .replace, content, deadline)
      }
    }
  }

  /// Has an entry's callback set its fields from the content, on the calling thread. The content is durable.
  ///
  /// - Parameter deadline: how long it may wait, from now; the callback doesn't count.
  /// - Throws: as `write`, and `.tooLarge` where there is more content than was registered. Nothing is ever written.
  ///   After `.fields` some fields may have been set; after any other error the callback was not called.
  public func read(_ entry: EntryName, deadline: Duration? = nil) throws(NVRAMError) {
    try withCallback(of: entry) { (registered) throws(NVRAMError) in
      try decode(registered, try fetch(entry, as: registered, deadline))
    }
  }

  /// Replaces all of an entry's content. Durable on return. `content` is read until then, and not copied to wait.
  ///
  /// - Parameter deadline: how long it may wait, from now.
  /// - Throws: as `write` but for `.fields`, and `.tooLarge` for more bytes than were registered.
  public func replaceContent(
    _ entry: EntryName, _ content: Span<UInt8>, deadline: Duration? = nil
  ) throws(NVRAMError) {
    try transferIn(entry, .replace, content, deadline)
  }

  /// Writes within an entry's content, extending it where it goes beyond. Durable on return. Else as `replaceContent`.
  public func writeContent(
    _ entry: EntryName, at offset: ByteOffset, _ bytes: Span<UInt8>, deadline: Duration? = nil
  ) throws(NVRAMError) {
    try transferIn(entry, .write(at: offset.value), bytes, deadline)
  }

  /// Reads from `offset` on as much of `destination` as the content fills, and returns how many bytes that is; 0 at or
  /// behind the end. What is read is durable.
  ///
  /// - Parameter deadline: how long it may wait, from now.
  /// - Throws: as `write` but for `.fields`; what `destination` holds then is undefined.
  public func readContent(
    _ entry: EntryName, at offset: ByteOffset, into destination: consuming MutableSpan<UInt8>,
    deadline: Duration? = nil
  ) throws(NVRAMError) -> Int {
    try transferOut(entry, at: offset.value, into: destination, deadline)
  }

  /// All of an entry's content, which is durable.
  ///
  /// - Parameter deadline: how long it may wait, from now.
  /// - Throws: as `write` but for `.fields`, and `.tooLarge` where there is more content than was registered.
  public func readContent(_ entry: EntryName, deadline: Duration? = nil) throws(NVRAMError) -> [UInt8] {
    try fetch(entry, deadline).array
  }

  /// Waits until every request that was made before has ended and its completion has returned, and all events before
  /// have been told. Every write among them that succeeded is durable then. On the thread that calls completions and
  /// observers, which would wait for itself, it waits only until all have been served.
  ///
  /// No bound refuses it. It waits for a key as any request does.
  ///
  /// - Parameter deadline: how long that may take, from now, completions included.
  /// - Throws: `.timedOut`, `.closed`, `.cancelled` (by `cancelAll`), `.notStarted`, `.failedEarlier`,
  ///   `.wouldDeadlock`, or what ended the store. A deadline that passes calls no request off.
  public func processRequests(deadline: Duration? = nil) throws(NVRAMError) {
    let thread = threads.current
    let request = Request(.barrier)
    request.isTold = change { $0.workers.teller != thread }
    try wait(for: request, nil, deadline)
  }

  // MARK: Not waiting

  /// Replaces an entry's content by what its callback visits now, on the calling thread, and returns without waiting:
  /// on return nothing need be durable. `completion` is called exactly once, on the NVRAM's thread that calls
  /// completions, when the content is durable or the request has failed; not where this throws. It may be called before
  /// this returns.
  ///
  /// - Parameters:
  ///   - deadline: how long it may wait to be served, from when the callback has returned. The wait for `completion` to
  ///     be called doesn't count.
  ///   - completion: gets `.timedOut`, `.cancelled`, `.closed`, `.entryMissing`, `.entryTooSmall`, or the store's
  ///     error. Only after the last may the content be the new one.
  /// - Throws: `.fields`, `.notRegistered`, `.queueFull`, `.closed`, `.notStarted`, `.failedEarlier`. It has had no
  ///   effect then.
  @discardableResult
  public func write(
    _ entry: EntryName, deadline: Duration? = nil,
    completion: @escaping @Sendable (Result<Void, NVRAMError>) -> Void
  ) throws(NVRAMError) -> NVRAMRequestID {
    try withCallback(of: entry) { (registered) throws(NVRAMError) in
      let visitor = try encode(registered)
      return try visitor.withContent { (content) throws(NVRAMError) in
        try submit(entry, as: registered, .replace, content, deadline) { completion($0.result) }
      }
    }
  }

  /// Has an entry's callback set its fields from the content, and then calls `completion`, both on the NVRAM's thread
  /// that calls completions. Returns without waiting. The content is durable, and that of when the request was served:
  /// writes that were made after it may have been served since. Once the entry is deregistered the callback isn't
  /// called any more.
  ///
  /// - Parameters:
  ///   - deadline: how long it may wait to be served, from now.
  ///   - completion: called exactly once, not where this throws. Gets what that of `write` gets, and `.fields`,
  ///     `.tooLarge`.
  /// - Throws: `.notRegistered` (also for an entry without a callback), `.queueFull`, `.closed`, `.notStarted`,
  ///   `.failedEarlier`.
  @discardableResult
  public func read(
    _ entry: EntryName, deadline: Duration? = nil,
    completion: @escaping @Sendable (Result<Void, NVRAMError>) -> Void
  ) throws(NVRAMError) -> NVRAMRequestID {
    let registered = try withCallback(of: entry) { $0 }
    return try submit(entry, as: registered, .readAll, nil, deadline) { request in
      completion(
        Result { () throws(NVRAMError) in
          try request.result.get()
          guard self.change({ $0.registered[entry] === registered }) else {
            throw NVRAMError.deregistered(entry, self.name)
          }
          try self.decode(registered, request.takeContent())
        })
    }
  }

  /// Replaces all of an entry's content, as `write(_:deadline:completion:)`. `content` is copied. No callback is
  /// called; `.tooLarge` is thrown for more bytes than were registered.
  @discardableResult
  public func replaceContent(
    _ entry: EntryName, _ content: Span<UInt8>, deadline: Duration? = nil,
    completion: @escaping @Sendable (Result<Void, NVRAMError>) -> Void
  ) throws(NVRAMError) -> NVRAMRequestID {
    try submit(entry, .replace, content, deadline) { completion($0.result) }
  }

  /// Writes within an entry's content, as `replaceContent(_:_:deadline:completion:)`.
  @discardableResult
  public func writeContent(
    _ entry: EntryName, at offset: ByteOffset, _ bytes: Span<UInt8>, deadline: Duration? = nil,
    completion: @escaping @Sendable (Result<Void, NVRAMError>) -> Void
  ) throws(NVRAMError) -> NVRAMRequestID {
    try submit(entry, .write(at: offset.value), bytes, deadline) { completion($0.result) }
  }

  /// Reads all of an entry's content. Returns without waiting. What `completion` gets is durable, and the content of
  /// when the request was served: writes that were made after it may have been served since.
  ///
  /// - Parameters:
  ///   - deadline: how long it may wait to be served, from now.
  ///   - completion: called exactly once, on the NVRAM's thread that calls completions; not where this throws. Gets
  ///     what that of `write` gets, and `.tooLarge`.
  /// - Throws: `.notRegistered`, `.queueFull`, `.closed`, `.notStarted`, `.failedEarlier`.
  @discardableResult
  public func readContent(
    _ entry: EntryName, deadline: Duration? = nil,
    completion: @escaping @Sendable (Result<[UInt8], NVRAMError>) -> Void
  ) throws(NVRAMError) -> NVRAMRequestID {
    try submit(entry, .readAll, nil, deadline) { request in
      completion(request.result.map { request.takeContent().array })
    }
  }

  /// Calls a request of this NVRAM off: it fails with `.cancelled`, and has no effect, unless it is being served or has
  /// ended already. Returns whether it was called off, at once: its completion is called on the NVRAM's thread that
  /// calls completions, not here. Where this returns false, the request's outcome is what serving it gave, or what
  /// ended it before.
  @discardableResult
  public func cancel(_ id: NVRAMRequestID) -> Bool { cancel { $0.number == id.number } > 0 }

  /// Calls off every request that waits to be served, in order, those of other threads that wait in `read`, `write` and
  /// `processRequests`, too. Those calls throw `.cancelled` on their own threads; completions are called where they
  /// always are, not here. What is being served isn't called off. Returns how many requests there were, at once.
  @discardableResult
  public func cancelAll() -> Int { cancel { _ in true } }

  private func cancel(where isMeant: (Request) -> Bool) -> Int {
    let error = NVRAMError(.cancelled, .failed, store: name, "the request was called off while it waited")
    return change { $0.fail(error, where: isMeant) }
  }
}
