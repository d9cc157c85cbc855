import StorageSimulation

/// What a thread of a schedule does, and what completions, observers and callbacks do.
indirect enum Operation: Sendable {
  case write(Transfer)
  case read(Transfer)
  /// Call off the last request that the same thread made without waiting.
  case cancel
  case cancelAll
  case processRequests(deadline: Duration?)
  case lock
  case unlock
  case close
  case register(entry: Int)
  case deregister(entry: Int)
  case observe([Operation])
  case look
  /// Writes without waiting, so many.
  case flood(entry: Int, count: Int)
  /// Takes the kernel key away, and has load until the store has locked.
  case loseKey(entry: Int, waiting: Bool)
  case bringKey
  case poke
  /// For so long, of the schedule's time.
  case block(Duration)
  /// Closes, and drops the last reference.
  case throwAway
  /// The same again and again, until one that has to come through has.
  case storm([Operation])
  /// This is the one.
  case comeThrough(Operation)

  /// A read or a write.
  struct Transfer: Sendable {
    let entry: Int
    var deadline: Duration?
    /// What the completion does; `nil`: it is waited for.
    var completion: [Operation]?
    /// All of it, in the one of two ways that isn't the first: `writeContent` for `replaceContent`, `readContent` into
    /// a buffer for one that returns the bytes.
    var otherWay = false
  }

  var label: String {
    switch self {
    case .write(let transfer): transfer.label("write")
    case .read(let transfer): transfer.label("read")
    case .cancel: "cancel"
    case .cancelAll: "cancelAll"
    case .processRequests(let deadline): "processRequests\(deadline.map { " within \($0)" } ?? "")"
    case .lock: "lock"
    case .unlock: "unlock"
    case .close: "close"
    case .register(let entry): "register e\(entry)"
    case .deregister(let entry): "deregister e\(entry)"
    case .observe: "observe"
    case .look: "state, generation, hadFatalError"
    case .flood(let entry, let count): "\(count) writes of e\(entry) without waiting"
    case .loseKey(let entry, let waiting): "load on e\(entry) until the lost key is noticed, waiting: \(waiting)"
    case .bringKey: "bring the key"
    case .poke: "poke"
    case .block(let duration): "block for \(duration)"
    case .throwAway: "close and drop"
    case .storm(let operations): "again and again: \(operations.map(\.label).joined(separator: ", "))"
    case .comeThrough(let operation): "come through: \(operation.label)"
    }
  }
}

extension Operation.Transfer {
  func label(_ verb: String) -> String {
    let kind = completion == nil ? "" : " without waiting"
    return "\(verb) e\(entry)\(deadline.map { " within \($0)" } ?? "")\(kind)"
  }
}
