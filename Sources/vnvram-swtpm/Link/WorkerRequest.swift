import Primitives
import SecureVolume
import VTPM

/// What the worker asks of the monitor. Each is answered by one `MonitorMessage`, in order.
///
/// The worker is not trusted: none of these has a key, a name of a key, or a path in it, and none has the monitor do
/// for the worker's store what it wouldn't do by itself, but for accounts of what only the worker can know.
enum WorkerRequest {
  /// The image, opened and locked: `.image` with a descriptor.
  case acquire
  /// The store key, if a key is there: `.granted`, `.pending` or `.refused`. Where it was refused or is missing, it is
  /// looked for anew.
  case key
  /// The image was opened with the key that was granted, at this generation; or it wasn't.
  case opened(generation: UInt64, Failure?)
  /// Every key was dropped, as `.lock` asked; what kept the image from being closed cleanly.
  case locked(Failure?)
  /// The image was closed and is anybody's; what kept it from being closed cleanly.
  case released(Failure?)
  /// Clients are served from now on.
  case serving
  /// Nobody is served any more, and the image was released: what others see of the server is to go.
  case ending
  /// A state is about to leave the store, or to come, over the control channel.
  case record(TPMStateTransfer, TPMStateName, isEncrypted: Bool)
  /// A state that was recorded is to be encrypted or decrypted.
  case cipher(CipherRequest)
  case anchor(AnchorRequest)

  enum AnchorRequest {
    case prepare(forWriting: Bool)
    case recall(forWriting: Bool)
    case adopt(index: UInt32)
    case confirm
    case counter(AnchorMoment)
    case store([UInt8], AnchorMoment)
    case release
  }

  func send(on link: Link) throws(LinkError) {
    try link.send(kind) { message in
      switch self {
      case .acquire, .key, .serving, .ending: break
      case .opened(let generation, let failure):
        message.put(generation)
        message.put(failure)
      case .locked(let failure), .released(let failure): message.put(failure)
      case .record(let transfer, let name, let isEncrypted):
        message.put(UInt8(transfer == .exported ? 0 : 1))
        message.put(UInt8(TPMStateName.allCases.firstIndex(of: name) ?? 0))
        message.put(isEncrypted)
      case .cipher(let request): request.put(into: &message)
      case .anchor(let request): request.put(into: &message)
      }
    }
  }

  private var kind: UInt8 {
    switch self {
    case .acquire: 1
    case .key: 2
    case .opened: 3
    case .locked: 4
    case .released: 5
    case .serving: 6
    case .record: 7
    case .anchor(.prepare): 8
    case .anchor(.recall): 9
    case .anchor(.adopt): 10
    case .anchor(.counter): 11
    case .anchor(.store): 12
    case .anchor(.release): 13
    case .anchor(.confirm): 19
    case .ending: 14
    case .cipher(.begin): 15
    case .cipher(.part): 16
    case .cipher(.finish): 17
    case .cipher(.take): 18
    }
  }

  init(_ kind: UInt8, _ message: inout MessageBuffer) throws(LinkError) {
    switch kind {
    case 1: self = .acquire
    case 2: self = .key
    case 3: self = .opened(generation: try message.take(UInt64.self), try message.takeFailure())
    case 4: self = .locked(try message.takeFailure())
    case 5: self = .released(try message.takeFailure())
    case 6: self = .serving
    case 7:
      let transfer: TPMStateTransfer = try message.take(UInt8.self) == 0 ? .exported : .imported
      let names = TPMStateName.allCases
      let name = Int(try message.take(UInt8.self))
      guard name < names.count else { throw LinkError("there is no such state") }
      self = .record(transfer, names[name], isEncrypted: try message.takeBool())
    case 8: self = .anchor(.prepare(forWriting: try message.takeBool()))
    case 9: self = .anchor(.recall(forWriting: try message.takeBool()))
    case 10: self = .anchor(.adopt(index: try message.take(UInt32.self)))
    case 11: self = .anchor(.counter(try message.takeMoment()))
    case 12:
      self = .anchor(.store(try message.takeBytes(atMost: AnchorRecord.size), try message.takeMoment()))
    case 13: self = .anchor(.release)
    case 14: self = .ending
    case 15: self = .cipher(try .begin(taking: &message))
    case 16: self = .cipher(try .part(taking: &message))
    case 17: self = .cipher(try .finish(taking: &message))
    case 18: self = .cipher(.take)
    case 19: self = .anchor(.confirm)
    default: throw LinkError("there is no request \(kind)")
    }
  }
}

extension WorkerRequest.AnchorRequest {
  fileprivate func put(into message: inout MessageBuffer) {
    switch self {
    case .prepare(let forWriting), .recall(let forWriting): message.put(forWriting)
    case .adopt(let index): message.put(index)
    case .counter(let moment): message.put(moment)
    case .store(let record, let moment):
      message.put(record.span)
      message.put(moment)
    case .confirm, .release: break
    }
  }
}

/// What went wrong on one side, for the other: a status and words for people.
struct Failure: StatusError {
  let status: Status
  let description: String

  init(_ status: Status, _ description: String) {
    (self.status, self.description) = (status, description)
  }

  init(_ error: any Error) {
    let known = error as? any StatusError
    self.init(known?.status ?? .failed, known?.description ?? "\(error)")
  }
}

extension MessageBuffer {
  mutating func put(_ failure: Failure?) {
    put(UInt8(truncatingIfNeeded: failure?.status.rawValue ?? 0))
    put(failure?.description ?? "")
  }

  mutating func takeFailure() throws(LinkError) -> Failure? {
    let status = Int32(try take(UInt8.self))
    let text = try takeText()
    guard status != 0 else { return nil }
    return Failure(Status(rawValue: status) ?? .failed, text)
  }

  private static var moments: [AnchorMoment] { [.establishing, .opening, .running, .closing] }

  fileprivate mutating func put(_ moment: AnchorMoment) { put(UInt8(Self.moments.firstIndex(of: moment) ?? 0)) }

  fileprivate mutating func takeMoment() throws(LinkError) -> AnchorMoment {
    let index = Int(try take(UInt8.self))
    guard index < Self.moments.count else { throw LinkError("there is no such moment of an anchor") }
    return Self.moments[index]
  }
}
