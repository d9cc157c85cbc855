import Glibc
import Primitives

/// What the control channel asks of the server: the TPM's power and the server's end.
protocol PowerControl: AnyObject {
  /// INIT. Nil where the store isn't ready: the client is held, and answered by `answerHeld` later.
  func initialize(deletingVolatileState: Bool) -> TPMResult?
  /// STOP.
  func stop()
  /// SHUTDOWN: ends the server once the answer is sent.
  func shutDown()
}

/// swtpm's control channel. It has no framing: u32 command and body, big-endian; the response is the body alone, in one
/// write. A message that isn't complete within 500 ms closes the connection; what comes with a message beyond its body
/// is padding and dropped.
///
/// One client at a time, the others wait to be accepted; but while a client waits for its INIT one more is let in, so
/// that a server that waits for a key can still be asked and ended.
final class ControlChannel {
  static let maximumClients = 2
  static let messageTimeout = 500

  private final class Client {
    let connection: Connection
    /// When the rest of a message must be there; nil between messages.
    var deadline: Int?
    /// Waits for the answer to INIT.
    var isHeld = false

    init(_ connection: Connection) { self.connection = connection }
  }

  private let listener: ListeningSocket?
  private let tpm: TPM
  private let log: Log
  private unowned let power: any PowerControl
  private var clients = [Client?](repeating: nil, count: ControlChannel.maximumClients)
  /// The response that is being built; kept for its memory.
  private var out: [UInt8] = []

  init(_ options: ChannelOptions?, tpm: TPM, power: any PowerControl, log: Log) throws(TPMError) {
    let (listener, client) = try openChannel(options)
    self.listener = listener
    if let client { clients[0] = Client(client) }
    self.tpm = tpm
    self.power = power
    self.log = log
  }

  // MARK: - For the poll loop

  /// To be polled for a client; -1 while none can be taken.
  var listeningDescriptor: Int32 { vacancy == nil ? -1 : listener?.descriptor ?? -1 }

  /// To be polled for messages, or, where held, for the client's leaving only. -1 for an empty place.
  func descriptor(_ place: Int) -> Int32 { clients[place]?.connection.descriptor ?? -1 }
  func isHeld(_ place: Int) -> Bool { clients[place]?.isHeld ?? false }
  var hasHeldClients: Bool { clients.contains { $0?.isHeld == true } }

  /// The nearest time at which `expire` has something to do.
  var deadline: Int? { clients.compactMap { $0?.deadline }.min() }

  /// The place for one more client: there is one where every client is held.
  private var vacancy: Int? {
    guard clients.allSatisfy({ $0?.isHeld ?? true }) else { return nil }
    return clients.firstIndex { $0 == nil }
  }

  func acceptClient() {
    guard let place = vacancy, let connection = listener?.accept() else { return }
    clients[place] = Client(connection)
  }

  func hangUp(_ place: Int) { clients[place] = nil }

  /// Stops listening and hangs up.
  func close() {
    listener?.remove()
    for place in clients.indices { hangUp(place) }
  }

  /// Hangs up on clients whose message didn't become complete in time.
  func expire(_ now: Int) {
    for place in clients.indices {
      guard let deadline = clients[place]?.deadline, deadline <= now else { continue }
      log.line("control channel: a message wasn't complete within \(Self.messageTimeout) ms")
      hangUp(place)
    }
  }

  /// Reads and answers. False where the client left or was made to.
  func serve(_ place: Int, _ now: Int) -> Bool {
    guard let client = clients[place], !client.isHeld else { return true }
    switch client.connection.receive() {
    case .nothing: return true
    case .hungUp:
      hangUp(place)
      return false
    case .some: break
    }
    guard client.connection.count >= 4 else {
      client.deadline = client.deadline ?? now + Self.messageTimeout
      return true
    }
    let number = client.connection.peek(UInt32.self, at: 0)
    let command = ControlCommand(rawValue: number)
    guard client.connection.count >= 4 + (command?.bodySize ?? 0) else {
      client.deadline = client.deadline ?? now + Self.messageTimeout
      return true
    }
    client.deadline = nil
    out.removeAll(keepingCapacity: true)
    if let command {
      client.isHeld = !execute(command, client.connection)
    } else {
      log.line("control channel: command 0x\(String(number, radix: 16)) is not known")
      put(.badOrdinal)
    }
    client.connection.drop(client.connection.count)
    return client.isHeld || send(place)
  }

  /// Answers every INIT that waits.
  func answerHeld(_ result: TPMResult) {
    for (place, client) in clients.enumerated() {
      guard let client, client.isHeld else { continue }
      client.isHeld = false
      out.removeAll(keepingCapacity: true)
      put(result)
      _ = send(place)
    }
    out.removeAll(keepingCapacity: true)
  }

  private func send(_ place: Int) -> Bool {
    if clients[place]?.connection.send(out.span) == true { return true }
    log.line("control channel: the client doesn't take its response")
    hangUp(place)
    return false
  }

  // MARK: - Commands

  private func put<T: FixedWidthInteger & UnsignedInteger>(_ value: T) {
    for shift in stride(from: T.bitWidth - 8, through: 0, by: -8) {
      out.append(UInt8(truncatingIfNeeded: value >> T(shift)))
    }
  }

  private func put(_ result: TPMResult) { put(result.rawValue) }

  /// Puts the response into `out`. False where there is none yet.
  private func execute(_ command: ControlCommand, _ message: Connection) -> Bool {
    guard tpm.isRunning || !command.needsRunning else {
      put(.badOrdinal)
      return true
    }
    switch command {
    case .getCapability: put(ControlCommand.capabilities)
    case .initialize:
      let flags = message.peek(UInt32.self, at: 4)
      guard let result = power.initialize(deletingVolatileState: flags & 1 != 0) else { return false }
      put(result)
    case .shutdown:
      power.shutDown()
      put(.success)
    case .stop:
      power.stop()
      put(.success)
    case .getTPMEstablished: getEstablished()
    case .resetTPMEstablished:
      let locality = message.peek(UInt8.self, at: 4)
      put(locality > 4 ? .badLocality : tpm.resetEstablished(locality: locality))
    case .setLocality:
      let locality = message.peek(UInt8.self, at: 4)
      if locality <= 4 { tpm.locality = locality }
      put(locality > 4 ? .badLocality : .success)
    case .cancelTPMCommand:
      // One thread runs commands and reads this channel, so no command is under way, and there is nothing to cancel.
      put(.success)
    case .storeVolatile: storeVolatile()
    case .getConfig:
      // No key of swtpm's kind is in use: the states' keys are the store's.
      put(.success)
      put(UInt32(0))
    case .setBufferSize: setBufferSize(message.peek(UInt32.self, at: 4))
    case .getInfo:
      getInfo(flags: message.peek(UInt64.self, at: 4), offset: message.peek(UInt32.self, at: 12))
    }
    return true
  }

  private func getEstablished() {
    do throws(TPMError) {
      let bit = try tpm.isEstablished()
      put(.success)
      out += [bit ? 1 : 0, 0, 0, 0]
    } catch {
      log.line("control channel: \(error)")
      put(error.result)
      put(UInt32(0))
    }
  }

  private func storeVolatile() {
    do throws(TPMError) {
      try tpm.storeVolatileState()
      put(.success)
    } catch {
      log.line("control channel: \(error)")
      put(error.result)
    }
  }

  private func setBufferSize(_ wanted: UInt32) {
    guard wanted == 0 || !tpm.isRunning else { return put(.badOrdinal) }
    let (size, minimum, maximum) = tpm.setBufferSize(wanted)
    put(.success)
    put(size)
    put(minimum)
    put(maximum)
  }

  private func getInfo(flags: UInt64, offset: UInt32) {
    guard let text = tpm.info(flags: UInt32(truncatingIfNeeded: flags)) else { return put(.fail) }
    guard Int(offset) < text.count else { return put(.badParameter) }
    let part = text[Int(offset)...].prefix(Connection.capacity - 12)
    put(.success)
    put(UInt32(text.count))
    put(UInt32(part.count))
    out += part
  }
}
