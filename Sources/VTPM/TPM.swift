import CLibtpms
import Glibc
import Primitives

/// A TPM made of libtpms, its states in a `TPMStateStore`.
///
/// Invariants:
/// - libtpms is global to the process: there is one `TPM` at a time, used on one thread. A second one traps.
/// - Only the store's word "there is none" lets libtpms manufacture a TPM, and only when each load within one start
/// says
///   so; every other answer is an error that also forbids storing until the next start. So a state that couldn't be
///   read is never overwritten.
/// - After a failed store nothing is stored any more until the next start; libtpms goes into failure mode and answers
///   TPM_RC_FAILURE, and what it acknowledged before is what the store holds.
/// - A store that is merely locked (its key is gone) is no failed one: see `TPM+Withheld.swift`.
/// - Of libtpms' own messages the log gets why it entered failure mode, and nothing else (`LibtpmsMessages`).
@safe public final class TPM {
  /// What Startup is sent by the server itself (`--flags startup-…`).
  public enum Startup: Sendable {
    case none
    case clear
    case state
    /// TPM 1.2 only.
    case deactivated
  }

  nonisolated(unsafe) static weak var current: TPM?

  public let version: TPMVersion
  let states: any TPMStateStore
  let log: Log
  /// The first thing that went wrong with the store since the last start.
  var failure: TPMError?
  /// Which states this start was given, to notice a store that changes its mind between two loads.
  var given: Set<TPMStateName> = []
  /// A permanent state that libtpms has and the locked store doesn't. Wiped when it is dropped.
  var withheld: [UInt8]?
  /// A TPM 1.2's saved state that was given for the next start. libtpms stores the permanent one alone.
  var givenSavestate: [UInt8]?
  /// Whether the command under way had to be withheld.
  var withheldInCommand = false
  /// Set where what was withheld couldn't be stored for good: libtpms doesn't know of it, and is asked nothing more.
  var isBroken = false
  /// What was the last thing that the TPM was told, as far as powering off is concerned.
  private(set) var conclusion = Conclusion.off
  /// How many it has run.
  private(set) var commands: UInt64 = 0
  /// How often it was powered on, or was to be.
  private(set) var starts: UInt64 = 0
  /// libtpms' response buffer: it allocates it at the first command and uses it again.
  private var response: UnsafeMutablePointer<UInt8>?
  private var responseCapacity: UInt32 = 0

  /// Where libtpms' messages go; nil for nowhere.
  private let messages: LibtpmsMessages?
  /// Whether the log says that libtpms is in failure mode.
  private var saidFailureMode = false

  public private(set) var isRunning = false
  /// 0 to 4; libtpms asks for it at each command.
  public var locality: UInt8 = 0

  /// Claims libtpms for this object and chooses the version.
  ///
  /// - Parameter hearsLibtpms: whether the log is told why libtpms enters failure mode. It needs a pipe, which a confined process
  ///   can't make any more.
  public init(
    _ version: TPMVersion = .tpm2, store: any TPMStateStore, log: Log, hearsLibtpms: Bool = true
  ) throws(TPMError) {
    precondition(unsafe TPM.current == nil, "libtpms holds one TPM per process")
    self.version = version
    states = store
    self.log = log
    messages = hearsLibtpms ? LibtpmsMessages() : nil
    unsafe TPM.current = self
    // Without a descriptor libtpms prints errors on standard error, whatever the debug level; one that can't be written
    // to is as good as none.
    TPMLIB_SetDebugFD(messages?.descriptor ?? Int32.max)
    TPMLIB_SetDebugLevel(0)
    let registered = TPM.registerCallbacks()
    guard registered == .success else { throw .libtpms(operation: "registering the callbacks", registered) }
    try choose()
  }

  deinit {
    if isRunning { TPMLIB_Terminate() }
    unsafe free(response)
    TPMLIB_SetDebugFD(Int32.max)
    unsafe TPM.current = nil
  }

  private func choose() throws(TPMError) {
    let result = TPMResult(rawValue: TPMLIB_ChooseTPMVersion(version.libtpms))
    guard result == .success else { throw .libtpms(operation: "choosing the TPM's version", result) }
  }

  // MARK: - Power

  /// Powers the TPM on, off first where it was on: loads the permanent state, and the volatile one where there is one,
  /// or takes what `setState` gave; manufactures a TPM where the store says that there is none. After an error the TPM
  /// is off and nothing was stored over what couldn't be read.
  public func start(deletingVolatileState: Bool = false) throws(TPMError) {
    stop()
    failure = nil
    given = []
    saidFailureMode = false
    starts += 1
    try choose()
    _ = messages?.takeFailure()
    let result = TPMResult(rawValue: TPMLIB_MainInit())
    let reason = messages?.takeFailure()
    // The store's own reason says more than libtpms' code. libtpms counts some failures as success.
    if let failure {
      TPMLIB_Terminate()
      throw failure
    }
    guard result == .success else {
      TPMLIB_Terminate()
      let place = reason.map { " (failure mode, \($0))" } ?? ""
      throw .libtpms(operation: "starting the TPM from its stored state\(place)", result)
    }
    if let reason { sayFailureMode(": \(reason)") }
    if deletingVolatileState, delete(.volatilestate) != .success, let failure {
      TPMLIB_Terminate()
      throw failure
    }
    if var bytes = givenSavestate {
      givenSavestate = nil
      defer { wipe(&bytes) }
      if store(bytes.span, as: .savestate) != .success, let failure {
        TPMLIB_Terminate()
        throw failure
      }
    }
    isRunning = true
    conclusion = .untouched
  }

  /// Powers the TPM off. Everything it acknowledged is in the store already; the volatile state is lost, as on a real
  /// one, unless `storeVolatileState` was called.
  public func stop() {
    guard isRunning else { return }
    if withheld != nil {
      log.line("what the TPM changed while the store was locked is lost; none of it was acknowledged")
    }
    dropWithheld()
    TPMLIB_Terminate()
    isRunning = false
    isBroken = false
    conclusion = .off
  }

  /// Sends TPM2_Startup or TPM_Startup. Returns the TPM's response code: 0, or 0x100 (TPM_RC_INITIALIZE) where a
  /// restored volatile state says that it was started already.
  public func startUp(_ type: Startup) throws(TPMError) -> UInt32 {
    var command: [UInt8]
    switch version {
    // TPM2_ST_NO_SESSIONS, 12 bytes, TPM2_CC_Startup, TPM2_SU_CLEAR or TPM2_SU_STATE (TPM 2.0 Part 3, 9.3).
    case .tpm2: command = [0x80, 0x01, 0, 0, 0, 12, 0, 0, 0x01, 0x44, 0, type == .state ? 1 : 0]
    // TPM_TAG_RQU_COMMAND, 12 bytes, TPM_ORD_Startup, TPM_ST_CLEAR, _STATE or _DEACTIVATED (TPM Main Part 3, 3.2).
    case .tpm12:
      let kind: UInt8 = type == .state ? 2 : type == .deactivated ? 3 : 1
      command = [0x00, 0xC1, 0, 0, 0, 12, 0, 0, 0, 0x99, 0, kind]
    }
    return try send(&command)
  }

  // MARK: - Commands

  /// Runs one command, which libtpms may alter in place, and lends the response. What the command stored is durable
  /// when `respond` is called. Traps where the TPM is off.
  public func process(_ command: consuming MutableSpan<UInt8>, respond: (Span<UInt8>) -> Void) throws(TPMError) {
    precondition(isRunning)
    if isBroken { return respond(version.failure.span) }
    let code = command.count >= 10 ? Self.code(command.span) : 0
    // In failure mode libtpms answers for itself.
    guard failure != nil || storeWithheld() || mayRunWithoutStore(code) else {
      return respond((isBroken ? version.failure : version.unavailable).span)
    }
    conclusion = isShutdown(code) ? .concluded : .open
    commands += 1
    withheldInCommand = false
    var length: UInt32 = 0
    let result = unsafe command.withUnsafeMutableBufferPointer { command in
      unsafe TPMResult(
        rawValue: TPMLIB_Process(
          &response, &length, &responseCapacity, command.baseAddress, UInt32(command.count)))
    }
    guard result == .success, let response = unsafe response else {
      throw .libtpms(operation: "processing a command", result)
    }
    let answer = unsafe Span(_unsafeStart: UnsafePointer(response), count: Int(length))
    if answer.count == 10, !saidFailureMode, failure == nil { noteFailureMode(Self.code(answer)) }
    if withheldInCommand, !storeWithheld(), isBroken || !Self.succeeded(answer) || !Self.needsNoStore(code, version) {
      return respond((isBroken ? version.failure : version.unavailable).span)
    }
    respond(answer)
  }

  /// Says once why nothing is answered any more: TPM_RC_FAILURE, or a TPM 1.2's TPM_FAILEDSELFTEST. Of the store's own
  /// failures `note` has told.
  private func noteFailureMode(_ code: UInt32) {
    guard code == (version == .tpm2 ? TPMResult.tpm2Failure.rawValue : 0x1C) else { return }
    let reason = messages?.takeFailure()
    sayFailureMode(reason.map { ": \($0)" } ?? (version == .tpm2 ? "" : ": a self-test that failed"))
  }

  private func sayFailureMode(_ reason: String) {
    saidFailureMode = true
    let code = version == .tpm2 ? "TPM_RC_FAILURE" : "TPM_FAILEDSELFTEST"
    log.line("libtpms is in failure mode\(reason); the TPM answers \(code) until it is started anew")
  }

  static func code(_ command: Span<UInt8>) -> UInt32 { command.loadBigEndian(UInt32.self, at: 6) }

  private static func succeeded(_ response: Span<UInt8>) -> Bool {
    response.count >= 10 && response.loadBigEndian(UInt32.self, at: 6) == 0
  }

  /// Runs a command of the server's own; its response code.
  private func send(_ command: inout [UInt8]) throws(TPMError) -> UInt32 {
    var code = TPMResult.fail.rawValue
    try process(command.mutableSpan) { response in
      if response.count >= 10 { code = response.loadBigEndian(UInt32.self, at: 6) }
    }
    return code
  }

  // MARK: - The end that a guest didn't announce

  /// How things stand should the power go.
  enum Conclusion {
    case off
    /// Nothing was asked of it since it was powered on.
    case untouched
    /// The last command was TPM2_Shutdown, or the volatile state was fetched to go on elsewhere or later.
    case concluded
    case open
  }

  private func isShutdown(_ code: UInt32) -> Bool { version == .tpm2 && code == 0x145 }

  /// The volatile state was stored or handed out: the TPM goes on from there, and is not shut down behind its back.
  func noteSuspended() { conclusion = .concluded }

  /// Sends the TPM2_Shutdown that a killed or reset guest didn't send, where the store can take it. Without it the TPM
  /// takes the loss of power for an attempt to hide a failed authorisation, and counts it (TPM 2.0 Part 1, 19.8.6),
  /// until its dictionary-attack protection locks. As in swtpm: TPM2_SU_STATE, and where that fails TPM2_SU_CLEAR. A
  /// TPM 1.2 knows no such command.
  func concludeForGuest() {
    guard version == .tpm2, isRunning, conclusion == .open, failure == nil, !isBroken else { return }
    locality = 0
    for type: UInt8 in [1, 0] {
      var command: [UInt8] = [0x80, 0x01, 0, 0, 0, 12, 0, 0, 0x01, 0x45, 0, type]
      let code = (try? send(&command)) ?? TPMResult.fail.rawValue
      // TPM_RC_INITIALIZE: never started up, so there is nothing to shut down.
      if code == 0 || code == 0x100 { return }
      if code == 0x923 || failure != nil { break }
    }
    log.line("the guest didn't send TPM2_Shutdown, and the TPM didn't take it now")
  }
}
