import Crypto
import Foundation
import Primitives

/// The input of each MAC of FORMAT, put together from a vector's bytes and values as the page says and not as the
/// program does, with the MAC that the vector has for it.
struct MACInputs {
  struct Input {
    let name: String
    let bytes: [UInt8]
    let verify: ([UInt8]) throws -> Bool
  }

  private let vector: ImageVector
  private let image: [UInt8]
  private let digest: [UInt8]

  init(_ vector: ImageVector) throws {
    self.vector = vector
    image = vector.bytes
    guard let digest = vector.value("geometry-digest") else { throw CocoaError(.fileReadCorruptFile) }
    self.digest = digest
  }

  func all() throws -> [Input] {
    var all = [try slot()]
    all += try header() + lineage() + tree() + record() + sector()
    return all
  }

  /// A field of the header copy that counts.
  private func number(_ offset: Int, _ count: Int = 8) throws -> Int {
    guard let copy = copies(try required("header-mac")).first else { throw CocoaError(.fileReadCorruptFile) }
    return (0..<count).reversed().reduce(0) { $0 << 8 | Int(image[copy + offset + $1]) }
  }

  private static func u32(_ value: Int) -> [UInt8] { (0..<4).map { UInt8(truncatingIfNeeded: value >> (8 * $0)) } }
  private static func u64(_ value: Int) -> [UInt8] { (0..<8).map { UInt8(truncatingIfNeeded: value >> (8 * $0)) } }

  private func required(_ label: String) throws -> [UInt8] {
    guard let value = vector.value(label) else { throw CocoaError(.fileReadCorruptFile) }
    return value
  }

  /// An input of the structure key's.
  private func structure(_ name: String, _ bytes: [UInt8], _ mac: [UInt8]) throws -> Input {
    let key = try required("structure-key")
    return Input(name: name, bytes: bytes) { input in
      var hmac = try StructureMAC(key: SecretBytes(copying: key.span))
      try hmac.start()
      try hmac.update(input.span)
      return try hmac.finish().array == mac
    }
  }

  /// FORMAT §3: the associated data of the first slot that opens.
  private func slot() throws -> Input {
    let data = try required("slot-associated-data")
    let index = Int(data[56])
    let mac = try required("header-mac")
    guard let copy = [0, 65536].first(where: { Array(image[$0 + 36832..<$0 + 36864]) == mac }) else {
      throw CocoaError(.fileReadCorruptFile)
    }
    let slot = copy + 4064 + 2048 * index
    let bytes = Array(image[copy..<copy + 56]) + Self.u32(index) + image[copy + 3376..<copy + 3632]
    let input = bytes + image[slot..<slot + 64] + image[slot + 124..<slot + 2048]
    let (key, store) = (try required("slot-wrapping-key"), try required("store-key"))
    let whole = image
    return Input(name: "slot", bytes: input) { input in
      let (nonce, wrapped) = (Array(whole[slot + 64..<slot + 76]), Array(whole[slot + 76..<slot + 108]))
      let tag = Array(whole[slot + 108..<slot + 124])
      let opened = try KeyWrap.open(
        ciphertext: wrapped.span, tag: InlineBytes16(tag.span), key: SecretBytes(copying: key.span), nonce: nonce.span,
        associatedData: input.span)
      guard let opened else { return false }
      let plain = opened.span
      return (0..<32).allSatisfy { plain[$0] == store[$0] }
    }
  }

  /// FORMAT §2: of the copy that counts.
  private func header() throws -> [Input] {
    let mac = try required("header-mac")
    return try copies(mac).map { copy in
      try structure("header", Self.u32(1) + Self.u32(0) + image[copy..<copy + 36832], mac)
    }
  }

  private func copies(_ mac: [UInt8]) -> [Int] {
    [0, 65536].filter { Array(image[$0 + 36832..<$0 + 36864]) == mac }
  }

  /// FORMAT §2: the newest entry's value, of the copy that counts.
  private func lineage() throws -> [Input] {
    let mac = try required("header-mac")
    // Audit heads that came later in the epoch aren't in its value.
    if vector.description == "good-audit-heads-later" { return [] }
    return try copies(mac).map { copy in
      let last = copy + 304 + 40 * (try number(296, 4) - 1)
      let before = last == copy + 304 ? [UInt8](repeating: 0, count: 32) : Array(image[last - 40..<last - 8])
      let input = Self.u32(7) + Self.u32(0) + digest + before + image[copy + 152..<copy + 168]
      return try structure("lineage", input + image[copy + 2864..<copy + 3376], try required("lineage"))
    }
  }

  /// FORMAT §6.
  private func tree() throws -> [Input] {
    guard let root = vector.value("root-input"), let leaf = vector.value("leaf-mac-0") else { return [] }
    let blockSize = try number(56, 4)
    let table = try number(88) + number(188, 4) * number(96)
    let block = Self.u32(2) + Self.u32(0) + digest + Self.u64(0) + image[table..<table + blockSize]
    return [
      try structure("leaf block", block, leaf), try structure("root", root, try required("header-root")),
    ]
  }

  /// FORMAT §7.
  private func record() throws -> [Input] {
    guard let input = vector.value("record-mac-input"), let mac = vector.value("record-mac") else { return [] }
    return [try structure("record", input, mac)]
  }

  /// FORMAT §5: of the last sector, where it lies in place.
  private func sector() throws -> [Input] {
    let (size, count, data) = (try number(56, 4), try number(64), try number(104))
    let place = data + (count - 1) * size
    let ciphertext = Array(image[place..<place + size])
    guard try Digest.sha256(ciphertext.span).array == required("sector-ciphertext-sha256") else { return [] }
    let (prefix, tag, key) = (
      try required("sector-tag-input-prefix"), try required("sector-tag"), try required("sector-tag-key")
    )
    return [
      Input(name: "sector", bytes: prefix + ciphertext) { input in
        var tags = try SectorTag(key: SecretBytes(copying: key.span))
        let (first, rest) = (Array(input.prefix(32)), Array(input.dropFirst(32)))
        return try tags.tag(first.span, rest.span).array == tag
      }
    ]
  }
}

extension ImageVector {
  /// One of the `value` lines.
  func value(_ label: String) -> [UInt8]? {
    headers.first { $0.name == "value" && $0.value.hasPrefix(label + " ") }.map {
      Self.unhex($0.value.dropFirst(label.count + 1))
    }
  }
}
