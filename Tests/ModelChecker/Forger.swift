// Someone who has the key and breaks a rule: makes records whose MAC is right and that still must not count. Written
// from FORMAT §3, §4 and §7 on libcrypto; shares no code with the writer under test.
import Crypto
import Primitives

final class Forger {
  private var structure: StructureMAC
  private let geometryDigest: [UInt8]

  /// `nil` where the key opens no slot of the header.
  init?(header: [UInt8], key number: Int) throws {
    guard let storeKey = try Self.storeKey(header, number) else { return nil }
    let (salt, info, geometry) = (Array(header[40..<56]), Self.info(header, "structure"), Array(header[0..<128]))
    let key = try KeyDerivation.hkdf(key: storeKey, salt: salt.span, info: info.span, count: 32)
    let digest = try Digest.sha256(geometry.span)
    structure = try StructureMAC(key: key)
    geometryDigest = digest.array
  }

  private static func info(_ header: [UInt8], _ label: String) -> [UInt8] {
    Array("vnvram".utf8) + header[20..<28] + Array(label.utf8)
  }

  private static func storeKey(_ header: [UInt8], _ number: Int) throws -> SecretBytes? {
    // Passphrases would cost their time.
    guard keyKind(number) != .passphrase else { return nil }
    for index in 0..<16 {
      let slot = Array(header[4064 + 2048 * index..<6112 + 2048 * index])
      guard slot.u32(0) == keyKind(number).rawValue else { continue }
      let bytes = keyBytes(number)
      let key = SecretBytes(copying: bytes.span)
      let (salt, info) = (Array(slot[32..<64]), info(header, "slot"))
      let wrapping = try KeyDerivation.hkdf(key: key, salt: salt.span, info: info.span, count: 32)
      let place: [UInt8] = [UInt8(index), 0, 0, 0]
      let (binding, fields, rest) = (header[3376..<3632], slot[0..<64], slot[124..<2048])
      let associated = Array(header[0..<56]) + place + binding + fields + rest
      let (ciphertext, nonce) = (Array(slot[76..<108]), Array(slot[64..<76]))
      let opened = try KeyWrap.open(
        ciphertext: ciphertext.span, tag: InlineBytes16(slot.span, at: 108), key: wrapping, nonce: nonce.span,
        associatedData: associated.span)
      if let opened { return opened }
    }
    return nil
  }

  /// Puts the right MAC on a record.
  func seal(_ record: inout [UInt8], count: Int) throws {
    let end = 128 + 40 * count
    try structure.start()
    let type: [UInt8] = [4, 0, 0, 0, 0, 0, 0, 0]
    try structure.update(type.span)
    let digest = geometryDigest
    try structure.update(digest.span)
    let signed = Array(record[..<end])
    try structure.update(signed.span)
    let mac = try structure.finish()
    record.put(mac.array, at: end)
  }
}
