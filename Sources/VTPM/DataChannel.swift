import Primitives

/// The channel of TPM commands: a command is a 10-byte header (tag, u32 size, code; big-endian) and the rest of its
/// size; the answer is the TPM's, in one write, when everything that the command stored is durable.
///
/// Several clients may be there, each command is run by itself, and one after the other has a turn. How a command is
/// cut out of what comes depends on the way by which a client came (`DataClient.Framing`);
/// `DataChannel+Commands.swift`.
///
/// A command that has begun must become whole: in 5 s where clients connect, since in between it takes a place; in 500
/// ms where the client was handed over, since QEMU writes a command at once.
final class DataChannel {
  /// What becomes of a command.
  enum Mode {
    /// The TPM is off and nobody asked for it: TPM_RC_FAILURE, as swtpm answers.
    case refusing
    /// The TPM is about to be powered on: the command waits.
    case holding
    case running
    /// The TPM is on, and its store is somewhere else: TPM_RC_NV_UNAVAILABLE.
    case unavailable
  }

  static let maximumClients = 8
  /// Milliseconds for a command that has begun, by `DataClient.Framing`.
  static let streamTimeout = 5000
  static let singleTimeout = 500

  let tpm: TPM
  var log: LimitedLog
  let disconnects: Bool
  let rejectsLocality4: Bool
  let allowsSetLocality: Bool
  let places: ClientPlaces<DataClient>
  /// A client was hung up on, or left, since `takeLoss`.
  private var hasLostClient = false
  /// Which commands were last said to be refused: in which mode, and since which start.
  private var saidRefusal: (mode: Mode, starts: UInt64)?
  /// A response between its size and its acknowledgement; kept for its memory.
  var framed: [UInt8] = []

  init(_ options: ServerOptions, tpm: TPM, log: Log) throws(TPMError) {
    let (listener, connection) = try openChannel(options.data)
    let client = connection.map { DataClient(handedOver: $0, mayNameLocality: true) }
    places = ClientPlaces("data", listener, client, count: Self.maximumClients, log: log)
    self.tpm = tpm
    self.log = LimitedLog(log)
    disconnects = options.data?.disconnects ?? false
    rejectsLocality4 = options.rejectsLocality4
    allowsSetLocality = options.allowsSetLocality
  }

  /// Whether there is a way in: a socket to listen on, or a client.
  var isOpen: Bool { places.isListening || hasClients }
  var hasClients: Bool { !places.isEmpty }

  /// Takes a client that came over the control channel. Only where nothing is open.
  func adopt(_ descriptor: Int32) {
    precondition(!isOpen)
    places.adopt(DataClient(handedOver: Connection(adopting: descriptor), mayNameLocality: false))
  }

  // MARK: - For the server's loop

  func acceptClient(_ now: Int) { places.acceptClient(now) }

  /// Has `set` report commands, or, while one is held, only the client's leaving; and who comes.
  func wait(in set: EventSet) {
    for place in places.indices {
      guard let client = places[place] else { continue }
      let events: EventSet.Events = client.isHolding ? .leaving : .input
      if !client.connection.wait(for: events, at: EventPlace.dataClients.lowerBound + place, in: set) {
        log.line(.unheard, "data channel: hanging up on a client that the kernel can't tell of")
        hangUp(place)
      }
    }
    places.waitForClients(at: EventPlace.dataListener, in: set)
  }
  func isHeld(_ place: Int) -> Bool { places[place]?.isHolding ?? false }
  /// Any client's command waits for the TPM.
  var isHolding: Bool { places.contains { $0.isHolding } }
  /// To be served without a wait: a command of the client's is there already.
  func isReady(_ place: Int) -> Bool { places[place]?.isReady ?? false }
  var hasReadyClients: Bool { places.contains { $0.isReady } }

  /// The nearest time at which `expire` has something to do.
  var deadline: Int? {
    var first = places.deadline
    for place in places.indices {
      if let deadline = places[place]?.deadline { first = min(first ?? deadline, deadline) }
    }
    return first
  }

  /// Whether a client was lost since this was last asked, for whatever reason but that another one needed its place.
  func takeLoss() -> Bool {
    defer { hasLostClient = false }
    return hasLostClient
  }

  /// Hangs up. A command that is held is dropped, since nobody would learn of its effect.
  func hangUp(_ place: Int) {
    if places[place] != nil { hasLostClient = true }
    places.free(place)
  }

  /// Stops listening and hangs up.
  func close() {
    places.stopListening()
    for place in places.indices { hangUp(place) }
  }

  /// Reads, and runs one command if it is there; and those that come while that is answered, for a millisecond at most:
  /// others wait.
  func serve(_ place: Int, _ mode: Mode, _ now: Int) {
    guard let client = places[place], !client.isHolding else { return }
    client.lastUse = now
    if client.isReady { return advance(place, client, mode, now) }
    // Looking costs less than waiting.
    while read(place, client, mode, now), Clock.now() == now {}
  }

  /// Reads, and runs a command if it is there. Whether it was answered, and nothing else of the client's is there.
  private func read(_ place: Int, _ client: DataClient, _ mode: Mode, _ now: Int) -> Bool {
    switch client.connection.receiveBytes() {
    case .nothing: return false
    case .hungUp:
      if client.connection.count > 0 { log.line(.left, "data channel: the client left in the middle of a command") }
      hangUp(place)
      return false
    case .some:
      advance(place, client, mode, now)
      return client.connection.count == 0 && places[place] === client
    }
  }

  /// Runs the commands that are held, or refuses them; one of each client's.
  func resume(_ mode: Mode, _ now: Int) {
    for place in places.indices {
      guard let client = places[place], client.isHolding else { continue }
      client.isHolding = false
      advance(place, client, mode, now)
    }
  }

  /// Ends what has begun and doesn't become whole.
  func expire(_ now: Int) {
    for place in places.indices {
      guard let client = places[place], let deadline = client.deadline, deadline <= now else { continue }
      switch client.framing {
      case .stream:
        log.line(.incomplete, "data channel: a command wasn't complete within \(Self.streamTimeout) ms")
        hangUp(place)
      case .single: if !refuse(client) { hangUp(place) }
      }
    }
    places.expire(now)
  }

  /// Says that commands are refused now: once, until the TPM is on again, however many there are. A guest may send as
  /// many as it likes.
  func noteRefusal(_ mode: Mode) {
    if let said = saidRefusal, said == (mode, tpm.starts) { return }
    saidRefusal = (mode, tpm.starts)
    log.write(
      mode == .unavailable
        ? "data channel: commands are refused: the image is another server's, or was until now"
        : "data channel: commands are refused: the TPM is off until INIT comes (see --flags not-need-init)"
    )
  }

  /// Runs the command at the front of the buffer where it is whole.
  private func advance(_ place: Int, _ client: DataClient, _ mode: Mode, _ now: Int) {
    client.isReady = false
    switch front(client) {
    case .nothing: client.deadline = nil
    case .incomplete: client.deadline = client.deadline ?? now + client.timeout
    case .impossible: return hangUp(place)
    case .wrongSize: if !refuse(client) { hangUp(place) }
    case .command(let command):
      client.deadline = nil
      if mode == .holding, !isProbe(client.connection, command) {
        client.isHolding = true
        return
      }
      guard answer(client, command, mode), !disconnects else { return hangUp(place) }
      noteNext(place, client, now)
    }
  }

  /// What is buffered behind a command that was run: another one, the beginning of one, or nothing.
  private func noteNext(_ place: Int, _ client: DataClient, _ now: Int) {
    switch front(client) {
    case .nothing: break
    case .incomplete: client.deadline = now + client.timeout
    case .impossible: hangUp(place)
    case .command, .wrongSize: client.isReady = true
    }
  }
}

extension DataClient {
  fileprivate var timeout: Int { framing == .stream ? DataChannel.streamTimeout : DataChannel.singleTimeout }
}
