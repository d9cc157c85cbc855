import Primitives

@testable import VTPM

/// The channel that came by SET_DATAFD: a guest's bytes, any, in any pieces. What is right is known beforehand: one
/// answer a command, TPM_RC_COMMAND_SIZE where its size isn't what came, none longer than the TPM's buffer, and the
/// locality is what the control channel said.
enum GuestTarget {
  private static let operationLimit = 32
  /// What the channel drops at once is limited.
  private static let excessLimit = 32768

  /// `u8 flags, (u8 operation, …)…`. Flags: 1 the TPM is off, 2 without locality 4, 4 the kernel's command to set the
  /// locality is allowed elsewhere, 8 the smallest buffer.
  static func run(_ bytes: [UInt8]) {
    var input = FuzzInput(bytes)
    let bench = unsafe FuzzTPM.shared
    bench.reset()
    let flags = input.byte()
    _ = bench.tpm.setBufferSize(flags & 8 == 8 ? 1 : 4096)
    defer {
      bench.reset()
      _ = bench.tpm.setBufferSize(4096)
    }
    let (client, descriptor) = LocalSocket.pair()
    guard let client else { return }
    var options = ServerOptions()
    (options.rejectsLocality4, options.allowsSetLocality) = (flags & 2 == 2, flags & 4 == 4)
    do throws(TPMError) {
      let channel = try DataChannel(options, tpm: bench.tpm, log: Log(descriptor: -1))
      channel.adopt(descriptor)
      var state = State(channel: channel, bench: bench, client: client)
      if flags & 1 == 0 { state.enter(.running) }
      var operations = 0
      while !input.isAtEnd, operations < operationLimit {
        operations += 1
        state.step(&input)
      }
      channel.close()
    } catch { fatalError("opening the channel: \(error)") }
  }

  private struct State {
    let channel: DataChannel
    let bench: FuzzTPM
    let client: LocalSocket
    private var mode = DataChannel.Mode.refusing
    private var now = 1000
    private var starts = 0
    private var locality: UInt8 = 0
    /// What came of a command that isn't whole.
    private var pending: [UInt8] = []
    private var deadline: Int?
    private var isHeld = false
    private var excess = 0
    /// All that went in lately, to find commands that take libtpms seconds.
    private var sent: [UInt8] = []

    init(channel: DataChannel, bench: FuzzTPM, client: LocalSocket) {
      self.channel = channel
      self.bench = bench
      self.client = client
    }

    mutating func enter(_ new: DataChannel.Mode) {
      mode = new
      guard new == .running, !bench.tpm.isRunning else { return }
      // One power cycle shows what ten would.
      starts += 1
      if starts <= 3 { bench.start() }
      bench.tpm.locality = locality
      if !bench.tpm.isRunning { mode = .refusing }
    }

    mutating func step(_ input: inout FuzzInput) {
      switch input.byte() % 8 {
      case 0: send(input.take(Int(input.byte())))
      case 1: send(input.take(input.u16() & 8191))
      case 2: send(command(&input))
      case 3: send(command(&input) + command(&input))
      case 4:
        enter([.refusing, .holding, .running][Int(input.byte()) % 3])
        guard isHeld, mode != .holding else { break }
        channel.resume(mode, now)
        isHeld = false
        check(.any)
      case 5:
        locality = input.byte() % 5
        bench.tpm.locality = locality
      case 6: wait(input.u16() % 2048)
      default: bench.store.fails = input.byte() & 3 == 3
      }
      check(.none)
    }

    /// One of the size that it names, perhaps with the prefix of another channel.
    private func command(_ input: inout FuzzInput) -> [UInt8] {
      let choice = input.byte()
      let body = input.take(Int(input.byte()))
      let code = UInt8(0x1F) &+ input.byte() % 0x80
      let size = UInt8(truncatingIfNeeded: 10 + body.count)
      let bytes = [0x80, 1 + choice & 1, 0, 0, UInt8((10 + body.count) >> 8), size, 0, 0, 1, code] + body
      return choice & 2 == 0 ? bytes : [0, 0, 0, 8, choice >> 4, 0, 0, UInt8((10 + body.count) >> 8), size] + bytes
    }

    private enum Expected {
      case none
      case wrongSize
      case any
    }

    private mutating func send(_ bytes: [UInt8]) {
      guard !bytes.isEmpty, !FuzzTPM.makesKeys((sent + bytes).suffix(bytes.count + 10)) else { return }
      if isHeld {
        guard excess + bytes.count <= GuestTarget.excessLimit else { return }
        excess += bytes.count
        return client.send(bytes)
      }
      sent = Array((sent + bytes).suffix(10))
      client.send(bytes)
      channel.serve(0, mode, now)
      pending += bytes
      let expected = outcome()
      if isHeld { excess = 0 }
      check(expected)
    }

    /// What is answered now that `pending` came.
    private mutating func outcome() -> Expected {
      let size = pending.count < 10 ? 0 : Int(pending.span.loadBigEndian(UInt32.self, at: 2))
      if pending.count >= 10, size < 10 || size > 4096 || pending.count > size { return finish(.wrongSize) }
      guard pending.count >= 10, pending.count == size else {
        deadline = deadline ?? now + DataChannel.singleTimeout
        return .none
      }
      let isProbe = size == 10 && pending.suffix(4) == [0, 0, 1, 0x81]
      isHeld = mode == .holding && !isProbe
      return finish(isHeld ? .none : .any)
    }

    private mutating func finish(_ expected: Expected) -> Expected {
      pending = []
      deadline = nil
      return expected
    }

    private mutating func wait(_ time: Int) {
      now += time
      require(channel.deadline == deadline, "another deadline")
      channel.expire(now)
      if let end = deadline, end <= now { check(finish(.wrongSize)) }
    }

    private func check(_ expected: Expected) {
      require(channel.places[0] != nil, "hung up on")
      require(channel.isHolding == isHeld && !channel.hasReadyClients, "held or not")
      require(bench.tpm.locality == locality, "a guest's locality")
      let answer = client.received()
      guard expected != .none else { return require(answer.isEmpty, "an answer to nothing") }
      require(answer.count >= 10, "no answer, or half of one")
      require(answer.span.loadBigEndian(UInt32.self, at: 2) == answer.count, "not one response of its size")
      require(answer.count <= bench.tpm.setBufferSize(0).size, "longer than the buffer")
      let isRefused = answer == [0x80, 1, 0, 0, 0, 10, 0, 0, 1, 0x42]
      require(expected != .wrongSize || isRefused, "a command of a wrong size was run")
    }
  }
}
