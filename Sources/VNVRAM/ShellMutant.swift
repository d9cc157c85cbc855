// Faults of order put into this module on purpose, so that the explorer of schedules can be shown to catch them
// (Tests/README.md, "make soak"); five were once there. A build has them only with `-D VNVRAM_MUTANTS`, as
// SecureVolume's.

#if VNVRAM_MUTANTS
  /// A fault of this module that a build for the explorer has, one at a time.
  package enum ShellMutant: String, CaseIterable, Sendable {
    /// What waits to be told counts towards no bound.
    case unboundedOutbox = "unbounded-outbox"
    /// Keys are looked for only while no request waits.
    case keysWhenIdle = "keys-when-idle"
    /// Who waits in a completion for a request is not told that the store has begun to wait for a key.
    case deadlockingTeller = "deadlocking-teller"
    /// A deregistration doesn't wait for callbacks and completions.
    case deregisterEarly = "deregister-early"
    /// A request is used again before who waits for it has seen that it ended.
    case recycledRequest = "recycled-request"
    /// Who is called off passes on nothing.
    case cancelWithoutPassing = "cancel-without-passing"
    /// Nobody has the time in view while writers are gathered.
    case gatherForEver = "gather-for-ever"
    /// A close doesn't wait for completions and callbacks.
    case closeEarly = "close-early"
    /// A request that finds the store free goes before those that wait.
    case overtakeQueue = "overtake-queue"
    /// A wake-up of the keeper is lost.
    case sleepingKeeper = "sleeping-keeper"

    /// Set once, before the first NVRAM is made.
    package nonisolated(unsafe) static var chosen: ShellMutant?

    var isOn: Bool { unsafe Self.chosen == self }
  }
#else
  enum ShellMutant {
    struct Never {
      @inline(__always) var isOn: Bool { false }
    }

    @inline(__always) static var unboundedOutbox: Never { Never() }
    @inline(__always) static var keysWhenIdle: Never { Never() }
    @inline(__always) static var deadlockingTeller: Never { Never() }
    @inline(__always) static var deregisterEarly: Never { Never() }
    @inline(__always) static var recycledRequest: Never { Never() }
    @inline(__always) static var cancelWithoutPassing: Never { Never() }
    @inline(__always) static var gatherForEver: Never { Never() }
    @inline(__always) static var closeEarly: Never { Never() }
    @inline(__always) static var overtakeQueue: Never { Never() }
    @inline(__always) static var sleepingKeeper: Never { Never() }
  }
#endif
