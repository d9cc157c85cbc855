import Primitives

/// One use of a key, for the log: what happened, to which key of which store, and how it ended. Never key material.
///
/// When and by whom it happened the log adds. Names come from images and people, and are escaped as JSON.
public struct AuditRecord: Sendable, Equatable {
  public var event: AuditEvent
  /// The store's name: the image's path, which the log has from the root.
  public var store: String?
  public var uuid: StoreUUID?
  /// The name of the key, or of the slot where it is no kernel key.
  public var key: String?
  /// What kind of slot: `key`, `recovery-key`, `passphrase`.
  public var kind: String?
  /// The slot's number in the store.
  public var slot: Int?
  /// The kernel's number for the key.
  public var serial: Int32?
  /// How often it happened, of `repeated`.
  public var count: Int?
  /// What the store was opened for.
  public var access: Access?
  public var status: Status
  /// A sentence for people.
  public var detail: String?

  /// The raw values are stable names, as the events are.
  public enum Access: String, Sendable {
    case read
    case write
  }

  public init(
    _ event: AuditEvent, store: String? = nil, uuid: StoreUUID? = nil, key: String? = nil, kind: String? = nil,
    slot: Int? = nil, serial: Int32? = nil, count: Int? = nil, access: Access? = nil, status: Status = .done,
    detail: String? = nil
  ) {
    self.event = event
    self.store = store
    self.uuid = uuid
    self.key = key
    self.kind = kind
    self.slot = slot
    self.serial = serial
    self.count = count
    self.access = access
    self.status = status
    self.detail = detail
  }

  /// The members of the object in their fixed order, without those that say nothing.
  var members: [(String, JSON)] {
    var members: [(String, JSON)] = [("event", .string(event.rawValue))]
    if let store { members.append(("store", .string(store))) }
    if let uuid { members.append(("uuid", .string(uuid.description))) }
    if let key { members.append(("key", .string(key))) }
    if let kind { members.append(("kind", .string(kind))) }
    if let slot { members.append(("slot", .integer(Int64(slot)))) }
    if let serial { members.append(("serial", .integer(Int64(serial)))) }
    if let count { members.append(("count", .integer(Int64(count)))) }
    if let access { members.append(("access", .string(access.rawValue))) }
    members.append(("status", .string(status.name)))
    if let detail { members.append(("detail", .string(detail))) }
    return members
  }
}
