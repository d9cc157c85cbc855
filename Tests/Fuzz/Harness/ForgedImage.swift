import Crypto
import Primitives

@testable import SecureVolume

/// An image in the hands of someone who has its store key: fields are set at will, and afterwards the tags, roots,
/// chains and MACs are made to fit. Written from FORMAT.md's offsets, not with the code that writes images.
final class ForgedImage {
  var bytes: [UInt8]
  private(set) var geometry: Geometry
  /// Where in the ring the records of the journal start, in order.
  private(set) var records: [UInt64] = []
  /// Records elsewhere in the ring, which get a MAC and nothing else.
  private var strays: [UInt64] = []
  private let storeKey: [UInt8]

  /// What is made to fit again.
  struct Repairs: OptionSet {
    let rawValue: UInt8
    static let sectorTags = Repairs(rawValue: 1)
    static let payloadTags = Repairs(rawValue: 2)
    static let chain = Repairs(rawValue: 8)
    static let recordMACs = Repairs(rawValue: 16)
    static let headerRoots = Repairs(rawValue: 32)
    static let wraps = Repairs(rawValue: 64)
    static let headerMACs = Repairs(rawValue: 128)
  }

  init(_ bytes: [UInt8], geometry: Geometry, storeKey: [UInt8]) {
    self.bytes = bytes
    self.geometry = geometry
    self.storeKey = storeKey
    findRecords()
  }

  // MARK: Bytes

  /// The integer of 4 or 8 bytes at `offset`; 0 where that is outside.
  func get(_ offset: Int, _ width: Int) -> UInt64 {
    guard offset >= 0, offset + width <= bytes.count else { return 0 }
    return (0..<width).reduce(0) { $0 | UInt64(bytes[offset + $1]) << UInt64(8 * $1) }
  }

  func set(_ offset: Int, _ width: Int, _ value: UInt64) {
    guard offset >= 0, offset + width <= bytes.count else { return }
    for i in 0..<width { bytes[offset + i] = UInt8(truncatingIfNeeded: value >> UInt64(8 * i)) }
  }

  func put(_ source: [UInt8], _ offset: Int) {
    guard offset >= 0, offset + source.count <= bytes.count else { return }
    bytes.replaceSubrange(offset..<offset + source.count, with: source)
  }

  func slice(_ offset: Int, _ count: Int) -> [UInt8] {
    guard offset >= 0, count >= 0, offset + count <= bytes.count else {
      return [UInt8](repeating: 0, count: max(0, count))
    }
    return Array(bytes[offset..<offset + count])
  }

  /// A ring position as an offset in the image. What goes on at the ring's start is copied byte by byte.
  func place(_ position: UInt64) -> Int { Int(Format.ringOffset + position % geometry.ringSize) }
  func ring(_ position: UInt64, _ count: Int) -> [UInt8] {
    let start = place(position)
    let end = Int(Format.ringOffset + geometry.ringSize)
    guard start + count > end else { return slice(start, count) }
    return slice(start, end - start) + slice(Int(Format.ringOffset), count - (end - start))
  }
  func putRing(_ source: [UInt8], _ position: UInt64) {
    let start = place(position)
    let end = Int(Format.ringOffset + geometry.ringSize)
    guard start + source.count > end else { return put(source, start) }
    put(Array(source[..<(end - start)]), start)
    put(Array(source[(end - start)...]), Int(Format.ringOffset))
  }

  static func copyOffset(_ copy: Int) -> Int { Int(Format.copyOffsets[copy]) }
  /// The copy with the higher number: the one that counts, where both are whole.
  private var newest: Int { self.get(136, 8) >= self.get(Self.copyOffset(1) + 136, 8) ? 0 : Self.copyOffset(1) }

  // MARK: Records

  private func count(_ position: UInt64) -> Int {
    let count = Int(clamping: get(place(position + 12), 4))
    return min(count, 64)
  }
  private func size(_ position: UInt64) -> UInt64 { geometry.recordSize(count(position)) }

  private func findRecords() {
    var position = get(newest + 168, 8)
    var sequence = get(newest + 176, 8)
    let epoch = slice(newest + 152, 16)
    while records.count < 64, ring(position, 8) == Format.recordMagic, get(place(position + 16), 8) == sequence,
      slice(place(position + 32), 16) == epoch
    {
      records.append(position)
      position = (position + size(position)) % geometry.ringSize
      sequence &+= 1
    }
  }

  /// Appends a record of some sectors that follows from the last one.
  func append(_ sectors: [UInt64]) {
    guard !sectors.isEmpty else { return }
    let last = records.last
    let position = last.map { ($0 + size($0)) % geometry.ringSize } ?? get(newest + 168, 8)
    let sequence = last.map { get(place($0 + 16), 8) &+ 1 } ?? get(newest + 176, 8)
    let generation = last.map { get(place($0 + 24), 8) } ?? get(newest + 144, 8)
    var record = [UInt8](repeating: 0, count: Int(geometry.recordSize(sectors.count)))
    guard UInt64(record.count + geometry.blockSize) < geometry.ringSize else { return }
    func store(_ offset: Int, _ width: Int, _ value: UInt64) {
      for i in 0..<width { record[offset + i] = UInt8(truncatingIfNeeded: value >> UInt64(8 * i)) }
    }
    record.replaceSubrange(0..<8, with: Format.recordMagic)
    store(8, 4, 1)
    store(12, 4, UInt64(sectors.count))
    store(16, 8, sequence)
    store(24, 8, generation &+ 1)
    record.replaceSubrange(32..<48, with: slice(newest + 152, 16))
    store(80, 8, position)
    let payload = geometry.recordHeadSize(sectors.count)
    for (i, sector) in sectors.enumerated() {
      store(128 + 40 * i, 8, sector)
      store(128 + 40 * i + 32, 4, 1)
      let start = payload + i * geometry.blockSize
      for byte in start..<start + geometry.blockSize { record[byte] = UInt8(truncatingIfNeeded: i) }
    }
    putRing(record, position)
    records.append(position)
  }

  /// Copies a record to another block of the ring, where it says that it belongs.
  func stray(_ record: UInt64, to block: UInt64, sequence: UInt64) {
    let position = block * UInt64(geometry.blockSize) % geometry.ringSize
    putRing(ring(record, Int(min(size(record), geometry.ringSize))), position)
    set(place(position + 80), 8, position)
    set(place(position + 16), 8, sequence)
    strays.append(position)
  }

  func addSlot(_ copies: [Int], at index: Int, _ slot: [UInt8]) {
    for copy in copies { put(slot, Self.copyOffset(copy) + Format.slotsOffset + index * Format.slotSize) }
  }

  /// Another layout, consistent in all its numbers; the file is made to fit.
  func change(_ new: Geometry) {
    guard new.imageSize.value <= UInt64(ImageTarget.largest) else { return }
    geometry = new
    for copy in 0..<2 {
      let start = Self.copyOffset(copy)
      set(start + 56, 4, UInt64(new.blockSize))
      for (i, value) in [
        new.sectorCount, new.ringOffset, new.ringSize, new.leafOffset, new.leafTableSize, new.dataOffset,
        new.imageSize.value,
      ].enumerated() { set(start + 64 + 8 * i, 8, value) }
    }
    let size = Int(new.imageSize.value)
    if bytes.count > size { bytes.removeLast(bytes.count - size) }
    bytes += [UInt8](repeating: 0, count: size - bytes.count)
    for table in 0..<2 {
      for i in 0..<Int(new.sectorCount) { set(Int(new.leafTableOffset(table)) + 32 * i + 24, 8, 1) }
    }
  }

  // MARK: Making it fit

  private static func secret(_ bytes: [UInt8]) -> SecretBytes { SecretBytes(copying: bytes.span) }

  func repair(_ repairs: Repairs, digestOf copy: Int) {
    do {
      let uuid = StoreUUID(InlineBytes16(slice(40, 16).span))
      let key = Self.secret(storeKey)
      let salt = uuid.bytes.array
      let structure = try KeyDerivation.hkdf(key: key, salt: salt.span, info: Format.info(.structure).span, count: 32)
      var mac = try StructureMAC(key: structure)
      var tag = try SectorTag(
        key: KeyDerivation.hkdf(key: key, salt: salt.span, info: Format.info(.sectorTag).span, count: 32))
      let digest = try Digest.sha256(slice(Self.copyOffset(copy), Format.geometryPart).span).array
      if repairs.contains(.sectorTags) { try repairSectors(&tag) }
      try repairRecords(repairs, digest, &mac, &tag)
      for copy in 0..<2 { try repairHeader(copy, repairs, digest, &mac) }
    } catch { fatalError("libcrypto: \(error)") }
  }

  private func hmac(_ type: UInt64, _ parts: [[UInt8]], _ mac: inout StructureMAC) throws(CryptoError) -> [UInt8] {
    try mac.start()
    try mac.update(Self.words(type).span)
    for part in parts { try mac.update(part.span) }
    return try mac.finish().array
  }

  private static func words(_ values: UInt64...) -> [UInt8] {
    values.flatMap { value in (0..<8).map { UInt8(truncatingIfNeeded: value >> UInt64(8 * $0)) } }
  }

  /// FORMAT §5, over what `leaf` says of the sector and what there is of it.
  private func sectorTag(
    _ sector: UInt64, leaf: [UInt8], _ ciphertext: [UInt8], _ tag: inout SectorTag
  ) throws(CryptoError) -> [UInt8] {
    let prefix =
      Self.words(16 | UInt64(geometry.blockSize) << 32, sector) + leaf[16..<28] + [0, 0, 0, 0]
    return try tag.tag(prefix.span, ciphertext.span).array
  }

  private func repairSectors(_ tag: inout SectorTag) throws(CryptoError) {
    for sector in 0..<geometry.sectorCount {
      let leaf = leafTable(of: 0).lowerBound + 32 * Int(sector)
      let ciphertext = slice(Int(geometry.place(of: SectorIndex(sector)).value), geometry.blockSize)
      put(try sectorTag(sector, leaf: slice(leaf, 32), ciphertext, &tag), leaf)
    }
  }

  /// FORMAT §6.
  private func root(
    _ table: [UInt8], _ generation: UInt64, _ digest: [UInt8], _ mac: inout StructureMAC
  ) throws(CryptoError) -> [UInt8] {
    var blocks: [UInt8] = []
    let count = table.count / geometry.blockSize
    for j in 0..<count {
      let block = Array(table[j * geometry.blockSize..<(j + 1) * geometry.blockSize])
      blocks += try hmac(2, [digest, Self.words(UInt64(j)), block], &mac)
    }
    return try hmac(3, [digest, Self.words(generation, UInt64(count)), blocks], &mac)
  }

  /// The table that a header copy says counts.
  func leafTable(of copy: Int) -> Range<Int> {
    let table = Int(get(Self.copyOffset(copy) + 188, 4) & 1)
    let start = Int(geometry.leafTableOffset(table))
    return start..<start + Int(geometry.leafTableSize)
  }

  private func repairRecords(
    _ repairs: Repairs, _ digest: [UInt8], _ mac: inout StructureMAC, _ tag: inout SectorTag
  ) throws(CryptoError) {
    var previous = slice(newest + 192, 32)
    for position in records + strays {
      let count = count(position)
      if repairs.contains(.chain), !strays.contains(position) { putRing(previous, position + 48) }
      if repairs.contains(.payloadTags) { try repairPayload(position, &tag) }
      previous = try hmac(4, [digest, ring(position, 128 + 40 * count)], &mac)
      if repairs.contains(.recordMACs) { putRing(previous, position + 128 + 40 * UInt64(count)) }
    }
  }

  private func repairPayload(_ position: UInt64, _ tag: inout SectorTag) throws(CryptoError) {
    let (count, unit) = (count(position), geometry.blockSize)
    let head = geometry.recordHeadSize(count)
    for i in 0..<count {
      let entry = position + 128 + 40 * UInt64(i)
      let payload = ring(position + UInt64(head + i * unit), unit)
      putRing(try sectorTag(get(place(entry), 8), leaf: ring(entry + 8, 32), payload, &tag), entry + 8)
    }
  }

  private func repairHeader(
    _ copy: Int, _ repairs: Repairs, _ digest: [UInt8], _ mac: inout StructureMAC
  ) throws(CryptoError) {
    let start = Self.copyOffset(copy)
    if repairs.contains(.headerRoots) {
      let table = leafTable(of: copy)
      put(try root(slice(table.lowerBound, table.count), get(start + 144, 8), digest, &mac), start + 224)
    }
    if repairs.contains(.wraps) { try repairWraps(start) }
    if repairs.contains(.headerMACs) { put(try hmac(1, [slice(start, 36832)], &mac), start + 36832) }
  }

  /// FORMAT §3: wraps the store key anew in every slot of the two kinds whose key is a key.
  private func repairWraps(_ start: Int) throws(CryptoError) {
    for index in 0..<Format.slotCount {
      let slot = start + Format.slotsOffset + index * Format.slotSize
      guard [1, 2].contains(get(slot, 4)) else { continue }
      let salt = slice(slot + 32, 32)
      let info = Format.info(.slot)
      let wrapping = try KeyDerivation.hkdf(
        key: Self.secret(StoreHistory.key), salt: salt.span, info: info.span, count: 32)
      let associated =
        slice(start, 56) + Self.words(UInt64(index)).prefix(4) + slice(start + 3376, 256) + slice(slot, 64)
        + slice(slot + 124, 1924)
      var wrapped = [UInt8](repeating: 0, count: 32)
      let nonce = slice(slot + 64, 12)
      let tag = try KeyWrap.seal(
        Self.secret(storeKey), key: wrapping, nonce: nonce.span, associatedData: associated.span,
        ciphertext: wrapped.mutableSpan)
      put(wrapped, slot + 76)
      put(tag.array, slot + 108)
    }
  }
}
