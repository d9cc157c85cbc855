import Audit
import BlobStore
import CSystem
import Glibc
import Primitives
import VNVRAM
import VTPM

/// A TPM's states as entries of an NVRAM: `permall` and `volatilestate`, with the names that libtpms gives them.
///
/// An entry that is there and empty is the only thing that counts as "no state yet": it is what formatting makes, and
/// it is authenticated. Everything else that keeps a state from being read is an error.
final class NVRAMStateStore: TPMStateStore {
  private let nvram: NVRAM
  let readinessDescriptor: Int32

  /// Opens and locks the image. No key is used yet.
  init(image: String, audit: AuditLog, keyLossPolicy: NVRAMConfiguration.KeyLossPolicy) throws(NVRAMError) {
    var configuration = NVRAMConfiguration()
    configuration.keyLossPolicy = keyLossPolicy
    nvram = try NVRAM.setUp(path: image, audit: audit, configuration: configuration)
    let descriptor = csystem_event_descriptor()
    readinessDescriptor = descriptor
    for name in Self.names {
      try nvram.register(entry: Self.entry(name), capacity: ByteCount(name.maximumSize))
    }
    nvram.observe { _ in
      var one: UInt64 = 1
      _ = unsafe write(descriptor, &one, 8)
    }
  }

  deinit { Glibc.close(readinessDescriptor) }

  /// What a TPM 2.0 stores.
  private static let names: [TPMStateName] = [.permall, .volatilestate]

  private static func entry(_ name: TPMStateName) -> EntryName {
    switch name {
    case .permall: "permall"
    case .volatilestate: "volatilestate"
    case .savestate: "savestate"
    }
  }

  func start(failOnEncryptedDrive: Bool) throws(NVRAMError) {
    try nvram.start(failOnEncryptedDrive: failOnEncryptedDrive)
  }

  func close() throws(NVRAMError) { try nvram.close() }

  // MARK: TPMStateStore

  var readiness: TPMStateReadiness {
    switch nvram.state {
    case .running: .ready
    case .keyPending(let keys): .pending("waits for a key: \(keys.summary)")
    case .locked(let keys): .pending("is locked and waits for a key: \(keys.summary)")
    case .verifying: .pending("is being verified")
    case .failed(let error): .failed(TPMStateError(error.status, error.description))
    case .closed, .unformatted: .failed(TPMStateError(.notAnImage, "\(nvram.name): holds no store"))
    }
  }

  func load(_ name: TPMStateName) throws(TPMStateError) -> [UInt8]? {
    do {
      let content = try nvram.readContent(Self.entry(name), deadline: Self.noWait)
      return content.isEmpty ? nil : content
    } catch { throw TPMStateError(error.status, error.description) }
  }

  func store(_ bytes: Span<UInt8>, as name: TPMStateName) throws(TPMStateError) {
    do { try nvram.replaceContent(Self.entry(name), bytes, deadline: Self.noWait) } catch {
      throw TPMStateError(error.status, error.description)
    }
  }

  func delete(_ name: TPMStateName) throws(TPMStateError) {
    let nothing: [UInt8] = []
    try store(nothing.span, as: name)
  }

  /// The server has one thread: waiting for a key here would keep it from hearing of anything.
  private static let noWait = Duration.zero
}

extension WantedKeys {
  /// Every key by name, with what is the matter with it.
  fileprivate var summary: String {
    let unusable = unusable.map { "\($0.name) (\($0.reason))" }
    let wrong = wrong.map { "\($0) (wrong)" }
    return (missing + unusable + wrong).joined(separator: ", ")
  }
}
