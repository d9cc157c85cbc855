import Glibc
import Primitives
import SwtpmFormat

/// swtpm's control channel. It has no framing: u32 command and body, big-endian; the response is the body alone, in one
/// write as far as the client's socket has room. A message that isn't complete within 500 ms, or data of one that stop
/// coming for as long, close the connection; what comes with a message beyond its body is padding and dropped.
///
/// One client at a time, the others wait to be accepted; but while clients wait for their INIT or LOCK_STORAGE one more
/// is let in, so that a server that waits for a key can still be asked and ended. The last place is for that alone: who has
/// it doesn't wait, and is refused INIT and LOCK_STORAGE.
final class ControlChannel {
  static let maximumClients = 3
  static let messageTimeout = 500
  /// How long a client may take nothing of a response that is too large for its socket.
  static let responseTimeout = 10_000

  /// A command whose client is answered later.
  enum Held {
    case initialize
    case lockStorage
  }

  final class Client {
    let connection: Connection
    /// When the rest of a message must be there, or more of a response be taken; nil between messages.
    var deadline: Int?
    var held: Held?
    /// What becomes of a message's data, which are still coming.
    var transfer: Transfer?

    init(_ connection: Connection) { self.connection = connection }
  }

  private let listener: ListeningSocket?
  let tpm: TPM
  let log: Log
  let hasStateKey: Bool
  let migrationKey: SwtpmKey?
  let rejectsLocality4: Bool
  unowned let host: any ControlHost
  private var clients = [Client?](repeating: nil, count: ControlChannel.maximumClients)
  /// A client was hung up on, or left, since `takeLoss`.
  private var hasLostClient = false
  /// The response that is being built; kept for its memory.
  var out: [UInt8] = []

  init(_ options: ServerOptions, tpm: TPM, host: any ControlHost, log: Log) throws(TPMError) {
    let (listener, client) = try openChannel(options.control)
    self.listener = listener
    if let client { clients[0] = Client(client) }
    self.tpm = tpm
    self.host = host
    self.log = log
    hasStateKey = options.hasStateKey
    migrationKey = options.migrationKey
    rejectsLocality4 = options.rejectsLocality4
  }

  // MARK: - For the poll loop

  /// To be polled for a client; -1 while none can be taken.
  var listeningDescriptor: Int32 { vacancy == nil ? -1 : listener?.descriptor ?? -1 }

  /// To be polled for messages, or, where held, for the client's leaving only. -1 for an empty place.
  func descriptor(_ place: Int) -> Int32 { clients[place]?.connection.descriptor ?? -1 }
  func isHeld(_ place: Int) -> Bool { clients[place]?.held != nil }
  /// To be polled for room, and for nothing else: the next message waits.
  func hasOutput(_ place: Int) -> Bool { clients[place]?.connection.hasOutput ?? false }
  func hasHeldClients(_ held: Held) -> Bool { clients.contains { $0?.held == held } }

  /// The nearest time at which `expire` has something to do.
  var deadline: Int? {
    var first: Int?
    for client in clients {
      if let deadline = client?.deadline { first = min(first ?? deadline, deadline) }
    }
    return first
  }

  /// The place for one more client: there is one where every client is held.
  private var vacancy: Int? {
    guard clients.allSatisfy({ $0 == nil || $0?.held != nil }) else { return nil }
    return clients.firstIndex { $0 == nil }
  }

  func acceptClient() {
    guard let place = vacancy, let connection = listener?.accept() else { return }
    clients[place] = Client(connection)
  }

  func hangUp(_ place: Int) {
    if clients[place] != nil { hasLostClient = true }
    clients[place] = nil
  }

  /// Whether a client was lost since this was last asked, for whatever reason.
  func takeLoss() -> Bool {
    defer { hasLostClient = false }
    return hasLostClient
  }

  /// Stops listening and hangs up.
  func close() {
    listener?.remove()
    for place in clients.indices { hangUp(place) }
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
  }

  /// Reads and answers.
  func serve(_ place: Int, _ now: Int) {
    guard let client = clients[place], client.held == nil else { return }
    if client.connection.hasOutput { return flush(place, client, now) }
    switch client.connection.receive() {
    case .nothing: return
    case .hungUp: return hangUp(place)
    case .some: break
    }
    if client.transfer == nil {
      guard isWhole(client.connection) else {
        client.deadline = client.deadline ?? now + Self.messageTimeout
        return
      }
      out.removeAll(keepingCapacity: true)
      begin(client, isLast: clients.indices.allSatisfy { $0 == place || isHeld($0) })
    }
    if let transfer = client.transfer {
      guard advance(transfer, client.connection) else {
        client.deadline = now + Self.messageTimeout
        return
      }
      client.transfer = nil
    }
    client.deadline = nil
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

  /// Executes a command, or prepares for its data. `isLast`: all the others are held, and there is no place for one more.
  private func begin(_ client: Client, isLast: Bool) {
    let number = client.connection.peek(UInt32.self, at: 0)
    guard let command = ControlCommand(rawValue: number) else {
      log.line("control channel: command 0x\(String(number, radix: 16)) is not known")
      return put(.badOrdinal)
    }
    if isLast, command.mayBeHeld {
      log.line("control channel: too many clients wait already")
      return put(.fail)
    }
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
    for (place, client) in clients.enumerated() {
      guard let client, client.held == held else { continue }
      client.held = nil
      out.removeAll(keepingCapacity: true)
      put(result)
      send(place, client, 0)
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
    if client.connection.hasOutput { client.deadline = now + Self.responseTimeout }
  }

  private func flush(_ place: Int, _ client: Client, _ now: Int) {
    guard client.connection.flush() else { return dropSlow(place) }
    client.deadline = client.connection.hasOutput ? now + Self.responseTimeout : nil
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
}
