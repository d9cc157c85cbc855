/// A client of the data channel.
final class DataClient: PlacedClient {
  /// Where a command begins and ends.
  enum Framing {
    /// Of one that connected: commands follow each other, each with a prefix or without.
    case stream
    /// Of one that was handed over as a descriptor, as QEMU's: what comes are a guest's own bytes. They are one
    /// command, and more comes only when it was answered. What follows it before is dropped.
    case single
  }

  let connection: Connection
  let framing: Framing
  /// TPM2_CC_SET_LOCALITY is looked at. Not on a descriptor that came by SET_DATAFD: the command is for the host's
  /// kernel, and what comes there is a guest's.
  let mayNameLocality: Bool
  var lastUse: Int
  /// When a command that has begun must be whole; nil where none has.
  var deadline: Int?
  /// A whole command is buffered and waits for the TPM.
  var isHolding = false
  /// A whole command is buffered, behind one that was just run.
  var isReady = false

  init(_ connection: Connection, _ now: Int) {
    self.connection = connection
    (framing, mayNameLocality, lastUse) = (.stream, true, now)
  }

  /// One that was handed over.
  init(handedOver connection: Connection, mayNameLocality: Bool) {
    self.connection = connection
    framing = .single
    self.mayNameLocality = mayNameLocality
    lastUse = 0
  }

  var maySpareItsPlace: Bool { framing == .stream && connection.count == 0 }
}
