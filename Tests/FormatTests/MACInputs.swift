import Crypto
import Foundation
import Primitives

/// The input of each MAC of FORMAT, put together from a vector's bytes and values as the page says and not as the program
/// does, with the MAC that the vector has for it.
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
    all += try header() + tree() + record() + images() + sector()
    return all
  }

  private func number(_ offset: Int, _ count: Int = 8) -> Int {
    (0..<count).reversed().reduce(0) { $0 << 8 | Int(image[offset + $1]) }
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
    let index = Int(data[40])
    let mac = try required("header-mac")
    guard let copy = [0, 16384].first(where: { Array(image[$0 + 8160..<$0 + 8192]) == mac }) else {
      throw CocoaError(.fileReadCorruptFile)
    }
    let slot = copy + 512 + 256 * index
    let bytes = Array(image[copy..<copy + 40]) + Self.u32(index)
    let input = bytes + image[slot..<slot + 56] + image[slot + 116..<slot + 256]
    let (key, store) = (try required("slot-wrapping-key"), try required("store-key"))
    let whole = image
    return Input(name: "slot", bytes: input) { input in
      let (nonce, wrapped) = (Array(whole[slot + 56..<slot + 68]), Array(whole[slot + 68..<slot + 100]))
      let tag = Array(whole[slot + 100..<slot + 116])
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
    return try [0, 16384].filter { Array(image[$0 + 8160..<$0 + 8192]) == mac }.map { copy in
      try structure("header", Self.u32(1) + Self.u32(0) + image[copy..<copy + 8160], mac)
    }
  }

  /// FORMAT §6.
  private func tree() throws -> [Input] {
    guard let root = vector.value("root-input"), let leaf = vector.value("leaf-mac-0") else { return [] }
    let (blockSize, table) = (number(44, 4), number(72))
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

  /// FORMAT §7: blocks in records of images, wherever in the ring one lies whole.
  private func images() throws -> [Input] {
    let (blockSize, ring, end) = (number(44, 4), number(56), number(72))
    var found: [Input] = []
    for start in stride(from: ring, to: end, by: blockSize)
    where image[start..<start + 8].elementsEqual("vnvram-J".utf8) && number(start + 8, 4) == 2 {
      let count = number(start + 12, 4)
      for i in 0..<count {
        let (entry, payload) = (start + 160 + 40 * i, start + 192 + 40 * count + i * blockSize)
        guard payload + blockSize <= end else { continue }
        let input = Self.u32(5) + Self.u32(0) + digest + image[entry..<entry + 8] + image[payload..<payload + blockSize]
        found.append(try structure("image", input, Array(image[entry + 8..<entry + 40])))
      }
    }
    return found
  }

  /// FORMAT §5: of the last sector, where it lies in place.
  private func sector() throws -> [Input] {
    let (size, count, data) = (number(40, 4), number(48), number(88))
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
