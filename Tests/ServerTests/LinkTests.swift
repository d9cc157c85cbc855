import BlockIO
import Primitives
import SecureVolume
import SwtpmFormat
import Testing
import VTPM

@testable import vnvram_swtpm

/// What crosses between monitor and worker. The worker may be an attacker: whatever it sends, the monitor takes it
/// apart or refuses it, and goes on.
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
    .cipher(.begin(.open, size: 180_000)), .cipher(.part(SecretPart(SecretBytes(count: CipherRequest.longestPart)))),
    .cipher(.finish(mac: [UInt8](repeating: 4, count: 32), vector: [1])), .cipher(.take),
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

  /// Bytes of every length and kind: each is a request or an error, never a trap, and the next one is read as what it
  /// is.
  @Test func nonsense() throws {
    let (worker, monitor) = try Self.pair()
    var generator = SystemRandomNumberGenerator()
    var taken = 0
    for round in 0..<20_000 {
      let kind = UInt8(round % 20)
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

  // MARK: A state under --key

  /// The key is used once for each state that is on record, and only as the record has it.
  @Test func noUseOfTheStateKeyWithoutARecord() throws {
    let desk = StateCipherDesk(SwtpmKey(SecretBytes(count: 32)))
    #expect(throws: LinkError.self) { _ = try desk.answer(.begin(.seal, size: 8)) }
    desk.permit(.exported)
    #expect(throws: LinkError.self) { _ = try desk.answer(.begin(.open, size: 8)) }
    desk.permit(.exported)
    #expect(throws: LinkError.self) { _ = try desk.answer(.begin(.seal, size: 1 << 20)) }
    desk.permit(.exported)
    _ = try desk.answer(.begin(.seal, size: 8))
    #expect(throws: LinkError.self) { _ = try desk.answer(.begin(.seal, size: 8)) }
  }

  /// Nothing out of turn, too much or too little; and what is right gives what was given.
  @Test func theStateKeyInParts() throws {
    let desk = StateCipherDesk(SwtpmKey(SecretBytes(count: 32)))
    for wrong: [CipherRequest] in [
      [.take], [.finish(mac: [], vector: [])], [.part(SecretPart(SecretBytes(count: 1)))],
      [.begin(.seal, size: 8), .take], [.begin(.seal, size: 8), .finish(mac: [], vector: [])],
      [.begin(.seal, size: 8), .part(SecretPart(SecretBytes(count: 9)))],
      [.begin(.seal, size: 0), .finish(mac: [], vector: []), .take, .take],
    ] {
      desk.permit(.exported)
      for request in wrong.dropLast() { _ = try desk.answer(request) }
      #expect(throws: LinkError.self) { _ = try desk.answer(wrong[wrong.count - 1]) }
    }
    desk.permit(.exported)
    _ = try desk.answer(.begin(.seal, size: 16))
    for _ in 0..<2 { _ = try desk.answer(.part(SecretPart(SecretBytes(count: 8)))) }
    guard case .ciphered(let size, let mac, let vector) = try desk.answer(.finish(mac: [], vector: [])),
      case .part(let sealed) = try desk.answer(.take)
    else { throw LinkError("another answer") }
    #expect(size == 32 && sealed.count == 32 && mac.count == 32 && vector.count == 32)
    for (mac, isRight) in [(mac.map { $0 ^ 1 }, false), (mac, true)] {
      desk.permit(.imported)
      _ = try desk.answer(.begin(.open, size: 32))
      _ = try desk.answer(.part(SecretPart(sealed.copy())))
      switch try desk.answer(.finish(mac: mac, vector: vector)) {
      case .ciphered(let size, _, _): #expect(isRight && size == 16)
      case .failure(let failure): #expect(!isRight && failure.status == .wrongKey)
      default: throw LinkError("another answer")
      }
    }
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
