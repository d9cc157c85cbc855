import Primitives

/// A set of sectors with their new plaintext, to be committed together. Memory is taken for each sector once, whatever
/// their number. Reused from commit to commit, so that small ones allocate no more. What it held is wiped when it is
/// emptied.
public struct SectorChanges: ~Copyable, Sendable {
  /// The sectors in the order in which they were first added; each at most once.
  public private(set) var sectors: [SectorIndex] = []
  private var places: [SectorIndex: Int] = [:]
  private var content: PieceBuffer

  public init(sectorSize: Int) { content = PieceBuffer(pieceSize: sectorSize) }

  /// In bytes.
  public var sectorSize: Int { content.pieceSize }
  public var count: Int { sectors.count }
  public var isEmpty: Bool { sectors.isEmpty }

  /// The place of `sector` among the changes, if it is one of them.
  public func place(of sector: SectorIndex) -> Int? { places[sector] }

  /// Adds a sector that is not among the changes yet, all zeros, and returns its place. The caller fills its content.
  public mutating func append(_ sector: SectorIndex) -> Int {
    precondition(places[sector] == nil)
    let place = content.append()
    sectors.append(sector)
    places[sector] = place
    return place
  }

  /// All places, in the order of their sectors: the order in which a record has them (FORMAT §7).
  var placesInSectorOrder: [Int] { sectors.indices.sorted { sectors[$0] < sectors[$1] } }

  /// The plaintext at a place.
  @_lifetime(borrow self)
  public func plaintext(_ place: Int) -> Span<UInt8> { content.span(place) }

  /// The plaintext at a place, for writing.
  @_lifetime(&self)
  public mutating func mutablePlaintext(_ place: Int) -> MutableSpan<UInt8> { content.mutableSpan(place) }

  /// Takes back everything added since there were `count` changes. Content of earlier ones is not restored.
  public mutating func removeLast(downTo count: Int) {
    for sector in sectors[count...] { places[sector] = nil }
    content.removeLast(downTo: count)
    sectors.removeSubrange(count...)
  }

  /// Empties the set and wipes what it held. A rare large change doesn't keep its memory for the life of the process.
  public mutating func removeAll() {
    let isLarge = count > Self.retainedCount
    content.removeLast(downTo: 0)
    sectors.removeAll(keepingCapacity: !isLarge)
    places.removeAll(keepingCapacity: !isLarge)
  }

  private static let retainedCount = 1024
}
