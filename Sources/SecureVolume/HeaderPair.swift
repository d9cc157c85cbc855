import Crypto
import Primitives

/// Both header copies as they were read, and the rule which of them counts (FORMAT §2).
struct HeaderPair: ~Copyable {
  let a: HeaderCopy
  let b: HeaderCopy
  let name: String

  /// What reading a copy threw, where one is not readable.
  let failure: VolumeError?

  /// Reads both. Throws `.notAnImage` or `.unsupportedVersion` where that can be said without a key, and the device's
  /// error where a copy can't be read and the other one tells nothing.
  ///
  /// - Parameter salvaging: take what is there, as long as there may be a slot in it.
  init(reading medium: borrowing Medium, salvaging: Bool = false) throws(VolumeError) {
    var failure: VolumeError?
    let a = Self.read(0, medium, &failure)
    let b = Self.read(1, medium, &failure)
    try self.init(a: a, b: b, failure: failure, name: medium.name, size: medium.device.size, salvaging: salvaging)
  }

  private init(
    a: consuming HeaderCopy, b: consuming HeaderCopy, failure: VolumeError?, name: String, size: ByteCount,
    salvaging: Bool
  ) throws(VolumeError) {
    let flaws = (a.identityFlaw, b.identityFlaw)
    if let failure, flaws.0 != nil, flaws.1 != nil { throw failure }
    if flaws.0 == .noMagic, flaws.1 == .noMagic {
      if a.isOfVersion1 { throw Self.unsupported("version 1 of the format", name) }
      throw VolumeError(
        .notAnImage, store: name,
        "is not a vnvram image, or its formatting was cut short; nothing was changed; if it was one, `vnvram header restore` "
          + "or `vnvram restore` may help")
    }
    // A file that ends within the fields that say what it is doesn't say anything else.
    let isCutShort = size.value < UInt64(Format.geometryPart)
    if flaws.0 != nil, flaws.1 != nil, !isCutShort {
      for case .unsupported(let what)? in [flaws.0, flaws.1] { throw Self.unsupported(what, name) }
    }
    if !salvaging, !Self.reaches(a, size), !Self.reaches(b, size) {
      throw VolumeError(
        .notAuthentic(.geometry), store: name,
        "its sizes contradict each other, or it is cut short: it has \(size); restore it from a backup")
    }
    self.a = a
    self.b = b
    self.failure = failure
    self.name = name
  }

  /// The stores that the copies say they belong to: unverified, and whatever else is wrong with them.
  static func claimedStores(_ medium: borrowing Medium) -> [StoreUUID] {
    var failure: VolumeError?
    var found: [StoreUUID] = []
    for index in 0..<Format.copyOffsets.count {
      let copy = read(index, medium, &failure)
      if copy.hasMagic { found.append(copy.uuid) }
    }
    return found
  }

  /// Lends a copy.
  func withCopy<R, E: Error>(_ index: Int, _ body: (borrowing HeaderCopy) throws(E) -> R) throws(E) -> R {
    try index == 0 ? body(a) : body(b)
  }

  /// Whether a key that was tried on this slot of copy A and doesn't open it can't open copy B's either: all that the
  /// wrap depends on is the same (FORMAT §3).
  func hasEqualSlots(at index: Int) -> Bool {
    a.slotBytes(index).equals(b.slotBytes(index))
      && a.bytes.span(0..<Format.identitySize).equals(b.bytes.span(0..<Format.identitySize))
      && a.bytes.span(Format.binding).equals(b.bytes.span(Format.binding))
  }

  /// Whether a copy's sizes are possible and the file is as long as they say.
  private static func reaches(_ copy: borrowing HeaderCopy, _ size: ByteCount) -> Bool {
    guard copy.identityFlaw == nil, let geometry = copy.geometry else { return false }
    return geometry.imageSize <= size
  }

  /// A copy that the file doesn't reach reads as zeros: it has no magic.
  static func read(_ index: Int, _ medium: borrowing Medium, _ failure: inout VolumeError?) -> HeaderCopy {
    var bytes = ByteBuffer(count: Format.headerSize)
    let offset = Format.copyOffsets[index]
    let size = medium.device.size.value
    if size > offset {
      do { try medium.read(at: offset, into: &bytes, 0..<Int(min(UInt64(Format.headerSize), size - offset))) } catch {
        failure = error
        return HeaderCopy(index: index, bytes: ByteBuffer(count: Format.headerSize), isReadable: false)
      }
    }
    return HeaderCopy(index: index, bytes: bytes)
  }

  /// Whether both copies are the same, byte by byte.
  func equals(_ other: borrowing HeaderPair) -> Bool {
    a.bytes.span.equals(other.a.bytes.span) && b.bytes.span.equals(other.b.bytes.span)
      && a.isReadable == other.a.isReadable && b.isReadable == other.b.isReadable
  }

  /// The copy that says it is the newer, of those that say what they are: for what can be said before a key is there.
  func withPlausible<R>(_ body: (borrowing HeaderCopy) -> R) -> R {
    if a.identityFlaw != nil { return body(b) }
    return b.identityFlaw == nil && b.sequence > a.sequence && b.sequence < Format.numberLimit ? body(b) : body(a)
  }

  /// What the pair says, once the store key is there.
  struct Choice {
    /// Where only one copy has the header, or both do.
    enum Twin: Equatable {
      case equal
      /// The other copy is valid and older.
      case behind(copy: Int)
      /// The other copy does not count.
      case spoilt(copy: Int)
      /// The other copy can't be read. This one suffices: whatever the other says, all that was acknowledged follows
      /// from this one (FORMAT §2).
      case unreadable(copy: Int)
    }

    let header: Header
    let twin: Twin

    /// The copy that is behind or does not count.
    var outdated: Int? {
      switch twin {
      case .equal: nil
      case .behind(let copy), .spoilt(let copy), .unreadable(let copy): copy
      }
    }

    /// The copies to write again before anything else, in order, a sync after each, so that both say for sure what was
    /// read (FORMAT §7, Recovery): a failed sync may have left one of them in a cache alone. That one comes first, and
    /// the sure one isn't written before it. A header that isn't clean goes into B before A, so that of equal copies B
    /// is sure.
    var copiesToRewrite: [Int] {
      switch twin {
      case .equal: header.isClean ? [] : [0]
      case .behind(let copy): [1 - copy, copy]
      case .spoilt(let copy): needsNextNumber ? [] : [copy]
      // Never opened for writing.
      case .unreadable: []
      }
    }

    /// Copy B is to be made from A. With the same number it would look sure if that failed; with the next one it looks
    /// newer, and is written first again.
    var needsNextNumber: Bool { twin == .spoilt(copy: 1) && !header.isClean }
  }

  /// Applies steps 5 and 6 of FORMAT §2.
  func choose(with structure: inout StructureMAC) throws(VolumeError) -> Choice {
    let (first, second): (HeaderCopy.Verdict, HeaderCopy.Verdict)
    do { (first, second) = (try a.verified(with: &structure), try b.verified(with: &structure)) } catch {
      throw VolumeError(error, store: name)
    }
    if first.isAuthentic, second.isAuthentic,
      !a.bytes.span(0..<Format.geometryPart).equals(b.bytes.span(0..<Format.geometryPart))
    {
      throw pairError("the copies belong to different stores")
    }
    if let flaw = first.flaw ?? second.flaw { throw refusal(flaw) }
    switch (first.header, second.header) {
    case (let first?, let second?): return try choose(first, second)
    case (let header?, nil):
      return Choice(header: header, twin: b.isReadable ? .spoilt(copy: 1) : .unreadable(copy: 1))
    case (nil, let header?):
      if !a.isReadable { return Choice(header: header, twin: .unreadable(copy: 0)) }
      guard !header.isClean else {
        throw pairError("copy A is damaged, which no power cut explains beside a copy B that was closed cleanly")
      }
      return Choice(header: header, twin: .spoilt(copy: 0))
    case (nil, nil):
      // The one that can't be read may be the good one.
      if let failure { throw failure }
      throw VolumeError(
        .notAuthentic(.header), store: name,
        "the key opens a slot, but neither copy of the header verifies; restore the image from a backup")
    }
  }

  private func choose(_ first: Header, _ second: Header) throws(VolumeError) -> Choice {
    if first.sequence == second.sequence {
      guard first == second else { throw pairError("the copies have the same number and differ") }
      return Choice(header: first, twin: .equal)
    }
    if first.sequence == second.sequence &+ 1, first.isClean, !second.isClean {
      return Choice(header: first, twin: .behind(copy: 1))
    }
    if second.sequence == first.sequence &+ 1, !second.isClean {
      return Choice(header: second, twin: .behind(copy: 0))
    }
    throw pairError(
      "copy A has number \(first.sequence) and copy B \(second.sequence), which no power cut explains: one of them is from another time"
    )
  }

  /// Flaws that only a holder of the key can have made are worse than damage.
  private func refusal(_ flaw: HeaderCopy.Flaw) -> VolumeError {
    switch flaw {
    case .geometry:
      VolumeError(.notAuthentic(.geometry), store: name, "its sizes and offsets contradict each other")
    case .unsupported(let what): Self.unsupported(what, name)
    case .malformed, .unreadable, .noMagic, .notAuthentic:
      VolumeError(
        .notAuthentic(.header), store: name, "its header is authentic and still not as the format has it")
    }
  }

  private static func unsupported(_ what: String, _ store: String) -> VolumeError {
    VolumeError(
      .unsupportedVersion, store: store, "has \(what), which this program does not know; use the vnvram that made it")
  }

  /// A copy that can't be read now may come back, and an opening for writing would write over it. Nothing acknowledged
  /// would be lost by that; but a device that fails is no place to go on writing to.
  func mayNotOverwrite(_ copy: Int) -> VolumeError {
    VolumeError(
      .device(.inputOutput), store: name,
      "header copy \(copy == 0 ? "A" : "B") can't be read (\(failure?.detail ?? "")), and so it isn't opened for writing; "
        + "reading goes on with the other copy: `vnvram backup` makes a whole image of it, and `vnvram restore` puts that in "
        + "place")
  }

  func pairError(_ what: String) -> VolumeError {
    VolumeError(.notAuthentic(.headerPair), store: name, "\(what); restore the image from a backup")
  }
}

extension HeaderPair.Choice {
  /// What is to be said of the copy that doesn't count.
  var findings: [VolumeFinding] {
    guard let copy = outdated else { return [] }
    let offset = ByteOffset(Format.copyOffsets[copy])
    let name = "header copy \(copy == 0 ? "A" : "B")"
    if case .unreadable = twin {
      return [
        VolumeFinding(.unreadable, .unreadable, at: offset, "\(name) can't be read; the other one says what there is")
      ]
    }
    return [
      VolumeFinding(
        .headerPair, .notice, at: offset,
        "\(name) is behind or damaged; a power cut explains it, and opening for writing mends it")
    ]
  }
}

extension HeaderCopy.Verdict {
  fileprivate var header: Header? { if case .valid(let header) = self { header } else { nil } }
  /// Of a copy that someone with the key wrote.
  fileprivate var flaw: HeaderCopy.Flaw? { if case .flawed(let flaw) = self { flaw } else { nil } }
  /// Whether someone with the key wrote it for this place.
  fileprivate var isAuthentic: Bool { header != nil || flaw != nil }
}
