import Primitives

/// The channel of TPM commands: a command is a 10-byte header (tag, u32 size, code; big-endian) and the rest of its
/// size; the answer is the TPM's, in one write, when everything that the command stored is durable.
///
/// A size that can't be closes the connection: where the next command would begin is then unknown. swtpm's optional
/// prefix (u32 8, u8 locality, u32 size) isn't understood yet; it belongs into `next`, before the header.
final class DataChannel {
  /// What becomes of a command.
  enum Mode {
    /// The TPM is off and nobody asked for it: TPM_RC_FAILURE, as swtpm answers.
    case refusing
    /// The TPM is about to be powered on: the command waits.
    case holding
    case running
  }

  static let headerSize = 10
  static let maximumSize = 4096
  /// TPM2_GetCapability without a body, which QEMU sends before INIT to find out by the answer's tag whether it talks
  /// to a TPM 2. It is answered at once in every mode but `running`.
  private static let probeCode: UInt32 = 0x0000_0181
  private static let failure: [UInt8] = [0x80, 0x01, 0, 0, 0, 10, 0, 0, 0x01, 0x01]

  private let listener: ListeningSocket?
  private let tpm: TPM
  private let log: Log
  private let disconnects: Bool
  private var client: Connection?
  /// A whole command is buffered and waits for the TPM.
  private(set) var isHolding = false

  init(_ options: ChannelOptions?, tpm: TPM, log: Log) throws(TPMError) {
    (listener, client) = try openChannel(options)
    self.tpm = tpm
    self.log = log
    disconnects = options?.disconnects ?? false
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
      guard let size = next(connection) else {
        hangUp()
        return false
      }
      guard size > 0 else { return true }
      if mode == .holding, !isProbe(connection, size) {
        isHolding = true
        return true
      }
      guard answer(connection, size, mode) else {
        hangUp()
        return false
      }
    }
    return false
  }

  /// The size of the command at the front of the buffer, 0 where it isn't complete, nil where it can't be one.
  private func next(_ connection: Connection) -> Int? {
    guard connection.count >= Self.headerSize else { return 0 }
    let size = connection.peek(UInt32.self, at: 2)
    guard size >= Self.headerSize, size <= Self.maximumSize else {
      log.line("data channel: a command of \(size) bytes is refused; a command has 10 to 4096")
      return nil
    }
    return connection.count >= Int(size) ? Int(size) : 0
  }

  private func isProbe(_ connection: Connection, _ size: Int) -> Bool {
    size == Self.headerSize && connection.peek(UInt32.self, at: 6) == Self.probeCode
  }

  /// Runs one command, or refuses it. False where the answer didn't reach the client, or it is to be hung up on.
  private func answer(_ connection: Connection, _ size: Int, _ mode: Mode) -> Bool {
    var sent = false
    connection.consume(size) { command in
      guard mode == .running else {
        sent = connection.send(Self.failure.span)
        return
      }
      do throws(TPMError) {
        try tpm.process(command) { sent = connection.send($0) }
      } catch {
        log.line("data channel: \(error)")
        sent = connection.send(Self.failure.span)
      }
    }
    if !sent { log.line("data channel: the client doesn't take its response") }
    return sent && !disconnects
  }
}
