// The 128-bit tag of a sector. One key schedule per key, none per tag, nothing allocated per tag.
//
// Measured with libcrypto 3.0.22: EVP_MAC_init(context, NULL, 0, NULL) starts CMAC over under the key that is set, also
// after an unfinished message, with the same result as setting the key again; for 40 bytes 175 ns against 360 ns with a
// key schedule and 277 ns with EVP_MAC_CTX_dup. A libcrypto in which that call did nothing would give wrong tags
// without an error, so the first use in a process checks it and refuses.
import CLibcrypto
import Glibc
import Primitives

/// AES-256-CMAC (SP 800-38B), untruncated.
public struct SectorTag: ~Copyable, Sendable {
  public static let keyCount = 32
  /// How many tags `tags` makes at once.
  public static var mostLanes: Int { ParallelSectorTag.mostLanes }
  /// Below this EVP's CMAC is no slower.
  static let fewestLanes = 2

  private let context: MACContext
  /// Nil where tags are made one at a time.
  private(set) var lanes: ParallelSectorTag?

  public init(key: borrowing SecretBytes) throws(CryptoError) {
    precondition(key.count == Self.keyCount)
    guard Self.restarts else { throw .unavailable("CMAC that starts over under the same key") }
    let context = try Self.keyed(key)
    let lanes = try Self.lanes(key)
    self.context = context
    self.lanes = lanes
  }

  /// Tags one at a time.
  private init(unchecked key: borrowing SecretBytes) throws(CryptoError) {
    context = try Self.keyed(key)
    lanes = nil
  }

  private static func lanes(_ key: borrowing SecretBytes) throws(CryptoError) -> ParallelSectorTag? {
    guard CryptoLibrary.usesParallelTags else { return nil }
    return try ParallelSectorTag(key: key)
  }

  private static func keyed(_ key: borrowing SecretBytes) throws(CryptoError) -> MACContext {
    let algorithm = unsafe Algorithms.cmac
    KeyScope.enter()
    defer { KeyScope.leaveAndWipe() }
    let context = try unsafe MACContext(algorithm, "CMAC")
    try context.setKey(key.span, ParameterName.cipher, ParameterName.aes256CBC)
    return context
  }

  /// The tag over `prefix` followed by `content`, as one message.
  public mutating func tag(_ prefix: Span<UInt8>, _ content: Span<UInt8>) throws(CryptoError) -> InlineBytes16 {
    try context.restart()
    try context.update(prefix)
    try context.update(content)
    var tag = InlineArray<16, UInt8>(repeating: 0)
    try context.finish(into: tag.mutableSpan)
    return InlineBytes16(tag.span)
  }

  /// The tags over `count` messages, 1 or more, side by side where that is faster. Message i is the 32 bytes of
  /// `prefixes` at 32 i, followed by the `size` bytes of `content` at `offset` + `size` i; `size` is a multiple of 16.
  /// Its tag goes to 16 i of `tags`. Nothing is allocated. A failed call leaves `tags` undefined.
  public mutating func tags(
    _ prefixes: borrowing ByteBuffer, _ content: borrowing ByteBuffer, from offset: Int, size: Int, count: Int,
    into tags: inout ByteBuffer
  ) throws(CryptoError) {
    precondition(count > 0 && size > 0 && size % 16 == 0)
    var first = 0
    while first < count {
      let end = min(first + Self.mostLanes, count)
      let isParallel = lanes != nil && end - first >= Self.fewestLanes
      let next = isParallel ? end : first + 1
      let prefix = prefixes.span(32 * first..<32 * next)
      let message = content.span(offset + size * first..<offset + size * next)
      if isParallel {
        try lanes?.tags(prefix, message, size: size, into: tags.mutableSpan(16 * first..<16 * next))
      } else {
        tags.store(try tag(prefix, message), at: 16 * first)
      }
      first = next
    }
  }

  /// Whether `tag` is the one over `prefix` followed by `content`. Compared in constant time.
  public mutating func verify(
    _ tag: InlineBytes16, _ prefix: Span<UInt8>, _ content: Span<UInt8>
  ) throws(CryptoError) -> Bool {
    ConstantTime.equals(try self.tag(prefix, content), tag)
  }

  /// Whether a second message under the same context gets the tag that it gets under a fresh one.
  private static let restarts: Bool = {
    do {
      let key = SecretBytes(count: keyCount)
      var used = try SectorTag(unchecked: key)
      var fresh = try SectorTag(unchecked: key)
      let (first, second) = (InlineArray<3, UInt8>(repeating: 1), InlineArray<20, UInt8>(repeating: 2))
      _ = try used.tag(first.span, first.span)
      return try used.tag(second.span, first.span) == fresh.tag(second.span, first.span)
    } catch {
      return false
    }
  }()
}

extension CryptoLibrary {
  /// The environment's `VNVRAM_TAGS=single` has libcrypto's CMAC make all tags, one at a time. Read once, by `load`: a
  /// child that is forked after it may have another environment.
  static let makesSingleTags = unsafe getenv("VNVRAM_TAGS").map { unsafe String(cString: $0) } == "single"

  /// Whether the tags of several sectors are made side by side (`SectorTag.tags`). False in FIPS mode and where
  /// AES-256-ECB is the FIPS provider's, since its CMAC is what is validated there; where AES-256-ECB is missing; where
  /// the tags aren't those of libcrypto's CMAC; and where it was asked for.
  public static var usesParallelTags: Bool { !makesSingleTags && SectorTag.lanesAgree }
}

extension SectorTag {
  /// Whether tags side by side are those of libcrypto's CMAC, in this process.
  fileprivate static let lanesAgree: Bool = {
    guard unsafe Algorithms.ecb != nil, let key = try? Random.secret(count: keyCount) else { return false }
    return (try? agree(ParallelSectorTag(key: key), with: key)) ?? false
  }()

  /// Whether `lanes` make the tags that libcrypto's CMAC makes under `key`, for each number of lanes.
  static func agree(
    _ lanes: consuming ParallelSectorTag, with key: borrowing SecretBytes
  ) throws(CryptoError) -> Bool {
    var one = try SectorTag(unchecked: key)
    let size = 144
    var prefixes = ByteBuffer(count: 32 * mostLanes)
    var content = ByteBuffer(count: size * mostLanes)
    try Random.fill(prefixes.mutableSpan)
    try Random.fill(content.mutableSpan)
    var wanted = ByteBuffer(count: 16 * mostLanes)
    var given = ByteBuffer(count: 16 * mostLanes)
    try one.tags(prefixes, content, from: 0, size: size, count: mostLanes, into: &wanted)
    for count in 1...mostLanes {
      try lanes.tags(
        prefixes.span(0..<32 * count), content.span(0..<size * count), size: size,
        into: given.mutableSpan(0..<16 * count))
      guard given.span(0..<16 * count).equals(wanted.span(0..<16 * count)) else { return false }
    }
    return true
  }
}
