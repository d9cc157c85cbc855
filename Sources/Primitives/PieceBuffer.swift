import Glibc

/// Pieces of bytes on the heap, all of one size, as many as are appended. They lie in chunks, so that growing copies
/// nothing and takes at most a chunk more than is used. Pieces are wiped when they are removed and when the buffer
/// goes.
///
/// A piece that isn't there traps: numbers of pieces are the program's own, never input's.
@safe public struct PieceBuffer: ~Copyable, Sendable {
  /// In bytes.
  public let pieceSize: Int
  /// How many pieces there are.
  public private(set) var count = 0
  private let piecesInChunk: Int
  // Sole owner, so that moving it to another thread moves the memory.
  private nonisolated(unsafe) var chunks: [UnsafeMutableRawPointer] = unsafe []

  /// A chunk, unless a piece is larger, and what is kept for later when all pieces are removed. In bytes.
  private static let (chunkSize, retainedSize) = (1 << 18, 1 << 20)

  public init(pieceSize: Int) {
    precondition(pieceSize > 0)
    self.pieceSize = pieceSize
    piecesInChunk = max(1, Self.chunkSize / pieceSize)
  }

  deinit {
    for piece in 0..<count { unsafe explicit_bzero(place(of: piece), pieceSize) }
    for chunk in unsafe chunks.indices { unsafe chunks[chunk].deallocate() }
  }

  /// Adds a piece of zeros and returns its number.
  public mutating func append() -> Int {
    if unsafe count == chunks.count * piecesInChunk {
      unsafe chunks.append(.allocate(byteCount: piecesInChunk * pieceSize, alignment: 4096))
    }
    // Here and not with the chunk, so that memory which nobody uses isn't touched.
    unsafe place(of: count).initializeMemory(as: UInt8.self, repeating: 0, count: pieceSize)
    count += 1
    return count - 1
  }

  /// Wipes all pieces but the first `count`, and gives back the memory of many.
  public mutating func removeLast(downTo count: Int) {
    precondition(count >= 0 && count <= self.count)
    for piece in count..<self.count { unsafe explicit_bzero(place(of: piece), pieceSize) }
    self.count = count
    let used = (count + piecesInChunk - 1) / piecesInChunk
    let kept = used + Self.retainedSize / max(Self.chunkSize, pieceSize)
    while unsafe chunks.count > kept { unsafe chunks.removeLast().deallocate() }
  }

  @_lifetime(borrow self)
  public func span(_ piece: Int) -> Span<UInt8> {
    precondition(piece >= 0 && piece < count)
    let span = unsafe Span<UInt8>(
      _unsafeStart: UnsafePointer(place(of: piece).assumingMemoryBound(to: UInt8.self)), count: pieceSize)
    return unsafe _overrideLifetime(span, borrowing: self)
  }

  @_lifetime(&self)
  public mutating func mutableSpan(_ piece: Int) -> MutableSpan<UInt8> {
    precondition(piece >= 0 && piece < count)
    let span = unsafe MutableSpan<UInt8>(
      _unsafeStart: place(of: piece).assumingMemoryBound(to: UInt8.self), count: pieceSize)
    return unsafe _overrideLifetime(span, mutating: &self)
  }

  private func place(of piece: Int) -> UnsafeMutableRawPointer {
    unsafe chunks[piece / piecesInChunk] + piece % piecesInChunk * pieceSize
  }
}
