import BlockIO
import Glibc
import Primitives
import SecureVolume
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
