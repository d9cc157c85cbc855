import BlobStore
import Primitives

// Registered entries, and the callbacks of theirs that run.
extension Machine {
  mutating func register(_ specification: EntrySpecification, _ callback: NVRAMCallback?) throws(NVRAMError) {
    let entry = specification.name
    guard !isClosed else { throw closed }
    guard registered[entry] == nil else {
      throw NVRAMError(
        .alreadyRegistered, .refused, store: name, "entry \"\(entry)\" is registered; deregister it first")
    }
    guard registered.count < EntrySpecification.maximumCount else {
      throw NVRAMError(
        .blobs(.overLimit), .noSpace, store: name,
        "has \(EntrySpecification.maximumCount) registered entries, which is the limit")
    }
    registered[entry] = RegisteredEntry(specification, callback)
  }

  /// The registered entries in the order of their names.
  var entries: [RegisteredEntry] {
    registered.values.sorted { $0.name.text.utf8.lexicographicallyPrecedes($1.name.text.utf8) }
  }

  /// - Returns: the entry, and whether `thread` is to wait at `parker` until nothing uses it.
  mutating func deregister(
    _ name: EntryName, _ parker: Parker, by thread: Threads.ID
  ) throws(NVRAMError) -> (RegisteredEntry, Bool) {
    guard let entry = registered.removeValue(forKey: name) else { throw notRegistered(name) }
    fail(.deregistered(name, self.name)) { $0.entry === entry }
    entry.deregistering = parker
    return (entry, !isInside(thread) && !ShellMutant.deregisterEarly.isOn)
  }

  /// A callback of an entry is going to run on that thread.
  mutating func beginCallback(of name: EntryName, on thread: Threads.ID) throws(NVRAMError) -> RegisteredEntry {
    let entry = try admit(name)
    guard entry.callback != nil else {
      throw NVRAMError(
        .notRegistered, .notFound, store: self.name,
        "entry \"\(name)\" is registered without a callback; read and write its content instead")
    }
    entry.uses += 1
    inCallbacks.append(thread)
    return entry
  }

  mutating func endCallback(of entry: RegisteredEntry, on thread: Threads.ID) {
    settle(entry)
    if let index = inCallbacks.firstIndex(of: thread) { inCallbacks.remove(at: index) }
    if inCallbacks.isEmpty { wake(closing) }
  }
}
