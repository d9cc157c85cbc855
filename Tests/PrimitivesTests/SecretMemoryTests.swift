import Testing

@testable import Primitives

/// The arena that secrets and libcrypto's contexts share. It is one per process, so other tests use it at the same
/// time.
@Suite struct SecretMemoryTests {
  @Test func growsAndGivesBack() throws {
    let arena = SecretMemory.shared
    var blocks: [UInt] = []
    // Twice as much as it begins with.
    for index in 0..<128 {
      let block = try unsafe #require(arena.allocate(4096))
      let (own, zero) = unsafe (
        arena.contains(block), UnsafeRawBufferPointer(start: block, count: 4096).allSatisfy { $0 == 0 }
      )
      #expect(own && zero)
      unsafe block.storeBytes(of: UInt8(truncatingIfNeeded: index), as: UInt8.self)
      blocks.append(UInt(bitPattern: block))
    }
    #expect(Set(blocks.map { $0 / 4096 * 4096 }).count >= 64)
    #expect(arena.bytesInUse >= 128 * 4096)
    for (index, address) in blocks.enumerated() {
      let block = try unsafe #require(UnsafeMutableRawPointer(bitPattern: address))
      let (value, capacity) = unsafe (block.load(as: UInt8.self), arena.capacity(of: block))
      #expect(value == UInt8(truncatingIfNeeded: index) && capacity == 4096)
      unsafe arena.free(block)
    }
    // What is free is zero.
    #expect(arena.bytesNotZero <= arena.bytesInUse)
  }

  /// No error by itself: who asks decides. libcrypto's callers get an error.
  @Test func endsSomewhere() {
    let tooMuch = unsafe SecretMemory.shared.allocate(SecretMemory.limit)
    #expect(unsafe tooMuch == nil)
  }

  @Test func othersMemoryIsNotItsOwn() {
    let local = 1
    let own = unsafe withUnsafePointer(to: local) { unsafe SecretMemory.shared.contains($0) }
    #expect(!own)
  }

  @Test func freeingTwiceEndsTheProcess() async {
    await #expect(processExitsWith: .failure) {
      guard let block = unsafe SecretMemory.shared.allocate(100) else { return }
      unsafe SecretMemory.shared.free(block)
      unsafe SecretMemory.shared.free(block)
    }
  }
}
