import Primitives
import SecureVolume

/// The anchor, held for a worker that is not believed: it says what the anchor remembers, and takes no record but the
/// next of this store, which is never behind the one before.
///
/// So a worker that was taken over can bring its own store's anchor forward and no further back than it is, and no
/// other store's at all.
struct AnchorDesk {
  private let anchor: any FreshnessAnchor
  /// The store whose key was granted, and what tells its records.
  private var verifier: AnchorVerifier?
  /// The newest record that the anchor has.
  private var newest: NewestRecord?
  /// Whether the newest record was compared with the counter that it goes with.
  private var isAdopted = false
  /// What the next record must carry, and when it may be written.
  private var promise: (counter: UInt64, moment: AnchorMoment)?
  /// Moments that each opening has once: with each of them a counter of the host's TPM may move, and wears.
  private var isOpened = false
  private var isClosed = false

  init(_ anchor: any FreshnessAnchor) { self.anchor = anchor }

  /// A store key was granted, or taken back (nil): with it goes the key that tells records.
  mutating func serve(_ verifier: AnchorVerifier?) {
    guard verifier !== self.verifier else { return }
    self.verifier = verifier
    (newest, promise, isAdopted) = (nil, nil, false)
    (isOpened, isClosed) = (false, false)
  }

  mutating func release() {
    serve(nil)
    anchor.release()
  }

  mutating func answer(_ request: WorkerRequest.AnchorRequest) -> MonitorMessage {
    if case .release = request {
      release()
      return .done
    }
    do throws(AnchorError) {
      guard let verifier else {
        throw AnchorError(.refused, anchor: anchor.name, "no store is open whose anchor this could be")
      }
      switch request {
      case .prepare(let forWriting):
        anchor.prepare(for: verifier.uuid, forWriting: forWriting)
        return .named(anchor.name)
      case .recall(let forWriting): return try recall(verifier, forWriting: forWriting)
      case .adopt(let index): try adopt(Int(index))
      case .confirm:
        guard isAdopted else { throw refused("a record that wasn't compared with its counter was to be written") }
        try anchor.confirm()
      case .counter(let moment):
        let value = try anchor.counter(for: moment)
        promise = (value, moment)
        return .counter(value)
      case .store(let bytes, let moment): try store(bytes, moment, verifier)
      case .release: break
      }
      return .done
    } catch { return .anchorFailure(error) }
  }

  private mutating func recall(_ verifier: AnchorVerifier, forWriting: Bool) throws(AnchorError) -> MonitorMessage {
    (newest, promise, isAdopted) = (nil, nil, false)
    switch try anchor.recall(verifier.uuid, forWriting: forWriting) {
    case .generation(let least): return .generation(least.value)
    case .records(let records):
      do { newest = try verifier.newest(of: records) } catch { throw failed(error) }
      // Neither counts.
      if newest?.isContradicted == true { newest = nil }
      return .records(records)
    }
  }

  private mutating func adopt(_ index: Int) throws(AnchorError) {
    guard let newest, newest.index == index else { throw refused("its newest record is another one") }
    try anchor.adopt(newest.record, at: index, forWriting: true)
    isAdopted = true
  }

  private mutating func store(
    _ bytes: [UInt8], _ moment: AnchorMoment, _ verifier: AnchorVerifier
  ) throws(AnchorError) {
    let record: AnchorRecord?
    do { record = try verifier.record(bytes) } catch { throw failed(error) }
    guard let record else { throw refused("a record that isn't this store's was to be written") }
    guard isAdopted, let newest, record.follows(newest.record), let promise, promise == (record.counter, moment) else {
      throw refused("a record that doesn't follow its newest one was to be written")
    }
    self.promise = nil
    switch moment {
    case .running: break
    case .opening where !isOpened: isOpened = true
    case .closing where !isClosed: isClosed = true
    case .opening, .closing, .establishing:
      throw refused("a second record of an opening or a closing was to be written")
    }
    var buffer = ByteBuffer(count: bytes.count)
    buffer.copy(from: bytes.span)
    try anchor.store(buffer, moment)
    self.newest = NewestRecord(index: newest.index, record: record)
  }

  private func refused(_ what: String) -> AnchorError {
    AnchorError(.refused, anchor: anchor.name, "\(what), and was not: the TPM's process may have been taken over")
  }

  private func failed(_ error: VolumeError) -> AnchorError {
    AnchorError(.device(error.status), anchor: anchor.name, error.detail)
  }
}
