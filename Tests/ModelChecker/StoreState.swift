// The reference model: what a store holds, as a value. It knows nothing of sectors, journals and disks.

/// An entry as the model has it.
struct EntryState: Equatable {
  let name: String
  let capacity: Int
  let content: [UInt8]
}

/// A whole state of a store: what one commit leaves, entries in the stream's order, and the slots' keys by name.
struct StoreState: Equatable {
  var entries: [EntryState]
  /// The number of the key that opens each slot.
  var slots: [String: Int]

  func index(of name: String) -> Int? { entries.firstIndex { $0.name == name } }

  /// The numbers of all keys, each once, in order.
  var keys: [Int] { Set(slots.values).sorted() }

  mutating func replace(_ index: Int, content: [UInt8]) {
    entries[index] = EntryState(name: entries[index].name, capacity: entries[index].capacity, content: content)
  }

  mutating func write(_ index: Int, at offset: Int, _ bytes: [UInt8]) {
    guard !bytes.isEmpty else { return }
    var content = entries[index].content
    if content.count < offset + bytes.count {
      content.append(contentsOf: repeatElement(0, count: offset + bytes.count - content.count))
    }
    content.replaceSubrange(offset..<offset + bytes.count, with: bytes)
    replace(index, content: content)
  }
}

/// What was read from a store: a state, where entries may be missing that the store refused to give out (status 6).
struct FoundState {
  struct Entry {
    let name: String
    let capacity: Int
    /// `nil` where it was refused.
    let content: [UInt8]?
  }

  var entries: [Entry]
  var slots: Set<String>

  var isWhole: Bool { entries.allSatisfy { $0.content != nil } }

  /// Whether all that was given out is of this one state.
  func matches(_ state: StoreState) -> Bool {
    guard entries.count == state.entries.count, slots.count == state.slots.count,
      slots.allSatisfy({ state.slots[$0] != nil })
    else { return false }
    return zip(entries, state.entries).allSatisfy { found, entry in
      found.name == entry.name && found.capacity == entry.capacity
        && (found.content == nil || found.content == entry.content)
    }
  }

  /// The first difference, for people.
  func difference(from state: StoreState) -> String {
    if slots != Set(state.slots.keys) { return "slots \(slots.sorted()), not \(state.slots.keys.sorted())" }
    let names = entries.map { "\($0.name)/\($0.capacity)" }
    let expected = state.entries.map { "\($0.name)/\($0.capacity)" }
    if names != expected { return "entries \(names), not \(expected)" }
    for (found, entry) in zip(entries, state.entries) {
      guard let content = found.content, content != entry.content else { continue }
      let place = zip(content, entry.content).enumerated().first { $1.0 != $1.1 }?.offset
      return "\(entry.name) has \(content.count) bytes of \(entry.content.count), the first that differs is "
        + (place.map { "\($0)" } ?? "the last")
    }
    return "nothing"
  }
}
