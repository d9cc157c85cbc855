import BlockIO
import Glibc
import Primitives
import SecureVolume
import SwtpmFormat
import Synchronization
import VTPM

/// The worker's side of both channels to the monitor. Any thread may ask; one asks at a time.
final class MonitorClient: Sendable {
  /// Which the lock guards.
  private struct Requests: ~Copyable {
    let link: Link
  }

  private let requests: Mutex<Requests>
  private let telling: Mutex<Requests>
  /// Readable while the monitor has told something.
  let tellingDescriptor: Int32

  /// Descriptors that it begins with.
  static let requestsDescriptor: Int32 = 3
  static let tellingDescriptor: Int32 = 4

  init(requests: sending Link, telling: sending Link) {
    tellingDescriptor = telling.descriptor
    self.requests = Mutex(Requests(link: requests))
    self.telling = Mutex(Requests(link: telling))
  }

  /// What the monitor told by itself; nil where there is no more.
  func next() throws(LinkError) -> MonitorMessage? {
    try telling.withLock { (telling) throws(LinkError) -> sending MonitorMessage? in
      try telling.link.receive { (kind, descriptor, message) throws(LinkError) in
        try MonitorMessage(kind, descriptor, &message)
      }
    }
  }

  private func ask(_ request: WorkerRequest) throws(LinkError) -> MonitorMessage {
    try requests.withLock { (requests) throws(LinkError) -> sending MonitorMessage in
      try request.send(on: requests.link)
      return try requests.link.await { (kind, descriptor, message) throws(LinkError) in
        try MonitorMessage(kind, descriptor, &message)
      }
    }
  }

  /// For what has no other answer than that it was done.
  private func tell(_ request: WorkerRequest) throws(LinkError) {
    switch try ask(request) {
    case .failure(let failure): throw LinkError(failure.description)
    default: return
    }
  }

  /// Waits for what the monitor has made for this process.
  func awaitEquipment() throws(LinkError) -> WorkerEquipment {
    try requests.withLock { (requests) throws(LinkError) -> sending WorkerEquipment in
      try WorkerEquipment(receivingOn: requests.link)
    }
  }

  // MARK: What is asked

  func acquire() throws(TPMStateError) -> FileDevice {
    do {
      switch try ask(.acquire) {
      case .image(let image, let descriptor): return try FileDevice(adopting: descriptor, image)
      case .failure(let failure): throw failure
      default: throw LinkError("no image came")
      }
    } catch {
      let error = Failure(error)
      throw TPMStateError(error.status, error.description)
    }
  }

  func askForKey() throws(LinkError) -> MonitorMessage { try ask(.key) }

  func tellOpened(_ generation: UInt64?, _ failure: Failure?) throws(LinkError) {
    try tell(.opened(generation: generation ?? 0, failure))
  }

  func tellLocked(_ failure: Failure?) throws(LinkError) { try tell(.locked(failure)) }

  func tellReleased(_ failure: Failure?) throws(LinkError) { try tell(.released(failure)) }

  /// False where who started the server isn't there any more.
  func tellServing() -> Bool {
    guard let answer = try? ask(.serving) else { return false }
    switch answer {
    case .done: return true
    default: return false
    }
  }

  /// Returns when nothing of the server is to be seen any more, or the monitor is gone.
  func tellEnding() { _ = try? ask(.ending) }

  func record(_ transfer: TPMStateTransfer, _ name: TPMStateName, isEncrypted: Bool) throws {
    switch try ask(.record(transfer, name, isEncrypted: isEncrypted)) {
    case .failure(let failure): throw failure
    default: return
    }
  }

  /// Has the monitor encrypt or decrypt a state, in parts.
  func cipher(
    _ direction: CipherRequest.Direction, _ input: Span<UInt8>, mac: [UInt8], vector: [UInt8]
  ) throws -> SwtpmCiphered {
    try done(.begin(direction, size: UInt32(input.count)))
    for start in stride(from: 0, to: input.count, by: CipherRequest.longestPart) {
      let end = min(start + CipherRequest.longestPart, input.count)
      try done(.part(SecretPart(SecretBytes(copying: input.extracting(start..<end)))))
    }
    switch try ask(.cipher(.finish(mac: mac, vector: vector))) {
    case .ciphered(let count, let mac, let vector):
      guard count <= UInt32(SwtpmContainer.maximumSize) else { throw LinkError("a state that is too large came") }
      return SwtpmCiphered(try take(Int(count)), mac: mac, vector: vector)
    case .failure(let failure): throw failure
    default: throw LinkError("no state came")
    }
  }

  private func done(_ request: CipherRequest) throws {
    switch try ask(.cipher(request)) {
    case .done: return
    case .failure(let failure): throw failure
    default: throw LinkError("another answer came")
    }
  }

  private func take(_ count: Int) throws -> SecretBytes {
    var all = SecretBytes(count: count)
    var filled = 0
    while filled < count {
      guard case .part(let part) = try ask(.cipher(.take)), part.count > 0, part.count <= count - filled else {
        throw LinkError("no part of a state came")
      }
      var place = all.mutableSpan
      place.copy(from: part.span, at: filled)
      filled += part.count
    }
    return all
  }

  func ask(_ request: WorkerRequest.AnchorRequest) throws(AnchorError) -> MonitorMessage {
    let answer: MonitorMessage
    do { answer = try ask(.anchor(request)) } catch {
      throw AnchorError(.device(.failed), anchor: "the anchor", error.description)
    }
    switch consume answer {
    case .anchorFailure(let error): throw error
    case let other: return other
    }
  }
}

/// What came of a state that the monitor encrypted or decrypted.
struct SwtpmCiphered: ~Copyable {
  let bytes: SecretBytes
  /// Of what was encrypted.
  let mac: [UInt8]
  let vector: [UInt8]

  init(_ bytes: consuming SecretBytes, mac: [UInt8], vector: [UInt8]) {
    (self.mac, self.vector) = (mac, vector)
    self.bytes = bytes
  }

  consuming func takeBytes() -> SecretBytes { bytes }
}
