/// What a server needs that a confined process can't make any more, so that a process can confine itself before it has
/// the sockets.
public struct ServerBeginnings {
  let tpm: TPM
  let events: EventSet
  let idleTimer = IdleTimer()

  /// Claims the process's TPM.
  public init(_ version: TPMVersion, _ store: any TPMStateStore, _ log: Log) throws(TPMError) {
    tpm = try TPM(version, store: store, log: log)
    events = try EventSet()
  }
}
