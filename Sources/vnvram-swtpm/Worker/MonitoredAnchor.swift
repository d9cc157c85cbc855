import Primitives
import SecureVolume

/// The anchor, which the monitor holds: the monitor alone says which of its records is the newest, and takes none but
/// the next.
final class MonitoredAnchor: FreshnessAnchor {
  private let monitor: MonitorClient

  init(_ monitor: MonitorClient) { self.monitor = monitor }

  private(set) var name = "the anchor"

  func prepare(for store: StoreUUID, forWriting: Bool) {
    guard let answer = try? monitor.ask(.prepare(forWriting: forWriting)) else { return }
    if case .named(let name) = answer { self.name = name }
  }

  func recall(_ store: StoreUUID, forWriting: Bool) throws(AnchorError) -> AnchorMemory {
    switch try monitor.ask(.recall(forWriting: forWriting)) {
    case .records(let records): return .records(records)
    case .generation(let generation): return .generation(Generation(generation))
    default: throw unexpected
    }
  }

  func adopt(_ record: AnchorRecord, at index: Int, forWriting: Bool) throws(AnchorError) {
    _ = try monitor.ask(.adopt(index: UInt32(clamping: index)))
  }

  func confirm() throws(AnchorError) { _ = try monitor.ask(.confirm) }

  /// Never in a server: an anchor is made with its image, or by `vnvram accept-rollback`.
  func establish(for store: StoreUUID, keeping index: Int?, replacing: Bool) throws(AnchorError) {
    throw AnchorError(.refused, anchor: name, "is made by `vnvram accept-rollback`, and by no server")
  }

  func counter(for moment: AnchorMoment) throws(AnchorError) -> UInt64 {
    switch try monitor.ask(.counter(moment)) {
    case .counter(let value): return value
    default: throw unexpected
    }
  }

  func store(_ sealed: borrowing ByteBuffer, _ moment: AnchorMoment) throws(AnchorError) {
    _ = try monitor.ask(.store(sealed.span.array, moment))
  }

  func release() { _ = try? monitor.ask(.release) }

  private var unexpected: AnchorError {
    AnchorError(.device(.failed), anchor: name, "the monitor gave no answer to this")
  }
}
