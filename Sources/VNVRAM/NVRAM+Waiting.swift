import BlobStore
import Primitives

// How the calls of NVRAM+Requests.swift are carried out.
extension NVRAM {
  // MARK: By the calling thread

  /// Writes by itself where nobody else is at it, else queues and waits. The bytes are not copied on the way.
  func transferIn(
    _ name: EntryName, as entry: RegisteredEntry? = nil, _ operation: Request.Operation, _ bytes: Span<UInt8>,
    _ deadline: Duration?
  ) throws(NVRAMError) {
    let taken = try change { (machine) throws(NVRAMError) in
      try machine.takeIfFree(name, as: entry, for: operation, bytes.count, now: threads.now)
    }
    if let (store, entry) = taken {
      defer { giveBack(store, served: 1) { $0.settle(entry) } }
      return try open(store).write(entry, operation, bytes)
    }
    try unsafe bytes.withUnsafeBufferPointer { (bytes) throws(NVRAMError) in
      let request = Request(operation, lent: unsafe LentBytes(bytes))
      try wait(for: request, name, as: entry, deadline)
    }
  }

  func transferOut(
    _ name: EntryName, at offset: UInt64, into destination: consuming MutableSpan<UInt8>, _ deadline: Duration?
  ) throws(NVRAMError) -> Int {
    let count = destination.count
    let taken = try change { (machine) throws(NVRAMError) in
      try machine.takeIfFree(name, as: nil, for: .read(at: offset), count, now: threads.now)
    }
    if let (store, entry) = taken {
      defer { giveBack(store, served: 0) { $0.settle(entry) } }
      return try open(store).read(entry, at: offset, into: destination)
    }
    var destination = destination
    return try unsafe destination.withUnsafeMutableBufferPointer { (bytes) throws(NVRAMError) in
      let request = Request(.read(at: offset), lent: unsafe LentBytes(bytes))
      try wait(for: request, name, deadline)
      return request.count
    }
  }

  /// All of an entry's content.
  func fetch(
    _ name: EntryName, as entry: RegisteredEntry? = nil, _ deadline: Duration?
  ) throws(NVRAMError) -> ReadContent {
    let request = Request(.readAll)
    try wait(for: request, name, as: entry, deadline)
    return request.takeContent()
  }

  private func open(_ store: Store) -> StoreCore {
    guard let core = store.core else { preconditionFailure("a store that runs is open") }
    return core
  }

  /// Queues a request and waits for it, or serves it with others. It has been done on return.
  func wait(
    for request: Request, _ name: EntryName?, as entry: RegisteredEntry? = nil, _ deadline: Duration?
  ) throws(NVRAMError) {
    let (parker, thread, now) = (Parker(threads), threads.current, threads.now)
    request.parker = parker
    request.deadline = end(of: deadline, from: now)
    var step = try change { (machine) throws(NVRAMError) in
      try machine.enqueue(request, name, as: entry, by: thread)
      return machine.step(request, now: now)
    }
    while true {
      switch step {
      case .ended(let failure):
        // The last reference may be a device's: not for who serves, who may have the request for some time yet.
        (request.entry, request.lent) = (nil, nil)
        if let failure { throw failure }
        return
      case .lead(let store, let batch): serve(store, batch)
      case .wait(let until): parker.park(until: until)
      }
      step = change { $0.step(request, now: threads.now) }
    }
  }

  /// What has no time at all is done if it can be done now.
  private func end(of deadline: Duration?, from now: Instant) -> Instant? {
    deadline.map { now.advanced(by: max(.nanoseconds(1), $0)) }
  }

  // MARK: Not waiting

  @discardableResult
  func submit(
    _ name: EntryName?, as entry: RegisteredEntry? = nil, _ operation: Request.Operation, _ bytes: Span<UInt8>?,
    _ deadline: Duration?, _ completion: @escaping @Sendable (Request) -> Void
  ) throws(NVRAMError) -> NVRAMRequestID {
    let (thread, now) = (threads.current, threads.now)
    let request = Request(operation)
    if let bytes { request.hold(bytes) }
    request.deadline = end(of: deadline, from: now)
    request.completion = completion
    return try change { (machine) throws(NVRAMError) in
      try machine.enqueue(request, name, as: entry, by: thread)
      return NVRAMRequestID(number: request.number)
    }
  }

  // MARK: Callbacks

  /// Has a callback run while its entry knows of it.
  func withCallback<R>(
    of name: EntryName, _ body: (RegisteredEntry) throws(NVRAMError) -> R
  ) throws(NVRAMError) -> R {
    let thread = threads.current
    let entry = try change { (machine) throws(NVRAMError) in try machine.beginCallback(of: name, on: thread) }
    defer { change { $0.endCallback(of: entry, on: thread) } }
    return try body(entry)
  }

  /// What an entry's callback visits now.
  func encode(_ entry: RegisteredEntry) throws(NVRAMError) -> DEROutputVisitor {
    let visitor = DEROutputVisitor(limit: Int(entry.capacity))
    do { try entry.callback?(.write, visitor, entry.name) } catch {
      throw NVRAMError(error, entry: entry.name, store: name)
    }
    return visitor
  }

  func decode(_ entry: RegisteredEntry, _ content: consuming ReadContent) throws(NVRAMError) {
    let visitor = DERInputVisitor(content.buffer, count: content.count)
    do {
      try entry.callback?(.read, visitor, entry.name)
      try visitor.finish()
    } catch { throw NVRAMError(error, entry: entry.name, store: name) }
  }
}
