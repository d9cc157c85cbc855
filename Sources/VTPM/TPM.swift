import CLibtpms
import Glibc
import Primitives

/// A TPM 2.0 made of libtpms, its states in a `TPMStateStore`.
///
/// Invariants:
/// - libtpms is global to the process: there is one `TPM` at a time, used on one thread. A second one traps.
/// - Only the store's word "there is none" lets libtpms manufacture a TPM, and only when each load within one start says
///   so; every other answer is an error that also forbids storing until the next start. So a state that couldn't be
///   read is never overwritten.
/// - After a failed store nothing is stored any more until the next start; libtpms goes into failure mode and answers
///   TPM_RC_FAILURE, and what it acknowledged before is what the store holds.
/// - libtpms' own messages are thrown away: left alone it prints the whole command that led to failure mode, with its
///   passwords, on standard error.
@safe public final class TPM {
  /// What TPM2_Startup is sent by the server itself (`--flags startup-…`).
  public enum Startup: Sendable {
    case none
    case clear
    case state
  }

  /// The size of the checksum that ends a volatile state. libtpms overlooks a shorter one and would start without it.
  static let minimumStateSize = 20

  nonisolated(unsafe) static weak var current: TPM?

  private let states: any TPMStateStore
  private let log: Log
  /// The first thing that went wrong with the store since the last start.
  private var failure: TPMError?
  /// Which states this start was given, to notice a store that changes its mind between two loads.
  private var given: Set<TPMStateName> = []
  /// libtpms' response buffer: it allocates it at the first command and uses it again.
  private var response: UnsafeMutablePointer<UInt8>?
  private var responseCapacity: UInt32 = 0

  /// Where libtpms' messages go.
  private var nowhere: Int32 = -1

  public private(set) var isRunning = false
  /// 0 to 4; libtpms asks for it at each command.
  public var locality: UInt8 = 0

  /// Claims libtpms for this object and chooses TPM 2.
  public init(store: any TPMStateStore, log: Log) throws(TPMError) {
    precondition(unsafe TPM.current == nil, "libtpms holds one TPM per process")
    states = store
    self.log = log
    unsafe TPM.current = self
    silence()
    let registered = TPM.registerCallbacks()
    guard registered == .success else { throw .libtpms(operation: "registering the callbacks", registered) }
    try chooseTPM2()
  }

  deinit {
    if isRunning { TPMLIB_Terminate() }
    unsafe free(response)
    TPMLIB_SetDebugFD(Int32.max)
    if nowhere >= 0 { close(nowhere) }
    unsafe TPM.current = nil
  }

  /// Without a descriptor libtpms prints errors on standard error, whatever the debug level.
  private func silence() {
    nowhere = unsafe open("/dev/null", O_WRONLY | O_CLOEXEC)
    // Where there is no /dev/null: a descriptor that can't be written to is as good.
    TPMLIB_SetDebugFD(nowhere >= 0 ? nowhere : Int32.max)
    TPMLIB_SetDebugLevel(0)
  }

  private func chooseTPM2() throws(TPMError) {
    let result = TPMResult(rawValue: TPMLIB_ChooseTPMVersion(TPMLIB_TPM_VERSION_2))
    guard result == .success else { throw .libtpms(operation: "choosing TPM 2", result) }
  }

  // MARK: - Power

  /// Powers the TPM on, off first where it was on: loads the permanent state, and the volatile one where there is one;
  /// manufactures a TPM where the store says that there is none. After an error the TPM is off and nothing was stored
  /// over what couldn't be read.
  public func start(deletingVolatileState: Bool = false) throws(TPMError) {
    stop()
    failure = nil
    given = []
    try chooseTPM2()
    let result = TPMResult(rawValue: TPMLIB_MainInit())
    // The store's own reason says more than libtpms' code. libtpms counts some failures as success.
    if let failure {
      TPMLIB_Terminate()
      throw failure
    }
    guard result == .success else {
      TPMLIB_Terminate()
      throw .libtpms(operation: "starting the TPM from its stored state", result)
    }
    if deletingVolatileState, delete(.volatilestate) != .success, let failure {
      TPMLIB_Terminate()
      throw failure
    }
    isRunning = true
  }

  /// Powers the TPM off. Everything it acknowledged is in the store already; the volatile state is lost, as on a real
  /// one, unless `storeVolatileState` was called.
  public func stop() {
    guard isRunning else { return }
    TPMLIB_Terminate()
    isRunning = false
  }

  /// Sends TPM2_Startup. Returns the TPM's response code: 0, or 0x100 (TPM_RC_INITIALIZE) where a restored volatile
  /// state says that it was started already.
  public func startUp(_ type: Startup) throws(TPMError) -> UInt32 {
    // TPM2_ST_NO_SESSIONS, 12 bytes, TPM2_CC_Startup, TPM2_SU_CLEAR or TPM2_SU_STATE (TPM 2.0 Part 3, 9.3).
    var command: [UInt8] = [0x80, 0x01, 0, 0, 0, 12, 0, 0, 0x01, 0x44, 0, type == .state ? 1 : 0]
    var code: UInt32 = 0
    try process(command.mutableSpan) { response in
      code = response.count >= 10 ? response.loadBigEndian(UInt32.self, at: 6) : TPMResult.fail.rawValue
    }
    return code
  }

  // MARK: - Commands

  /// Runs one command, which libtpms may alter in place, and lends the response. What the command stored is durable
  /// when `respond` is called. Traps where the TPM is off.
  public func process(_ command: consuming MutableSpan<UInt8>, respond: (Span<UInt8>) -> Void) throws(TPMError) {
    precondition(isRunning)
    var length: UInt32 = 0
    let result = unsafe command.withUnsafeMutableBufferPointer { command in
      unsafe TPMResult(
        rawValue: TPMLIB_Process(
          &response, &length, &responseCapacity, command.baseAddress, UInt32(command.count)))
    }
    guard result == .success, let response = unsafe response else {
      throw .libtpms(operation: "processing a command", result)
    }
    respond(unsafe Span(_unsafeStart: UnsafePointer(response), count: Int(length)))
  }

  // MARK: - Control

  /// Stores the volatile state, for a suspend. Durable on return.
  public func storeVolatileState() throws(TPMError) {
    precondition(isRunning)
    if let failure { throw failure }
    var bytes: UnsafeMutablePointer<UInt8>?
    var length: UInt32 = 0
    let result = unsafe TPMResult(rawValue: TPMLIB_VolatileAll_Store(&bytes, &length))
    guard result == .success, let bytes = unsafe bytes else {
      throw .libtpms(operation: "collecting the volatile state", result)
    }
    defer {
      unsafe explicit_bzero(bytes, Int(length))
      unsafe free(bytes)
    }
    let stored = store(unsafe Span(_unsafeStart: UnsafePointer(bytes), count: Int(length)), as: .volatilestate)
    if stored != .success, let failure { throw failure }
  }

  /// Whether the tpmEstablished bit is set (TCG PC Client, D-RTM).
  public func isEstablished() throws(TPMError) -> Bool {
    var bit: TPM_BOOL = 0
    let result = unsafe TPMResult(rawValue: TPM_IO_TpmEstablished_Get(&bit))
    guard result == .success else { throw .libtpms(operation: "reading tpmEstablished", result) }
    return bit != 0
  }

  /// Resets the tpmEstablished bit on behalf of a locality; the TPM refuses all but 3 and 4.
  func resetEstablished(locality: UInt8) -> TPMResult {
    let saved = self.locality
    self.locality = locality
    defer { self.locality = saved }
    return TPMResult(rawValue: TPM_IO_TpmEstablished_Reset())
  }

  /// The size of the command and response buffer: asks with 0, else sets what is nearest within the limits.
  func setBufferSize(_ wanted: UInt32) -> (size: UInt32, minimum: UInt32, maximum: UInt32) {
    var (minimum, maximum): (UInt32, UInt32) = (0, 0)
    let size = unsafe TPMLIB_SetBufferSize(wanted, &minimum, &maximum)
    return (size, minimum, maximum)
  }

  /// libtpms' JSON about itself, NUL-terminated. `flags`: 1 specification, 2 attributes, 4 features.
  func info(flags: UInt32) -> [UInt8]? {
    guard let text = unsafe TPMLIB_GetInfo(TPMLIB_InfoFlags(flags & 7)) else { return nil }
    defer { unsafe free(text) }
    return unsafe Array(UnsafeRawBufferPointer(start: text, count: strlen(text) + 1))
  }

  // MARK: - The store's side, called from libtpms

  /// Lends the state's bytes to `deliver` and wipes them; `.retry` where the store knows that there are none.
  func load(_ name: TPMStateName, deliver: (Span<UInt8>) -> TPMResult) -> TPMResult {
    do throws(TPMStateError) {
      guard var bytes = try states.load(name) else {
        guard !given.contains(name) else {
          throw TPMStateError(.failed, "the state was there a moment ago and is gone")
        }
        return .retry
      }
      defer { wipe(&bytes) }
      guard (Self.minimumStateSize...name.maximumSize).contains(bytes.count) else {
        throw TPMStateError(
          .notAuthentic,
          "the state has \(bytes.count) bytes; it must have \(Self.minimumStateSize) to \(name.maximumSize)")
      }
      given.insert(name)
      return deliver(bytes.span)
    } catch {
      return note(.state(operation: .load, name: name, error))
    }
  }

  func store(_ bytes: Span<UInt8>, as name: TPMStateName) -> TPMResult {
    // Once something failed, what the store holds is the truth; libtpms' copy in memory is ahead of it, or is nothing.
    if let failure { return failure.result }
    do throws(TPMStateError) {
      guard bytes.count <= name.maximumSize else {
        throw TPMStateError(.noSpace, "\(bytes.count) bytes, more than the \(name.maximumSize) that a state may have")
      }
      try states.store(bytes, as: name)
      given.insert(name)
      return .success
    } catch {
      return note(.state(operation: .store, name: name, error))
    }
  }

  func delete(_ name: TPMStateName) -> TPMResult {
    if let failure { return failure.result }
    do throws(TPMStateError) {
      try states.delete(name)
      given.remove(name)
      return .success
    } catch {
      return note(.state(operation: .delete, name: name, error))
    }
  }

  /// Logs the first failure since the start and keeps it. A start reports its own.
  private func note(_ error: TPMError) -> TPMResult {
    if failure == nil {
      failure = error
      if isRunning { log.line("\(error); the TPM is in failure mode until it is started anew") }
    }
    return error.result
  }
}
