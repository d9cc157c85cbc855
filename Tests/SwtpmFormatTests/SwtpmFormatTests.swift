import Crypto
import Foundation
import Primitives
import TestSupport
import Testing

@testable import SwtpmFormat

/// The container and its keys, against Debian's swtpm in both directions and against everything that is none.
@Suite struct SwtpmFormatTests {
  /// A key of one of the kinds that swtpm has, and the file that holds it.
  struct Kind: CustomStringConvertible, Sendable {
    let content: [UInt8]
    let option: String
    let kind: SwtpmKeySource.Kind
    let count: Int
    var description: String { option }

    static let hexadecimal = (0..<32).map { UInt8($0 * 7 + 1) }

    static func digits(_ count: Int) -> String {
      hexadecimal.prefix(count).map { String(format: "%02x", $0) }.joined()
    }

    static let all: [Kind] = [16, 32].flatMap { count in
      let mode = count == 16 ? "aes-cbc" : "aes-256-cbc"
      return [
        Kind(content: Array(digits(count).utf8), option: "file=key,mode=\(mode)", kind: .hexadecimal, count: count),
        Kind(
          content: Array("0x\(digits(count).uppercased())\n".utf8), option: "file=key,format=hex,mode=\(mode)",
          kind: .hexadecimal, count: count),
        Kind(
          content: Array(hexadecimal.prefix(count)), option: "file=key,format=binary,mode=\(mode)", kind: .binary,
          count: count),
        Kind(
          content: Array("correct horse\n".utf8), option: "pwdfile=key,mode=\(mode)", kind: .password(.pbkdf2),
          count: count),
        Kind(
          content: Array("battery staple".utf8), option: "pwdfile=key,kdf=sha512,mode=\(mode)",
          kind: .password(.sha512), count: count),
      ]
    }
  }

  private func load(_ kind: Kind, _ directory: SwtpmDirectory) throws -> SwtpmKey {
    try directory.write(kind.content, "key")
    return try SwtpmKeySource(.file(directory.file("key")), kind.kind, count: kind.count).load()
  }

  private func open(_ file: [UInt8], key: SwtpmKey? = nil) throws(SwtpmFormatError) -> [UInt8] {
    let secret = try SwtpmContainer.state(inFile: file.span, key: key)
    return secret.span.array
  }

  /// swtpm's file is read, and written anew (with another vector), and swtpm starts from that.
  @Test(arguments: Kind.all) func filesOfSwtpm(kind: Kind) throws {
    let directory = try SwtpmDirectory()
    let key = try load(kind, directory)
    try #require(try directory.start(["--key", kind.option]))
    let file = try directory.read()
    let state = try open(file, key: key)
    // What libtpms makes begins with this magic number, big-endian, behind a version.
    #expect(state.count > 1000 && Array(state[2..<6]) == [0xAB, 0x36, 0x47, 0x23])
    let ours = try SwtpmContainer.file(of: state.span, key: key)
    #expect(ours.count == file.count && ours != file)
    #expect(ours.prefix(10) == file.prefix(10))
    try directory.write(ours)
    #expect(try directory.start(["--key", kind.option]))
    // It would not, had the file been changed.
    var changed = ours
    changed[changed.count / 2] ^= 1
    try directory.write(changed)
    #expect(try !directory.start(["--key", kind.option]))
    #expect(throws: SwtpmFormatError.wrongKey(.state)) { try open(changed, key: key) }
  }

  @Test func plainFilesOfSwtpm() throws {
    let directory = try SwtpmDirectory()
    try #require(try directory.start())
    let file = try directory.read()
    let state = try open(file)
    #expect(try SwtpmContainer.file(of: state.span) == file)
  }

  @Test func wrongKeys() throws {
    let state = [UInt8](repeating: 9, count: 1315)
    let keys = try [16, 32, 32].map { SwtpmKey(try Random.secret(count: $0)) }
    for (index, key) in keys.enumerated() {
      let file = try SwtpmContainer.file(of: state.span, key: key)
      let blob = try SwtpmContainer.migrationBlob(of: state.span, migrationKey: key)
      #expect(try open(file, key: key) == state)
      #expect(try SwtpmContainer.state(inMigrationBlob: blob.span, migrationKey: key) == state)
      #expect(throws: SwtpmFormatError.keyMissing(.state)) { try open(file) }
      #expect(throws: SwtpmFormatError.keyMissing(.migration)) { try SwtpmContainer.state(inMigrationBlob: blob.span) }
      for (other, wrong) in keys.enumerated() where other != index {
        let expected: (SwtpmFormatError.KeyUse) -> SwtpmFormatError = {
          wrong.count == key.count ? .wrongKey($0) : .keySize($0, needed: key.count * 8)
        }
        #expect(throws: expected(.state)) { try open(file, key: wrong) }
        #expect(throws: expected(.migration)) {
          try SwtpmContainer.state(inMigrationBlob: blob.span, migrationKey: wrong)
        }
      }
    }
  }

  /// A key is no reason to take what isn't encrypted for it; swtpm takes it, too, so that a fleet can begin to use
  /// keys.
  @Test func clearBlobsAreTakenWithAKey() throws {
    let state = [UInt8](repeating: 9, count: 100)
    let key = SwtpmKey(try Random.secret(count: 32))
    let blob = try SwtpmContainer.migrationBlob(of: state.span)
    #expect(try SwtpmContainer.state(inMigrationBlob: blob.span, migrationKey: key) == state)
  }

  @Test(arguments: [0, 1, 15, 16, 17, 31, 32, 33, 1000, 262_144]) func sizes(size: Int) throws {
    let state = (0..<size).map { UInt8(truncatingIfNeeded: $0) }
    for count in [16, 32] {
      let key = SwtpmKey(try Random.secret(count: count))
      let blob = try SwtpmContainer.migrationBlob(of: state.span, migrationKey: key)
      #expect(try SwtpmContainer.state(inMigrationBlob: blob.span, migrationKey: key) == state)
      #expect(blob.count <= SwtpmContainer.maximumSize)
    }
  }

  @Test func emptyBlobsSayThatThereIsNone() throws {
    let nothing: [UInt8] = []
    #expect(try SwtpmContainer.state(inMigrationBlob: nothing.span) == nil)
    let header: [UInt8] = [2, 1, 0, 10, 0, 0, 0, 0, 0, 10]
    #expect(try SwtpmContainer.state(inMigrationBlob: header.span) == nil)
  }

  /// Under a state key, and that under a migration key; neither opens with one of the two alone.
  @Test(arguments: [16, 32]) func statesUnderAStateKey(count: Int) throws {
    let state = [UInt8](repeating: 9, count: 1315)
    let (key, other) = (SwtpmKey(try Random.secret(count: count)), SwtpmKey(try Random.secret(count: count)))
    for migrationKey in [nil, other] {
      let blob = try SwtpmContainer.migrationBlob(of: state.span, stateKey: key, migrationKey: migrationKey)
      let isEncrypted = SwtpmContainer.isEncrypted(migrationBlob: blob.span)
      #expect(isEncrypted)
      func open(_ stateKey: SwtpmKey?, isEncrypted: Bool = false) throws(SwtpmFormatError) -> [UInt8]? {
        try SwtpmContainer.state(
          inMigrationBlob: blob.span, migrationKey: migrationKey, stateKey: stateKey, isEncrypted: isEncrypted)
      }
      #expect(try open(key) == state)
      #expect(try open(key, isEncrypted: true) == state)
      #expect(throws: SwtpmFormatError.keyMissing(.state)) { try open(nil) }
      #expect(throws: SwtpmFormatError.wrongKey(.state)) { try open(other) }
    }
  }

  // MARK: Version 1

  /// A header of version 1, with these flags, and what follows it.
  static func versionOne(_ content: [UInt8], flags: UInt8 = 0) -> [UInt8] {
    let size = UInt32(10 + content.count)
    return [1, 1, 0, 10, 0, flags] + (0..<4).map { UInt8(truncatingIfNeeded: size >> (24 - 8 * $0)) } + content
  }

  @Test func plainBlobsOfVersionOne() throws {
    let state = [UInt8](repeating: 9, count: 1315)
    let blob = Self.versionOne(state)
    #expect(try open(blob) == state)
    #expect(try SwtpmContainer.state(inMigrationBlob: blob.span) == state)
    // "Migration data are there" says nothing there.
    let other = Self.versionOne(state, flags: 4)
    #expect(try SwtpmContainer.state(inMigrationBlob: other.span) == state)
    #expect(throws: SwtpmFormatError.unknownVersion(0)) { try open([0] + blob.dropFirst()) }
  }

  /// Whoever can change one can do so unnoticed: there is no MAC, and the hash that is in it has no key. Such a one is
  /// never opened, with any key.
  @Test func encryptedBlobsOfVersionOne() throws {
    let key = SwtpmKey(try Random.secret(count: 16))
    for flags: UInt8 in [1, 2, 3, 6, 7] {
      let blob = Self.versionOne([UInt8](repeating: 9, count: 1328), flags: flags)
      #expect(throws: SwtpmFormatError.unkeyedHash) {
        try SwtpmContainer.state(inMigrationBlob: blob.span, migrationKey: key, stateKey: key)
      }
      if flags & 1 != 0 { #expect(throws: SwtpmFormatError.unkeyedHash) { try open(blob, key: key) } }
    }
    let plain = Self.versionOne([UInt8](repeating: 9, count: 1328))
    #expect(throws: SwtpmFormatError.unkeyedHash) {
      try SwtpmContainer.state(inMigrationBlob: plain.span, stateKey: key, isEncrypted: true)
    }
  }

  /// Every byte of a blob changed, and every prefix of it: an error or the same state, never another one, never a
  /// crash.
  @Test func changedBlobs() throws {
    let state = (0..<100).map { UInt8($0) }
    let key = SwtpmKey(try Random.secret(count: 32))
    let blob = try SwtpmContainer.migrationBlob(of: state.span, migrationKey: key)
    var refused = 0
    for index in blob.indices {
      for bit in 0..<8 {
        var changed = blob
        changed[index] ^= 1 << UInt8(bit)
        do {
          #expect(try SwtpmContainer.state(inMigrationBlob: changed.span, migrationKey: key) == state, "byte \(index)")
        } catch { refused += 1 }
      }
    }
    // Not refused: versions, and flags that say nothing of what is in it.
    #expect(refused >= 8 * (blob.count - 6))
    for count in 1..<blob.count {
      let cut = Array(blob.prefix(count))
      #expect(throws: SwtpmFormatError.self) { try SwtpmContainer.state(inMigrationBlob: cut.span, migrationKey: key) }
    }
  }

  @Test func keysThatAreNone() throws {
    let directory = try SwtpmDirectory()
    for (text, kind) in [
      ("", SwtpmKeySource.Kind.hexadecimal), ("12", .hexadecimal), (Kind.digits(16) + "x", .hexadecimal),
      (Kind.digits(15) + "zz", .hexadecimal), ("0x", .hexadecimal), ("", .binary), ("0123456789abcde", .binary),
      ("0123456789abcdef0", .binary), ("", .password(.pbkdf2)),
    ] {
      try directory.write(Array(text.utf8), "key")
      let source = SwtpmKeySource(.file(directory.file("key")), kind, count: 16)
      let error = #expect(throws: SwtpmKeyError.self) { try source.load() }
      #expect(error?.status == .wrongKey && error?.description.contains(directory.file("key")) == true)
      #expect(text.isEmpty || error?.description.contains(text) == false)
    }
    let missing = SwtpmKeySource(.file(directory.file("none")), .binary, count: 16)
    #expect(throws: SwtpmKeyError.self) { try missing.load() }
  }

  @Test func keyFilesAreRemovedWhenAsked() throws {
    let directory = try SwtpmDirectory()
    try directory.write([UInt8](repeating: 7, count: 16), "key")
    var source = SwtpmKeySource(.file(directory.file("key")), .binary, count: 16)
    _ = try source.load()
    #expect(File.exists(directory.file("key")))
    source.removesFile = true
    _ = try source.load()
    #expect(!File.exists(directory.file("key")))
  }
}
