import BlockIO
import Primitives
import SecureVolume
import Testing
import VTPM

@testable import vnvram_swtpm

/// What crosses between monitor and worker. The worker may be an attacker: whatever it sends, the monitor takes it apart or
/// refuses it, and goes on.
@Suite struct LinkTests {
  private static func pair() throws -> (Link, Link) {
    let pair = try Link.Pair()
    return (Link(adopting: pair.one), Link(adopting: pair.other))
  }

  private static let requests: [WorkerRequest] = [
    .acquire, .key, .opened(generation: 7, nil), .opened(generation: 0, Failure(.notAuthentic, "damaged")),
    .locked(nil), .locked(Failure(.inputOutput, "disk")), .released(nil), .serving,
    .record(.exported, .permall, isEncrypted: false), .record(.imported, .savestate, isEncrypted: true),
    .anchor(.prepare(forWriting: true)), .anchor(.recall(forWriting: false)), .anchor(.adopt(index: 1)),
    .anchor(.counter(.opening)), .anchor(.store([UInt8](repeating: 3, count: 256), .closing)), .anchor(.release),
  ]

  @Test func roundTrips() throws {
    let (worker, monitor) = try Self.pair()
    for request in Self.requests {
      try request.send(on: worker)
      let received = try monitor.receive { (kind, descriptor, message) throws(LinkError) in
        try WorkerRequest(kind, &message)
      }
      #expect(String(describing: received) == String(describing: WorkerRequest?.some(request)))
    }
    let failure = AnchorError(.device(.inputOutput), anchor: "/anchors/a", "was removed")
    let message: MonitorMessage = .anchorFailure(failure)
    try message.send(on: monitor)
    let received = try worker.await { (kind, descriptor, message) throws(LinkError) in
      try MonitorMessage(kind, descriptor, &message)
    }
    guard case .anchorFailure(let error) = received else { throw LinkError("another message") }
    #expect(error == failure && error.anchor == failure.anchor && error.detail == failure.detail)
  }

  /// Bytes of every length and kind: each is a request or an error, never a trap, and the next one is read as what it is.
  @Test func nonsense() throws {
    let (worker, monitor) = try Self.pair()
    var generator = SystemRandomNumberGenerator()
    var taken = 0
    for round in 0..<20_000 {
      let kind = UInt8(round % 16)
      let count = Int.random(in: 0...(round % 10 == 0 ? 600 : 40), using: &generator)
      try worker.send(kind) { message in
        for _ in 0..<count { message.put(UInt8.random(in: 0...255, using: &generator) & (round % 3 == 0 ? 3 : 255)) }
      }
      do throws(LinkError) {
        let request = try monitor.receive { (kind, descriptor, message) throws(LinkError) in
          try WorkerRequest(kind, &message)
        }
        #expect(request != nil)
        taken += 1
      } catch { continue }
    }
    #expect(taken > 100, "some of them make sense")
    try WorkerRequest.key.send(on: worker)
    let last = try monitor.receive { (kind, descriptor, message) throws(LinkError) in try WorkerRequest(kind, &message)
    }
    guard case .key = last else { throw LinkError("the next one isn't read as what it is") }
  }

  /// What is gone is told, and not waited for.
  @Test func theOtherEndIsGone() throws {
    let (worker, monitor) = try Self.pair()
    _ = consume worker
    #expect(throws: LinkError.self) {
      _ = try monitor.receive { (kind, _, message) throws(LinkError) in try WorkerRequest(kind, &message) }
    }
  }
}
