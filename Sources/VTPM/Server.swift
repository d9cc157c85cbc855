import CSystem
import Glibc
import Primitives

/// A TPM behind sockets: swtpm's data and control channels over one `TPM`.
///
/// Everything happens on the thread that calls `run`, in one epoll(7) loop: there are two listening sockets with a few
/// clients each, and libtpms can run one command at a time anyway, so threads or an event library would only add weight
/// to a process that exists once per virtual machine.
///
/// The sockets listen from `init` on, so that a process can give up the right to make them; who connects is served from
/// `run` on. The TPM is off until INIT comes, or, with `startsByItself`, until the store is ready; where the store
/// waits for a key, INIT is held and commands wait, until it comes or `keyTimeout` passes. A store that refuses or has
/// failed has INIT refused with the reason; a server that was to power on by itself ends with it. STOP turns the TPM
/// off again; SHUTDOWN, SIGTERM and SIGINT end the server, SIGUSR1 has it look for keys. Nothing needs to be saved
/// then: what was acknowledged is durable, and the volatile state goes with the power, as with swtpm. Before the TPM is
/// turned off, or on anew, it is told so where the guest didn't (`TPM.concludeForGuest`).
public final class Server {
  /// Somebody wants the TPM on.
  private struct StartRequest {
    var deletesVolatileState = false
    /// Asked for by `startsByItself`, not by a client that may go away.
    var isByItself = false
  }

  private let options: ServerOptions
  private let states: any TPMStateStore
  private let log: Log
  private let tpm: TPM
  private let data: DataChannel
  private let control: ControlChannel
  private let host = ServerHost()
  private let events: EventSet
  private var signalRegistration = EventRegistration()
  private var storeRegistration = EventRegistration()
  private var request: StartRequest?
  /// How the store was when it was last asked.
  private var readiness = TPMStateReadiness.ready
  /// When the store became pending; nil where it isn't.
  private var pendingSince: Int?
  /// What it waited for when that was last logged.
  private var pendingReason: String?
  /// Why the TPM could not be powered on when that was tried last; nil once it is on.
  private var refusal: Status?
  /// Whether this server has the store, or has let another one have it.
  private var handover: StoreHandover
  /// Set when the loop is to end, and with what.
  private var ending: Status?
  private var idleTimer: IdleTimer

  /// Opens the channels and claims the process's TPM. Throws `.usage` for options that
  /// make no sense, `.addressInUse` where somebody else listens there.
  ///
  /// - Parameter beginnings: what this makes itself unless it was made before.
  public init(
    options: ServerOptions, _ beginnings: ServerBeginnings? = nil, store: any TPMStateStore, log: Log
  ) throws(TPMError) {
    try options.validate()
    self.options = options
    self.log = log
    states = store
    handover = StoreHandover(store, isReleased: options.isIncoming, log: log)
    let beginnings = if let beginnings { beginnings } else { try ServerBeginnings(options.version, store, log) }
    (tpm, events, idleTimer) = (beginnings.tpm, beginnings.events, beginnings.idleTimer)
    data = try DataChannel(options, tpm: tpm, log: log)
    control = try ControlChannel(options, tpm: tpm, host: host, log: log)
    host.server = self
  }

  /// Blocks the signals that it heeds for this thread and those it makes; `run` takes them from a descriptor. A program
  /// whose store has threads calls it before it opens the store.
  public static func blockTerminationSignals() { ServerSignals.block() }

  /// Blocks SIGUSR1, for a program to call first of all: who says that there are keys now may say it to one that is
  /// about to become a server, and must not end it.
  public static func blockKeySignal() { ServerSignals.blockKeySignal() }

  /// Serves until SHUTDOWN, a signal, or a reason to give up; returns the exit status: where it was asked to end and
  /// the TPM couldn't be powered on when that was tried last, that reason's. Call it once.
  ///
  /// SHUTDOWN is answered last of all: who starts the next server then finds the store and the sockets free.
  ///
  /// - Parameter release: called once, when the TPM is off and no client is served any more: to let go of the store,
  ///   and of what else the next server needs.
  /// - Parameter serving: called once, when clients are about to be served and what there is to say of the store has
  ///   been said; not where there is a reason to give up before (see `servesWhilePending`, too). False ends the server.
  public func run(release: () -> Void = {}, _ serving: () -> Bool = { true }) -> Status {
    let signals = ServerSignals()
    guard signals.descriptor >= 0 else {
      log.line("signals can't be heard of: signalfd failed: \(unsafe String(cString: strerror(errno)))")
      close()
      return .inputOutput
    }
    if options.startsByItself { request = StartRequest(isByItself: true) }
    readReadiness(Clock.now())
    proceed()
    var isTold = false
    tell(&isTold, serving)
    while ending == nil {
      listen(to: signals)
      noteLosses()
      guard ending == nil else { break }
      guard let reported = events.wait(timeout()) else {
        if errno == EINTR { continue }
        log.line("epoll failed: \(unsafe String(cString: strerror(errno)))")
        end(.inputOutput)
        break
      }
      if reported & ~(1 << UInt32(EventPlace.timer)) != 0 { idleTimer.noteUse(in: events) }
      let now = Clock.now()
      for place in 0..<EventPlace.count where reported & (1 << UInt32(place)) != 0 || isReady(place) {
        if place == EventPlace.signals { heed(signals, now) } else { dispatch(place, now) }
        if ending != nil { break }
      }
      control.expire(now)
      data.expire(now)
      forgetWhoLeft()
      if let deadline = handover.deadline { takeStore(until: deadline, now) }
      checkKeyTimeout(now)
      settle(now)
      noteLosses()
      tell(&isTold, serving)
    }
    control.answerHeld(.initialize, .fail)
    control.answerHeld(.lockStorage, .fail)
    powerOff()
    data.close()
    control.close(keeping: .shutdown)
    release()
    control.answerHeld(.shutdown, .success)
    control.close()
    return ending == .done ? refusal ?? .done : ending ?? .failed
  }

  private func tell(_ isTold: inout Bool, _ serving: () -> Bool) {
    guard ending == nil, !isTold, !options.startsByItself || options.servesWhilePending || tpm.isRunning else { return }
    isTold = true
    guard !serving() else { return }
    log.line("who started the server isn't told that it serves, and nobody knows that it runs: ending")
    end(.failed)
  }

  /// Hangs up and removes the sockets. `run` does it in the end; for who doesn't come to run it. Not in a deinit: a
  /// program that calls exit with the status never runs it.
  public func close() {
    idleTimer.close()
    control.close()
    data.close()
  }

  // MARK: - The loop

  /// Tells the kernel what changed of what is waited for.
  private func listen(to signals: ServerSignals) {
    signalRegistration.wait(for: .input, of: signals.descriptor, at: EventPlace.signals, in: events)
    storeRegistration.wait(for: .input, of: states.readinessDescriptor, at: EventPlace.readiness, in: events)
    control.wait(in: events)
    data.wait(in: events)
  }

  /// Milliseconds until something has to be done without being asked; -1: never. Asked before each command, for most of
  /// which there is nothing: so without arrays, and without the time.
  private func timeout() -> Int32 {
    if data.hasReadyClients { return 0 }
    var next = min(control.deadline ?? Int.max, data.deadline ?? Int.max)
    if let deadline = keyDeadline { next = min(next, deadline) }
    guard next < Int.max || handover.deadline != nil else { return -1 }
    let now = Clock.now()
    if handover.deadline != nil { next = min(next, now + StoreHandover.interval) }
    return Int32(clamping: max(0, next - now))
  }

  /// Soon after the TPM was powered on, which goes through far more of Swift's runtime, libcrypto and libc than
  /// commands do, and again when nothing was asked for a while: a TPM is busy while its machine starts, and then often
  /// idle for days. Half of what is in memory then is code and constants that may not be needed again. They come back
  /// from the page cache with the next command, which takes some tenths of a millisecond longer for it.
  private func giveMemoryBack() { csystem_drop_file_pages() }

  private func heed(_ signals: ServerSignals, _ now: Int) {
    while let signal = signals.next() {
      guard signal == SIGUSR1 else {
        log.line("ending on a signal")
        return end(.done)
      }
      log.line("looking for keys, as SIGUSR1 asks")
      states.poke()
      readReadiness(now)
      proceed()
    }
  }

  private func dispatch(_ place: Int, _ now: Int) {
    switch place {
    case EventPlace.timer: if idleTimer.isIdle(in: events) { giveMemoryBack() }
    case EventPlace.readiness:
      states.heedReadiness()
      readReadiness(now)
      proceed()
    case EventPlace.controlListener: control.acceptClient(now)
    case EventPlace.dataListener: data.acceptClient(now)
    case EventPlace.dataClients:
      let client = place - EventPlace.dataClients.lowerBound
      // By now: a command of another client's may have taken seconds.
      if data.isHeld(client) { data.hangUp(client) } else { data.serve(client, mode, Clock.now()) }
    default:
      let client = place - EventPlace.controlClients.lowerBound
      if control.isHeld(client) { control.hangUp(client) } else { control.serve(client, now) }
    }
    noteLosses()
  }

  /// Whether a client is to be served, though nothing came from it: it sent more than one command at once.
  private func isReady(_ place: Int) -> Bool {
    EventPlace.dataClients.contains(place) && data.isReady(place - EventPlace.dataClients.lowerBound)
  }

  /// Ends where the last client left a channel, if that was asked for.
  private func noteLosses() {
    if control.takeLoss(), !control.hasClients, options.control?.terminates ?? false { end(.done) }
    if data.takeLoss(), !data.hasClients, options.endsWithDataClient { end(.done) }
  }

  private func end(_ status: Status) {
    if ending == nil { ending = status }
  }

  // MARK: - Power

  private var mode: DataChannel.Mode {
    if request != nil { return .holding }
    guard tpm.isRunning else { return .refusing }
    if handover.isReleased { return .holding }
    return handover.isUnverified ? .unavailable : .running
  }

  /// Off, with the guest's leave where it didn't take it.
  private func powerOff() {
    if options.concludesForGuest, !handover.isReleased { tpm.concludeForGuest() }
    tpm.stop()
    handover.forget()
  }

  /// Asks the store how it is, and logs what changed.
  private func readReadiness(_ now: Int) {
    readiness = states.readiness
    switch readiness {
    case .ready:
      if pendingSince != nil { log.line("the store is open") }
      pendingSince = nil
      pendingReason = nil
    case .pending(let message):
      if pendingReason != message { log.line(message) }
      pendingReason = message
      pendingSince = pendingSince ?? now
    case .refused(let error), .failed(let error):
      pendingSince = nil
      pendingReason = nil
      refuse(error)
    case .released:
      pendingSince = nil
      pendingReason = nil
    }
  }

  /// The store keeps the TPM from being powered on. One that runs goes on until it needs the store.
  private func refuse(_ error: TPMStateError) {
    log.line("\(error)")
    guard !tpm.isRunning else { return }
    refusal = error.status
    if options.startsByItself { return end(error.status) }
    request = nil
    control.answerHeld(.initialize, refusal(of: error))
  }

  /// What INIT answers where the store can't be had.
  private func refusal(of error: TPMStateError) -> TPMResult {
    refusal(of: TPMError.state(operation: .load, name: .permall, error))
  }

  /// With a wrong `--key` a TPM 2.0 of swtpm's answers TPM_RC_FAILURE, and a TPM 1.2 TPM_DECRYPT_ERROR.
  private func refusal(of error: TPMError) -> TPMResult {
    error.isWrongKey && options.stateKey != nil && options.version == .tpm2 ? .tpm2Failure : error.result
  }

  /// Powers the TPM on where it is asked for and the store is ready, and lets those go on who waited.
  private func proceed() {
    guard ending == nil, !handover.isReleased, case .ready = readiness else { return }
    guard request != nil else {
      if handover.isUnverified, !handover.isUnchanged() { tpm.stop() }
      // At once, and not with the next command: a guest that asks for nothing more has what it was promised.
      if tpm.isRunning { _ = tpm.storeWithheld() }
      return
    }
    let byItself = request?.isByItself ?? false
    let result = powerOn()
    control.answerHeld(.initialize, result.map { refusal(of: $0) } ?? .success)
    if let error = result, byItself { end(error.status) }
  }

  /// Nil where the TPM is on now.
  private func powerOn() -> TPMError? {
    let request = self.request ?? StartRequest()
    self.request = nil
    powerOff()
    do throws(TPMError) {
      try tpm.start(deletingVolatileState: request.deletesVolatileState)
      if request.isByItself && options.startup != .none {
        let code = try tpm.startUp(options.startup)
        // TPM_RC_INITIALIZE: the volatile state says that it was started.
        if code != 0 && code != 0x100 { log.line("TPM2_Startup answered 0x\(String(code, radix: 16))") }
      }
      refusal = nil
      return nil
    } catch {
      tpm.stop()
      log.line("\(error)")
      refusal = error.status
      return error
    }
  }

  private var keyDeadline: Int? {
    guard let since = pendingSince, let seconds = options.keyTimeout, !tpm.isRunning else { return nil }
    return since + seconds * 1000
  }

  private func checkKeyTimeout(_ now: Int) {
    guard let deadline = keyDeadline, deadline <= now else { return }
    log.line("gave up waiting after \(options.keyTimeout ?? 0) s")
    end(.timedOut)
  }

  /// Forgets an INIT whose client has gone, and doesn't try to get the store any more where nobody waits for it.
  private func forgetWhoLeft() {
    if let request, !request.isByItself, !control.hasHeldClients(.initialize) { self.request = nil }
    if request == nil, !control.hasHeldClients(.lockStorage), !data.isHolding { handover.giveUp() }
  }

  /// Lets the data channel's client go on if it need not wait any more, or tries to get the store for it.
  private func settle(_ now: Int) {
    forgetWhoLeft()
    guard ending == nil, data.isHolding else { return }
    if handover.isReleased, handover.deadline == nil { takeStore(until: now + StoreHandover.patience, now) }
    guard mode != .holding else { return }
    data.resume(mode, now)
    noteLosses()
  }

  /// Tries to get the store, for everyone who waits for it; they are answered when it is had or it is too late.
  private func takeStore(until deadline: Int, _ now: Int) {
    switch handover.take(until: deadline, now) {
    case .trying: return
    case .had:
      control.answerHeld(.lockStorage, .success)
      readReadiness(now)
      proceed()
    case .failed(let error):
      // Only an INIT that waits: a TPM that runs has been powered on.
      if request != nil { refusal = error.status }
      request = nil
      control.answerHeld(.lockStorage, .fail)
      control.answerHeld(.initialize, refusal(of: error))
      data.resume(.unavailable, now)
      noteLosses()
    }
  }

  // MARK: - What the control channel asks

  func initialize(_ deletingVolatileState: Bool) -> TPMResult? {
    var request = self.request ?? StartRequest()
    request.deletesVolatileState = request.deletesVolatileState || deletingVolatileState
    self.request = request
    let now = Clock.now()
    switch handover.take(until: now + StoreHandover.patience, now) {
    case .trying: return nil
    case .failed(let error):
      self.request = nil
      refusal = error.status
      return refusal(of: error)
    case .had: control.answerHeld(.lockStorage, .success)
    }
    if case .refused = states.readiness { states.retry() }
    readReadiness(now)
    switch readiness {
    case .ready: break
    case .refused(let error), .failed(let error):
      powerOff()
      self.request = nil
      refusal = error.status
      return refusal(of: error)
    case .pending, .released: return nil
    }
    let error = powerOn()
    let result = error.map { refusal(of: $0) } ?? .success
    control.answerHeld(.initialize, result)
    return result
  }

  func stop() {
    powerOff()
    request = nil
    if control.hasHeldClients(.initialize) { log.line("an INIT that waits is refused: STOP came") }
    control.answerHeld(.initialize, .fail)
  }

  func shutDown() {
    powerOff()
    end(.done)
  }

  func lockStorage(_ tries: Int) -> TPMResult? {
    let now = Clock.now()
    switch handover.take(until: now + tries * StoreHandover.interval, now) {
    case .trying: return nil
    case .failed: return .fail
    case .had:
      readReadiness(now)
      proceed()
      return .success
    }
  }

  func setDataClient(_ descriptor: Int32) -> Refusal? {
    guard !data.isOpen else {
      if descriptor >= 0 { Glibc.close(descriptor) }
      return Refusal(
        .inputOutput,
        options.data == nil
          ? "there is a data channel already, which came by SET_DATAFD and is still open"
          : "--server was given (or --port, or --fd), and is the data channel; leave it out for QEMU")
    }
    guard descriptor >= 0 else { return Refusal(.badParameter, "no descriptor came with it") }
    var status = stat()
    guard unsafe csystem_fstat(descriptor, &status) == 0, status.st_mode & S_IFMT == S_IFSOCK else {
      Glibc.close(descriptor)
      return Refusal(.badParameter, "the descriptor that came with it is no socket")
    }
    data.adopt(descriptor)
    return nil
  }

  func didHandOut(_ name: TPMStateName) {
    guard options.releasesLockOutgoing else { return }
    if handover.handOut(name, after: tpm.commands) { readReadiness(Clock.now()) }
  }
}
