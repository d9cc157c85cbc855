import Primitives
import Testing

@testable import Crypto

@Suite struct SectorTagTests {
  @Test func vectors() throws {
    let file = try VectorFile("nist-sp800-38b/cmac-aes256.txt", recordsBeginWith: "COUNT")
    var passed = 0
    for record in file.records {
      var tag = try SectorTag(key: record.secret("KEY"))
      let (message, expected) = (try record.bytes("MESSAGE"), try record.bytes("OUTPUT"))
      // Every split between prefix and content, all under one context.
      for split in 0...message.count {
        let (prefix, content) = (Array(message[..<split]), Array(message[split...]))
        #expect(try tag.tag(prefix.span, content.span).array == expected)
      }
      passed += try tag.tag(message.span, [UInt8]().span).array == expected ? 1 : 0
    }
    #expect(passed == 4)
    report("SP 800-38B AES-256-CMAC", passed: passed)
  }

  /// What `SectorTag` relies on: starting over keeps the key, whatever came before, an unfinished message too.
  @Test func startsOverUnderTheSameKey() throws {
    let context = try unsafe MACContext(Algorithms.cmac, "CMAC")
    try context.setKey(pattern(32).span, ParameterName.cipher, ParameterName.aes256CBC)
    var tags: [[UInt8]] = []
    for junk in [0, 1, 16, 40] {
      try context.restart()
      try context.update(pattern(junk).span)
      try context.restart()
      try context.update(pattern(100).span)
      var tag = [UInt8](repeating: 0, count: 16)
      try context.finish(into: tag.mutableSpan)
      tags.append(tag)
    }
    var fresh = try SectorTag(key: key(32))
    let expected = try fresh.tag(pattern(100).span, [UInt8]().span).array
    #expect(tags == [expected, expected, expected, expected])
  }

  @Test func everyFlippedBitIsSeen() throws {
    var sectorTag = try SectorTag(key: key(32))
    let (prefix, content) = (pattern(24), pattern(40, 7))
    let tag = try sectorTag.tag(prefix.span, content.span)
    #expect(try sectorTag.verify(tag, prefix.span, content.span))
    for bit in 0..<(8 * 24) {
      var changed = prefix
      changed[bit / 8] ^= 1 << UInt8(bit % 8)
      #expect(try !sectorTag.verify(tag, changed.span, content.span))
    }
    for bit in 0..<(8 * 40) {
      var changed = content
      changed[bit / 8] ^= 1 << UInt8(bit % 8)
      #expect(try !sectorTag.verify(tag, prefix.span, changed.span))
    }
    for bit in 0..<128 {
      var changed = tag
      changed[bit / 8] ^= 1 << UInt8(bit % 8)
      #expect(try !sectorTag.verify(changed, prefix.span, content.span))
    }
    #expect(try !sectorTag.verify(tag, prefix.span, Array(content.dropLast()).span))
    var other = try SectorTag(key: key(32, 2))
    #expect(try !other.verify(tag, prefix.span, content.span))
  }
}

@Suite struct StructureMACTests {
  @Test func vectors() throws {
    let file = try VectorFile("rfc/rfc-4231-sha256.txt", recordsBeginWith: "Len")
    var passed = 0
    for record in file.records {
      var mac = try StructureMAC(anyLength: record.secret("Key"))
      let (message, expected) = (try record.bytes("Msg"), try record.bytes("MD"))
      for split in 0...message.count {
        try mac.start()
        try mac.update(message.span.extracting(first: split))
        try mac.update(message.span.extracting(droppingFirst: split))
        #expect(try mac.finish().array == expected)
      }
      passed += 1
    }
    #expect(passed == 6)
    report("RFC 4231 HMAC-SHA-256", passed: passed)
  }

  /// Numbers and MACs in one call are the bytes that the format has of them.
  @Test func wordsAreLittleEndian() throws {
    var mac = try StructureMAC(key: key(32))
    let bytes = InlineBytes32(pattern(32, 9).span)
    try mac.start()
    try mac.update(bytes)
    try mac.update(0x0102_0304_0506_0708 as UInt64)
    try mac.update(0x1112_1314, 0x2122_2324)
    let given = try mac.finish()
    try mac.start()
    try mac.update(pattern(32, 9).span)
    try mac.update([8, 7, 6, 5, 4, 3, 2, 1, 0x14, 0x13, 0x12, 0x11, 0x24, 0x23, 0x22, 0x21].span)
    #expect(try given == mac.finish())
  }

  @Test func abandonedMessageLeavesNothing() throws {
    var mac = try StructureMAC(key: key(32))
    try mac.start()
    try mac.update(pattern(70).span)
    let once = try mac.finish()
    try mac.start()
    try mac.update(pattern(5).span)
    try mac.start()
    try mac.update(pattern(70).span)
    let again = try mac.finish()
    #expect(ConstantTime.equals(once, again))
  }

  @Test func updateWithoutStartTraps() async {
    await #expect(processExitsWith: .failure) {
      var mac = try StructureMAC(key: key(32))
      _ = try mac.finish()
    }
  }
}

@Suite struct ConstantTimeTests {
  @Test func everyBitCounts() {
    let a = InlineBytes32(pattern(32).span)
    #expect(ConstantTime.equals(a, a))
    for bit in 0..<256 {
      var b = a
      b[bit / 8] ^= 1 << UInt8(bit % 8)
      #expect(!ConstantTime.equals(a, b))
      #expect(
        ConstantTime.equals(InlineBytes16(a.array.span, at: 16), InlineBytes16(b.array.span, at: 16)) == (bit < 128))
    }
    let (short, empty) = (pattern(3), [UInt8]())
    let (lengths, empties) = (
      ConstantTime.equals(short.span, empty.span), ConstantTime.equals(empty.span, empty.span)
    )
    #expect(!lengths && empties)
  }
}

@Suite struct DigestTests {
  @Test func vectors() throws {
    let file = try VectorFile("nist-cavp-sha/SHA256ShortMsg.rsp", recordsBeginWith: "Len")
    var passed = 0
    var digest = try Digest()
    for record in file.records {
      // The file writes the empty message as one zero byte.
      let message = Array(try record.bytes("Msg").prefix(try record.number("Len") / 8))
      let expected = try record.bytes("MD")
      let half = message.count / 2
      try digest.update(message.span)
      let (streamed, whole) = (try digest.finish().array, try Digest.sha256(message.span).array)
      let parts = try Digest.sha256(message.span.extracting(first: half), message.span.extracting(droppingFirst: half))
      #expect(streamed == expected && whole == expected && parts.array == expected)
      passed += 1
    }
    #expect(passed == 65)
    report("NIST CAVP SHA-256 short messages", passed: passed)
  }
}
