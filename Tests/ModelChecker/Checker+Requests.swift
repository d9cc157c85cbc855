// Groups of requests, served as NVRAM serves them: what a request's settling acknowledges.
import BlobStore
import Primitives
import StorageSimulation
import VNVRAM

/// A request with what the model says comes of it.
private struct ModelRequest {
  let request: Request
  /// What a read gives; `nil` for a write.
  var content: [UInt8]?
  /// The status that it fails with, `nil` where it doesn't.
  var refusal: Status?
  /// The plan's commit that acknowledges it.
  var commit = 0
}

extension Checker {
  /// Writes, replacements, reads and barriers, some of which must fail alone; writes that follow one another go out in
  /// one commit.
  func serveGroup(of count: Int) throws {
    var plan = [acknowledged]
    var state = acknowledged
    var isDirty = false
    var group: [ModelRequest] = []
    for _ in 0..<count {
      var item = makeRequest(&state, isRead: random.chance(25))
      if item.request.operation.isWrite {
        if item.refusal == nil { isDirty = true }
        item.commit = plan.count
      } else {
        if isDirty { plan.append(state) }
        isDirty = false
        // Reads see all writes before them.
      }
      group.append(item)
    }
    if isDirty { plan.append(state) }
    let requests = group.map(\.request)
    let writes = group.filter { $0.request.operation.isWrite && $0.refusal == nil }
    let progress = { writes.last { $0.request.isDone }?.commit ?? 0 }
    try perform(plan, progress: progress) {
      core?.serve(requests)
      if let failure = core?.failure { throw failure }
      for item in group { try compare(item) }
    }
  }

  /// One request. Changes the state to what it makes of it.
  private func makeRequest(_ state: inout StoreState, isRead: Bool) -> ModelRequest {
    let request = Request()
    guard let index = state.entries.indices.randomElement(using: &random), !random.chance(4) else {
      return bogus(request)
    }
    let entry = state.entries[index]
    request.entry = RegisteredEntry(
      EntrySpecification(name: EntryName(stringLiteral: entry.name), capacity: ByteCount(entry.capacity)), nil)
    if isRead { return makeRead(request, entry) }
    var item = ModelRequest(request: request)
    if random.chance(50) {
      let size = random.below(entry.capacity + 1) + (random.chance(3) ? entry.capacity : 0)
      request.operation = .replace
      let bytes = random.bytes(size)
      request.hold(bytes.span)
      if size > entry.capacity { item.refusal = .noSpace } else { state.replace(index, content: bytes) }
    } else {
      let offset = random.below(entry.capacity)
      let size = 1 + random.below(min(entry.capacity - offset, 700)) + (random.chance(3) ? entry.capacity : 0)
      request.operation = .write(at: UInt64(offset))
      let bytes = random.bytes(size)
      request.hold(bytes.span)
      if offset + size > entry.capacity { item.refusal = .noSpace } else { state.write(index, at: offset, bytes) }
    }
    return item
  }

  private func makeRead(_ request: Request, _ entry: EntryState) -> ModelRequest {
    switch random.below(3) {
    case 0:
      request.operation = .barrier
      return ModelRequest(request: request)
    case 1:
      request.operation = .readAll
      return ModelRequest(request: request, content: entry.content)
    default:
      let offset = random.below(entry.capacity)
      request.operation = .read(at: UInt64(offset))
      request.reserve(1 + random.below(600))
      let end = min(entry.content.count, offset + request.count)
      return ModelRequest(request: request, content: offset < end ? Array(entry.content[offset..<end]) : [])
    }
  }

  /// A write to an entry that the image has not.
  private func bogus(_ request: Request) -> ModelRequest {
    request.entry = RegisteredEntry(EntrySpecification(name: "nowhere", capacity: ByteCount(10)), nil)
    request.operation = .replace
    request.hold([1, 2, 3].span)
    return ModelRequest(request: request, refusal: .notFound)
  }

  private func compare(_ item: ModelRequest) throws {
    guard item.request.failure?.status == item.refusal else {
      if let failure = item.request.failure, item.refusal == nil { throw failure }
      throw Violation(.misbehaviour, "a request that must fail ended with \(item.request.outcome)")
    }
    guard item.refusal == nil, let content = item.content else { return }
    guard item.request.gives(content) else {
      throw Violation(.mix, "a read gave something else than was written")
    }
  }
}

extension Request {
  func gives(_ content: [UInt8]) -> Bool {
    count == content.count && content.indices.allSatisfy { buffer.load(UInt8.self, at: $0) == content[$0] }
  }

  var isDone: Bool { if case .done = outcome { true } else { false } }
}

extension Request.Operation {
  var isWrite: Bool {
    switch self {
    case .write, .replace: true
    case .read, .readAll, .barrier: false
    }
  }
}
