import Primitives

/// A set of sectors with their new plaintext, to be committed together. Reused from commit to commit, so that it
/// settles at the size of the largest and allocates no more. What it held is wiped when it is emptied.
public struct SectorChanges: ~Copyable, Sendable {
  public let sectorSize: Int
  /// The sectors in the order in which they were first added; each at most once.
  public private(set) var sectors: [SectorIndex] = []
  private var places: [SectorIndex: Int] = [:]
  private var content: ByteBuffer

  public init(sectorSize: Int, reserving sectors: Int = 8) {
    self.sectorSize = sectorSize
    content = ByteBuffer(count: max(1, sectors) * sectorSize)
  }

  public var count: Int { sectors.count }
  public var isEmpty: Bool { sectors.isEmpty }

  /// The place of `sector` among the changes, if it is one of them.
  public func place(of sector: SectorIndex) -> Int? { places[sector] }

  /// Adds a sector that is not among the changes yet and returns its place. The caller fills its content.
  public mutating func append(_ sector: SectorIndex) -> Int {
    precondition(places[sector] == nil)
    let place = sectors.count
    if (place + 1) * sectorSize > content.count {
      var larger = ByteBuffer(count: content.count * 2)
      var all = larger.mutableSpan
      all.copy(from: content.span)
      content = larger
    }
    sectors.append(sector)
    places[sector] = place
    return place
  }

  /// All places, in the order of their sectors: the order in which a record has them (FORMAT §7).
  var placesInSectorOrder: [Int] { sectors.indices.sorted { sectors[$0] < sectors[$1] } }

  /// The plaintext at a place.
  @_lifetime(borrow self)
  public func plaintext(_ place: Int) -> Span<UInt8> {
    content.span(place * sectorSize..<(place + 1) * sectorSize)
  }

  /// The plaintext at a place, for writing.
  @_lifetime(&self)
  public mutating func mutablePlaintext(_ place: Int) -> MutableSpan<UInt8> {
    content.mutableSpan(place * sectorSize..<(place + 1) * sectorSize)
  }

  /// Takes back everything added since there were `count` changes. Content of earlier ones is not restored.
  public mutating func removeLast(downTo count: Int) {
    for sector in sectors[count...] { places[sector] = nil }
    wipe(count * sectorSize..<sectors.count * sectorSize)
    sectors.removeSubrange(count...)
  }

  /// Empties the set and wipes what it held.
  public mutating func removeAll() {
    removeLast(downTo: 0)
    // A rare large change doesn't keep its memory for the life of the process.
    if content.count > Self.retainedSize { content = ByteBuffer(count: 8 * sectorSize) }
  }

  private static var retainedSize: Int { 1 << 20 }

  private mutating func wipe(_ range: Range<Int>) { content.wipe(range) }
}
