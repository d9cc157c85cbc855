/// Where an NVRAM stands (DESIGN §4).
public enum NVRAMState: Equatable, Sendable {
  /// Set up and not started, or closed. Requests are refused.
  case closed
  /// Started in vain: there is no store on the device. It may be formatted, and started again.
  case unformatted
  /// Waiting for a key. Requests queue; nothing that the image says is believed. Any one of the keys suffices.
  case keyPending(WantedKeys)
  /// A key came, and the image is being looked at.
  case verifying
  /// Requests are served.
  case running
  /// It ran, and has dropped its keys. Requests queue, as in key-pending.
  case locked(WantedKeys)
  /// Nothing goes any more, until it is closed and set up anew.
  case failed(NVRAMError)

  /// The stable name in `--json` and in messages.
  public var name: String {
    switch self {
    case .closed: "closed"
    case .unformatted: "unformatted"
    case .keyPending: "key-pending"
    case .verifying: "verifying"
    case .running: "running"
    case .locked: "locked"
    case .failed: "failed"
    }
  }
}

/// What observers are told, in the order in which it happened, on the NVRAM's thread that calls completions and
/// observers. By the time that they are, more may have happened: `NVRAM.state` says where it stands now.
public enum NVRAMEvent: Equatable, Sendable {
  case state(NVRAMState)
  /// Registered entries that the image doesn't have or that are larger than their places in it. Their requests fail;
  /// nothing in the image was changed. Comes after `running`.
  case mismatched([EntryMismatch])
  /// Something went wrong, and ended nothing: while it waits for a key, which it goes on doing, or with the anchor,
  /// which could not be told of what is durable in the image.
  case trouble(NVRAMError)
}

/// A registered entry for which the image has no place.
public struct EntryMismatch: Equatable, Sendable {
  public let name: String
  /// Bytes, as registered.
  public let registered: UInt64
  /// Bytes, in the image; `nil` where it isn't there.
  public let inImage: UInt64?
}
