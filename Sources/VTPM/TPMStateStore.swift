import Glibc

/// Where a TPM's states lie. Called on the server's one thread only.
///
/// "There is none" and "I can't tell" are different answers: the first makes libtpms manufacture a new TPM, with a new
/// identity and without anybody's keys. A store must say the first only when it knows.
public protocol TPMStateStore: AnyObject {
  /// The state's bytes, or nil where there is none yet. Throws where it exists but can't be had, or where that can't be
  /// told: key missing, damage, input/output error, a size above the name's maximum.
  func load(_ name: TPMStateName) throws(TPMStateError) -> [UInt8]?

  /// Replaces the state as a whole: after a crash it is the old one or the new one. Durable on return.
  func store(_ bytes: Span<UInt8>, as name: TPMStateName) throws(TPMStateError)

  /// Removes the state; not an error where there is none. Durable on return.
  func delete(_ name: TPMStateName) throws(TPMStateError)

  /// Whether the store can be used now. The server reads it at the start and whenever the descriptor below was
  /// readable.
  var readiness: TPMStateReadiness { get }

  /// Becomes readable when `readiness` may have changed; the server then calls `heedReadiness`. -1 for a store that
  /// never changes. The store owns it and keeps it open while it lives.
  var readinessDescriptor: Int32 { get }

  /// Takes what made `readinessDescriptor` readable, so that it isn't any more.
  func heedReadiness()

  /// False while `readiness` is `.pending` or `.released`: nothing can be stored now, and that may change. Asked before
  /// every command, so it should be quick. A store that has failed for good isn't waited for, and says true.
  var isReady: Bool { get }

  /// Tries again what `readiness` says was refused. Called for each INIT; `readiness` says what came of it.
  func retry()

  /// Somebody says that a key may have come: it is looked for now, and not only when it is due.
  func poke()

  /// A state is about to leave over the control channel, or has come over it and is about to be taken: to be recorded
  /// before it happens. Durable on return. Throws where that can't be, and then it doesn't happen.
  func record(_ transfer: TPMStateTransfer, of name: TPMStateName, isEncrypted: Bool) throws(TPMStateError)

  /// Lets other processes have the store, so that the virtual machine can go on elsewhere. What was stored is durable
  /// on return, and nothing can be loaded or stored until `acquire`. Throws where the store couldn't be closed cleanly;
  /// it is released in any case.
  func release() throws(TPMStateError)

  /// Takes the store again after `release`, or for the first time where it was made without. Nothing where it is had
  /// already. Throws `.inUse` where another process has it; that may pass.
  func acquire() throws(TPMStateError)
}

extension TPMStateStore {
  public var isReady: Bool {
    switch readiness {
    case .ready, .failed: true
    case .pending, .refused, .released: false
    }
  }

  /// Of an eventfd, timerfd or pipe.
  public func heedReadiness() {
    var bytes: UInt64 = 0
    _ = unsafe read(readinessDescriptor, &bytes, 8)
  }

  public func record(_ transfer: TPMStateTransfer, of name: TPMStateName, isEncrypted: Bool) throws(TPMStateError) {}
  public func retry() {}
  public func poke() {}
}

/// How a state goes over the control channel.
public enum TPMStateTransfer: Sendable {
  /// GET_STATEBLOB.
  case exported
  /// SET_STATEBLOB.
  case imported
}

/// Whether a store can be used.
public enum TPMStateReadiness: Sendable {
  case ready
  /// Not yet: a key is missing. The message names it, for the log.
  case pending(String)
  /// Not yet, and nothing is waited for: INIT is refused with the error. The next one has the store try again.
  case refused(TPMStateError)
  /// Another process may have it: `acquire` comes first.
  case released
  /// Never: INIT is refused with the error.
  case failed(TPMStateError)
}
