import Audit
import BlockIO
import Primitives
import SecureVolume
import VNVRAM
import VTPM

/// Where the worker gets the store key, and the one place where the server's uses of keys are recorded.
///
/// The key comes from the keyrings, or was handed over (`--key`). Kernel keys, passphrases and recovery keys stay here.
final class KeyDesk {
  private let audit: AuditLog
  private let keeper: StoreKeyKeeper
  private let unlocker: Unlocker
  /// `--key`, which opens it in place of kernel keys.
  private let given: StateKey?
  private let failOnEncryptedDrive: Bool
  /// Whether the image may have to be opened once more, later.
  private let isShared: Bool
  private let hasAnchor: Bool
  /// What this image's folder may be a copy of.
  private let original: FileDevice?
  /// Why a copy isn't opened.
  private var copy: Failure?
  private let log: Log
  private var name = ""
  /// Whether the worker has the image.
  private(set) var hasImage = false
  /// Whether it has asked for its key.
  private(set) var isAsked = false
  /// Of states that go over the control channel; a move takes three.
  private var transfers = RateLimit()
  /// What the worker was given.
  private(set) var grant: StoreKeyGrant?
  /// Whether it opened the image with it.
  private var isOpen = false
  /// Why the image stays closed, of a key that was handed over.
  private var refusal: Failure?
  /// When it may be tried again.
  private var nextTrial = ContinuousClock.now
  /// Why a key that is there isn't used.
  private var trouble: NVRAMError?

  init(
    _ audit: AuditLog, _ configuration: NVRAMConfiguration, given: StateKey?, failOnEncryptedDrive: Bool,
    isShared: Bool, hasAnchor: Bool, original: FileDevice? = nil, _ log: Log
  ) {
    self.audit = audit
    keeper = StoreKeyKeeper(audit: audit, configuration: configuration)
    unlocker = Unlocker(audit: audit)
    self.given = given
    self.failOnEncryptedDrive = failOnEncryptedDrive
    self.isShared = isShared
    self.hasAnchor = hasAnchor
    self.original = original
    self.log = log
  }

  private static let shortestTrialInterval = Duration.seconds(1)

  var readinessDescriptor: Int32 { keeper.readinessDescriptor }
  var timeout: Int32? { given == nil ? keeper.timeout : nil }

  // MARK: The image

  /// The worker is about to have this image. `image` is open for reading, without a lock, and stays so until `end`.
  func begin(_ image: FileDevice) {
    (hasImage, isAsked) = (true, false)
    name = image.name
    refusal = nil
    keeper.begin(image)
    copy = reasonToRefuseCopy
  }

  /// A copy is the same store, and one anchor can't follow both: the first that is started would lock the other out.
  private var reasonToRefuseCopy: Failure? {
    guard let original, let uuid = keeper.volume?.uuid, (try? SealedVolume.expected(on: original))?.uuid == uuid else {
      return nil
    }
    return Failure(
      .refused,
      "\(name): is a copy of \(original.name), which is there, too: its anchor can't follow both, and starting this one would lock "
        + "that one out; give the copy a new image, with `vnvram format`, `vnvram dump --der` and `vnvram import-stream`; or, if "
        + "it takes that one's place, move that one away")
  }

  /// The image is closed, or the worker has ended; what kept that from being as it should.
  func end(_ failure: Failure?) {
    take(.ended, status: failure?.status ?? .done, failure?.description)
    keeper.end()
    hasImage = false
  }

  /// Whether the worker was told to drop its keys, and hasn't said that it did.
  var isLosing: Bool { if case .losing = keeper.standing { true } else { false } }

  /// Records what became of the store key that was granted, and forgets it. No key is used, so nothing is held back for
  /// want of the record.
  private func take(_ event: AuditEvent, status: Status = .done, _ detail: String?) {
    guard let grant else { return }
    self.grant = nil
    isOpen = false
    note(grant.record(event, status: status, detail))
  }

  private func note(_ record: AuditRecord) {
    do { try audit.record(record) } catch { log.line("\(error)") }
  }

  // MARK: What the worker asks

  /// Gives the key if it is there, and tells what it waits for if not. A key that was refused or is missing is looked
  /// for anew.
  func answer() -> MonitorMessage {
    guard hasImage else { return .refused(Failure(.failed, "\(name): is not open")) }
    if grant != nil { return isOpen ? alreadyGiven : .pending("\(name): its key is on its way") }
    isAsked = true
    if let copy { return .refused(copy) }
    if given != nil { return answerWithGivenKey() }
    do throws(NVRAMError) {
      keeper.reconsider()
      // The first time there is no answer yet; after that, whoever asks anew is heeded as often as keys may be tried.
      if case .waiting(let wanted) = keeper.standing, wanted.isEmpty, !keeper.isLocked {
        try keeper.lookNow()
      } else {
        keeper.hurry()
      }
      trouble = nil
    } catch { trouble = error }
    return standing()
  }

  /// What there is to say of the key now.
  func standing() -> MonitorMessage {
    switch keeper.standing {
    case .idle: return .refused(Failure(.failed, "\(name): is not open"))
    case .granted(let grant): return hand(grant)
    case .losing(let keys): return .pending(waiting(for: keys))
    case .refused(let error): return .refused(Failure(error))
    case .waiting(let keys):
      if let trouble, keys.isEmpty { return .refused(Failure(trouble)) }
      guard failOnEncryptedDrive, !keeper.isLocked, !keeper.isLooking else { return .pending(waiting(for: keys)) }
      return .refused(missing(keys))
    }
  }

  private func hand(_ grant: StoreKeyGrant) -> MonitorMessage {
    guard self.grant == nil, let key = grant.takeStoreKey() else { return alreadyGiven }
    self.grant = grant
    if !hasAnchor { grant.dropVerifier() }
    trouble = nil
    return .granted(grant.uuid, key)
  }

  private var alreadyGiven: MonitorMessage {
    .refused(Failure(.failed, "\(name): its key was given already; start the server anew"))
  }

  private func answerWithGivenKey() -> MonitorMessage {
    if case .refused(let error) = keeper.standing { return .refused(Failure(error)) }
    guard let sealed = keeper.volume, let given, !given.isGone else {
      return .refused(refusal ?? Failure(.wrongKey, "\(name): the key that was given with --key is gone"))
    }
    // A passphrase costs time, and each trial two records.
    if let refusal, ContinuousClock.now < nextTrial { return .refused(refusal) }
    defer { nextTrial = .now + Self.shortestTrialInterval }
    var answer: MonitorMessage = .done
    do throws(NVRAMError) {
      _ = try given.use { (key) throws(NVRAMError) in answer = hand(try unlocker.unwrap(sealed, with: key)) }
      refusal = nil
    } catch {
      // It may be tried again where the record of its use could not be written, and nowhere else.
      if error.code != .audit, !isShared { given.wipe() }
      refusal = Failure(error)
      return .refused(Failure(error))
    }
    if !isShared { given.wipe() }
    return answer
  }

  /// How opening the image went.
  func opened(_ generation: UInt64, _ failure: Failure?) {
    guard let grant, !isOpen else { return }
    guard let failure else {
      isOpen = true
      return note(grant.record(.started, "at generation \(generation)"))
    }
    take(.imageRefused, status: failure.status, failure.description)
    refusal = failure
    keeper.openingFailed(failure)
  }

  /// The worker has dropped its keys, since `proceed` said so.
  func dropped(_ reason: String, _ failure: Failure?) {
    take(.locked, status: failure?.status ?? .done, failure?.description ?? reason)
    if failure == nil { keeper.dropped() }
  }

  /// A state is about to leave the store, or to come.
  ///
  /// - Throws: where that couldn't be recorded, or there were too many.
  func record(_ transfer: TPMStateTransfer, _ name: TPMStateName, isEncrypted: Bool) throws {
    guard transfers.take() else {
      throw Failure(
        .refused, "\(RateLimit.most) states went in or out within \(RateLimit.period), and no more may for now")
    }
    let event: AuditEvent = transfer == .exported ? .exported : .imported
    let way = transfer == .exported ? "GET_STATEBLOB" : "SET_STATEBLOB"
    let form = isEncrypted ? "encrypted" : "in clear"
    let detail = "the TPM's \(name.rawValue), \(form), by \(way) on the control channel"
    try audit.record(grant?.record(event, detail) ?? AuditRecord(event, store: self.name, detail: detail))
  }

  // MARK: As time goes by

  /// Does what is due; what the worker is to be told. A lock's reason is for the record, too.
  func proceed() -> [StoreKeyKeeper.Event] {
    given == nil ? keeper.proceed() : []
  }

  func noteTrouble(_ error: NVRAMError) { trouble = error }

  // MARK: Words

  /// How it is, for people who ask the service manager.
  var situation: String {
    guard hasImage else { return "\(name.isEmpty ? "The image" : name) is not open" }
    if grant != nil { return "\(name) is \(isOpen ? "open" : "being opened")" }
    if let refusal { return refusal.description }
    switch keeper.standing {
    case .refused(let error): return error.description
    case .waiting(let keys), .losing(let keys):
      return keys.isEmpty ? "\(name): its key is looked for" : waiting(for: keys)
    case .idle, .granted: return "\(name) is being opened"
    }
  }

  private func waiting(for keys: WantedKeys) -> String {
    let verb = keeper.isLocked ? "is locked and waits" : "waits"
    return "\(name) \(verb) for a key: \(keys.summary)\(trouble.map { "; \($0)" } ?? "")"
  }

  private func missing(_ keys: WantedKeys) -> Failure {
    let error = NVRAMError(keys, store: name)
    let hint = keys.isEmpty ? " (a passphrase with --key pwdfile=FILE)" : ""
    return Failure(error.status, error.description + hint + (trouble.map { "; \($0)" } ?? ""))
  }
}

extension WantedKeys {
  /// Every key by name, with what is the matter with it.
  fileprivate var summary: String {
    let unusable = unusable.map { "\($0.name) (\($0.reason))" }
    let wrong = wrong.map { "\($0) (wrong)" }
    let asked = asking.isEmpty ? "" : ", which is asked for"
    return (missing + unusable + wrong).joined(separator: ", ") + asked
  }
}
