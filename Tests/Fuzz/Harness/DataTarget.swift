import Primitives

@testable import VTPM

/// The channel of TPM commands: any bytes in any pieces, before, while and after the TPM is on. What comes back are
/// whole responses, of the size that they name.
enum DataTarget {
  private static let operationLimit = 32

  static func run(_ bytes: [UInt8]) {
    var input = FuzzInput(bytes)
    let bench = unsafe FuzzTPM.shared
    bench.reset()
    defer { bench.reset() }
    let flags = input.byte()
    let listener = LocalSocket.listening()
    var options = ChannelOptions(.listening(listener))
    options.disconnects = flags & 2 == 2
    do throws(TPMError) {
      var server = ServerOptions()
      server.data = options
      (server.rejectsLocality4, server.allowsSetLocality) = (flags & 8 == 8, flags & 16 == 16)
      let channel = try DataChannel(server, tpm: bench.tpm, log: Log(descriptor: -1))
      var state = State(channel: channel, bench: bench, listener: listener)
      if flags & 1 == 0 { state.connect() }
      if flags & 4 == 0 { state.enter(.running) }
      var operations = 0
      while !input.isAtEnd, operations < operationLimit {
        operations += 1
        state.step(&input)
      }
      channel.close()
      require(!channel.hasClients && !channel.isHolding, "closed, and a client is there")
    } catch { fatalError("opening the channel: \(error)") }
  }

  private struct State {
    let channel: DataChannel
    let bench: FuzzTPM
    let listener: Int32
    var client: LocalSocket?
    var mode = DataChannel.Mode.refusing
    private var starts = 0
    /// All that went in, to find commands that take libtpms seconds.
    var sent: [UInt8] = []

    private var now = 1000
    private var locality: UInt8 = 0

    init(channel: DataChannel, bench: FuzzTPM, listener: Int32) {
      self.channel = channel
      self.bench = bench
      self.listener = listener
    }

    mutating func connect() {
      client = LocalSocket(to: listener)
      channel.acceptClient(now)
    }

    mutating func enter(_ new: DataChannel.Mode) {
      mode = new
      guard new == .running, !bench.tpm.isRunning else { return }
      // One power cycle shows what ten would.
      starts += 1
      if starts <= 3 { bench.start() }
      locality = bench.tpm.locality
      if !bench.tpm.isRunning { mode = .refusing }
    }

    mutating func step(_ input: inout FuzzInput) {
      let operation = input.byte()
      switch operation % 8 {
      case 0, 1, 2, 3:
        let bytes = input.take(Int(operation & 1 == 0 ? Int(input.byte()) : input.u16() & 8191))
        sent += bytes
        guard !FuzzTPM.makesKeys(sent.suffix(bytes.count + 10)) else { return }
        client?.send(bytes)
        serve()
      case 4:
        let choice = input.byte()
        enter([.refusing, .holding, .running][Int(choice) % 3])
        pass(Int(choice >> 4) * 1000)
      case 5:
        client = nil
        serve()
        // Another one comes, perhaps.
        if operation & 16 == 16 { connect() }
        serve()
      case 6:
        bench.tpm.locality = input.byte() % 5
        locality = bench.tpm.locality
      default: bench.store.fails = input.byte() & 3 == 3
      }
      check()
    }

    private mutating func pass(_ time: Int) {
      now += time
      channel.expire(now)
      require(channel.deadline.map { $0 > now } ?? true, "a client whose time is over")
    }

    private func serve() {
      if channel.isHolding, mode != .holding { channel.resume(mode, now) }
      for place in channel.places.indices where channel.places[place] != nil {
        if channel.isHeld(place) {
          if client == nil { channel.hangUp(place) }
          continue
        }
        channel.serve(place, mode, now)
        while channel.isReady(place) { channel.serve(place, mode, now) }
      }
    }

    private func check() {
      // A prefix's is its command's alone.
      require(channel.allowsSetLocality || bench.tpm.locality == locality, "a locality that stayed")
      var answer = (client?.received() ?? [])[...]
      while !answer.isEmpty {
        // To a command with a prefix: its size, the response, and four zeros. No tag of a response begins with zeros.
        guard answer.starts(with: [0, 0]) else {
          answer = answer.dropFirst(response(answer))
          continue
        }
        require(answer.count >= 18, "half a response")
        let size = Array(answer.prefix(4)).span.loadBigEndian(UInt32.self, at: 0)
        require(Int(size) == response(answer.dropFirst(4)), "a size before a response of another")
        answer = answer.dropFirst(4 + Int(size))
        require(answer.starts(with: [0, 0, 0, 0]), "no acknowledgement")
        answer = answer.dropFirst(4)
      }
    }

    /// The size of the response that is at the front.
    private func response(_ answer: ArraySlice<UInt8>) -> Int {
      require(answer.count >= 10, "half a response")
      var head = Array(answer.prefix(10))
      let size = Int(head.span.loadBigEndian(UInt32.self, at: 2))
      var out = head.mutableSpan
      out.storeBigEndian(UInt32(truncatingIfNeeded: size), at: 2)
      require(head[...] == answer.prefix(10), "a number that is written otherwise than it was read")
      require(size >= 10 && size <= answer.count, "a response of \(size) bytes in \(answer.count)")
      return size
    }
  }
}
