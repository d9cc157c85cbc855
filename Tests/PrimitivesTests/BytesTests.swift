import Testing

@testable import Primitives

@Suite struct SpansTests {
  /// Little-endian at every alignment, whatever the machine.
  @Test func integers() {
    for offset in 0...8 {
      var bytes = [UInt8](repeating: 0xEE, count: 16)
      var span = bytes.mutableSpan
      span.store(0x0102_0304_0506_0708 as UInt64, at: offset)
      #expect(Array(bytes[offset..<offset + 8]) == [8, 7, 6, 5, 4, 3, 2, 1])
      #expect(bytes.count { $0 == 0xEE } == 8)
      let read = (
        bytes.span.load(UInt64.self, at: offset), bytes.span.load(UInt32.self, at: offset),
        bytes.span.load(UInt16.self, at: offset), bytes.span.load(UInt8.self, at: offset)
      )
      #expect(read == (0x0102_0304_0506_0708, 0x0506_0708, 0x0708, 0x08))
    }
  }

  @Test func zeros() {
    for count in 0...70 {
      var bytes = [UInt8](repeating: 0, count: count)
      let all = bytes.span.isZero
      #expect(all)
      for i in bytes.indices {
        bytes[i] = 0x80
        let none = bytes.span.isZero
        #expect(!none, "byte \(i) of \(count)")
        bytes[i] = 0
      }
    }
  }

  @Test func outsideTraps() async {
    await #expect(processExitsWith: .failure) { _ = [UInt8](repeating: 0, count: 8).span.load(UInt64.self, at: 1) }
    await #expect(processExitsWith: .failure) { _ = [UInt8](repeating: 0, count: 8).span.load(UInt8.self, at: -1) }
    await #expect(processExitsWith: .failure) {
      var bytes = [UInt8](repeating: 0, count: 8)
      var span = bytes.mutableSpan
      span.store(1 as UInt32, at: 5)
    }
    await #expect(processExitsWith: .failure) {
      var bytes = [UInt8](repeating: 0, count: 8)
      var span = bytes.mutableSpan
      span.copy(from: [UInt8](repeating: 1, count: 4).span, at: 5)
    }
  }

  @Test func copyingAndComparing() {
    var bytes = [UInt8](repeating: 0, count: 8)
    var span = bytes.mutableSpan
    span.copy(from: [1, 2, 3].span, at: 5)
    span.copy(from: [UInt8]().span, at: 8)
    #expect(bytes == [0, 0, 0, 0, 0, 1, 2, 3])
    let other: [UInt8] = [0, 0, 0, 0, 0, 1, 2, 4]
    let equal = (bytes.span.equals(bytes.span), bytes.span.equals(other.span), [UInt8]().span.equals([UInt8]().span))
    #expect(equal == (true, false, true))
    let zero = (bytes.span.isZero, bytes.span.extracting(first: 5).isZero)
    #expect(zero == (false, true))
    #expect([0, 10, 255].map(UInt8.init).hex == "000aff")
  }
}

@Suite struct InlineBytesTests {
  @Test func sixteenAndThirtyTwo() {
    let source = (0..<40).map { UInt8($0) }
    let (small, large) = (InlineBytes16(source.span, at: 3), InlineBytes32(source.span, at: 8))
    #expect(small.array == Array(source[3..<19]) && large.array == Array(source[8...]))
    var bytes = [UInt8](repeating: 0, count: 48)
    var span = bytes.mutableSpan
    small.store(in: &span, at: 0)
    large.store(in: &span, at: 16)
    #expect(bytes == small.array + large.array)
    for i in 0..<32 {
      var changed = large
      changed[i] ^= 0xFF
      #expect(changed != large && changed[i] == large[i] ^ 0xFF)
      #expect((0..<32).count { changed[$0] != large[$0] } == 1)
    }
  }

  @Test func uuid() {
    let uuid = StoreUUID(random: InlineBytes16([UInt8](repeating: 0xFF, count: 16).span))
    #expect(uuid.description == "ffffffff-ffff-4fff-bfff-ffffffffffff")
  }
}

@Suite struct ByteBufferTests {
  @Test func subrangesAndWiping() {
    var buffer = ByteBuffer(count: 100)
    var part = buffer.mutableSpan(10..<20)
    part.fill(9)
    buffer.wipe(12..<14)
    let content = buffer.span(8..<22).array
    #expect(content == [0, 0, 9, 9, 0, 0, 9, 9, 9, 9, 9, 9, 0, 0])
  }

  @Test func outsideTraps() async {
    await #expect(processExitsWith: .failure) { _ = ByteBuffer(count: 4).span(0..<5) }
  }
}

@Suite struct UnitsTests {
  @Test func rounding() {
    #expect(ByteCount(1).roundedUp(to: 4096) == ByteCount(4096))
    #expect(ByteCount(4096).roundedUp(to: 4096) == ByteCount(4096))
    #expect(ByteCount(0).roundedUp(to: 512) == .zero)
    #expect(ByteCount(UInt64.max - 5).roundedUp(to: 4096) == nil)
  }

  @Test func arithmetic() async {
    #expect(ByteOffset(5) + ByteCount(7) == ByteOffset(12))
    #expect(ByteOffset(12) - ByteOffset(5) == ByteCount(7))
    #expect(ByteCount(3) * 4 == ByteCount(12) && ByteCount(3) < ByteCount(4))
    #expect(Generation(1).next == Generation(2) && SectorIndex(1) < SectorIndex(2))
    // Printed, or the optimiser would leave out the sum and its trap.
    await #expect(processExitsWith: .failure) { print(ByteOffset(UInt64.max) + ByteCount(1)) }
    await #expect(processExitsWith: .failure) { print(ByteCount(1) - ByteCount(2)) }
  }

  /// Exit statuses are promised (DESIGN §6).
  @Test func statuses() {
    #expect(Status.allCases.map(\.rawValue) == Array(0...15))
    #expect(Set(Status.allCases.map(\.name)).count == 16)
  }
}
