import Glibc
import Primitives
import SwtpmFormat

@testable import VTPM

/// swtpm's control channel: any bytes, in any pieces, from up to three clients that come and go while the clock moves
/// on, the store fails and recovers, and INIT is held or answered.
enum ControlTarget {
  private final class Power: ControlHost {
    let bench: FuzzTPM
    var isReady = true
    private var starts = 0

    init(_ bench: FuzzTPM) { self.bench = bench }

    func initialize(deletingVolatileState: Bool) -> TPMResult? {
      bench.tpm.stop()
      guard isReady else { return nil }
      starts += 1
      // One power cycle shows what ten would.
      guard starts <= 4 else { return .fail }
      do throws(TPMError) {
        try bench.tpm.start(deletingVolatileState: deletingVolatileState)
        return .success
      } catch { return error.result }
    }
    func stop() { bench.tpm.stop() }
    func shutDown() {}
    func lockStorage(tries: UInt32) -> TPMResult? { isReady ? .success : tries == 0 ? .fail : nil }
    func setDataClient(_ descriptor: Int32) -> Refusal? {
      if descriptor >= 0 { close(descriptor) }
      return Refusal(.inputOutput, "there is no data channel")
    }
    func didHandOut(_: TPMStateName) {}
  }

  private static let operationLimit = 48

  static func run(_ bytes: [UInt8]) {
    var input = FuzzInput(bytes)
    let bench = unsafe FuzzTPM.shared
    bench.reset()
    defer { bench.reset() }
    let power = Power(bench)
    // A client from the start, as with `--ctrl clientfd=`, or a socket to listen on, which the channel closes.
    let flags = input.byte()
    let isConnected = flags & 1 == 1
    let (first, descriptor) = isConnected ? LocalSocket.pair() : (nil, -1)
    let listener = isConnected ? -1 : LocalSocket.listening()
    var options = ServerOptions()
    options.control = ChannelOptions(isConnected ? .connected(descriptor) : .listening(listener))
    if flags & 2 == 2 { options.migrationKey = SwtpmTarget.key(flags & 4 == 0 ? 32 : 16) }
    var clients = [first ?? LocalSocket(to: listener), nil, nil]
    do throws(TPMError) {
      let channel = try ControlChannel(options, tpm: bench.tpm, host: power, log: Log(descriptor: -1))
      var now = 1000
      channel.acceptClient(now)
      var operations = 0
      while !input.isAtEnd, operations < operationLimit {
        operations += 1
        step(&input, channel, power, &clients, listener, &now)
      }
      channel.answerHeld(.initialize, .success)
      channel.answerHeld(.lockStorage, .success)
      require(!channel.hasHeldClients(.initialize) && !channel.hasHeldClients(.lockStorage), "held after its answer")
      channel.close()
    } catch { fatalError("opening the channel: \(error)") }
  }

  private static func step(
    _ input: inout FuzzInput, _ channel: ControlChannel, _ power: Power, _ clients: inout [LocalSocket?],
    _ listener: Int32, _ now: inout Int
  ) {
    let operation = input.byte()
    let client = Int(operation >> 4) % 3
    switch operation % 8 {
    case 0:
      if listener >= 0 {
        clients[client] = LocalSocket(to: listener)
        channel.acceptClient(now)
      }
    case 1, 2: clients[client]?.send(input.take(Int(input.byte() & 63)))
    case 3:
      // A few bytes, or as many as a state has.
      let length = input.byte()
      clients[client]?.send(input.take(length & 0x80 == 0 ? Int(length & 63) : input.u16() & 8191))
    case 4:
      now += input.u16() % 2048
      channel.expire(now)
      require(channel.deadline.map { $0 > now } ?? true, "a client whose time is over")
    case 5: clients[client] = nil
    case 6:
      let answer = input.byte()
      channel.answerHeld(answer & 2 == 0 ? .initialize : .lockStorage, answer & 1 == 0 ? .success : .fail)
    case 7 where operation & 8 == 8:
      let (mine, other) = LocalSocket.pair()
      clients[client]?.send(input.take(Int(input.byte() & 63)), passing: other)
      close(other)
      _ = mine
    default:
      power.isReady = input.byte() & 1 == 0
      power.bench.store.fails = input.byte() & 3 == 3
    }
    for place in 0..<ControlChannel.maximumClients where channel.clients[place] != nil {
      if channel.isHeld(place) {
        if clients.allSatisfy({ $0 == nil }) { channel.hangUp(place) }
      } else {
        channel.serve(place, now)
      }
    }
    for client in clients { check(client?.received() ?? []) }
  }

  /// Answers come whole: a result, eight bytes of capabilities, or what the longest command gives, a state and its
  /// fields.
  private static func check(_ answer: [UInt8]) {
    require(answer.count == 0 || answer.count >= 4, "half an answer")
    require(answer.count <= 16 + SwtpmContainer.maximumSize, "\(answer.count) bytes of answers at once")
  }
}
