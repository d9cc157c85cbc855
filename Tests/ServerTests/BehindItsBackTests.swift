import Foundation
import TestSupport
import Testing

/// What is done to a TPM's state behind its back, tried on the programs as they are used, with tpm2-tools and
/// swtpm_ioctl: each is told by its status, and nothing is ever silently a new TPM. The table in SECURITY.md shows what
/// swtpm does beside it, and is compared with what is tested here.
@Suite struct BehindItsBackTests {
  /// Where the state lies.
  enum Kind: String, CaseIterable, Sendable {
    /// `backend-uri=vnvram://IMAGE`
    case image
    /// `dir=FOLDER`
    case folder

    /// A place with the image of a TPM that had something to store; closed.
    func place(isTPM2: Bool, anchored: Bool = false) throws -> Place {
      guard self == .image else { return try Place.forFirstUse(isTPM2: isTPM2) }
      return try Place(["--profile", isTPM2 ? "tpm2" : "tpm1.2"] + (anchored ? BehindItsBackTests.anchor : []))
    }

    func arguments(_ place: Place) -> [String] { self == .image ? [] : ["--keyring-key", place.key.name] }
  }

  static let anchor = ["--anchor", "anchor"]

  /// Something done to an image that was closed, or to its key.
  struct Deed: CustomTestStringConvertible, Sendable {
    /// As the table in SECURITY.md has it.
    let title: String
    /// Of each program; 0 where the image opens.
    let status: Int32
    /// What the TPM then has: nil where there is none.
    var content: UInt8?
    let act: @Sendable (Place, _ older: [UInt8]) throws -> Void
    var undo: @Sendable (Place) throws -> Void = { _ in }
    /// The image has an anchor.
    var isAnchored = false

    var testDescription: String { title }
  }

  private static func cut(_ size: Int) -> @Sendable (Place, [UInt8]) throws -> Void {
    { place, _ in try place.write(Array(place.bytes().prefix(size))) }
  }

  static let deeds: [Deed] = [
    Deed(title: "rolled back to an older file, without an anchor", status: 0, content: 1) { try $0.write($1) },
    Deed(title: "rolled back to an older file, with an anchor", status: 7, act: { try $0.write($1) }, isAnchored: true),
    Deed(title: "deleted", status: 11) { place, _ in try FileManager.default.removeItem(atPath: place.image) },
    Deed(title: "truncated to 0", status: 8, act: cut(0)),
    Deed(title: "truncated within the header", status: 6, act: cut(5000)),
    Deed(title: "truncated by a block", status: 6) { place, _ in
      try place.write(Array(place.bytes().dropLast(4096)))
    },
    Deed(title: "one data bit flipped", status: 6) { place, _ in
      let data = Place.headerField(try place.bytes(), at: 104)
      try place.flip(data + 1000)
    },
    Deed(title: "first byte changed", status: 6) { place, _ in try place.flip(0) },
    Deed(title: "filled with zeros", status: 8) { place, _ in
      try place.write([UInt8](repeating: 0, count: place.bytes().count))
    },
    Deed(
      title: "wrong key", status: 4, act: { place, _ in place.key.loadWrong() }, undo: { $0.key.load() }),
    Deed(
      title: "missing key", status: 3, act: { place, _ in place.key.remove() }, undo: { $0.key.load() }),
  ]

  private func write(_ server: TestServer, _ byte: UInt8) throws {
    try server.place.write([UInt8](repeating: byte, count: 32), "content")
    let outcome = try server.tpm2("tpm2_nvwrite", "0x1500001", "-C", "o", "-i", "content")
    try #require(outcome.status == 0, "\(outcome.text)")
  }

  private func content(_ server: TestServer) throws -> UInt8? {
    let outcome = try server.tpm2("tpm2_nvread", "0x1500001", "-C", "o", "-s", "32", "-o", "read")
    guard outcome.status == 0 else { return nil }
    let bytes = try server.place.bytes("read")
    return Set(bytes).count == 1 && bytes.count == 32 ? bytes[0] : nil
  }

  /// A TPM whose index held 1 when a copy of its image was taken, and holds 2 now; closed.
  private func seeded(_ kind: Kind, anchored: Bool = false) throws -> (Place, older: [UInt8], arguments: [String]) {
    let place = try kind.place(isTPM2: true, anchored: anchored)
    let arguments = kind.arguments(place) + (anchored ? Self.anchor : [])
    var server = try TestServer(place, TestServer.startsByItself + arguments)
    #expect(try server.tpm2("tpm2_nvdefine", "0x1500001", "-C", "o", "-s", "32").status == 0, "\(server.log)")
    try write(server, 1)
    // swtpm_ioctl's own way to end one.
    #expect(try server.control("-s").status == 0)
    #expect(server.wait() == 0)
    let older = try place.bytes()
    server = try TestServer(place, TestServer.startsByItself + arguments)
    try write(server, 2)
    #expect(server.end() == 0)
    return (place, older, arguments)
  }

  /// One that starts by itself, one that is told to by INIT, each twice: a second start makes nothing better.
  private func expectRefused(_ place: Place, _ deed: Deed, _ arguments: [String], isTPM2: Bool) throws {
    let before = try? place.bytes()
    for flags in [
      isTPM2 ? TestServer.startsByItself : ["--flags", "startup-clear"], [], TestServer.startsByItself, [],
    ] {
      let outcome = try place.runServer(flags + arguments, isTPM2: isTPM2)
      #expect(outcome.status == deed.status, "\(outcome.text)")
      #expect(outcome.text.contains(place.image), "it names the store: \(outcome.text)")
    }
    // Opening one for writing may note that in its headers; what is in it is as it was.
    let after = try? place.bytes()
    #expect((before == nil) == (after == nil) && before?.count == after?.count)
    if let before, let after {
      #expect(
        before.suffix(before.count - min(before.count, 131_072))
          == after.suffix(after.count - min(after.count, 131_072)))
    }
  }

  @Test("what was done is told by its status, and never gives a new TPM", arguments: deeds, Kind.allCases)
  func handled(_ deed: Deed, in kind: Kind) throws {
    let (place, older, arguments) = try seeded(kind, anchored: deed.isAnchored)
    let good = try place.bytes()
    try deed.act(place, older)
    let anchor = deed.isAnchored ? Self.anchor : []
    let check = try place.run(["vnvram", "check", place.image] + anchor)
    #expect(check.status == deed.status, "\(check.text)")
    #expect(try place.run(["vnvram", "get", place.image, "permall", "-o", "got"] + anchor).status == deed.status)
    if let expected = deed.content {
      let server = try TestServer(place, TestServer.startsByItself + arguments)
      #expect(try content(server) == expected)
      #expect(server.end() == 0)
    } else {
      try expectRefused(place, deed, arguments, isTPM2: true)
    }
    // Put back, it is the TPM that it was.
    try place.write(good)
    try deed.undo(place)
    let server = try TestServer(place, TestServer.startsByItself + arguments)
    #expect(try content(server) == 2)
    #expect(server.end() == 0)
  }

  @Test("a TPM 1.2 is told from a new one as well", arguments: deeds.filter { $0.content == nil && !$0.isAnchored })
  func handledTPM12(_ deed: Deed) throws {
    let place = try Kind.folder.place(isTPM2: false)
    let arguments = Kind.folder.arguments(place)
    // A new one stores its state when it is powered on.
    #expect(try TestServer(place, ["--flags", "startup-clear"] + arguments, isTPM2: false).end() == 0)
    let permanent = try place.run(["vnvram", "get", place.image, "permall"]).text
    #expect(permanent.utf8.count > 1000)
    let good = try place.bytes()
    try deed.act(place, [])
    try expectRefused(place, deed, arguments, isTPM2: false)
    try place.write(good)
    try deed.undo(place)
    #expect(try place.run(["vnvram", "get", place.image, "permall"]).text == permanent)
    #expect(try TestServer(place, ["--flags", "startup-clear"] + arguments, isTPM2: false).end() == 0)
  }

  @Test("a second instance on the same state is 9, and the first one doesn't notice", arguments: Kind.allCases)
  func secondInstance(_ kind: Kind) throws {
    let (place, _, arguments) = try seeded(kind)
    let server = try TestServer(place, TestServer.startsByItself + arguments)
    try FileManager.default.createDirectory(atPath: place.path("b"), withIntermediateDirectories: false)
    let second = try TestServer(
      place, TestServer.startsByItself + arguments, folder: place.path("b"))
    #expect(second.wait() == 9, "\(second.log)")
    #expect(second.log.contains(place.image), "\(second.log)")
    #expect(try place.run(["vnvram", "put", place.image, "permall", "content"]).status == 9)
    try write(server, 3)
    #expect(try content(server) == 3)
    #expect(server.end() == 0)
  }

  /// The last column of SECURITY.md's table says the status of each.
  @Test func theTableSaysWhatIsTested() throws {
    let file = URL(fileURLWithPath: #filePath).deletingLastPathComponent().appendingPathComponent("../../SECURITY.md")
    let text = try String(contentsOf: file.standardized, encoding: .utf8)
    let section = try #require(text.components(separatedBy: "\n### Handled behind its back\n").last)
    let rows = section.components(separatedBy: "\n").drop { !$0.hasPrefix("|---") }.dropFirst().prefix {
      $0.hasPrefix("|")
    }
    let found = rows.map { row -> String in
      let cells = row.split(separator: "|").map { $0.trimmingCharacters(in: .whitespaces) }
      return "\(cells[0]): \(cells[cells.count - 1].prefix { $0 != "," })"
    }
    let expected = Self.deeds.map { "\($0.title): \($0.status)" } + ["second instance on the same state: 9"]
    #expect(found == expected)
  }
}
