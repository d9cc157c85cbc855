import Primitives

/// Goes through one region of unused space, window by window; windows overlap by as much as what is looked for is long.
struct UnusedSpaceScan: ~Copyable {
  private static let windowSize = 1 << 18
  private static let overlap = Format.slotSize - 1
  /// More slots than that in one region are counted and not named.
  private static let mostNamed = 32

  private let region: UnusedRegion
  private let search: LeftOverSearch?
  /// The header's.
  private let slots: [KeySlot?]
  private var buffer = ByteBuffer(count: UnusedSpaceScan.windowSize + UnusedSpaceScan.overlap)

  private var nonZero: (first: UInt64, count: UInt64)?
  private var plaintext: (first: UInt64, count: UInt64, sector: SectorIndex?)?
  private var wraps: [UnusedSpaceFinding] = []
  private var unreadable: UnusedSpaceFinding?

  init(region: UnusedRegion, search: LeftOverSearch?, slots: [KeySlot?]) {
    self.region = region
    self.search = search
    self.slots = slots
  }

  mutating func run(_ medium: borrowing Medium, progress: (UInt64) -> Void) throws(VolumeError) {
    var start = region.range.lowerBound
    while start < region.range.upperBound {
      let window = Int(min(UInt64(Self.windowSize), region.range.upperBound - start))
      let readable = Int(min(UInt64(buffer.count), region.range.upperBound - start))
      do throws(VolumeError) {
        try medium.read(at: start, into: &buffer, 0..<readable)
        look(at: start, window: window, readable: readable)
      } catch {
        guard case .device = error.code else { throw error }
        note(unreadable: error, at: start)
      }
      start += UInt64(window)
      progress(start - region.range.lowerBound)
    }
  }

  private mutating func note(unreadable error: VolumeError, at start: UInt64) {
    unreadable =
      unreadable
      ?? UnusedSpaceFinding(
        code: .unreadable, offset: ByteOffset(start), count: 0, detail: "unused space can't be read (\(error.detail))")
  }

  private mutating func look(at start: UInt64, window: Int, readable: Int) {
    let found = Self.scan(buffer, readable, window: window, search: search)
    if let first = found.firstNonZero {
      let before = nonZero
      nonZero = (before?.first ?? start + UInt64(first), (before?.count ?? 0) + found.nonZero)
    }
    if let first = found.firstMatch {
      let before = plaintext
      plaintext = (
        before?.first ?? start + UInt64(first), (before?.count ?? 0) + found.matches, before?.sector ?? found.sector
      )
    }
    for (place, slot) in found.slots where wraps.count < Self.mostNamed { note(slot, at: start + UInt64(place)) }
  }

  private mutating func note(_ slot: KeySlot, at offset: UInt64) {
    let isPresent = slots.contains(slot)
    let what =
      isPresent
      ? "a copy of slot \"\(slot.name)\", which is still in use, lies in unused space"
      : "what looks like a slot \"\(slot.name)\" (\(slot.kind.label)) lies in unused space and in no header: whoever has its "
        + "key may open the store with it"
    wraps.append(
      UnusedSpaceFinding(
        code: .staleWrap, offset: ByteOffset(offset), count: UInt64(Format.slotSize), detail: what))
  }

  /// What a window holds, in its own offsets.
  private struct Found {
    var firstNonZero: Int?
    var nonZero: UInt64 = 0
    var firstMatch: Int?
    var matches: UInt64 = 0
    var sector: SectorIndex?
    var slots: [(Int, KeySlot)] = []

    mutating func note(nonZeroAt place: Int) {
      firstNonZero = firstNonZero ?? place
      nonZero += 1
    }
  }

  private static func scan(
    _ buffer: borrowing ByteBuffer, _ readable: Int, window: Int, search: LeftOverSearch?
  ) -> Found {
    let bytes = buffer.span(0..<readable)
    var found = Found()
    var i = 0
    while i < window {
      guard i + 8 <= bytes.count else {
        if bytes[i] != 0 { found.note(nonZeroAt: i) }
        i += 1
        continue
      }
      let word = bytes.load(UInt64.self, at: i)
      if word == 0 {
        // Nothing that is looked for begins with eight zeros.
        i += i + 16 <= bytes.count && bytes.load(UInt64.self, at: i + 8) == 0 ? 8 : 1
        continue
      }
      if word & 0xFF != 0 { found.note(nonZeroAt: i) }
      // Kind and algorithm of a slot (FORMAT §3).
      if word >> 32 == 1, word & 0xFFFF_FFFF <= 4, i + Format.slotSize <= bytes.count,
        let slot = KeySlot(parsing: bytes.extracting(i..<i + Format.slotSize))
      {
        found.slots.append((i, slot))
      }
      if let match = search?.match(bytes, at: i, word: word) {
        found.firstMatch = found.firstMatch ?? i
        found.matches += 1
        if case .sector(let sector) = match { found.sector = found.sector ?? sector }
      }
      i += 1
    }
    return found
  }

  /// All of it, for people and programs.
  var findings: [UnusedSpaceFinding] {
    var findings = wraps
    if let plaintext {
      let what = plaintext.sector.map { "content of \($0)" } ?? "part of the stream's frame"
      findings.append(
        UnusedSpaceFinding(
          code: .plaintext, offset: ByteOffset(plaintext.first), count: plaintext.count,
          detail: "\(what) lies unencrypted in unused space (\(plaintext.count) places)"))
    }
    if let nonZero {
      switch region.kind {
      case .zeros(let place):
        findings.append(
          UnusedSpaceFinding(
            code: .notZero, offset: ByteOffset(nonZero.first), count: nonZero.count,
            detail: "\(nonZero.count) bytes \(place) are not zero; vnvram writes nothing there"))
      case .ring:
        findings.append(
          UnusedSpaceFinding(
            code: .oldCiphertext, offset: ByteOffset(nonZero.first), count: nonZero.count,
            detail: "the journal holds old ciphertext; `vnvram scrub` overwrites it"))
      case .replaced, .leaves: break
      }
    }
    if let unreadable { findings.append(unreadable) }
    return findings
  }
}
