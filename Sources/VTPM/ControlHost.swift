/// What the control channel asks of the server: the TPM's power, the store's lock, the data channel and the server's
/// end. An answer of nil says that there is none yet: the client is held, and answered by `ControlChannel.answerHeld`
/// later.
protocol ControlHost: AnyObject {
  /// INIT. Nil where the store isn't ready.
  func initialize(deletingVolatileState: Bool) -> TPMResult?
  /// STOP.
  func stop()
  /// SHUTDOWN: ends the server. Its client is held, and answered when nothing of the server is left that another one
  /// could miss.
  func shutDown()
  /// LOCK_STORAGE. Nil while another process has the store and there are tries left, of 10 ms each.
  func lockStorage(tries: UInt32) -> TPMResult?
  /// SET_DATAFD. The descriptor is taken in any case. Nil where it is the data channel now.
  func setDataClient(_ descriptor: Int32) -> Refusal?
  /// GET_STATEBLOB has answered with this state, or that there is none.
  func didHandOut(_ name: TPMStateName)
}

/// What a client is answered, and why; the reason is for the log.
struct Refusal {
  let result: TPMResult
  let reason: String

  init(_ result: TPMResult, _ reason: String) {
    (self.result, self.reason) = (result, reason)
  }
}
