import BlockIO
import Glibc
import Primitives
import SecureVolume
import StorageSimulation
import Testing

@testable import BlobStore

/// Replacing an entry's content writes the sectors that differ, and never fewer.
struct RememberedContentTests {
  private let items = [
    Item(name: "small", capacity: 300, content: [1, 2, 3]), Item(name: "a", capacity: 60000),
    Item(name: "b", capacity: 300_000),
  ]

  @Test(arguments: [4096, 16384, 65536]) func onlySectorsThatDifferAreWritten(sectorSize: Int) throws {
    let (store, _) = try makeStore(items, volumeSize: 524_288, sectorSize: sectorSize)
    var content = [UInt8](repeating: 7, count: 250_001)
    try store.put("b", content)
    try store.commit()
    for offset in [0, 1, 4095, 4096, 130_000, 250_000] {
      content[offset] &+= 1
      try store.put("b", content)
      #expect(store.stagedSectors == 1)
      try store.commit()
      #expect(try store.content("b") == content)
    }
    // The same again is a commit all the same.
    try store.put("b", content)
    #expect(store.stagedSectors == 1)
    try store.commit()
    #expect(try store.content("b") == content)
    // Two in one commit.
    content[10_000] &+= 1
    try store.put("b", content)
    content[140_000] &+= 1
    try store.put("b", content)
    #expect(store.stagedSectors == 2)
    try store.commit()
    #expect(try store.content("b") == content)
  }

  /// Also where it was read, as a TPM's state is before it is ever replaced.
  @Test func whatWasReadIsKnown() throws {
    let (made, disk) = try makeStore(items, volumeSize: 524_288)
    var content = [UInt8](repeating: 7, count: 20_000)
    try made.put("a", content)
    try made.commit()
    let store = try BlobStore(PlainVolume(disk))
    #expect(try store.content("a") == content)
    content[9000] = 8
    try store.put("a", content)
    #expect(store.stagedSectors == 1)
    // What is staged isn't what is read now, and is what counts.
    #expect(try store.content("a") != content)
    content[9000] = 7
    try store.put("a", content)
    try store.commit()
    #expect(try BlobStore(PlainVolume(disk)).content("a") == content)
  }

  /// What was staged over it and taken back isn't there.
  @Test func whatWasTakenBackIsWrittenAgain() throws {
    let (store, disk) = try makeStore(items, volumeSize: 524_288)
    var content = [UInt8](repeating: 7, count: 20_000)
    try store.put("a", content)
    try store.commit()
    content[9000] = 8
    try store.put("a", content)
    store.rollBackStaged()
    try store.put("a", content)
    try store.commit()
    #expect(try BlobStore(PlainVolume(disk)).content("a") == content)
    content[100] = 9
    #expect(thrown { try store.put("a", [UInt8](repeating: 1, count: 60001)) }?.code == .tooLarge)
    try store.put("a", content)
    try store.commit()
    #expect(try BlobStore(PlainVolume(disk)).content("a") == content)
  }

  // MARK: Where it lies. The arena is the process's, so each test has a process.

  @Test func liesInProtectedMemoryUntilItIsForgotten() async {
    await #expect(processExitsWith: .success) {
      let arena = SecretMemory.shared
      guard arena.lackOfProtection == nil else { return print("no memory may be locked here") }
      let before = arena.bytesInUse
      let (store, _) = try makeStore([Item(name: "a", capacity: 300_000)], volumeSize: 524_288)
      for count in [20_000, 20_001, 70_000, 5000, 262_144] {
        try store.put("a", [UInt8](repeating: 7, count: count))
        try store.commit()
        let held = arena.bytesInUse - before
        #expect(held >= count && held < max(count, 70_000) + 16384)
        #expect(arena.bytesNotZero >= count && arena.bytesNotZero < count + 64)
      }
      // Too large; compared with the medium.
      try store.put("a", [UInt8](repeating: 7, count: 262_145))
      try store.commit()
      #expect(arena.bytesInUse == before && arena.bytesNotZero == 0)
      try store.put("a", [UInt8](repeating: 7, count: 20_000))
      #expect(arena.bytesInUse > before)
      store.rollBackStaged()
      #expect(arena.bytesInUse == before && arena.bytesNotZero == 0)
    }
  }

  /// What the kernel may swap holds nothing of it; then it is read, to be compared.
  @Test func isNotKeptWhereNoMemoryMayBeLocked() async {
    await #expect(processExitsWith: .success) {
      // Root has no limit.
      if geteuid() == 0 { #expect(setuid(65534) == 0) }
      var none = rlimit(rlim_cur: 0, rlim_max: 0)
      #expect(unsafe setrlimit(__rlimit_resource_t(__RLIMIT_MEMLOCK.rawValue), &none) == 0)
      let arena = SecretMemory.shared
      #expect(arena.lackOfProtection != nil)
      let (store, _) = try makeStore([Item(name: "a", capacity: 60_000)], volumeSize: 524_288)
      var content = [UInt8](repeating: 7, count: 50_000)
      for offset in [0, 9000, 49_999] {
        content[offset] &+= 1
        try store.put("a", content)
        if offset > 0 { #expect(store.stagedSectors == 1) }
        try store.commit()
        #expect(try store.content("a") == content)
        #expect(arena.bytesInUse == 0 && arena.bytesNotZero == 0)
      }
    }
  }

  /// Everything that changes an entry, in any order, on a volume that is opened anew now and then.
  @Test(arguments: [4096, 16384, 65536], 0..<8) func anyOrder(sectorSize: Int, seed: UInt64) throws {
    var random = SeededGenerator(seed: seed)
    var items = items
    let (made, disk) = try makeStore(items, volumeSize: 1 << 20, sectorSize: sectorSize)
    var store = made
    var staged = items
    for _ in 0..<300 {
      let i = Int.random(in: 0..<items.count, using: &random)
      let name = try EntryName(items[i].name)
      var content = staged[i].content
      switch Int.random(in: 0..<20, using: &random) {
      case 0..<8:
        if let place = content.indices.randomElement(using: &random) {
          content[place] = UInt8.random(in: 0...1, using: &random)
        }
        try store.put(name, content)
      case 8, 9:
        // Zeros where it grows, since those are on the medium already.
        let count = Int.random(in: 0...items[i].capacity, using: &random)
        content = Array(content.prefix(count)) + [UInt8](repeating: 0, count: max(0, count - content.count))
        try store.put(name, content)
      case 10:
        content = random.bytes(Int.random(in: 0...items[i].capacity, using: &random))
        try store.put(name, content)
      case 11:
        content = content.prefix(100) + random.bytes(Int.random(in: 0...items[i].capacity - 100, using: &random))
        try store.replace(name, piecewise: content)
      case 12, 13:
        let offset = Int.random(in: 0...items[i].capacity - 100, using: &random)
        let bytes = random.bytes(100)
        content += [UInt8](repeating: 0, count: max(0, offset + 100 - content.count))
        content.replaceSubrange(offset..<offset + 100, with: bytes)
        try store.put(name, at: offset, bytes)
      case 14:
        store.rollBackStaged()
        staged = items
        continue
      case 15:
        try store.commit()
        items = staged
        try store.resize(name, capacity: ByteCount(items[i].capacity))
        continue
      case 16:
        try store.commit()
        items = staged
        store = try BlobStore(volume(on: disk, sectorSize: sectorSize))
        try store.check()
        continue
      default:
        try store.commit()
        items = staged
        for item in items { #expect(try store.content(EntryName(item.name)) == item.content) }
        continue
      }
      staged[i].content = content
      #expect(try store.content(name, staged: true) == content)
    }
  }
}
