import Primitives
import SecureVolume

/// A file anchor whose file can't be set back either: its record names the value of a counter in the host's TPM.
///
/// The record with the next value is durable before the counter is incremented, so a record that is one ahead is a
/// crash between the two, and is caught up with; one that is behind is an earlier copy of the file. The counter moves
/// at openings and clean closes only, since a TPM's memory wears out (some count on 100 000 writes); in between the
/// file moves alone, with the same value, and within one opening protects as a `FileAnchor` does.
///
/// Whoever may use the TPM can increment the counter or undefine it. Neither makes an old image acceptable: both end in
/// an error.
public final class TPMCounterAnchor: FreshnessAnchor {
  private let file: FileAnchor
  private let counter: TPMCounter
  /// The counter's value as it was last seen.
  private var value: UInt64 = 0
  /// In tests: called before each increment; what it throws is taken for the TPM's failure.
  var beforeIncrement: (() throws(AnchorError) -> Void)?

  /// Connects to the TPM, and stays so.
  ///
  /// - Throws: `.missing` where the TPM has no such index; `.refused` where it is no counter that can be used;
  ///   `.device` where tpm2-tss isn't installed or the TPM can't be reached.
  public init(index: UInt32, file: String, tcti: String = TPMCounterAnchor.defaultTCTI) throws(AnchorError) {
    counter = try TPMCounter(index: index, tcti: tcti)
    self.file = FileAnchor(path: file, goesWithCounter: true)
  }

  /// The kernel's resource manager. Not tpm2-tss's own default, which goes on to sockets where this isn't there.
  public static let defaultTCTI = "device:/dev/tpmrm0"

  public var name: String { "\(file.name) with \(counter.name)" }

  public func prepare(for store: StoreUUID, forWriting: Bool) { file.prepare(for: store, forWriting: forWriting) }

  public func recall(_ store: StoreUUID, forWriting: Bool) throws(AnchorError) -> AnchorMemory {
    try file.recall(store, forWriting: forWriting)
  }

  public func adopt(_ record: AnchorRecord, at index: Int, forWriting: Bool) throws(AnchorError) {
    let now = try counter.read()
    let place = CounterPlace(of: record, counter: now)
    switch place {
    case .equal, .oneAhead: break
    case .behind:
      let why =
        record.counter == 0 ? "was made without the counter" : "goes with the counter's value \(record.counter)"
      throw AnchorError(
        .rolledBack, anchor: name,
        "its file \(why), and the TPM is at \(now): the file is an earlier copy; find the newer one, or accept the image as "
          + "it is with `vnvram accept-rollback`")
    case .elsewhere:
      throw AnchorError(
        .notAuthentic, anchor: name,
        "its file goes with the counter's value \(record.counter), and the TPM is at \(now): it is another TPM, or one that "
          + "was reset; accept the image as it is with `vnvram accept-rollback`")
    }
    try file.adopt(record, at: index, forWriting: forWriting)
    value = now
    // The crash came between file and counter.
    if place == .oneAhead, forWriting { try increment() }
  }

  public func confirm() throws(AnchorError) { try file.confirm() }

  public func mayEstablish(for store: StoreUUID) throws(AnchorError) { try file.mayEstablish(for: store) }

  public func establish(for store: StoreUUID, keeping index: Int?, replacing: Bool) throws(AnchorError) {
    try file.establish(for: store, keeping: index, replacing: replacing)
    // A counter that was never incremented can't be read.
    if try counter.readOrZero() == 0 { try counter.increment() }
    value = try counter.read()
  }

  public func counter(for moment: AnchorMoment) throws(AnchorError) -> UInt64 {
    if moment == .running { return value }
    value = try counter.read()
    return value + 1
  }

  public func store(_ sealed: borrowing ByteBuffer, _ moment: AnchorMoment) throws(AnchorError) {
    try file.store(sealed, moment)
    if moment != .running { try increment() }
  }

  private func increment() throws(AnchorError) {
    try beforeIncrement?()
    try counter.increment()
    value += 1
  }

  /// The counter stays where it is.
  public func withdraw() { file.withdraw() }

  public func release() { file.release() }
}

/// Where a record stands to a counter's value (FORMAT §12).
enum CounterPlace: Equatable {
  case equal
  /// The crash came between the record and the increment.
  case oneAhead
  /// An earlier copy.
  case behind
  /// Another counter's.
  case elsewhere

  init(of record: AnchorRecord, counter: UInt64) {
    if record.counter < counter {
      self = .behind
    } else {
      self = record.counter == counter ? .equal : record.counter - counter == 1 ? .oneAhead : .elsewhere
    }
  }
}
