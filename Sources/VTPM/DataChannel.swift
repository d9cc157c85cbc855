import Primitives

/// The channel of TPM commands: a command is a 10-byte header (tag, u32 size, code; big-endian) and the rest of its
/// size; the answer is the TPM's, in one write, when everything that the command stored is durable.
///
/// Before a command for a TPM 2.0 there may be a prefix (TCG's SEND_COMMAND: u32 8, u8 locality, u32 size of the
/// command): the locality is set, and stays; the response then comes as u32 size, response, u32 0.
///
/// A size that can't be closes the connection: where the next command would begin is then unknown.
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

  static let headerSize = 10
  static let prefixSize = 9
  static let maximumSize = 4096
  /// TPM2_ReadClock, which QEMU sends before INIT to find out by the answer's tag whether it talks
  /// to a TPM 2. It is answered at once in every mode but `running`.
  private static let probeCode: UInt32 = 0x0000_0181
  /// The kernel's vTPM proxy sets the locality by a command (TPM2_CC_SET_LOCALITY, TPM_ORD_SetLocality: the same
  /// number).
  private static let setLocalityCode: UInt32 = 0x2000_1000

  private let listener: ListeningSocket?
  private let tpm: TPM
  private let log: Log
  private let disconnects: Bool
  private let rejectsLocality4: Bool
  private let allowsSetLocality: Bool
  private var client: Connection?
  /// A response between its size and its acknowledgement; kept for its memory.
  private var framed: [UInt8] = []
  /// A whole command is buffered and waits for the TPM.
  private(set) var isHolding = false

  init(_ options: ServerOptions, tpm: TPM, log: Log) throws(TPMError) {
    (listener, client) = try openChannel(options.data)
    self.tpm = tpm
    self.log = log
    disconnects = options.data?.disconnects ?? false
    rejectsLocality4 = options.rejectsLocality4
    allowsSetLocality = options.allowsSetLocality
  }

  /// Whether there is a way in: a socket to listen on, or a client.
  var isOpen: Bool { listener != nil || client != nil }

  /// Takes a client that came over the control channel. Only where nothing is open.
  func adopt(_ descriptor: Int32) {
    precondition(!isOpen)
    client = Connection(adopting: descriptor)
  }

  /// To be polled for a client; -1 while there is one.
  var listeningDescriptor: Int32 { client == nil ? listener?.descriptor ?? -1 : -1 }

  /// To be polled for commands; while one is held (`isHolding`) only for the client's leaving.
  var clientDescriptor: Int32 { client?.descriptor ?? -1 }

  func acceptClient() {
    guard client == nil else { return }
    client = listener?.accept()
  }

  /// Stops listening and hangs up.
  func close() {
    listener?.remove()
    hangUp()
  }

  /// Reads and runs what came in. False where the client left or was made to.
  func serve(_ mode: Mode) -> Bool {
    guard let connection = client else { return true }
    switch connection.receive() {
    case .nothing: return true
    case .hungUp:
      if connection.count > 0 { log.line("data channel: the client left in the middle of a command") }
      hangUp()
      return false
    case .some: return drain(mode)
    }
  }

  /// The client left while its command was held: the command is dropped, since nobody would learn of its effect.
  func hangUp() {
    client = nil
    isHolding = false
  }

  /// Runs every whole command that is buffered. False where the client was hung up on.
  func drain(_ mode: Mode) -> Bool {
    isHolding = false
    while let connection = client {
      guard let next = next(connection) else {
        hangUp()
        return false
      }
      guard next.size > 0 else { return true }
      if mode == .holding, !isProbe(connection, next) {
        isHolding = true
        return true
      }
      guard answer(connection, next, mode) else {
        hangUp()
        return false
      }
    }
    return false
  }

  /// The command at the front of the buffer.
  private struct Next {
    /// The prefix's locality; nil where there is no prefix.
    var locality: UInt8?
    /// Without the prefix; 0 where it isn't complete.
    var size = 0

    var offset: Int { locality == nil ? 0 : DataChannel.prefixSize }
  }

  /// What is at the front; nil where it can't be a command.
  private func next(_ connection: Connection) -> Next? {
    var next = Next()
    guard connection.count >= Self.headerSize else { return next }
    if tpm.version == .tpm2, connection.peek(UInt32.self, at: 0) == 8 {
      next.locality = connection.peek(UInt8.self, at: 4)
      guard connection.count >= next.offset + Self.headerSize else { return next }
    }
    let size = connection.peek(UInt32.self, at: next.offset + 2)
    guard size >= Self.headerSize, size <= Self.maximumSize else {
      log.line("data channel: a command of \(size) bytes is refused; a command has 10 to 4096")
      return nil
    }
    guard next.locality == nil || connection.peek(UInt32.self, at: 5) == size else {
      log.line("data channel: a command of \(size) bytes is refused; the prefix says another size")
      return nil
    }
    if connection.count >= next.offset + Int(size) { next.size = Int(size) }
    return next
  }

  private func isProbe(_ connection: Connection, _ next: Next) -> Bool {
    next.size == Self.headerSize && connection.peek(UInt32.self, at: next.offset + 6) == Self.probeCode
  }

  /// Runs one command, or refuses it. False where the answer didn't reach the client, or it is to be hung up on.
  private func answer(_ connection: Connection, _ next: Next, _ mode: Mode) -> Bool {
    var sent = false
    func send(_ response: Span<UInt8>) { sent = self.send(response, connection, framed: next.locality != nil) }
    if next.offset > 0 { connection.drop(next.offset) }
    if let locality = next.locality {
      guard locality < (rejectsLocality4 ? 4 : 5) else {
        connection.drop(next.size)
        send(tpm.version.badLocality.span)
        return sent && !disconnects
      }
      tpm.locality = locality
    }
    if mode == .running, connection.peek(UInt32.self, at: 6) == Self.setLocalityCode {
      let locality = next.size > Self.headerSize ? connection.peek(UInt8.self, at: Self.headerSize) : nil
      connection.drop(next.size)
      send(setLocality(locality).span)
      return sent && !disconnects
    }
    connection.consume(next.size) { command in
      guard mode == .running else {
        return send((mode == .unavailable ? tpm.version.unavailable : tpm.version.failure).span)
      }
      do throws(TPMError) {
        try tpm.process(command) { send($0) }
      } catch {
        log.line("data channel: \(error)")
        send(tpm.version.failure.span)
      }
    }
    if !sent { log.line("data channel: the client doesn't take its response") }
    return sent && !disconnects
  }

  private func setLocality(_ locality: UInt8?) -> [UInt8] {
    guard let locality else { return tpm.version.tooShort }
    guard allowsSetLocality else { return tpm.version.failure }
    guard locality < (rejectsLocality4 ? 4 : 5) else { return tpm.version.badLocality }
    tpm.locality = locality
    return tpm.version.response(0)
  }

  private func send(_ response: Span<UInt8>, _ connection: Connection, framed isFramed: Bool) -> Bool {
    guard isFramed else { return connection.send(response) }
    framed.removeAll(keepingCapacity: true)
    for shift in [24, 16, 8, 0] { framed.append(UInt8(truncatingIfNeeded: response.count >> shift)) }
    for i in 0..<response.count { framed.append(response[i]) }
    framed += [0, 0, 0, 0]
    defer { for i in framed.indices { framed[i] = 0 } }
    return connection.send(framed.span)
  }
}
