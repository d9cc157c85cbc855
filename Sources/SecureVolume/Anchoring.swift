import Crypto
import Primitives

/// The anchor of a volume that is open for writing, and how far it has come (FORMAT §12).
///
/// What holds: the anchor's newest record tells of a header of which both copies are durable; it is never more than twice
/// `SecureVolume.commitsPerAnchor` commits behind.
struct Anchoring {
  let anchor: any FreshnessAnchor
  /// The newest record.
  var record: AnchorRecord
  /// Why the anchor could not be advanced last, until it could.
  var failure: VolumeError?
  /// Asked for before its time.
  var isRequested = false
  /// After a failure: not tried again before this, by itself.
  var retryFrom = Generation(0)

  func isDue(at generation: Generation, every: UInt64) -> Bool {
    guard generation > record.generation else { return false }
    return isRequested || generation.value - record.generation.value >= every && generation >= retryFrom
  }
}

/// What comparing an image with its anchor gave.
public struct AnchorFinding: Equatable, Sendable {
  public enum Verdict: String, Sendable {
    /// The image is what the anchor remembers.
    case current
    /// The image is newer, as after a crash between a commit and the anchor.
    case ahead
    case rolledBack = "rolled-back"
    /// Two copies of the image went separate ways.
    case forked
  }

  public let anchor: String
  public let verdict: Verdict
  /// What the anchor remembers.
  public let generation: Generation
  /// `nil` for an anchor that remembers generations alone.
  public let headerSequence: UInt64?
}

extension AnchorRecord {
  /// An image's header, and its generation after replay, against this record.
  func compare(_ header: Header, _ current: Generation) -> AnchorFinding.Verdict {
    if header.sequence < headerSequence || header.generation < generation { return .rolledBack }
    guard header.lineage.has(lineage, at: generation) else { return .forked }
    if header.sequence == headerSequence, header.epoch != epoch { return .forked }
    if header.generation == generation, header.root != root { return .forked }
    return header.sequence == headerSequence && current == generation ? .current : .ahead
  }
}

/// The newest authentic record of an anchor.
public struct NewestRecord: Sendable {
  public let index: Int
  public let record: AnchorRecord

  public init(index: Int, record: AnchorRecord) { (self.index, self.record) = (index, record) }
}

extension SecureVolume {
  /// Accepting an image leaps so many generations beyond it and its anchor, so that the copies that were given up are
  /// older ever after, with all that may have been committed to them since the anchor was advanced.
  static var generationLeap: UInt64 { 1 << 20 }
  public static var standardCommitsPerAnchor: UInt64 { 1024 }
  public static var mostCommitsPerAnchor: UInt64 { 1 << 16 }

  /// The generation that the anchor remembers; `nil` without an anchor, or with one that remembers nothing.
  public var anchoredGeneration: Generation? { anchoring?.record.generation }
  /// Why the anchor could not be advanced last; `nil` once it could. The volume goes on until it is
  /// 2 × `commitsPerAnchor` commits ahead.
  public var anchorFailure: VolumeError? { anchoring?.failure }

  // MARK: At opening

  /// Compares with an anchor. Nothing is changed.
  ///
  /// - Throws: `.anchor` where it is missing, holds nothing authentic of this store, or can't be read.
  public func compare(with anchor: any FreshnessAnchor) throws(VolumeError) -> AnchorFinding {
    try inspect(anchor, generation).finding
  }

  /// - Parameter generation: of the image, after replay.
  private func inspect(
    _ anchor: any FreshnessAnchor, _ generation: Generation
  ) throws(VolumeError) -> (finding: AnchorFinding, newest: NewestRecord?) {
    let memory: AnchorMemory
    do { memory = try anchor.recall(uuid, forWriting: isWritable) } catch { throw VolumeError(error, store: name) }
    switch memory {
    case .generation(let least):
      let verdict: AnchorFinding.Verdict =
        generation < least ? .rolledBack : generation == least ? .current : .ahead
      let finding = AnchorFinding(anchor: anchor.name, verdict: verdict, generation: least, headerSequence: nil)
      return (finding, nil)
    case .records(let records):
      guard let newest = try newest(of: records) else {
        throw VolumeError(
          AnchorError(
            .notAuthentic, anchor: anchor.name,
            "holds no record of this store: it is damaged, or another store's; name the right one, or accept the image as "
              + "it is with `vnvram accept-rollback`"), store: name)
      }
      let record = newest.record
      let finding = AnchorFinding(
        anchor: anchor.name, verdict: record.compare(header, generation), generation: record.generation,
        headerSequence: record.headerSequence)
      return (finding, newest)
    }
  }

  private func newest(of records: [[UInt8]]) throws(VolumeError) -> NewestRecord? {
    do { return try AnchorRecord.newest(of: records, uuid: uuid, digest: digest, with: &keys.structure) } catch {
      throw VolumeError(error, store: name)
    }
  }

  /// Refuses an image that its anchor knows to be old, before anything is written. `header` is what was read.
  func consult(_ anchor: any FreshnessAnchor) throws(VolumeError) {
    // Of a volume that is going to be recovered the last record is not in yet.
    let generation = opening.generation
    let (finding, newest) = try inspect(anchor, generation)
    if let newest {
      do { try anchor.adopt(newest.record, at: newest.index, forWriting: isWritable) } catch {
        throw VolumeError(error, store: name)
      }
    }
    opening.anchor = finding
    switch finding.verdict {
    case .current, .ahead: break
    case .rolledBack:
      throw VolumeError(
        .rolledBack, store: name,
        "is older than its anchor \(anchor.name) remembers: it has \(Self.numbers(generation, header.sequence)), and the "
          + "anchor \(Self.numbers(finding.generation, finding.headerSequence)); " + Self.adviceOnCopies("the newer"))
    case .forked:
      throw VolumeError(
        .forked, store: name,
        "has gone another way than its anchor \(anchor.name) remembers: it has "
          + "\(Self.numbers(generation, header.sequence)), the anchor \(Self.numbers(finding.generation, finding.headerSequence)) "
          + "with another content, so a copy of it was used without the anchor; " + Self.adviceOnCopies("the right"))
    }
    if isWritable, let record = newest?.record {
      anchoring = Anchoring(anchor: anchor, record: record)
    }
  }

  /// A copy of an image is the same store: it may be an older one, or a machine's that was cloned.
  private static func adviceOnCopies(_ which: String) -> String {
    "find \(which) copy; or, if it was copied to be another machine's, give that one a new image, with `vnvram format`, `vnvram dump "
      + "--der` and `vnvram import-stream`; or accept this one, if the machine was put back, with `vnvram accept-rollback`"
  }

  private static func numbers(_ generation: Generation, _ header: UInt64?) -> String {
    header.map { "\(generation) (header \($0))" } ?? "\(generation)"
  }

  /// Shows that the anchor can be written, before a header is: it gets its newest record once more, under the next number.
  func confirmAnchor() throws(VolumeError) {
    guard let state = anchoring else { return }
    var record = state.record
    record.sequence = try counted(record.sequence, "its anchor's records")
    try hand(record, to: state.anchor, .opening)
    anchoring?.record = record
  }

  // MARK: Accepting

  /// Before anything is written: is it what the person saw, and is nothing else lost with the anchor?
  func mayAccept(_ use: AnchorUse, _ moment: VolumeMoment) throws(VolumeError) {
    guard use.shown == nil || use.shown == moment else {
      throw VolumeError(
        .refused, store: name, "has changed since it was looked at; nothing was accepted: look again")
    }
    do { try use.anchor.mayEstablish(for: uuid) } catch { throw VolumeError(error, store: name) }
  }

  /// Makes `anchor` say that this image, as it is, is the newest; durable on return.
  func accept(_ anchor: any FreshnessAnchor) throws(VolumeError) {
    var known: NewestRecord?
    do { known = try inspect(anchor, generation).newest } catch {
      switch error.code {
      case .anchor(.missing), .anchor(.notAuthentic), .anchor(.rolledBack): break
      default: throw error
      }
    }
    do { try anchor.establish(for: uuid, keeping: known?.index, replacing: true) } catch {
      throw VolumeError(error, store: name)
    }
    try leap(beyond: max(generation, known?.record.generation ?? generation))
    anchoring = Anchoring(anchor: anchor, record: AnchorRecord(of: header, sequence: known?.record.sequence ?? 0, counter: 0))
    try advanceAnchor(.establishing)
  }

  /// Gives the present content a later generation, in an epoch of its own.
  private func leap(beyond known: Generation) throws(VolumeError) {
    guard known.value < Format.numberLimit - Self.generationLeap else {
      _ = try counted(Format.numberLimit, "its generations")
      return
    }
    let later = Generation(known.value + Self.generationLeap)
    let epoch: InlineBytes16
    do { epoch = try Random.bytes16() } catch { throw VolumeError(error, store: name) }
    try settle { (next) throws(VolumeError) in
      try beginEpoch(epoch, in: &next)
      next.generation = later
      next.root = try root(at: later)
    }
    generation = later
  }

  // MARK: Advancing

  /// Hands the header over, of which both copies are durable.
  func advanceAnchor(_ moment: AnchorMoment) throws(VolumeError) {
    guard let state = anchoring else { return }
    anchoring?.isRequested = false
    do {
      anchoring?.record = try handOver(to: state.anchor, after: state.record, moment)
      anchoring?.failure = nil
    } catch {
      anchoring?.failure = error
      anchoring?.retryFrom = Generation(generation.value + max(1, commitsPerAnchor / 8))
      throw error
    }
  }

  private func handOver(
    to anchor: any FreshnessAnchor, after newest: AnchorRecord, _ moment: AnchorMoment
  ) throws(VolumeError) -> AnchorRecord {
    let counter: UInt64
    do { counter = try anchor.counter(for: moment) } catch { throw VolumeError(error, store: name) }
    let sequence = try counted(newest.sequence, "its anchor's records")
    let record = AnchorRecord(of: header, sequence: sequence, counter: counter)
    try hand(record, to: anchor, moment)
    return record
  }

  private func hand(
    _ record: AnchorRecord, to anchor: any FreshnessAnchor, _ moment: AnchorMoment
  ) throws(VolumeError) {
    let sealed: ByteBuffer
    do { sealed = try record.sealed(digest: digest, with: &keys.structure) } catch {
      throw VolumeError(error, store: name)
    }
    do { try anchor.store(sealed, moment) } catch { throw VolumeError(error, store: name) }
  }

  /// After a checkpoint, where it is time. A failure waits until the bound is reached: a full disk need not stop a
  /// virtual machine at once.
  func advanceAnchorIfDue() {
    guard anchoring?.isDue(at: header.generation, every: commitsPerAnchor) == true else { return }
    try? advanceAnchor(.running)
  }

  /// Whether `maintain` is to see to the anchor.
  var wantsAnchor: Bool { anchoring?.isDue(at: generation, every: commitsPerAnchor) ?? false }

  /// Has `maintain` bring the anchor up to date, without waiting for more commits.
  public func requestAnchor() { anchoring?.isRequested = true }

  /// Whether there are commits that the anchor doesn't know of.
  public var isAheadOfAnchor: Bool { anchoring.map { generation > $0.record.generation } ?? false }

  /// Before a commit: never more than twice `commitsPerAnchor` without the anchor, whoever calls `maintain` or doesn't.
  func keepToAnchorBound() throws(VolumeError) {
    guard let anchored = anchoring?.record.generation, generation.value - anchored.value >= 2 * commitsPerAnchor else { return }
    // The first covers the commits before it; one under way may have begun long ago.
    for _ in 0..<2 where !journal.isEmpty {
      if checkpoint == nil { try startCheckpoint() }
      try finishCheckpoint()
    }
    if isAheadOfAnchor { try advanceAnchor(.running) }
  }
}
