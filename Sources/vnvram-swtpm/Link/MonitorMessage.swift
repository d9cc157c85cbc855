import BlockIO
import Primitives
import SecureVolume

/// What the monitor answers, or tells by itself (`granted`, `pending`, `refused`, `lock`, `end`).
enum MonitorMessage: ~Copyable {
  case done
  /// What was asked for couldn't be done.
  case failure(Failure)
  /// The image, whose descriptor comes with it.
  case image(DeviceHandover, descriptor: Int32)
  /// The store key.
  case granted(StoreUUID, SecretBytes)
  /// A key is looked for, or waited for: words for the log.
  case pending(String)
  /// Nothing is waited for.
  case refused(Failure)
  /// Every key is to be dropped: why.
  case lock(String)
  /// The image is to be closed, and the process to end.
  case end
  case records([[UInt8]])
  case generation(UInt64)
  case counter(UInt64)
  /// The anchor as it is called now.
  case named(String)
  case anchorFailure(AnchorError)
  /// A state was encrypted or decrypted: how many bytes came of it; and its MAC and vector where it was encrypted.
  case ciphered(UInt32, mac: [UInt8], vector: [UInt8])
  /// The next ones of those bytes.
  case part(SecretBytes)

  /// An anchor has two places.
  private static let mostRecords = 4

  consuming func send(on link: Link) throws(LinkError) {
    switch consume self {
    case .done: try link.send(0) { _ in }
    case .failure(let failure): try link.send(1) { $0.put(failure) }
    case .image(let image, let descriptor):
      try link.send(2, descriptor: descriptor) { message in
        message.put(image.name)
        message.put(image.isBlockDevice)
        message.put(image.size)
        message.put(image.blockSize)
      }
    case .granted(let uuid, let key):
      try link.send(3) { message in
        message.put(uuid.bytes.word(0))
        message.put(uuid.bytes.word(1))
        message.put(key.span)
      }
    case .pending(let text): try link.send(4) { $0.put(text) }
    case .refused(let failure): try link.send(5) { $0.put(failure) }
    case .lock(let reason): try link.send(6) { $0.put(reason) }
    case .end: try link.send(12) { _ in }
    case .records(let records):
      try link.send(7) { message in
        message.put(UInt8(records.count))
        for record in records { message.put(record.span) }
      }
    case .generation(let generation): try link.send(8) { $0.put(generation) }
    case .counter(let counter): try link.send(9) { $0.put(counter) }
    case .named(let name): try link.send(11) { $0.put(name) }
    case .ciphered(let count, let mac, let vector):
      try link.send(13) { message in
        message.put(count)
        message.put(mac.span)
        message.put(vector.span)
      }
    case .part(let bytes): try link.send(14) { $0.put(bytes.span) }
    case .anchorFailure(let error):
      try link.send(10) { message in
        message.put(Self.number(error.code))
        message.put(UInt8(truncatingIfNeeded: error.status.rawValue))
        message.put(error.anchor)
        message.put(error.detail)
      }
    }
  }

  init(_ kind: UInt8, _ descriptor: Int32, _ message: inout MessageBuffer) throws(LinkError) {
    switch kind {
    case 0: self = .done
    case 1: self = .failure(try Self.failure(&message))
    case 2:
      let image = DeviceHandover(
        name: try message.takeText(), isBlockDevice: try message.takeBool(), size: try message.take(UInt64.self),
        blockSize: try message.take(UInt32.self))
      self = .image(image, descriptor: descriptor)
    case 3:
      let (low, high) = (try message.take(UInt64.self), try message.take(UInt64.self))
      let key = try message.takeSecret(atMost: 32)
      guard key.count == 32 else { throw LinkError("a store key has 32 bytes") }
      self = .granted(StoreUUID(InlineBytes16(low: low, high: high)), key)
    case 4: self = .pending(try message.takeText())
    case 5: self = .refused(try Self.failure(&message))
    case 6: self = .lock(try message.takeText())
    case 7:
      let count = Int(try message.take(UInt8.self))
      guard count <= Self.mostRecords else { throw LinkError("an anchor has fewer records") }
      var records: [[UInt8]] = []
      for _ in 0..<count { records.append(try message.takeBytes(atMost: AnchorRecord.size)) }
      self = .records(records)
    case 8: self = .generation(try message.take(UInt64.self))
    case 9: self = .counter(try message.take(UInt64.self))
    case 10:
      let number = try message.take(UInt8.self)
      let status = Status(rawValue: Int32(try message.take(UInt8.self))) ?? .failed
      let (anchor, detail) = (try message.takeText(), try message.takeText())
      self = .anchorFailure(AnchorError(Self.code(number, status), anchor: anchor, detail))
    case 11: self = .named(try message.takeText())
    case 12: self = .end
    case 13:
      self = .ciphered(
        try message.take(UInt32.self), mac: try message.takeBytes(atMost: CipherRequest.longestField),
        vector: try message.takeBytes(atMost: CipherRequest.longestField))
    case 14: self = .part(try message.takeSecret(atMost: CipherRequest.longestPart))
    default: throw LinkError("there is no message \(kind)")
    }
  }

  private static func failure(_ message: inout MessageBuffer) throws(LinkError) -> Failure {
    guard let failure = try message.takeFailure() else { throw LinkError("a failure without a status") }
    return failure
  }

  private static func number(_ code: AnchorError.Code) -> UInt8 {
    switch code {
    case .missing: 0
    case .notAuthentic: 1
    case .rolledBack: 2
    case .exists: 3
    case .refused: 4
    case .device: 5
    }
  }

  private static func code(_ number: UInt8, _ status: Status) -> AnchorError.Code {
    switch number {
    case 0: .missing
    case 1: .notAuthentic
    case 2: .rolledBack
    case 3: .exists
    case 4: .refused
    default: .device(status)
    }
  }
}
