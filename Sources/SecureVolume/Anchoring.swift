import Crypto
import Primitives

/// The anchor of a volume that is open for writing, and how far it has come (FORMAT §12).
///
/// What holds: the anchor's newest record tells of a header of which both copies are durable; it is never more than
/// twice `SecureVolume.commitsPerAnchor` commits behind.
struct Anchoring {
  let anchor: any FreshnessAnchor
  /// The newest record.
  var record: AnchorRecord
  /// As it was opened: the anchor's other record would be accepted, too, were this one lost.
  var isBacked = false
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
    switch try recall(anchor) {
    case .generation(let least):
      let verdict: AnchorFinding.Verdict =
        generation < least ? .rolledBack : generation == least ? .current : .ahead
      let finding = AnchorFinding(anchor: anchor.name, verdict: verdict, generation: least, headerSequence: nil)
      return (finding, nil)
    case .records(let records):
      guard let newest = try newest(of: records) else {
        throw damaged(
          anchor,
          "holds no record of this store as it is: it is damaged, or another store's, or the image is of before or "
            + "after a `vnvram convert`; name the right one")
      }
      guard !newest.isContradicted else {
        throw damaged(anchor, "holds two records of one number that differ: it is damaged; restore the anchor")
      }
      let record = newest.record
      let finding = AnchorFinding(
        anchor: anchor.name, verdict: record.compare(header, generation), generation: record.generation,
        headerSequence: record.headerSequence)
      return (finding, newest)
    }
  }

  private func recall(_ anchor: any FreshnessAnchor) throws(VolumeError) -> AnchorMemory {
    do { return try anchor.recall(uuid, forWriting: isWritable) } catch { throw VolumeError(error, store: name) }
  }

  private func damaged(_ anchor: any FreshnessAnchor, _ what: String) -> VolumeError {
    VolumeError(
      AnchorError(
        .notAuthentic, anchor: anchor.name, what + ", or accept the image as it is with `vnvram accept-rollback`"),
      store: name)
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
    if isWritable, let newest {
      anchoring = Anchoring(
        anchor: anchor, record: newest.record, isBacked: wouldAccept(newest.other, beside: newest.record, generation))
    }
  }

  private func wouldAccept(_ other: AnchorRecord?, beside newest: AnchorRecord, _ generation: Generation) -> Bool {
    guard let other, other.counter == newest.counter else { return false }
    switch other.compare(header, generation) {
    case .current, .ahead: return true
    case .rolledBack, .forked: return false
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

  /// Whether the numbers of the anchor suffice for an opening and a clean close; nothing is written.
  func checkAnchorNumbers() throws(VolumeError) {
    guard let record = anchoring?.record else { return }
    for (number, what) in [(record.sequence, "its anchor's records"), (record.counter, "its anchor's counter")] {
      // The record that shows that it can be written, that of the opening, and that of the close.
      _ = try counted(try counted(try counted(number, what), what), what)
    }
  }

  /// Shows that the anchor can be written, before a header is: it gets its newest record once more, durably. In the
  /// record's own place where the other one would be accepted, too, if power went in between; else in the other place,
  /// under the next number.
  func confirmAnchor() throws(VolumeError) {
    guard let state = anchoring else { return }
    do throws(AnchorError) {
      if state.isBacked { return try state.anchor.confirm() }
      // The record goes with the counter as it is.
      _ = try state.anchor.counter(for: .running)
    } catch { throw VolumeError(error, store: name) }
    var record = state.record
    record.sequence = try counted(record.sequence, "its anchor's records")
    try hand(record, to: state.anchor, .running)
    anchoring?.record = record
  }

  // MARK: Accepting

  /// Before anything is written: is it what the person saw, is nothing else lost with the anchor, and are there numbers
  /// left?
  ///
  /// - Returns: what the anchor remembers, if anything.
  func mayAccept(_ use: AnchorUse, _ moment: VolumeMoment) throws(VolumeError) -> NewestRecord? {
    guard use.shown == nil || use.shown == moment else {
      throw VolumeError(
        .refused, store: name, "has changed since it was looked at; nothing was accepted: look again")
    }
    do { try use.anchor.mayEstablish(for: uuid) } catch { throw VolumeError(error, store: name) }
    let known: NewestRecord?
    do {
      switch try recall(use.anchor) {
      case .generation: known = nil
      case .records(let records): known = try newest(of: records)
      }
    } catch {
      guard error.code == .anchor(.missing) || error.code == .anchor(.notAuthentic) else { throw error }
      known = nil
    }
    _ = try leapt(known, opening.generation)
    _ = try counted(try counted(known?.record.sequence ?? 0, "its anchor's records"), "its anchor's records")
    // After those of an opening, a checkpoint's among them.
    _ = try counted(header.sequence + 4, "its headers")
    return known
  }

  /// Makes `anchor` say that this image, as it is, is the newest; durable on return.
  func accept(_ anchor: any FreshnessAnchor, after known: NewestRecord?) throws(VolumeError) {
    do { try anchor.establish(for: uuid, keeping: known?.index, replacing: true) } catch {
      throw VolumeError(error, store: name)
    }
    try leap(to: try leapt(known, generation))
    anchoring = Anchoring(
      anchor: anchor, record: AnchorRecord(of: header, sequence: known?.record.sequence ?? 0, counter: 0))
    try tellAnchor(.establishing, after: "was given \(generation)")
  }

  /// A generation beyond this one and all that the anchor remembers.
  private func leapt(_ known: NewestRecord?, _ generation: Generation) throws(VolumeError) -> Generation {
    let latest = max(generation, known?.generation ?? generation).value
    return Generation(try counted(latest + Self.generationLeap - 1, "its generations"))
  }

  /// Gives the present content a later generation, in an epoch of its own.
  private func leap(to later: Generation) throws(VolumeError) {
    let epoch: InlineBytes16
    do { epoch = try Random.bytes16() } catch { throw VolumeError(error, store: name) }
    try settleImage { (next) throws(VolumeError) in
      try beginEpoch(epoch, in: &next)
      next.generation = later
      next.root = try root(at: later)
    }
    generation = later
  }

  // MARK: Advancing

  /// Hands the header over, of which both copies are durable and say what the caller was asked for.
  ///
  /// - Throws: `isDurable`, and with `change` in its words.
  func tellAnchor(_ moment: AnchorMoment, after change: String) throws(VolumeError) {
    do { try advanceAnchor(moment) } catch { throw VolumeError(error, after: change) }
  }

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
    guard let anchored = anchoring?.record.generation, generation.value - anchored.value >= 2 * commitsPerAnchor else {
      return
    }
    // The first covers the commits before it; one under way may have begun long ago.
    for _ in 0..<2 where !journal.isEmpty {
      if checkpoint == nil { try startCheckpoint() }
      try finishCheckpoint()
    }
    if isAheadOfAnchor { try advanceAnchor(.running) }
  }
}
