// /proc/keys: all keys that this thread may view, one a line (proc(5)). The only place that tells the name of a key
// that has expired or was revoked, and how long a key has to live.
import Glibc

/// One line of /proc/keys.
struct ProcKeys {
  let serial: Int32
  let isRevoked: Bool
  /// `expd`, or the time left as the kernel puts it (`59s`, `3m`, `2h`, `4d`, `1w`); nil where the key doesn't expire.
  let timeout: String?
  let description: KeyDescription

  /// The most that is read, in bytes; what comes after it counts as not there.
  static let limit = 1 << 20

  /// `serial flags usage timeout permissions uid gid type description[: what the type says]`, with the type in nine
  /// columns. Nil for a line that doesn't look so.
  init?(parsing line: Substring) {
    let fields = line.utf8.split(separator: 0x20, maxSplits: 8, omittingEmptySubsequences: true).map(Substring.init)
    guard fields.count == 9, let serial = UInt32(fields[0], radix: 16), let permissions = UInt32(fields[4], radix: 16),
      let uid = Int64(fields[5]), let gid = Int64(fields[6])
    else { return nil }
    self.serial = Int32(bitPattern: serial)
    isRevoked = fields[1].contains("R")
    timeout = fields[3] == "perm" ? nil : String(fields[3])
    // The type's own words follow the last colon; our names hold neither colons nor spaces.
    var text = Substring(fields[8].utf8.drop { $0 == 0x20 })
    if text.utf8.starts(with: KeyName.prefix.utf8) {
      let name = text.utf8.dropFirst(KeyName.prefix.utf8.count).prefix { $0 != 0x3A }
      text = text[..<name.endIndex]
    } else if let colon = text.utf8.lastIndex(of: 0x3A) {
      text = text[..<colon]
    }
    description = KeyDescription(
      type: String(fields[7]), uid: UInt32(truncatingIfNeeded: uid), gid: UInt32(truncatingIfNeeded: gid),
      permissions: KeyPermissions(rawValue: permissions), text: String(text))
  }

  /// All lines that can be read; empty where there is no /proc/keys.
  static func read() -> [ProcKeys] {
    let file = unsafe open("/proc/keys", O_RDONLY | O_CLOEXEC)
    guard file >= 0 else { return [] }
    defer { close(file) }
    var bytes: [UInt8] = []
    var block = [UInt8](repeating: 0, count: 4096)
    while bytes.count < limit {
      let count = unsafe block.withUnsafeMutableBytes { unsafe Glibc.read(file, $0.baseAddress, $0.count) }
      guard count > 0 else { break }
      bytes += block[..<count]
    }
    return parse(String(decoding: bytes, as: UTF8.self))
  }

  /// All lines that can be read. Everything is told apart by bytes and not by Swift's characters: a line feed behind a
  /// carriage return, or a space before a combining mark, would count as another character, and what other programs
  /// call their keys could hide ours.
  static func parse(_ text: String) -> [ProcKeys] {
    text.utf8.split(separator: 0x0A).compactMap { ProcKeys(parsing: Substring($0)) }
  }

  /// The keyring's owner may always view it, so it shows if it is there. Where /proc/keys can't be read it counts as
  /// not there.
  static var persistentKeyringExists: Bool {
    let name = "_persistent.\(getuid())"
    return read().contains { $0.description.type == "keyring" && $0.description.text == name }
  }
}
