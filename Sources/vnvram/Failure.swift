import BlobStore
import Primitives
import SecureVolume
import VNVRAM

/// Why a command failed, ready to be told: an exit status, a sentence, and what programs may want to know beside it.
struct Failure: StatusError {
  let status: Status
  /// What failed, which store, and the remedy.
  let message: String
  /// What follows `code` and `message` in the JSON object.
  var fields: [(String, JSON)] = []

  init(_ status: Status, _ message: String, fields: [(String, JSON)] = []) {
    self.status = status
    self.message = message
    self.fields = fields
  }

  /// Any error that a module threw.
  init(_ error: any Error) {
    if let failure = error as? Failure {
      self = failure
      return
    }
    guard let known = error as? any StatusError else {
      self.init(.failed, "\(error)")
      return
    }
    self.init(known.status, known.description)
    fields = Self.details(error)
  }

  private static func details(_ error: any Error) -> [(String, JSON)] {
    switch error {
    case let error as VolumeError: return reason(error.code) + durable(error.isDurable)
    case let error as NVRAMError:
      if case .volume(let code) = error.code { return reason(code) + durable(error.isDurable) }
      return error.keys.isEmpty ? [] : keys(error.keys)
    case let error as BlobStoreError:
      switch error.code {
      case .volume(let error): return reason(error.code)
      case .damaged: return [("reason", "stream")] + (error.offset.map { [("offset", .unsigned($0.value))] } ?? [])
      default: return []
      }
    default: return []
    }
  }

  /// After a failure that leaves what was asked for done.
  private static func durable(_ isDurable: Bool) -> [(String, JSON)] { isDurable ? [("durable", true)] : [] }

  /// The reason of FORMAT §10 or §12.
  private static func reason(_ code: VolumeError.Code) -> [(String, JSON)] {
    switch code {
    case .notAuthentic(let evidence): [("reason", .string(evidence.rawValue))]
    case .notAnImage: [("reason", "not-an-image")]
    case .unsupportedVersion: [("reason", "unsupported-version")]
    case .rolledBack: [("reason", "rolled-back")]
    case .forked: [("reason", "forked")]
    case .anchor(.missing): [("reason", "anchor-missing")]
    case .anchor(.notAuthentic): [("reason", "anchor-damaged")]
    case .anchor(.rolledBack): [("reason", "anchor-rolled-back")]
    default: []
    }
  }

  /// Every key that would open the store and doesn't, and why not.
  private static func keys(_ keys: WantedKeys) -> [(String, JSON)] {
    [
      ("keys", .array(keys.names.map { .string($0) })), ("missing", .array(keys.missing.map { .string($0) })),
      (
        "unusable",
        .array(keys.unusable.map { .object([("key", .string($0.name)), ("why", .string($0.reason))]) })
      ),
      ("wrong", .array(keys.wrong.map { .string($0) })),
    ]
  }

  var description: String { message }

  /// The member `error` of the JSON object.
  var json: JSON {
    .object([("code", .integer(Int64(status.rawValue))), ("message", .string(message))] + fields)
  }
}
