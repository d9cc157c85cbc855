/// What is to be told, in the order in which it happened.
struct Outbox: Sendable {
  enum Item: Sendable {
    /// To the first so many observers: those that there were.
    case event(NVRAMEvent, Int)
    /// One with a completion, or one whose maker waits until all before it was told.
    case request(Request)

    var event: NVRAMEvent? { if case .event(let event, _) = self { event } else { nil } }
  }

  private var items = Fifo<Item>()
  private var events = 0

  /// So many events wait to be told at most. Of more the oldest are left out, troubles first: the newest state is
  /// always told.
  static let eventLimit = 64

  var isEmpty: Bool { items.isEmpty }

  mutating func append(_ event: NVRAMEvent, to observers: Int) {
    if events < Self.eventLimit {
      events += 1
    } else if !items.removeFirst(where: { if case .trouble = $0.event { true } else { false } }) {
      items.removeFirst { $0.event != nil }
    }
    items.append(.event(event, observers))
  }

  mutating func append(_ request: Request) { items.append(.request(request)) }

  mutating func remove(_ request: Request) {
    items.removeFirst { if case .request(let other) = $0 { other === request } else { false } }
  }

  mutating func popFirst() -> Item? {
    let item = items.popFirst()
    if item?.event != nil { events -= 1 }
    return item
  }
}
