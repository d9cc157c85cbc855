import Testing

@testable import Primitives

struct PieceBufferTests {
  /// Over several chunks, whatever the size of a piece: each has its own bytes, and they stay where they are.
  @Test(arguments: [512, 4096, 65536, 1 << 19]) func pieces(size: Int) {
    var buffer = PieceBuffer(pieceSize: size)
    let many = 3 * (1 << 18) / size + 2
    for piece in 0..<many {
      #expect(buffer.append() == piece)
      let isZero = buffer.span(piece).isZero
      #expect(isZero)
      var bytes = buffer.mutableSpan(piece)
      bytes.fill(UInt8(truncatingIfNeeded: piece + 1))
    }
    #expect(buffer.count == many)
    for piece in 0..<many {
      let (first, last) = (buffer.span(piece)[0], buffer.span(piece)[size - 1])
      let expected = UInt8(truncatingIfNeeded: piece + 1)
      #expect(first == expected && last == expected)
    }
  }

  /// What was removed is gone from memory, and what comes in its place is zeros.
  @Test func removing() {
    var buffer = PieceBuffer(pieceSize: 4096)
    for piece in 0..<2000 {
      var bytes = buffer.mutableSpan(buffer.append())
      bytes.fill(UInt8(truncatingIfNeeded: piece | 1))
    }
    buffer.removeLast(downTo: 3)
    #expect(buffer.count == 3)
    let kept = buffer.span(2)[4095]
    #expect(kept == 3)
    for piece in 3..<600 {
      #expect(buffer.append() == piece)
      let isZero = buffer.span(piece).isZero
      #expect(isZero)
    }
    buffer.removeLast(downTo: 0)
    #expect(buffer.append() == 0)
    let isZero = buffer.span(0).isZero
    #expect(isZero)
  }

  @Test func outsideTraps() async {
    await #expect(processExitsWith: .failure) {
      var buffer = PieceBuffer(pieceSize: 4096)
      _ = buffer.append()
      _ = buffer.span(1)[0]
    }
    await #expect(processExitsWith: .failure) {
      var buffer = PieceBuffer(pieceSize: 4096)
      _ = buffer.append()
      buffer.removeLast(downTo: 0)
      _ = buffer.span(0)[0]
    }
  }
}
