/// How an NVRAM behaves. The defaults suit one virtual machine.
public struct NVRAMConfiguration: Sendable {
  /// What is expected on the device. What isn't is refused: a plain image is no encrypted one.
  public enum Form: Sendable {
    case encrypted
    /// The 2013 stream with nothing around it (FORMAT §9): for inspection and import.
    case plain
  }

  /// What to do when the key that opened the store is lost while it runs: it is revoked, expires, is taken away, its
  /// permissions are, or its content is replaced.
  public enum KeyLossPolicy: Sendable {
    /// Finish what is being served, close the image cleanly, drop every key, and wait for the key. How busy the store
    /// is, and what completions block, doesn't matter.
    case lock
    /// Go on. The key is needed again at the next start.
    case keep
  }

  public var form = Form.encrypted
  public var keyLossPolicy = KeyLossPolicy.lock
  /// How often the key that opened the store is read and compared under `.lock`, and one that was wrong, while the
  /// store waits for the right one. The NVRAM's thread that looks after keys does it; a commit that takes longer holds
  /// it up.
  public var keyCheckInterval = Duration.seconds(1)
  /// How soon a missing key is looked for again at first; the time grows by half each time, up to the longest.
  public var shortestKeySearchInterval = Duration.milliseconds(50)
  public var longestKeySearchInterval = Duration.seconds(1)
  /// Whether the keyrings are looked at at all. Without, the store opens with what it is given alone, and nothing locks
  /// it but `lock`.
  public var findsKeys = true
  /// How soon keys are tried again at the earliest, by `poke` or because they changed; what comes sooner is done then.
  public var shortestKeyTrialInterval = Duration.milliseconds(250)
  /// Only the kernel key of this slot is looked for; `nil`: any that the image has a slot for.
  public var onlyKey: String?
  /// Whether a key that is in no keyring is asked for: the kernel then runs /sbin/request-key as root, which knows
  /// programs that may have it (request-key.conf(5)). The key comes into the process keyring, so the thread that calls
  /// `NVRAM.start` must not be older than a process keyring that is there already. A thread of its own asks, which
  /// nothing waits for, `close` neither, but for `start(failOnEncryptedDrive: true)`, `format(keyNamed:)` and
  /// `makeImage`.
  ///
  /// Without this no program is ever started.
  public var asksForKeys = false
  /// How soon it is asked again where nobody had the key, by `poke`, too; the time doubles each time, up to the
  /// longest. An expired key is asked for like one that isn't there; one that was revoked only after `poke`.
  public var shortestAskInterval = Duration.seconds(1)
  public var longestAskInterval = Duration.seconds(60)
  /// How many requests there may be; one more is refused with `.queueFull`. A request with a completion counts from its
  /// call until its completion is called. A call that waits is refused only where so many requests wait to be served
  /// before it.
  public var maximumRequests = 1024
  /// How many bytes requests with a completion may hold; what goes beyond is refused with `.queueFull`. They count from
  /// the call until the completion is called: a write with its bytes, a read with the capacity that its entry is
  /// registered with, at most this bound. Calls that wait lend their own bytes, and don't count.
  public var maximumRequestBytes = 16 << 20
  /// How long a commit may be unknown to the anchor. (By number of commits: `SecureVolume.commitsPerAnchor`.)
  public var longestAnchorInterval = Duration.seconds(60)

  public init() {}
}
