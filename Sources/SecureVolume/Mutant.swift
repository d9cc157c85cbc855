// Faults put into this module on purpose, so that the model checker can be shown to catch them (Tests/README.md, "make
// soak"). A build has them only with `-D VNVRAM_MUTANTS`; any other has neither their names nor a branch for them: each
// `isOn` is the constant false. `MutantTests.programsHaveNoMutants` looks.

#if VNVRAM_MUTANTS
  /// A fault of this module that a build for the checker has, one at a time.
  package enum Mutant: String, CaseIterable, Sendable {
    /// A commit isn't synced.
    case skipTheSync = "skip-the-sync"
    /// A new header goes into one of the two copies alone.
    case skipSecondHeaderCopy = "skip-second-header-copy"
    /// A commit is acknowledged first and synced before the next one.
    case acknowledgeBeforeSync = "acknowledge-before-sync"
    /// A record follows whatever the MAC of the one before it is.
    case ignoreChainMAC = "ignore-chain-mac"
    /// A record's own MAC isn't looked at.
    case ignoreRecordMAC = "ignore-record-mac"
    /// Ring space is free as soon as the header that says so was written, and not yet synced.
    case freeRingBeforeHeaderSynced = "free-ring-before-header-synced"
    /// After a sync that failed a second one is tried, and believed.
    case retryFailedSync = "retry-failed-sync"
    /// A checkpoint overwrites blocks of which the journal has no images.
    case overwriteWithoutImages = "overwrite-leaf-blocks-without-images"
    /// An opening for writing goes on under the epoch that it found.
    case reuseEpoch = "reuse-epoch"

    /// Set once, before the first volume is opened.
    package nonisolated(unsafe) static var chosen: Mutant?

    var isOn: Bool { unsafe Self.chosen == self }
  }
#else
  enum Mutant {
    struct Never {
      @inline(__always) var isOn: Bool { false }
    }

    @inline(__always) static var skipTheSync: Never { Never() }
    @inline(__always) static var skipSecondHeaderCopy: Never { Never() }
    @inline(__always) static var acknowledgeBeforeSync: Never { Never() }
    @inline(__always) static var ignoreChainMAC: Never { Never() }
    @inline(__always) static var ignoreRecordMAC: Never { Never() }
    @inline(__always) static var freeRingBeforeHeaderSynced: Never { Never() }
    @inline(__always) static var retryFailedSync: Never { Never() }
    @inline(__always) static var overwriteWithoutImages: Never { Never() }
    @inline(__always) static var reuseEpoch: Never { Never() }
  }
#endif
