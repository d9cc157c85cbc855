/// What is taken out in the order in which it was put in.
struct Fifo<Element: Sendable>: Sendable {
  private var elements: [Element?] = []
  /// Of `elements`, those before this have been taken.
  private var start = 0

  var count: Int { elements.count - start }
  var isEmpty: Bool { start == elements.count }
  var first: Element? { isEmpty ? nil : elements[start] }

  mutating func append(_ element: Element) { elements.append(element) }

  mutating func popFirst() -> Element? {
    guard !isEmpty else { return nil }
    let element = elements[start]
    elements[start] = nil
    start += 1
    // Room is given back when all are taken, or when most of it is of no use: without an allocation in the common case.
    if isEmpty {
      elements.removeAll(keepingCapacity: elements.capacity <= 4096)
      start = 0
    } else if start >= 1024 {
      elements.removeFirst(start)
      start = 0
    }
    return element
  }

  func first(where isWanted: (Element) -> Bool) -> Element? {
    elements[start...].lazy.compactMap { $0 }.first(where: isWanted)
  }

  /// Takes out those that satisfy a condition, in order.
  mutating func take(where isWanted: (Element) -> Bool) -> [Element] {
    guard first(where: isWanted) != nil else { return [] }
    var (taken, kept): ([Element], [Element?]) = ([], [])
    for element in elements[start...].compactMap({ $0 }) {
      if isWanted(element) { taken.append(element) } else { kept.append(element) }
    }
    (elements, start) = (kept, 0)
    return taken
  }

  /// Takes out the first that satisfies a condition. False where none does.
  @discardableResult
  mutating func removeFirst(where isWanted: (Element) -> Bool) -> Bool {
    guard let index = elements[start...].firstIndex(where: { $0.map(isWanted) == true }) else { return false }
    elements.remove(at: index)
    return true
  }
}
