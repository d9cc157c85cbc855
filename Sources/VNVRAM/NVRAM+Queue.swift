import BlobStore
import Primitives

// The way of a request: let in, served at once or queued, waited for or reported.
extension NVRAM {
  // MARK: Callbacks

  func callback(of name: EntryName) throws(NVRAMError) -> NVRAMCallback {
    try monitor.withLock { (s) throws(NVRAMError) in
      guard let entry = s.registered[name] else { throw notRegistered(name) }
      guard let callback = entry.callback else {
        throw NVRAMError(
          .notRegistered, .notFound, store: self.name,
          "entry \"\(name)\" is registered without a callback; read and write its content instead")
      }
      return callback
    }
  }

  /// What an entry's callback visits now.
  func encode(_ name: EntryName) throws(NVRAMError) -> DEROutputVisitor {
    let callback = try callback(of: name)
    let capacity = try monitor.withLock { (s) throws(NVRAMError) in
      guard let entry = s.registered[name] else { throw notRegistered(name) }
      return Int(entry.capacity)
    }
    let visitor = DEROutputVisitor(limit: capacity)
    do { try callback(.write, visitor, name) } catch { throw NVRAMError(error, entry: name, store: self.name) }
    return visitor
  }

  static func decode(
    _ name: EntryName, _ content: consuming ByteBuffer, count: Int, _ callback: NVRAMCallback, store: String
  ) throws(NVRAMError) {
    let visitor = DERInputVisitor(content, count: count)
    do {
      try callback(.read, visitor, name)
      try visitor.finish()
    } catch { throw NVRAMError(error, entry: name, store: store) }
  }

  // MARK: Letting in

  /// The entry that a request is for. Throws where no request may be made now.
  private func admit(_ s: NVRAMShared, _ name: EntryName?) throws(NVRAMError) -> RegisteredEntry? {
    guard s.isOpen else { throw closed }
    switch s.state {
    case .running, .keyPending, .verifying, .locked: break
    case .failed(let error):
      throw NVRAMError(
        .failedEarlier, error.status, store: self.name,
        "failed earlier and takes no more requests; close it and set it up anew (\(error.detail))")
    case .closed, .unformatted:
      throw NVRAMError(.notStarted, .failed, store: self.name, "was not started")
    }
    guard let name else { return nil }
    guard let entry = s.registered[name] else { throw notRegistered(name) }
    return entry
  }

  private func checkSize(
    _ entry: RegisteredEntry, _ operation: Request.Operation, _ count: Int
  ) throws(NVRAMError) {
    var offset: UInt64 = 0
    if case .write(let start) = operation { offset = start }
    guard offset <= entry.capacity, UInt64(count) <= entry.capacity - offset else {
      throw NVRAMError(
        .tooLarge, .noSpace, store: name,
        "entry \"\(entry.name)\" is registered with \(entry.capacity) bytes; \(count) at byte \(offset) are too many")
    }
  }

  /// The core with an entry that a request is for, served without queueing.
  struct Taken {
    let core: StoreCore
    let entry: RegisteredEntry
  }

  private func take(_ s: NVRAMShared, _ core: StoreCore, _ entry: RegisteredEntry) -> Taken {
    entry.outstanding += 1
    return Taken(core: core, entry: entry)
  }

  func giveBack(_ taken: Taken) {
    monitor.withLock { s in
      s.settle(taken.entry)
      noteServed(s)
      releaseCore(s)
    }
  }

  /// The core, if nobody has it and nobody waits; to be given back.
  func takeIfFree(_ name: EntryName) throws(NVRAMError) -> Taken? {
    try monitor.withLock { (s) throws(NVRAMError) in
      guard let entry = try admit(s, name) else { return nil }
      guard s.state == .running, !s.coreIsTaken, s.coreWaiters == 0, s.queue.isEmpty, let core = s.core else {
        return nil
      }
      s.coreIsTaken = true
      return take(s, core, entry)
    }
  }

  /// What is larger than the queue should hold waits for the core instead, while the store runs.
  private func takeForLarge(
    _ name: EntryName, _ count: Int, _ deadline: Duration?
  ) throws(NVRAMError) -> Taken? {
    guard count > configuration.maximumRequestBytes / 4 else { return nil }
    let deadline = deadline.map { Instant.now.advanced(by: $0) }
    return try monitor.withLock { (s) throws(NVRAMError) in
      guard s.state == .running else { return nil }
      guard takeCore(s, until: deadline) else { throw timedOut(s) }
      // What was asked for before comes first.
      if let last = s.queue.last { serveQueue(s, own: last) }
      do throws(NVRAMError) {
        if let entry = try admit(s, name), s.state == .running, let core = s.core { return take(s, core, entry) }
      } catch {
        releaseCore(s)
        throw error
      }
      releaseCore(s)
      return nil
    }
  }

  // MARK: Waiting

  /// Writes by itself where it can, without copying; else queues and waits.
  func transferIn(
    _ name: EntryName, _ operation: Request.Operation, _ bytes: Span<UInt8>, _ deadline: Duration?
  ) throws(NVRAMError) {
    var taken = try takeIfFree(name)
    if taken == nil { taken = try takeForLarge(name, bytes.count, deadline) }
    guard let taken else {
      let request = try wait(name, operation, bytes, deadline)
      return monitor.withLock { $0.recycle(request) }
    }
    defer { giveBack(taken) }
    try checkSize(taken.entry, operation, bytes.count)
    try taken.core.write(taken.entry, operation, bytes)
  }

  /// Queues a request and waits for it. It has been done on return, and is the caller's to recycle.
  func wait(
    _ name: EntryName?, _ operation: Request.Operation, _ bytes: Span<UInt8>?, _ deadline: Duration?,
    reading count: Int = 0
  ) throws(NVRAMError) -> Request {
    try monitor.withLock { (s) throws(NVRAMError) in
      let request = try enqueue(s, name, operation, bytes, deadline, reading: count, completion: nil)
      if s.state == .running, !s.coreIsTaken, s.coreWaiters == 0 {
        s.coreIsTaken = true
        request.mayLead = true
      }
      while !request.hasEnded {
        if request.mayLead {
          request.mayLead = false
          serveQueue(s, own: request)
          noteServed(s)
          releaseCore(s)
        } else if request.isQueued, s.worker?.isCurrent == true, s.state.isWaiting {
          withdraw(s, request, wouldDeadlock)
        } else if request.isQueued, let deadline = request.deadline, deadline <= .now {
          withdraw(s, request, timedOut(s))
        } else {
          monitor.wait(for: request.finished, until: request.isQueued ? request.deadline : nil)
        }
      }
      // Called off by a deregistration just when it was to serve the queue.
      if request.mayLead { releaseCore(s) }
      guard let error = request.failure else { return request }
      s.recycle(request)
      throw error
    }
  }

  private func withdraw(_ s: NVRAMShared, _ request: Request, _ error: NVRAMError) {
    for request in s.queue.take(where: { $0 === request }) {
      request.settle(error)
      s.end(request)
    }
  }

  func timedOut(_ s: NVRAMShared) -> NVRAMError {
    let keys = s.state.wanted ?? WantedKeys()
    let why = keys.isEmpty ? "the store was busy" : keys.sentence
    return NVRAMError(.timedOut, .timedOut, store: name, "timed out: \(why)", keys: keys)
  }

  // MARK: Not waiting

  @discardableResult
  func submit(
    _ name: EntryName?, _ operation: Request.Operation, _ bytes: Span<UInt8>?, _ deadline: Duration?,
    _ completion: @escaping (Request) -> Void
  ) throws(NVRAMError) -> NVRAMRequestID {
    try monitor.withLock { (s) throws(NVRAMError) in
      let request = try enqueue(s, name, operation, bytes, deadline, reading: 0, completion: completion)
      s.workerHasWork.signal()
      return NVRAMRequestID(number: request.number)
    }
  }

  private func enqueue(
    _ s: NVRAMShared, _ name: EntryName?, _ operation: Request.Operation, _ bytes: Span<UInt8>?,
    _ deadline: Duration?, reading count: Int, completion: ((Request) -> Void)?
  ) throws(NVRAMError) -> Request {
    let entry = try admit(s, name)
    if let bytes, let entry { try checkSize(entry, operation, bytes.count) }
    // No content has more than its entry's capacity, whatever the caller has room for.
    let held = bytes?.count ?? Int(min(UInt64(count), entry?.capacity ?? 0))
    guard name == nil || s.queue.hasRoom(for: held) else {
      throw NVRAMError(
        .queueFull, .noSpace, store: self.name,
        "\(s.queue.count) requests with \(s.queue.bytes) bytes wait already, and \(held) bytes more are over the limit")
    }
    let request = s.makeRequest()
    request.operation = operation
    request.entry = entry
    request.deadline = deadline.map { Instant.now.advanced(by: $0) }
    request.completion = completion
    if let bytes { request.hold(bytes) } else { request.reserve(held) }
    entry?.outstanding += 1
    s.queue.append(request)
    return request
  }
}

extension Request {
  var result: Result<Void, NVRAMError> { failure.map { .failure($0) } ?? .success(()) }

  /// What was read.
  var content: [UInt8] { buffer.array(first: count) }

  func copyContent(to destination: consuming MutableSpan<UInt8>) { buffer.copy(first: count, to: destination) }

  /// What was read; the request has it no more.
  func takeContent() -> ReadContent {
    var taken = ByteBuffer(count: 0)
    swap(&taken, &buffer)
    defer { count = 0 }
    return ReadContent(buffer: taken, count: count)
  }
}

extension ByteBuffer {
  fileprivate func array(first count: Int) -> [UInt8] { span(0..<count).array }

  fileprivate func copy(first count: Int, to destination: consuming MutableSpan<UInt8>) {
    destination.copy(from: span(0..<count))
  }
}

/// An entry's content.
struct ReadContent: ~Copyable {
  var buffer: ByteBuffer
  let count: Int
}

/// Waits for one thing to happen.
final class Gate: Sendable {
  private final class Contents {
    var isOpen = false
    var error: NVRAMError?
    let opened = Condition()
  }

  private let monitor = Monitor(Contents())

  func open(_ error: NVRAMError?) {
    monitor.withLock { contents in
      contents.isOpen = true
      contents.error = error
      contents.opened.signal()
    }
  }

  func wait() -> NVRAMError? {
    monitor.withLock { contents in
      while !contents.isOpen { monitor.wait(for: contents.opened, until: nil) }
      return contents.error
    }
  }
}
