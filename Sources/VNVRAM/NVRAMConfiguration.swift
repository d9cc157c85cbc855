/// How an NVRAM behaves. The defaults suit one virtual machine.
public struct NVRAMConfiguration: Sendable {
  /// What is expected on the device. What isn't is refused: a plain image is no encrypted one.
  public enum Form: Sendable {
    case encrypted
    /// The 2013 stream with nothing around it (FORMAT §9): for inspection and import.
    case plain
  }

  /// What to do when the key that opened the store is revoked, expires or is taken away while it runs.
  public enum KeyLossPolicy: Sendable {
    /// Finish the commit in flight, drop every key, and wait for the key.
    case lock
    /// Go on. The key is needed again at the next start.
    case keep
  }

  public var form = Form.encrypted
  public var keyLossPolicy = KeyLossPolicy.lock
  /// How often the key that opened the store is looked at under `.lock`.
  public var keyCheckInterval = Duration.seconds(1)
  /// How soon a missing key is looked for again at first; the time grows by half each time, up to the longest.
  public var shortestKeySearchInterval = Duration.milliseconds(50)
  public var longestKeySearchInterval = Duration.seconds(1)
  /// Only the kernel key of this slot is looked for; `nil`: any that the image has a slot for.
  public var onlyKey: String?
  /// Requests that may wait. One more is refused with `.queueFull`.
  public var maximumRequests = 1024
  /// Bytes that waiting requests may hold. What goes beyond is refused with `.queueFull`.
  public var maximumRequestBytes = 16 << 20
  /// How long a commit may be unknown to the anchor. (By number of commits: `SecureVolume.commitsPerAnchor`.)
  public var longestAnchorInterval = Duration.seconds(60)
  /// Bytes per sector of a store that is formatted: 512 or 4096.
  public var sectorSize = 4096

  public init() {}
}
