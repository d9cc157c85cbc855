import Foundation
import TestSupport
import Testing

/// What went wrong in other stores, case by case as Tests/README.md lists them: what the two programs make of it.
@Suite struct KnownFailuresElsewhereTests {
  /// Every command of `vnvram` that opens an image, and the server with and without what makes it start by itself. Each
  /// must end with one of these statuses and leave the file as it is, there or not.
  private func expectAll(
    _ statuses: Set<Int32>, _ place: Place, _ path: String, _ what: String, limit: String = "",
    sourceLocation: SourceLocation = #_sourceLocation
  ) throws {
    try place.write([1, 2, 3], "content")
    let before = try? File.bytes(path)
    let folder = try FileManager.default.contentsOfDirectory(atPath: place.folder).filter { !$0.hasPrefix("log-") }
    let commands = [
      ["status", path], ["info", path], ["ls", path], ["get", path, "permall"], ["check", path],
      ["dump", path, "--der"],
      ["put", path, "permall", "content"], ["scrub", path], ["entry", "add", path, "new=10"],
      ["import", path, "new", "content"], ["slot", "list", path], ["slot", "remove", path, "x"],
    ].map { ["vnvram"] + $0 }
    var ways = [[], TestServer.startsByItself]
    // Where a key is said to be missing this server would wait for it.
    if !statuses.contains(3) { ways.append(TestServer.startsByItself + ["--fail-on-encrypted-drive=no"]) }
    let prefix = limit.isEmpty ? [] : ["bash", "-c", limit + "; exec \"$@\"", "bash"]
    var outcomes = try ways.map { (["vnvram-swtpm"] + $0, try place.runServer($0, on: path, through: prefix)) }
    for command in commands { outcomes.append((command, try place.run(prefix + command))) }
    for (command, outcome) in outcomes {
      #expect(statuses.contains(outcome.status), "\(what): \(command): \(outcome.text)", sourceLocation: sourceLocation)
      #expect(outcome.status == 0 || !outcome.text.isEmpty, sourceLocation: sourceLocation)
    }
    let isSame = (try? File.bytes(path)) == before
    #expect(isSame, "\(what): the file was changed", sourceLocation: sourceLocation)
    let after = try FileManager.default.contentsOfDirectory(atPath: place.folder).filter { !$0.hasPrefix("log-") }
    #expect(
      Set(after).subtracting(folder).subtracting(["audit.jsonl"]) == [], "\(what)", sourceLocation: sourceLocation)
  }

  @Test("case 6: zeroed headers, and a format cut short, make neither program begin a new store")
  func case6ZeroedHeaders() throws {
    let place = try Place()
    let good = try place.bytes()
    let zeros = [UInt8](repeating: 0, count: 36864)
    func with(_ ranges: [Range<Int>]) -> [UInt8] {
      var bytes = good
      for range in ranges { bytes.replaceSubrange(range, with: zeros.prefix(range.count)) }
      return bytes
    }
    for (what, bytes, statuses): (String, [UInt8], Set<Int32>) in [
      ("both headers zero", with([0..<36864, 65536..<102_400]), [8]),
      ("header A zero, B closed cleanly", with([0..<36864]), [6]),
      ("B zero and A torn behind its first slot", with([8192..<36864, 65536..<102_400]), [6]),
      ("B zero and A torn before its slots", with([3584..<36864, 65536..<102_400]), [3, 4, 6]),
      ("B zero, and of A only the end", with([0..<4096, 65536..<102_400]), [8]),
    ] {
      try place.write(bytes)
      // What needs no key can't tell that a header is torn.
      try expectAll(statuses.union(statuses == [8] ? [] : [0]), place, place.image, what)
    }
    try place.write(good)
    #expect(try place.run(["vnvram", "check", place.image]).status == 0)
  }

  /// An error at open that isn't "no such file": each is reported, and none makes a store.
  @Test("case 7: any error at open, and an empty file, is that error and never a new store") func case7ErrorsAtOpen()
    throws
  {
    let place = try Place()
    let good = try place.bytes()
    try place.write([], "empty")
    try expectAll([8], place, place.path("empty"), "an empty file")
    try expectAll([11], place, place.path("missing"), "no such file")
    try expectAll([11], place, place.path("missing/image"), "no such folder")
    try expectAll([11], place, place.image + "/image", "a file for a folder")
    try expectAll([8], place, place.folder, "a folder")
    try FileManager.default.createSymbolicLink(atPath: place.path("loop"), withDestinationPath: place.path("loop"))
    try expectAll([11], place, place.path("loop"), "a link to itself")
    try FileManager.default.createSymbolicLink(atPath: place.path("dangling"), withDestinationPath: place.path("gone"))
    try expectAll([11], place, place.path("dangling"), "a link to nothing")
    #expect(!File.exists(place.path("gone")))
    try expectAll([11], place, place.path(String(repeating: "n", count: 300)), "a name that is too long")
    // No descriptor is left: EMFILE, for the loader, the image or the record of uses, whichever comes first.
    for descriptors in [3, 4] {
      try expectAll(
        [0, 1, 2, 11, 12, 127], place, place.image, "\(descriptors) descriptors", limit: "ulimit -n \(descriptors)")
      let isSame = try place.bytes() == good
      #expect(isSame)
    }
  }
}
