import Primitives

// What a command is, and what is answered.
//
// Where clients connect, a command for a TPM 2.0 may have a prefix (TCG's SEND_COMMAND: u32 8, u8 locality, u32 size of
// the command): it has that locality, and no other one does; the response then comes as u32 size, response, u32 0. A
// size that can't be closes the connection: where the next command would begin is then unknown.
//
// A client that was handed over sends a guest's bytes: none of them is a prefix, each command gets one response, which
// is a TPM's and no longer than the TPM's buffer (QEMU believes its size), and a command whose size isn't what came
// gets TPM_RC_COMMAND_SIZE. QEMU 7.2 passes on what a guest wrote: of a size below 10 so many bytes, of one beyond its
// buffer a whole buffer.
extension DataChannel {
  static let headerSize = 10
  static let prefixSize = 9
  static let maximumSize = 4096
  /// TPM2_ReadClock, which QEMU sends before INIT to find out by the answer's tag whether it talks
  /// to a TPM 2. It is answered at once in every mode but `running`.
  private static let probeCode: UInt32 = 0x0000_0181
  /// The kernel's vTPM proxy sets the locality by a command (TPM2_CC_SET_LOCALITY, TPM_ORD_SetLocality: the same
  /// number).
  private static let setLocalityCode: UInt32 = 0x2000_1000

  /// What is at the front of a client's buffer.
  enum Front {
    case nothing
    case incomplete
    case command(Command)
    /// To be answered as such, and dropped with all that came.
    case wrongSize
    /// To be hung up on.
    case impossible
  }

  struct Command {
    /// The prefix's locality; nil where there is no prefix.
    var locality: UInt8?
    /// Without the prefix.
    var size = 0

    var offset: Int { locality == nil ? 0 : DataChannel.prefixSize }
  }

  // MARK: - Where it begins and ends

  func front(_ client: DataClient) -> Front {
    let connection = client.connection
    guard connection.count > 0 else { return .nothing }
    guard connection.count >= Self.headerSize else { return .incomplete }
    return client.framing == .single ? only(connection) : next(connection)
  }

  private func only(_ connection: Connection) -> Front {
    let size = connection.peek(UInt32.self, at: 2)
    guard size >= Self.headerSize, size <= Self.maximumSize, connection.count <= size else { return .wrongSize }
    return connection.count < size ? .incomplete : .command(Command(size: Int(size)))
  }

  private func next(_ connection: Connection) -> Front {
    var command = Command()
    if tpm.version == .tpm2, connection.peek(UInt32.self, at: 0) == 8 {
      command.locality = connection.peek(UInt8.self, at: 4)
      guard connection.count >= command.offset + Self.headerSize else { return .incomplete }
    }
    let size = connection.peek(UInt32.self, at: command.offset + 2)
    guard size >= Self.headerSize, size <= Self.maximumSize else {
      log.line(.size, "data channel: a command of \(size) bytes is refused; a command has 10 to 4096")
      return .impossible
    }
    guard command.locality == nil || connection.peek(UInt32.self, at: 5) == size else {
      log.line(.size, "data channel: a command of \(size) bytes is refused; the prefix says another size")
      return .impossible
    }
    guard connection.count >= command.offset + Int(size) else { return .incomplete }
    command.size = Int(size)
    return .command(command)
  }

  func isProbe(_ connection: Connection, _ command: Command) -> Bool {
    command.size == Self.headerSize && connection.peek(UInt32.self, at: command.offset + 6) == Self.probeCode
  }

  // MARK: - Answers

  /// Answers a command whose size isn't what came, and drops what did. False where the answer didn't reach the client.
  func refuse(_ client: DataClient) -> Bool {
    log.line(.size, "data channel: a command is refused; its size is not what came")
    client.deadline = nil
    client.connection.drop(client.connection.count)
    return send(tpm.version.wrongSize.span, client, framed: false)
  }

  /// Runs one command, or refuses it. False where the answer didn't reach the client.
  func answer(_ client: DataClient, _ command: Command, _ mode: Mode) -> Bool {
    let connection = client.connection
    if mode != .running, !isProbe(connection, command) { noteRefusal(mode) }
    if command.offset > 0 { connection.drop(command.offset) }
    var sent = false
    func send(_ response: Span<UInt8>) { sent = self.send(response, client, framed: command.locality != nil) }
    if let locality = command.locality, locality >= localityCount {
      log.line(
        .locality, "data channel: a command with locality \(locality) is refused; 0 to \(localityCount - 1) may be used"
      )
      connection.drop(command.size)
      send(tpm.version.badLocality.span)
    } else if mode == .running, connection.peek(UInt32.self, at: 6) == Self.setLocalityCode {
      let locality = command.size > Self.headerSize ? connection.peek(UInt8.self, at: Self.headerSize) : nil
      connection.drop(command.size)
      let answer = client.mayNameLocality ? setLocality(locality) : tpm.version.failure
      if answer != tpm.version.response(0) {
        log.line(
          .locality, "data channel: a command that sets the locality is refused (see --locality allow-set-locality)")
      }
      send(answer.span)
    } else {
      connection.consume(command.size) { bytes in run(bytes, at: command.locality ?? tpm.locality, mode) { send($0) } }
    }
    return sent
  }

  private func run(
    _ command: consuming MutableSpan<UInt8>, at locality: UInt8, _ mode: Mode, respond: (Span<UInt8>) -> Void
  ) {
    guard mode == .running else {
      return respond((mode == .unavailable ? tpm.version.unavailable : tpm.version.failure).span)
    }
    // What SET_LOCALITY said holds again for the next one.
    let standing = tpm.locality
    tpm.locality = locality
    defer { tpm.locality = standing }
    do throws(TPMError) {
      try tpm.process(command) { respond($0) }
    } catch {
      log.line(.libtpms, "data channel: \(error)")
      respond(tpm.version.failure.span)
    }
  }

  private var localityCount: UInt8 { rejectsLocality4 ? 4 : 5 }

  private func setLocality(_ locality: UInt8?) -> [UInt8] {
    guard let locality else { return tpm.version.tooShort }
    guard allowsSetLocality else { return tpm.version.failure }
    guard locality < localityCount else { return tpm.version.badLocality }
    tpm.locality = locality
    return tpm.version.response(0)
  }

  private func send(_ response: Span<UInt8>, _ client: DataClient, framed isFramed: Bool) -> Bool {
    // QEMU 7.2 reads as many bytes as a response says that it has, whatever its buffer is.
    guard isWhole(response) else {
      log.line(.libtpms, "data channel: libtpms gave a response of a wrong size")
      return send(tpm.version.failure.span, client, framed: isFramed)
    }
    if client.framing == .single { client.connection.discardUnread() }
    let sent = isFramed ? sendFramed(response, client.connection) : client.connection.send(response)
    if !sent { log.line(.slow, "data channel: the client doesn't take its response") }
    return sent
  }

  private func isWhole(_ response: Span<UInt8>) -> Bool {
    response.count >= Self.headerSize && response.loadBigEndian(UInt32.self, at: 2) == response.count
      && response.count <= tpm.setBufferSize(0).size
  }

  private func sendFramed(_ response: Span<UInt8>, _ connection: Connection) -> Bool {
    framed.removeAll(keepingCapacity: true)
    for shift in [24, 16, 8, 0] { framed.append(UInt8(truncatingIfNeeded: response.count >> shift)) }
    for i in 0..<response.count { framed.append(response[i]) }
    framed += [0, 0, 0, 0]
    defer { for i in framed.indices { framed[i] = 0 } }
    return connection.send(framed.span)
  }
}
