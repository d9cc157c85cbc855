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
    /// An opening for writing goes on under the epoch that it found.
    case reuseEpoch = "reuse-epoch"
    /// An image is written on a device whose blocks are larger than its own.
    case ignoreLargerBlocks = "ignore-larger-blocks"
    /// The journal ends at the first place that has no record, whatever lies behind it.
    case trustTheEnd = "trust-the-end"
    /// The last record counts because a read shows it.
    case believeTheCache = "believe-the-cache"
    /// An opening for writing doesn't see to the image's space.
    case skipAllocation = "skip-allocation"
    /// A leaf block that changed is remembered for the table alone that is written next.
    case trackOneTable = "track-one-table"
    /// A checkpoint writes the leaf blocks as they are by then, with later commits.
    case laterLeafBlocks = "later-leaf-blocks"
    /// The table that the second header copy still names is written before that copy is.
    case nextCheckpointBetweenHeaders = "next-checkpoint-between-headers"
    /// The last record goes in place before it was appended anew.
    case inPlaceBeforeAppended = "in-place-before-appended"

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
    @inline(__always) static var reuseEpoch: Never { Never() }
    @inline(__always) static var ignoreLargerBlocks: Never { Never() }
    @inline(__always) static var trustTheEnd: Never { Never() }
    @inline(__always) static var believeTheCache: Never { Never() }
    @inline(__always) static var skipAllocation: Never { Never() }
    @inline(__always) static var trackOneTable: Never { Never() }
    @inline(__always) static var laterLeafBlocks: Never { Never() }
    @inline(__always) static var nextCheckpointBetweenHeaders: Never { Never() }
    @inline(__always) static var inPlaceBeforeAppended: Never { Never() }
  }
#endif
