import Glibc
import Primitives
import SwtpmFormat

/// swtpm's control channel. It has no framing: u32 command and body, big-endian; the response is the body alone, in one
/// write as far as the client's socket has room. A message that isn't complete within 500 ms, or data of one that stop
/// coming for as long, close the connection, and so do data and responses that take a minute in all; what comes with a
/// message beyond its body is padding and dropped.
///
/// Several clients may be there, and each message is executed by itself: QEMU keeps its connection as long as it runs,
/// and others look in, or end the server. At most two wait for their INIT or LOCK_STORAGE; who asks for it then is
/// refused.
final class ControlChannel {
  static let maximumClients = 8
  static let maximumHeld = 2
  static let messageTimeout = 500
  /// How long a client may take nothing of a response that is too large for its socket.
  static let responseTimeout = 10_000
  /// How long one message, and its response, may take at most.
  static let exchangeTimeout = 60_000

  /// A command whose client is answered later.
  enum Held {
    case initialize
    case lockStorage
    case shutdown
  }

  final class Client: PlacedClient {
    let connection: Connection
    var lastUse: Int
    /// When the rest of a message must be there, or more of a response be taken; nil between messages.
    private(set) var deadline: Int?
    /// When all of that must be over.
    private var latest: Int?
    var held: Held?
    /// What becomes of a message's data, which are still coming.
    var transfer: Transfer?
    /// It has sent INIT or SET_DATAFD, or was handed over: the machine's own, which couldn't go on without its place.
    var isMachines = false

    init(_ connection: Connection, _ now: Int) {
      self.connection = connection
      lastUse = now
    }

    var maySpareItsPlace: Bool {
      !isMachines && held == nil && transfer == nil && connection.count == 0 && !connection.hasOutput
    }

    /// Puts the deadline `time` milliseconds away, and never beyond what the whole may take.
    func extend(_ now: Int, by time: Int) {
      latest = latest ?? now + ControlChannel.exchangeTimeout
      deadline = min(now + time, latest ?? .max)
    }

    /// The deadline of what has only begun stays where it is.
    func begin(_ now: Int, within time: Int) { if deadline == nil { extend(now, by: time) } }

    func finish() { (deadline, latest) = (nil, nil) }
  }

  let tpm: TPM
  let log: Log
  let stateKey: (any SwtpmStateCipher)?
  let migrationKey: SwtpmKey?
  let rejectsLocality4: Bool
  unowned let host: any ControlHost
  let clients: ClientPlaces<Client>
  /// A client was hung up on, or left, since `takeLoss`.
  private var hasLostClient = false
  private var refusals: RefusalLog
  /// The response that is being built; kept for its memory.
  var out: [UInt8] = []

  init(_ options: ServerOptions, tpm: TPM, host: any ControlHost, log: Log) throws(TPMError) {
    let (listener, connection) = try openChannel(options.control)
    let client = connection.map { Client($0, 0) }
    client?.isMachines = true
    clients = ClientPlaces("control", listener, client, count: Self.maximumClients, log: log)
    self.tpm = tpm
    self.host = host
    self.log = log
    refusals = RefusalLog(log)
    stateKey = options.stateKey
    migrationKey = options.migrationKey
    rejectsLocality4 = options.rejectsLocality4
  }

  // MARK: - For the server's loop

  func acceptClient(_ now: Int) { clients.acceptClient(now) }
  var hasClients: Bool { !clients.isEmpty }

  /// Has `set` report messages; where one is held only the client's leaving, and where a response waits for room only
  /// that; and who comes.
  func wait(in set: EventSet) {
    for place in clients.indices {
      guard let client = clients[place] else { continue }
      let events: EventSet.Events = client.held != nil ? .leaving : client.connection.hasOutput ? .output : .input
      if !client.connection.wait(for: events, at: EventPlace.controlClients.lowerBound + place, in: set) {
        say("hanging up on a client that the kernel can't tell of")
        hangUp(place)
      }
    }
    clients.waitForClients(at: EventPlace.controlListener, in: set)
  }

  func isHeld(_ place: Int) -> Bool { clients[place]?.held != nil }
  func hasHeldClients(_ held: Held) -> Bool { clients.contains { $0.held == held } }

  /// The nearest time at which `expire` has something to do.
  var deadline: Int? {
    var first = clients.deadline
    for place in clients.indices {
      if let deadline = clients[place]?.deadline { first = min(first ?? deadline, deadline) }
    }
    return first
  }

  func hangUp(_ place: Int) {
    if clients[place] != nil { hasLostClient = true }
    clients.free(place)
  }

  /// Whether a client was lost since this was last asked, for whatever reason but that another one needed its place.
  func takeLoss() -> Bool {
    defer { hasLostClient = false }
    return hasLostClient
  }

  /// Stops listening and hangs up, but on who waits for this.
  func close(keeping held: Held? = nil) {
    clients.stopListening()
    for place in clients.indices where held == nil || clients[place]?.held != held { hangUp(place) }
  }

  /// Hangs up on clients whose message didn't become complete in time.
  func expire(_ now: Int) {
    for place in clients.indices {
      guard let client = clients[place], let deadline = client.deadline, deadline <= now else { continue }
      if client.connection.hasOutput {
        log.line("control channel: the client doesn't take its response")
      } else {
        log.line("control channel: a message wasn't complete within \(Self.messageTimeout) ms")
      }
      hangUp(place)
    }
    clients.expire(now)
  }

  /// Reads and answers.
  func serve(_ place: Int, _ now: Int) {
    guard let client = clients[place], client.held == nil else { return }
    client.lastUse = now
    if client.connection.hasOutput { return flush(place, client, now) }
    switch client.connection.receive() {
    case .nothing: return
    case .hungUp: return hangUp(place)
    case .some: break
    }
    if client.transfer == nil {
      guard isWhole(client.connection) else { return client.begin(now, within: Self.messageTimeout) }
      out.removeAll(keepingCapacity: true)
      begin(client)
    }
    if let transfer = client.transfer {
      guard advance(transfer, client.connection) else { return client.extend(now, by: Self.messageTimeout) }
      client.transfer = nil
    }
    client.finish()
    client.connection.drop(client.connection.count)
    client.connection.dropDescriptor()
    if client.held == nil { send(place, client, now) }
  }

  /// Whether all of a message is there, up to data of a length of their own.
  private func isWhole(_ connection: Connection) -> Bool {
    guard connection.count >= 4 else { return false }
    let command = ControlCommand(rawValue: connection.peek(UInt32.self, at: 0))
    return connection.count >= 4 + (command?.bodySize ?? 0)
  }

  /// Executes a command, or prepares for its data.
  private func begin(_ client: Client) {
    let number = client.connection.peek(UInt32.self, at: 0)
    guard let command = ControlCommand(rawValue: number) else {
      return refuse(Refusal(.badOrdinal, "there is no such command"), "command 0x\(String(number, radix: 16))")
    }
    if command.mayBeHeld, clients.indices.count(where: isHeld) >= Self.maximumHeld {
      return refuse(Refusal(.fail, "too many clients wait already"), command.name)
    }
    if command.isMachines { client.isMachines = true }
    if let lengthOffset = command.lengthOffset {
      client.transfer = transfer(
        command, client.connection, length: Int(client.connection.peek(UInt32.self, at: 4 + lengthOffset)))
      client.connection.drop(4 + command.bodySize)
    } else {
      client.held = execute(command, client.connection)
    }
  }

  /// Answers everyone who waits for this.
  func answerHeld(_ held: Held, _ result: TPMResult) {
    for place in clients.indices {
      guard let client = clients[place], client.held == held else { continue }
      client.held = nil
      out.removeAll(keepingCapacity: true)
      put(result)
      send(place, client, client.lastUse)
    }
    out.removeAll(keepingCapacity: true)
  }

  /// Sends what was built, or hangs up.
  private func send(_ place: Int, _ client: Client, _ now: Int) {
    defer {
      // What is larger than any other response is a state.
      if out.count > Connection.capacity { wipe(&out) }
    }
    guard client.connection.sendOrKeep(out.span) else { return dropSlow(place) }
    if client.connection.hasOutput { client.extend(now, by: Self.responseTimeout) }
  }

  private func flush(_ place: Int, _ client: Client, _ now: Int) {
    guard client.connection.flush() else { return dropSlow(place) }
    if client.connection.hasOutput { client.extend(now, by: Self.responseTimeout) } else { client.finish() }
  }

  private func dropSlow(_ place: Int) {
    log.line("control channel: the client doesn't take its response")
    hangUp(place)
  }

  // MARK: - Building a response

  func put<T: FixedWidthInteger & UnsignedInteger>(_ value: T) {
    for shift in stride(from: T.bitWidth - 8, through: 0, by: -8) {
      out.append(UInt8(truncatingIfNeeded: value >> T(shift)))
    }
  }

  func put(_ result: TPMResult) { put(result.rawValue) }

  // MARK: - Refusing

  /// The log says why.
  func note(_ refusal: Refusal, _ command: String) {
    say("\(command) is answered with \(refusal.result): \(refusal.reason)")
  }

  /// Logs why a client is refused, as often as `RefusalLog` lets it.
  func say(_ why: String) { refusals.line("control channel: \(why)") }

  /// Answers with a bare result.
  func refuse(_ refusal: Refusal, _ command: String) {
    note(refusal, command)
    put(refusal.result)
  }

  func refuse(_ command: ControlCommand, _ result: TPMResult, _ reason: String) {
    refuse(Refusal(result, reason), command.name)
  }

  /// Answers with what libtpms said.
  func put(_ result: TPMResult, of command: ControlCommand) {
    if result != .success { note(Refusal(result, "libtpms says so"), command.name) }
    put(result)
  }
}
