import CLibcrypto
import Glibc
import Primitives
import Testing

@testable import Crypto

/// Tags side by side are those of libcrypto's CMAC (`SectorTag.tag`).
@Suite struct ParallelTagTests {
  private static func random(_ count: Int) throws -> ByteBuffer {
    var buffer = ByteBuffer(count: count)
    try Random.fill(buffer.mutableSpan)
    return buffer
  }

  @Test func areUsed() throws {
    #expect(CryptoLibrary.usesParallelTags)
    let tags = try SectorTag(key: key(32))
    let has = tags.lanes != nil
    #expect(has)
  }

  /// The published message of 64 bytes, as prefix and content, in each lane beside others.
  @Test func vectors() throws {
    let file = try VectorFile("nist-sp800-38b/cmac-aes256.txt", recordsBeginWith: "COUNT")
    let record = try #require(file.records.last)
    let (message, expected) = (try record.bytes("MESSAGE"), try record.bytes("OUTPUT"))
    try #require(message.count == 64)
    var lanes = try ParallelSectorTag(key: record.secret("KEY"))
    var passed = 0
    for count in 1...SectorTag.mostLanes {
      for lane in 0..<count {
        var prefixes = try Self.random(32 * count)
        var content = try Self.random(32 * count)
        prefixes.copy(from: Array(message[..<32]), at: 32 * lane)
        content.copy(from: Array(message[32...]), at: 32 * lane)
        var tags = ByteBuffer(count: 16 * count)
        try lanes.tags(prefixes.span, content.span, size: 32, into: tags.mutableSpan)
        passed += tags.span(16 * lane..<16 * lane + 16).array == expected ? 1 : 0
      }
    }
    #expect(passed == 136)
    report("SP 800-38B AES-256-CMAC, side by side", passed: passed)
  }

  /// All numbers of lanes, twice over and one more; content that doesn't begin where its buffer does.
  @Test(arguments: [16, 32, 512, 4096, 8192, 16384, 65536])
  func everyCount(_ size: Int) throws {
    let secret = try Random.secret(count: 32)
    var tag = try SectorTag(key: secret)
    let (most, offset) = (2 * SectorTag.mostLanes + 1, 48)
    let prefixes = try Self.random(32 * most)
    let content = try Self.random(offset + size * most)
    var wanted: [[UInt8]] = []
    for i in 0..<most {
      let prefix = prefixes.span(32 * i..<32 * i + 32)
      let message = content.span(offset + size * i..<offset + size * i + size)
      wanted.append(try tag.tag(prefix, message).array)
    }
    for count in 1...most {
      var tags = ByteBuffer(count: 16 * most + 16)
      try tag.tags(prefixes, content, from: offset, size: size, count: count, into: &tags)
      let (given, rest) = (tags.span(0..<16 * count).array, tags.span(16 * count..<tags.count).isZero)
      #expect(given == Array(wanted[..<count].joined()) && rest)
    }
  }

  /// Chaining values are in protected memory while there are any.
  @Test func lanesAreWiped() throws {
    var lanes = try ParallelSectorTag(key: key(32))
    let prefixes = try Self.random(32 * 5)
    let content = try Self.random(64 * 5)
    var tags = ByteBuffer(count: 16 * 5)
    let places = 0..<16 * SectorTag.mostLanes
    let before = lanes.state.span.extracting(places).isZero
    try lanes.tags(prefixes.span, content.span, size: 64, into: tags.mutableSpan)
    let after = lanes.state.span.extracting(places).isZero
    let isProtected = unsafe lanes.state.span.withUnsafeBytes { bytes in
      unsafe SecretMemory.shared.contains(bytes.baseAddress!)
    }
    #expect(before && after && isProtected)
  }

  /// The check at the start finds tags that are wrong.
  @Test func disagreementIsFound() throws {
    #expect(try SectorTag.agree(ParallelSectorTag(key: key(32)), with: key(32)))
    #expect(try !SectorTag.agree(ParallelSectorTag(key: key(32, 2)), with: key(32)))
  }

  private static func tagsWithoutLanes() throws {
    precondition(!CryptoLibrary.usesParallelTags)
    var tag = try SectorTag(key: key(32))
    let hasLanes = tag.lanes != nil
    precondition(!hasLanes)
    let prefixes = try random(32 * 20)
    let content = try random(64 * 20)
    var tags = ByteBuffer(count: 16 * 20)
    try tag.tags(prefixes, content, from: 0, size: 64, count: 20, into: &tags)
    for i in 0..<20 {
      let one = try tag.tag(prefixes.span(32 * i..<32 * i + 32), content.span(64 * i..<64 * i + 64))
      precondition(tags.span(16 * i..<16 * i + 16).equals(one.array))
    }
  }

  @Test func oneAtATimeWhereAskedFor() async {
    await #expect(processExitsWith: .success) {
      _ = unsafe setenv("VNVRAM_TAGS", "single", 1)
      CryptoLibrary.load()
      _ = unsafe unsetenv("VNVRAM_TAGS")
      try Self.tagsWithoutLanes()
    }
  }

  /// Whatever a FIPS provider hands out: its CMAC is what is validated.
  @Test func notInFIPSMode() async {
    await #expect(processExitsWith: .success) {
      precondition(EVP_default_properties_enable_fips(nil, 1) == 1)
      precondition(!CryptoLibrary.usesParallelTags)
      precondition(FIPSMode.leave() && !CryptoLibrary.usesParallelTags)
    }
  }
}
