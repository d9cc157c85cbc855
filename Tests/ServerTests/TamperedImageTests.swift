import Foundation
import TestSupport
import Testing

/// Images that aren't what they were. None of them ever becomes a new TPM.
@Suite struct TamperedImageTests {
  /// An image in which a TPM has an index, closed.
  private func seeded() throws -> Place {
    let place = try Place()
    let server = try TestServer(place)
    let client = try server.connect(.data)
    try client.run(TPMCommand.defineIndex)
    try client.run(TPMCommand.write(9))
    try #require(server.end() == 0)
    return place
  }

  private func expectSameTPM(_ place: Place) throws {
    let server = try TestServer(place)
    #expect(try server.connect(.data).index() == [UInt8](repeating: 9, count: TPMCommand.indexSize))
    #expect(server.end() == 0)
  }

  /// Header copies A and B, and where the data sectors start (FORMAT section 2).
  private static let headers = [0, 65536]
  private static let generationField = 144
  private static let dataOffsetField = 104

  @Test(arguments: [[], TestServer.startsByItself]) func header(flags: [String]) throws {
    let place = try seeded()
    let good = try place.bytes()
    var bad = good
    for header in Self.headers {
      try #require(good[header + 10] == 0x56, "a header copy begins here")
      bad[header + Self.generationField] ^= 1
    }
    try place.write(bad)
    let outcome = try place.runServer(flags)
    #expect(outcome.status == 6, "\(outcome.text)")
    #expect(try place.bytes() == bad)
    #expect(try place.runServer(flags + ["--fail-on-encrypted-drive=no"]).status == 6)
    #expect(try place.bytes() == bad)
    try place.write(good)
    try expectSameTPM(place)
  }

  /// The stream's first sectors hold permall, which comes first.
  @Test func dataSector() throws {
    let place = try seeded()
    let good = try place.bytes()
    let data = Place.headerField(good, at: Self.dataOffsetField)
    for offset in [data, data + 700, data + 4095] {
      var bad = good
      bad[offset] ^= 0x10
      try place.write(bad)
      let outcome = try place.runServer(TestServer.startsByItself)
      #expect(outcome.status == 6, "\(outcome.text)")
      #expect(outcome.text.contains("sector"), "\(outcome.text)")
      // Opening an image for writing notes that in the headers; everything behind them is as it was.
      #expect(try Array(place.bytes()[data...]) == Array(bad[data...]))
      #expect(try place.run(["vnvram", "check", place.image]).status == 6)
    }
    // The bit put back where the server left the image.
    var bytes = try place.bytes()
    bytes[data + 4095] ^= 0x10
    try place.write(bytes)
    try expectSameTPM(place)
  }

  /// A sector that goes bad while the server waits for INIT: it doesn't power on, and the next server says 6.
  @Test func dataSectorUnderAServer() throws {
    let place = try seeded()
    let good = try place.bytes()
    let data = Place.headerField(good, at: Self.dataOffsetField)
    try place.flip(data + 100)
    let server = try TestServer(place, [])
    if server.isRunning {
      #expect(try server.control("-i").status != 0)
      #expect(try TPMCommand.code(server.connect(.data).ask(TPMCommand.getRandom)) == 0x101)
      #expect(server.log.contains("sector 0"), "\(server.log)")
      #expect(server.end() != -SIGKILL)
    }
    try place.flip(data + 100)
    try expectSameTPM(place)
  }

  @Test func truncated() throws {
    let place = try seeded()
    let good = try place.bytes()
    let data = Place.headerField(good, at: Self.dataOffsetField)
    for size in [data + 4096, data, 40_000, 32_768] {
      let bad = Array(good[..<size])
      try place.write(bad)
      let outcome = try place.runServer(TestServer.startsByItself)
      #expect(outcome.status == 6, "\(size): \(outcome.text)")
      #expect(try place.bytes() == bad)
    }
    try place.write(good)
    try expectSameTPM(place)
  }

  // MARK: No image

  @Test(arguments: [["--fail-on-encrypted-drive=yes"], ["--fail-on-encrypted-drive=no"]])
  func notAnImage(option: [String]) throws {
    let place = try Place()
    try FileManager.default.removeItem(atPath: place.image)
    let arguments = option + TestServer.startsByItself
    let deleted = try place.runServer(arguments)
    #expect(deleted.status == 11, "\(deleted.text)")
    #expect(deleted.text.contains(place.image), "\(deleted.text)")
    #expect(place.names == [], "nothing was made")
    for bytes in [[], [UInt8](repeating: 0, count: 1 << 20), (0..<65_536).map { _ in UInt8.random(in: 0...255) }] {
      try place.write(bytes)
      let outcome = try place.runServer(arguments)
      #expect(outcome.status == 8, "\(bytes.count) bytes: \(outcome.text)")
      #expect(try place.bytes() == bytes)
      #expect(place.names == ["tpm.vnvram"])
    }
    let folder = try place.runServer(arguments, on: place.folder)
    #expect(folder.status == 8, "\(folder.text)")
  }

  /// A store for something else: with no place for a TPM's state there is no TPM, new or old.
  @Test(arguments: [[], TestServer.startsByItself]) func otherEntries(flags: [String]) throws {
    for (layout, status, word): ([String], Int32, String) in [
      (["--profile", "uefi"], 14, "entry \"permall\" is not there"),
      (["--entry", "permall=256K"], 14, "entry \"volatilestate\" is not there"),
      (["--entry", "permall=8K", "--entry", "volatilestate=64K"], 10, "entry \"permall\" is not there, or too small"),
    ] {
      let place = try Place(layout)
      let outcome = try place.runServer(flags)
      #expect(outcome.status == status, "\(outcome.text)")
      #expect(outcome.text.contains(word), "\(outcome.text)")
      // The same where it shows only when the key comes.
      place.key.remove()
      let server = try TestServer(place, flags + ["--fail-on-encrypted-drive=no"])
      place.key.load()
      if flags.isEmpty {
        #expect(try server.control("-i").status != 0)
        #expect(server.end() == status)
      } else {
        #expect(server.wait() == status)
      }
      #expect(server.log.contains(word), "\(server.log)")
      let list = try place.run(["vnvram", "ls", place.image, "--json"])
      #expect(list.status == 0 && list.text.contains("\"size\":0"), "nothing was stored: \(list.text)")
    }
  }

  /// The plain form is refused, however it came there.
  @Test func plainImage() throws {
    let place = try Place()
    let format = try place.run(
      ["vnvram", "format", place.path("plain"), "--profile", "tpm2", "--unencrypted"])
    try #require(format.status == 0, "\(format.text)")
    let before = try place.bytes("plain")
    let outcome = try place.runServer(TestServer.startsByItself, on: place.path("plain"))
    #expect(outcome.status == 15, "\(outcome.text)")
    #expect(try place.bytes("plain") == before)
  }
}
