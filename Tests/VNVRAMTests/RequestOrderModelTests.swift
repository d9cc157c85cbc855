import BlobStore
import Primitives
import StorageSimulation
import Testing

@testable import VNVRAM

/// The queues against an array that does the same, over thousands of random steps.
struct RequestOrderModelTests {
  @Test("a Fifo is an array that is taken from at its front")
  func fifo() {
    var generator = SeededGenerator(seed: 12)
    var fifo = Fifo<Int>()
    var model: [Int] = []
    for step in 0..<20_000 {
      // Long and short by turns: room is given back in more than one way.
      let isGrowing = step / 4000 % 2 == 0
      switch Int.random(in: 0..<100, using: &generator) {
      case ..<(isGrowing ? 70 : 40):
        fifo.append(step)
        model.append(step)
      case ..<97: #expect(fifo.popFirst() == (model.isEmpty ? nil : model.removeFirst()))
      case 97:
        let divisor = Int.random(in: 2..<50, using: &generator)
        let isMeant: (Int) -> Bool = { $0 % divisor == 0 }
        #expect(fifo.take(where: isMeant) == model.filter(isMeant))
        model.removeAll(where: isMeant)
      default:
        let chosen = model.randomElement(using: &generator) ?? -1
        let index = model.firstIndex(of: chosen)
        #expect(fifo.first { $0 == chosen } == index.map { model[$0] })
        #expect(fifo.removeFirst { $0 == chosen } == (index != nil))
        if let index { model.remove(at: index) }
      }
      #expect(fifo.count == model.count && fifo.isEmpty == model.isEmpty && fifo.first == model.first)
      if fifo.count != model.count { return }
    }
    while let next = fifo.popFirst() { #expect(next == model.removeFirst()) }
    #expect(model.isEmpty)
  }

  // MARK: Requests

  private static let entry = RegisteredEntry(EntrySpecification(name: "state", capacity: ByteCount(5000)), nil)

  private static func at(_ milliseconds: Int) -> Instant { Instant(nanoseconds: UInt64(milliseconds) * 1_000_000) }

  /// One of any kind.
  private func request(_ now: Int, _ generator: inout SeededGenerator) -> Request {
    let request = Request(Bool.random(using: &generator) ? .replace : .readAll)
    request.entry = Self.entry
    request.count = Int.random(in: 0...(1 << 19), using: &generator)
    if Bool.random(using: &generator) { request.parker = Parker(.system) }
    if Int.random(in: 0..<3, using: &generator) == 0 {
      request.deadline = Self.at(now + Int.random(in: 1..<30, using: &generator))
    }
    return request
  }

  private func batch(_ model: inout [Request], _ now: Instant) -> (batch: [Request], expired: [Request]) {
    var (batch, expired, bytes): ([Request], [Request], Int) = ([], [], 0)
    while batch.count < 256, let next = model.first {
      if let deadline = next.deadline, deadline <= now {
        expired.append(model.removeFirst())
        continue
      }
      bytes += next.size
      if !batch.isEmpty, bytes > 1 << 20 { break }
      batch.append(model.removeFirst())
    }
    return (batch, expired)
  }

  private func compare(_ queue: RequestQueue, _ model: [Request]) -> Bool {
    queue.count == model.count && queue.isEmpty == model.isEmpty
      && queue.waiting == model.count { $0.parker != nil }
      && queue.firstParker === model.first { $0.parker != nil }?.parker
      && queue.earliestDeadline == model.filter { $0.parker == nil }.compactMap(\.deadline).min()
  }

  private func isSame(_ a: [Request], _ b: [Request]) -> Bool { a.elementsEqual(b, by: ===) }

  @Test("a RequestQueue is an array of requests, some of which somebody waits for and some of which have a deadline")
  func requests() {
    var generator = SeededGenerator(seed: 13)
    var queue = RequestQueue()
    var model: [Request] = []
    var (served, expired) = (0, 0)
    for step in 0..<6000 {
      switch Int.random(in: 0..<100, using: &generator) {
      case ..<80:
        let request = request(step, &generator)
        queue.append(request)
        model.append(request)
        #expect({ if case .queued = request.phase { true } else { false } }())
      case ..<95:
        var late: [Request] = []
        let taken = queue.takeBatch(now: Self.at(step), &late)
        let expected = batch(&model, Self.at(step))
        #expect(isSame(taken, expected.batch) && isSame(late, expected.expired))
        #expect(taken.allSatisfy { if case .served = $0.phase { true } else { false } })
        #expect(taken.allSatisfy { !$0.isOver(Self.at(step)) } && late.allSatisfy { $0.isOver(Self.at(step)) })
        (served, expired) = (served + taken.count, expired + late.count)
      default:
        let divisor = Int.random(in: 2..<9, using: &generator)
        let isMeant: (Request) -> Bool = { $0.count % divisor == 0 }
        #expect(isSame(queue.take(where: isMeant), model.filter(isMeant)))
        model.removeAll(where: isMeant)
      }
      guard compare(queue, model) else {
        Issue.record("step \(step)")
        return
      }
    }
    #expect(served > 1000 && expired > 100)
  }

  @Test("a batch leaves out what is over in its middle, and has 256 requests at most")
  func overInTheMiddle() {
    var queue = RequestQueue()
    let requests = (0..<600).map { number in
      let request = Request(.replace)
      if number % 3 == 1 { request.deadline = Self.at(number < 300 ? 10 : 30) }
      queue.append(request)
      return request
    }
    var late: [Request] = []
    let taken = queue.takeBatch(now: Self.at(20), &late)
    #expect(taken.count == 256)
    #expect(isSame(late, requests[0..<300].filter { $0.deadline != nil }))
    #expect(isSame(taken, Array(requests.filter { !$0.isOver(Self.at(20)) }.prefix(256))))
    #expect(queue.count == 600 - 256 - late.count)
  }
}
