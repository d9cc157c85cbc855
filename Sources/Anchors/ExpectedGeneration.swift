import Primitives
import SecureVolume

/// The caller's own knowledge: the generation that the image must have reached. Nothing is stored; the caller keeps the
/// generation that commands print at their end.
///
/// It tells a fork from the right past less well than a record does: only the number is compared.
public final class ExpectedGeneration: FreshnessAnchor {
  private let least: Generation

  public init(_ least: Generation) { self.least = least }

  public var name: String { "generation:\(least.value)" }

  public func recall(_ store: StoreUUID, forWriting: Bool) -> AnchorMemory { .generation(least) }

  /// There is no record to adopt.
  public func confirm() {}

  public func mayEstablish(for store: StoreUUID) throws(AnchorError) {
    throw AnchorError(
      .refused, anchor: name,
      "remembers nothing, so there is nothing to make or to change; give the generation that the "
        + "image has instead")
  }

  public func establish(for store: StoreUUID, keeping index: Int?, replacing: Bool) throws(AnchorError) {
    try mayEstablish(for: store)
  }

  public func store(_ sealed: borrowing ByteBuffer, _ moment: AnchorMoment) {}
}
