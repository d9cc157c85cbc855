import CSystem
import Glibc
import Primitives
import VNVRAM
import VTPM

/// What the monitor does while the worker serves: it answers the worker, watches the key, and hands signals on.
struct MonitorLoop {
  private let worker: WorkerProcess
  private let signals: MonitorSignals
  private let desk: KeyDesk
  private let images: ImageDesk
  /// Nil without `--key`.
  private let ciphers: StateCipherDesk?
  private var anchor: AnchorDesk?
  private let presence: ServerPresence
  private let log: Log
  /// Why the worker was told to drop its keys, and by when it must have done so.
  private var reasonOfLoss = ""
  private var lossDeadline: ContinuousClock.Instant?
  /// When memory that starting and answering used is given back; nil once it was.
  private var idleTime: ContinuousClock.Instant? = .now + MonitorLoop.idleAfter
  /// Of images that are handed over: each is opened with its key, on record.
  private var handovers = RateLimit()
  /// Whether it said that clients are served.
  private var isServing = false
  /// By when a worker that was asked to end must have ended.
  private var deadline: ContinuousClock.Instant?
  /// Whether it was heard of for the last time.
  private var isDeaf = false

  private static let idleAfter = Duration.seconds(5)
  /// How long a worker may take to close the image, or to drop its keys: as long as a slow device needs, and not for
  /// ever.
  private static let patience = Duration.seconds(60)

  init(
    worker: WorkerProcess, signals: MonitorSignals, desk: KeyDesk, images: ImageDesk, anchor: AnchorDesk?,
    presence: ServerPresence, ciphers: StateCipherDesk?, log: Log
  ) {
    self.worker = worker
    self.signals = signals
    self.desk = desk
    self.images = images
    self.anchor = anchor
    self.presence = presence
    self.ciphers = ciphers
    self.log = log
  }

  /// Until the worker has ended; returns its status.
  mutating func run() -> Status {
    let places: [Int32] = [signals.descriptor, worker.requests.descriptor, desk.readinessDescriptor]
    var descriptors = places.map { pollfd(fd: $0, events: Int16(POLLIN), revents: 0) }
    while true {
      if isDeaf { descriptors[1].fd = -1 }
      let ready = unsafe poll(&descriptors, nfds_t(descriptors.count), timeout())
      if ready > 0, descriptors[0].revents != 0 { heedSignals() }
      if ready > 0, descriptors[1].revents != 0 { answer() }
      proceed()
      presence.show(desk.situation)
      if let end = worker.ended() { return finish(end) }
      if let deadline, deadline <= .now {
        log.line("the TPM's process doesn't end by itself: it is ended")
        worker.kill()
        self.deadline = nil
      }
      giveMemoryBack()
      if let deadline = lossDeadline, deadline <= .now {
        log.line("the TPM's process doesn't drop its keys: it is ended")
        worker.kill()
        lossDeadline = nil
      }
    }
  }

  private func timeout() -> Int32 {
    let next = [deadline, lossDeadline, idleTime].compactMap { $0 }.min()
    let wait = next.map { next in
      let (seconds, attoseconds) = ContinuousClock.now.duration(to: next).components
      return Int32(clamping: max(0, seconds * 1000 + attoseconds / 1_000_000_000_000_000 + 1))
    }
    return [desk.timeout, wait].compactMap { $0 }.min() ?? -1
  }

  /// Code that started the server isn't needed for days: there is one monitor per virtual machine. It comes back from
  /// the page cache when it is.
  private mutating func giveMemoryBack() {
    guard let time = idleTime, time <= .now else { return }
    idleTime = nil
    csystem_drop_file_pages()
  }

  private mutating func heedSignals() {
    while let signal = signals.next() {
      switch signal {
      case SIGUSR1:
        log.line("looking for keys, as SIGUSR1 asks")
        // Before the worker asks there is nothing to look for.
        if desk.isAsked, desk.grant == nil { tell(desk.answer()) }
      case SIGTERM, SIGINT: end()
      default: break
      }
    }
  }

  private mutating func end() {
    guard deadline == nil else { return }
    presence.isEnding()
    deadline = .now + Self.patience
    let message: MonitorMessage = .end
    do throws(LinkError) { try message.send(on: worker.telling) } catch { fault(error) }
  }

  /// A worker that hung up is ending, and says by its status why. One that talks nonsense, or doesn't read, is ended:
  /// it was taken over, or it hangs.
  private mutating func fault(_ error: LinkError) {
    if deadline == nil { deadline = .now + Self.patience }
    guard !error.isHangUp else { return }
    log.line("\(error): it is ended")
    worker.kill()
  }

  private mutating func finish(_ end: WorkerProcess.End) -> Status {
    // What it said last.
    for _ in 0..<Self.lastRequests where !isDeaf { answer() }
    switch end {
    case .exited(let status):
      desk.end(status == .done ? nil : Failure(status, "the TPM's process ended with status \(status.rawValue)"))
      anchor?.release()
      return status
    case .signal(let number):
      desk.end(Failure(.failed, "the TPM's process ended on signal \(number)"))
      anchor?.release()
      let meaning = number == SIGSYS ? ": it made a system call that it may not make" : ""
      log.line("the TPM's process ended on signal \(number)\(meaning)")
      return .failed
    }
  }

  /// More than a worker that makes sense has under way: one.
  private static let lastRequests = 4

  // MARK: What the worker asks

  /// One request, so that a worker which asks without end keeps nothing else from being done.
  private mutating func answer() {
    guard !isDeaf else { return }
    do throws(LinkError) {
      if let request = try worker.requests.receive({ (kind, passed, message) throws(LinkError) -> WorkerRequest in
        if passed >= 0 { close(passed) }
        return try WorkerRequest(kind, &message)
      }) {
        idleTime = .now + Self.idleAfter
        try answer(request)
      }
    } catch {
      isDeaf = true
      fault(error)
    }
  }

  private mutating func answer(_ request: WorkerRequest) throws(LinkError) {
    var answer: MonitorMessage = .done
    switch request {
    case .acquire: return try handOver()
    case .key: answer = desk.answer()
    case .opened(let generation, let failure):
      // No key is used for it any more: it goes on while that is recorded.
      try send(answer, on: worker.requests)
      return desk.opened(generation, failure)
    case .locked(let failure):
      guard desk.isLosing else { throw LinkError("nothing was to be locked") }
      lossDeadline = nil
      desk.dropped(reasonOfLoss, failure)
      try send(answer, on: worker.requests)
      return tell(desk.standing())
    case .released(let failure):
      desk.end(failure)
      anchor?.release()
      lossDeadline = nil
    case .serving:
      guard !isServing else { throw LinkError("it serves already") }
      isServing = true
      if !presence.announce() {
        answer = .failure(Failure(.failed, "who started the server is gone"))
      }
    case .ending:
      presence.withdraw()
      images.withdraw()
      if deadline == nil { deadline = .now + Self.patience }
    case .record(let transfer, let name, let isEncrypted):
      do {
        try desk.record(transfer, name, isEncrypted: isEncrypted)
        ciphers?.permit(transfer)
      } catch { answer = .failure(Failure(error)) }
    case .cipher(let request):
      guard let ciphers else { throw LinkError("there is no key for states") }
      answer = try ciphers.answer(request)
    case .anchor(let request):
      answer =
        anchor?.answer(request) ?? .failure(Failure(.failed, "there is no anchor"))
    }
    try send(answer, on: worker.requests)
  }

  private mutating func handOver() throws(LinkError) {
    guard !desk.hasImage else { throw LinkError("it has the image already") }
    do {
      // One that another server has is asked for again and again, and costs no record.
      try images.open()
      guard handovers.take() else {
        throw Failure(
          .refused, "the image was opened \(RateLimit.most) times within \(RateLimit.period), and isn't for now")
      }
      // Read before the worker may write to it.
      try images.handOver { (reader) in
        desk.begin(reader)
      } send: { (image, descriptor) throws(LinkError) in
        let message: MonitorMessage = .image(image, descriptor: descriptor)
        try message.send(on: worker.requests)
      }
    } catch let error as LinkError { throw error } catch {
      let message: MonitorMessage = .failure(Failure(error))
      try message.send(on: worker.requests)
    }
  }

  /// Sends it, and keeps the anchor in step with which store's key is granted.
  private mutating func send(_ message: consuming MonitorMessage, on link: Link) throws(LinkError) {
    let verifier = desk.grant?.verifier
    anchor?.serve(verifier)
    try message.send(on: link)
  }

  // MARK: What the monitor tells

  private mutating func tell(_ message: consuming MonitorMessage) {
    do throws(LinkError) { try send(message, on: worker.telling) } catch { fault(error) }
  }

  private mutating func proceed() {
    for event in desk.proceed() {
      switch event {
      case .granted, .changed: tell(desk.standing())
      case .lost(let reason):
        reasonOfLoss = reason
        lossDeadline = .now + Self.patience
        tell(.lock(reason))
      case .trouble(let error):
        desk.noteTrouble(error)
        tell(desk.standing())
      }
    }
  }
}
