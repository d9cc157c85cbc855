import Crypto
import Primitives

/// Who has the store's lock, this server or perhaps another, when a virtual machine moves between hosts that share the
/// image (`--migration`).
///
/// Invariants: a TPM that runs while the store is released runs no command; when the store is had again it goes on only
/// where the permanent state is the one that was released. Else another server was the TPM in the meantime, and what
/// this one has in memory would overwrite that one's.
struct StoreHandover {
  /// How often it is tried to get the store, in milliseconds, and for how long where nobody says so: as swtpm does.
  static let interval = 10
  static let patience = 3000

  private let states: any TPMStateStore
  private let log: Log
  private(set) var isReleased: Bool
  /// Until when it is tried; nil where it isn't.
  private(set) var deadline: Int?
  /// What was handed out since the last command.
  private var handedOut: Set<TPMStateName> = []
  /// How many commands the TPM had run then.
  private var commands: UInt64 = 0
  /// Of the permanent state that was released, until it was compared.
  private var digest: InlineBytes32?

  init(_ states: any TPMStateStore, isReleased: Bool, log: Log) {
    self.states = states
    self.isReleased = isReleased
    self.log = log
  }

  /// The state of a running TPM isn't known to be the store's.
  var isUnverified: Bool { !isReleased && digest != nil }

  // MARK: Giving

  /// Releases the store when all of the state has gone out, the savestate last, and the TPM ran no command in between.
  /// True where it did.
  mutating func handOut(_ name: TPMStateName, after commands: UInt64) -> Bool {
    if commands != self.commands { handedOut = [] }
    self.commands = commands
    handedOut.insert(name)
    guard name == .savestate, handedOut.count == 3, !isReleased else { return false }
    handedOut = []
    return release()
  }

  private mutating func release() -> Bool {
    do {
      digest = try permanentDigest()
      isReleased = true
      try states.release()
      log.line("the state was handed out; the store is released")
    } catch { log.line("releasing the store: \(error)") }
    return isReleased
  }

  private func permanentDigest() throws -> InlineBytes32? {
    guard var bytes = try states.load(.permall) else { return nil }
    defer { wipe(&bytes) }
    return try Digest.sha256(bytes.span)
  }

  // MARK: Taking

  enum Outcome {
    case had
    /// Another process has it; it is tried again until the deadline.
    case trying
    case failed(TPMStateError)
  }

  /// Tries to get the store, and again until `deadline`.
  mutating func take(until deadline: Int, _ now: Int) -> Outcome {
    guard isReleased else { return .had }
    do throws(TPMStateError) {
      try states.acquire()
      isReleased = false
      self.deadline = nil
      log.line("the store is had again")
      return .had
    } catch {
      if error.status == .inUse, now < deadline {
        self.deadline = deadline
        return .trying
      }
      self.deadline = nil
      log.line("\(error)")
      return .failed(error)
    }
  }

  mutating func giveUp() { deadline = nil }

  // MARK: Comparing

  /// A TPM that starts from the store has nothing to compare.
  mutating func forget() { digest = nil }

  /// Whether the store has what was released, now that it is ready. To be asked once.
  mutating func isUnchanged() -> Bool {
    guard let expected = digest else { return true }
    digest = nil
    guard let found = try? permanentDigest(), found == expected else {
      log.line("another server was this TPM in the meantime: its state has changed; INIT starts from there")
      return false
    }
    return true
  }
}
