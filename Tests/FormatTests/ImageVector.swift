import Foundation
import Primitives
import SecureVolume
import StorageSimulation

/// One file of Tests/Vectors/images (FORMAT §11).
struct ImageVector: CustomStringConvertible {
  let description: String
  let headers: [(name: String, value: String)]
  let bytes: [UInt8]

  static let folder = URL(filePath: #filePath).deletingLastPathComponent().deletingLastPathComponent()
    .appending(path: "Vectors/images")

  static func all() throws -> [ImageVector] {
    try FileManager.default.contentsOfDirectory(at: folder, includingPropertiesForKeys: nil)
      .filter { $0.pathExtension == "txt" }.sorted { $0.path < $1.path }.map { try ImageVector($0) }
  }

  init(_ file: URL) throws {
    description = file.deletingPathExtension().lastPathComponent
    let lines = try String(contentsOf: file, encoding: .utf8).split(separator: "\n", omittingEmptySubsequences: false)
    guard let empty = lines.firstIndex(of: "") else { throw CocoaError(.fileReadCorruptFile) }
    headers = lines[..<empty].map { line in
      let parts = line.split(separator: ": ", maxSplits: 1, omittingEmptySubsequences: false)
      return (String(parts[0]), parts.count > 1 ? String(parts[1]) : "")
    }
    let size = headers.first { $0.name == "size" }.flatMap { Int($0.value) }
    var bytes = [UInt8](repeating: 0, count: size ?? 0)
    for line in lines[(empty + 1)...] where !line.isEmpty {
      let parts = line.split(separator: " ")
      guard let offset = Int(parts[0], radix: 16) else { throw CocoaError(.fileReadCorruptFile) }
      let data = Self.unhex(parts[1])
      bytes.replaceSubrange(offset..<offset + data.count, with: data)
    }
    self.bytes = bytes
  }

  subscript(name: String) -> String? { headers.first { $0.name == name }?.value }
  var expected: String { self["expect"] ?? "" }

  static func unhex(_ text: some StringProtocol) -> [UInt8] {
    let digits = text.utf8.compactMap { Character(UnicodeScalar($0)).hexDigitValue }
    return stride(from: 0, to: digits.count - 1, by: 2).map { UInt8(digits[$0] * 16 + digits[$0 + 1]) }
  }

  func key() throws -> KeyEncryptionKey {
    if let key = self["key"] { return KeyEncryptionKey(.keyring, SecretBytes(copying: Self.unhex(key).span)) }
    if let text = self["recovery"] {
      let printed = Array(text.utf8)
      return KeyEncryptionKey(.recovery, try RecoveryKey.parse(SecretBytes(copying: printed.span)))
    }
    let passphrase = Array((self["passphrase"] ?? "").utf8)
    return KeyEncryptionKey(.passphrase, SecretBytes(copying: passphrase.span))
  }

  func disk(isWritable: Bool) -> SimulatedDisk { SimulatedDisk(copyOf: bytes, isWritable: isWritable) }
}
