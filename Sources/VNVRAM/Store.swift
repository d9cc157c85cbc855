import BlockIO
import Primitives
import SecureVolume

/// What one thread at a time has: the device, what remembers the image's age, and the store, while it is open. The
/// machine has it, or the one thread that borrowed it (`Machine.Custody`).
final class Store: @unchecked Sendable {
  let device: any BlockDevice
  let anchor: (any FreshnessAnchor)?
  var core: StoreCore?

  init(_ device: sending any BlockDevice, _ anchor: sending (any FreshnessAnchor)?) {
    self.device = device
    self.anchor = anchor
  }

  /// What the machine is told when it has it back. A store that failed is let go, and with it the keys.
  func takeCondition() -> StoreCondition {
    let condition = condition
    if condition.failure != nil { core = nil }
    return condition
  }

  var condition: StoreCondition {
    guard let core else { return StoreCondition() }
    guard let volume = core.volume else { return StoreCondition(failure: core.failure) }
    return StoreCondition(
      generation: volume.generation, failure: core.failure, wantsUpkeep: core.wantsMaintenance,
      isAheadOfAnchor: volume.isAheadOfAnchor, anchorFailure: volume.anchorFailure)
  }

  /// The kernel keys that open the store.
  var keyNames: [String] { core?.volume?.slots.filter { $0.kind == .keyring }.map(\.name) ?? [] }

  /// Closes the image cleanly and lets go of the keys.
  func drop() -> NVRAMError? {
    defer { core = nil }
    do { try core?.close() } catch { return error }
    return nil
  }
}

/// How a store was when it was given back.
struct StoreCondition: Sendable {
  var generation: Generation?
  /// Ends everything: what was to be written may be there or not, and nothing more is written.
  var failure: NVRAMError?
  /// Journal space is to be freed.
  var wantsUpkeep = false
  var isAheadOfAnchor = false
  var anchorFailure: VolumeError?
}
