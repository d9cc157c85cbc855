import BlockIO
import Crypto
import Primitives
import StorageSimulation
import Testing

@testable import SecureVolume

/// Two copies of a header: which slots are tried, what they may cost, and what is shown before a key is there.
struct HeaderPairTests {
  private func make() throws -> (SimulatedDisk, SecureVolume) {
    let geometry = try #require(Geometry(blockSize: 4096, sectorCount: 3))
    let disk = SimulatedDisk(size: geometry.imageSize)
    try format(disk, geometry, key: makeKey(1), content: [1, 2, 3])
    return (disk, try open(disk, makeKey(1)))
  }

  private func passphrase(_ text: String) -> KeyEncryptionKey {
    KeyEncryptionKey(.passphrase, SecretBytes(copying: Array(text.utf8).span))
  }

  /// Power goes between the two copies of a header that changes slots: what is shown is what the newer one, B, says.
  @Test func theNewerCopyIsShown() throws {
    let (disk, volume) = try make()
    try volume.commit(changes(4096, [(0, 9)]))
    var shown = 0
    disk.afterOperation = { _ in
      let left = SimulatedDisk(copyOf: disk.durableBytes, isWritable: false)
      guard let sealed = try? SealedVolume(left) else { return }
      let sequences = [136, 65536 + 136].map { place in Int(left.byte(at: place)) }
      guard sequences[1] == sequences[0] + 1, left.byte(at: 65536 + 4064 + 2048) != 0, left.byte(at: 4064 + 2048) == 0
      else { return }
      shown += 1
      #expect(sealed.slots.map(\.name) == ["k", "two"] && sealed.keyNames == ["k", "two"])
      #expect(!sealed.wasClosedCleanly && sealed.generation == Generation(1) && sealed.uuid == volume.uuid)
      // The new key opens it already, by copy B.
      #expect((try? sealed.unlock(with: makeKey(2)).slots.count) == 2)
    }
    try volume.addSlot(makeKey(2), name: "two", created: 1)
    disk.afterOperation = nil
    #expect(shown > 0)
  }

  /// All that a wrap depends on, changed in copy A alone, leaves copy B to open the store.
  @Test func theOtherCopysSlotIsTried() throws {
    let (disk, _) = try make()
    for byte in [17, 20, 24, 40, 55, 3376, 3500, 3631, 4064, 4064 + 100, 4064 + 130, 4064 + 2047] {
      let changed = disk.copy()
      changed.flip(bit: byte * 8)
      let opened = try open(changed, makeKey(1))
      #expect(opened.opening.outdatedHeaderCopy == 0, "byte \(byte)")
    }
  }

  /// Slots of passphrases that are too dear together: none is tried, not even the one that is cheap and right. Keys
  /// of other kinds are, and then such a header is none.
  @Test func slotsThatAreTooDear() throws {
    let (disk, volume) = try make()
    let cheap = ScryptCost(log2N: 10, r: 1, p: 1)
    let dearest = ScryptCost(log2N: 19, r: 16, p: 8)
    #expect(dearest.isWithinLimits && dearest.units == Format.passphraseCostLimit)
    try volume.addSlot(passphrase("right"), name: "cheap", cost: cheap, created: 1)
    try volume.close()
    let bytes = disk.bytes
    #expect(try contents(open(SimulatedDisk(copyOf: bytes, isWritable: false), passphrase("right"))) == [1, 2, 3])
    // Fourteen more, each as the cheap one but for its cost and name.
    func spoil(_ bytes: inout [UInt8], copy: Int) {
      let slots = copy + 4064
      for index in 2..<16 {
        var slot = Array(bytes[slots + 2048..<slots + 4096])
        (slot[12], slot[16], slot[20], slot[128]) = (19, 16, 8, UInt8(0x60 + index))
        bytes.replaceSubrange(slots + 2048 * index..<slots + 2048 * (index + 1), with: slot)
      }
    }
    var dear = bytes
    for copy in [0, 65536] {
      spoil(&dear, copy: copy)
      try sealHeader(&dear, copy, volume)
    }
    for isWritable in [false, true] {
      let image = SimulatedDisk(copyOf: dear, isWritable: isWritable)
      #expect(thrownError { _ = try open(image, passphrase("right")) }?.code == .wrongKey)
      #expect(thrownError { _ = try open(image, makeKey(1)) }?.code == .notAuthentic(.header))
      #expect(image.writes == 0)
    }
    // In one copy alone, without a MAC: the other one's slots are tried.
    for copy in [0, 65536] {
      let unclean = SimulatedDisk(copyOf: bytes)
      _ = try open(unclean, makeKey(1))
      var one = unclean.bytes
      spoil(&one, copy: copy)
      let image = SimulatedDisk(copyOf: one, isWritable: false)
      #expect(try contents(open(image, passphrase("right"))) == [1, 2, 3], "spoilt at \(copy)")
    }
  }

  /// A writer doesn't make such a header, and says so before it pays for the slot.
  @Test func noSlotBeyondTheLimit() throws {
    let (disk, volume) = try make()
    try volume.addSlot(passphrase("a"), name: "cheap", cost: ScryptCost(log2N: 10, r: 1, p: 1), created: 1)
    let before = disk.operations
    let error = thrownError {
      try volume.addSlot(passphrase("b"), name: "dear", cost: ScryptCost(log2N: 19, r: 16, p: 8), created: 1)
    }
    #expect(error?.code == .noSpace && error?.status.rawValue == 10 && disk.operations == before)
    #expect(volume.slots.count == 2)
    try volume.close()
  }

  /// Keys are tried on slots of their own kind alone.
  @Test func kindsApart() throws {
    let (disk, volume) = try make()
    try volume.addSlot(makeKey(5, .recovery), name: "paper", created: 1)
    try volume.close()
    #expect(thrownError { _ = try open(disk, makeKey(5)) }?.code == .wrongKey)
    #expect(thrownError { _ = try open(disk, makeKey(1, .recovery)) }?.code == .wrongKey)
    #expect(try open(disk, makeKey(5, .recovery)).openedSlot?.name == "paper")
  }
}
