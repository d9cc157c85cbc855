import Primitives
import SwtpmFormat
import VTPM

/// What the worker gets before it serves: the sockets, which the monitor has made, and the migration key, which it has
/// read. It comes on the channel of requests, each descriptor in a message of its own.
struct WorkerEquipment {
  /// Listening, or connected; -1 where there is no such channel.
  private(set) var data: Int32 = -1
  private(set) var control: Int32 = -1
  private(set) var migrationKey: SwtpmKey?
  /// Bytes of the key that the monitor has of `--key`, and keeps; 0 where there is none.
  private(set) var stateKeySize: UInt8 = 0

  private enum Kind: UInt8 {
    case data = 1
    case control = 2
    /// The size of the other key; the migration key, or no bytes; and there is no more to come.
    case complete = 3
  }

  static func send(_ sockets: ServerSockets, migrationKey: SwtpmKey?, stateKeySize: Int, on link: Link)
    throws(LinkError)
  {
    for (kind, descriptor) in [(Kind.data, sockets.data), (.control, sockets.control)] where descriptor >= 0 {
      try link.send(kind.rawValue, descriptor: descriptor) { _ in }
    }
    try link.send(Kind.complete.rawValue) { message in
      message.put(UInt8(stateKeySize))
      if let migrationKey {
        let secret = migrationKey.copyOfSecret()
        message.put(secret.span)
      } else {
        message.put(UInt32(0))
      }
    }
  }

  /// Waits for all of it.
  init(receivingOn link: Link) throws(LinkError) {
    var isComplete = false
    while !isComplete {
      let (kind, descriptor, keys) = try link.await {
        (kind, passed, message) throws(LinkError) -> (Kind, Int32, Keys?) in
        guard let kind = Kind(rawValue: kind), kind == .complete || passed >= 0 else {
          throw LinkError("a descriptor is missing")
        }
        return (kind, passed, kind == .complete ? try Keys(&message) : nil)
      }
      switch kind {
      case .data: data = descriptor
      case .control: control = descriptor
      case .complete:
        isComplete = true
        (stateKeySize, migrationKey) = (keys?.stateKeySize ?? 0, keys?.migrationKey)
      }
    }
  }

  private struct Keys {
    let stateKeySize: UInt8
    let migrationKey: SwtpmKey?

    init(_ message: inout MessageBuffer) throws(LinkError) {
      stateKeySize = try message.take(UInt8.self)
      let key = try message.takeSecret(atMost: 32)
      guard [0, 16, 32].contains(key.count) else { throw LinkError("a migration key has 16 or 32 bytes") }
      migrationKey = key.count > 0 ? SwtpmKey(key) : nil
    }
  }
}
