import Primitives

/// The entries of an open store: where they lie and how much of each is used, as committed and as staged. Entries are
/// found by name and keep the order of the stream.
struct EntryDirectory {
  let layout: StreamLayout
  /// Real sizes as they are on the medium.
  private(set) var sizes: [UInt64]
  /// Real sizes as they will be after the next commit.
  private(set) var stagedSizes: [UInt64]
  /// Which entries' padding and unused capacity are known to be zeros. What is written here keeps that so.
  private(set) var verified: [Bool]
  private let indexes: [EntryName: Int]

  /// - Parameter verified: `nil` for none of them.
  init(layout: StreamLayout, sizes: [UInt64], verified: [Bool]? = nil) {
    precondition(layout.places.count == sizes.count)
    self.layout = layout
    self.verified = verified ?? [Bool](repeating: false, count: sizes.count)
    self.sizes = sizes
    stagedSizes = sizes
    indexes = Dictionary(uniqueKeysWithValues: layout.places.enumerated().map { ($1.name, $0) })
  }

  func index(of name: EntryName) -> Int? { indexes[name] }

  func entry(at index: Int) -> Entry {
    let place = layout.places[index]
    return Entry(
      name: place.name, capacity: place.specification.capacity, size: ByteCount(sizes[index]),
      offset: ByteOffset(place.content))
  }

  mutating func noteVerified(_ index: Int) { verified[index] = true }

  mutating func stage(size: UInt64, of index: Int) { stagedSizes[index] = size }

  /// What was staged is durable now. Element by element, so that nothing is allocated.
  mutating func commit() {
    for index in sizes.indices { sizes[index] = stagedSizes[index] }
  }

  mutating func rollBack() {
    for index in sizes.indices { stagedSizes[index] = sizes[index] }
  }
}
