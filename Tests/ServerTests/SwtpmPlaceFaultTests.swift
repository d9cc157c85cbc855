import Foundation
import TestSupport
import Testing

/// An image that takes the place of swtpm's state, and goes back, on a disk that fails at one moment or another (strace
/// makes the system call fail): the place always has one of the two, and nothing is lost.
@Suite(.enabled(if: SystemCallTrace.isAvailable, "strace can't trace processes here"))
struct SwtpmPlaceFaultTests {
  private static let calls = "trace=fsync,rename,renameat,renameat2"

  /// Runs a command whose syncs fail: the one of that number.
  private func run(_ place: Place, _ command: [String], sync: Int, _ more: String...) throws -> Place.Outcome {
    let faults = ["inject=fsync:error=EIO:when=\(sync)"] + more
    return try place.run(
      ["strace", "-qq", "-o", "/dev/null"] + ([Self.calls] + faults).flatMap { ["-e", $0] } + command)
  }

  /// swtpm's state with a volatile one beside it, in a folder, without a lock's file.
  private func source(_ place: Place) throws -> String {
    let there = place.path("there")
    let swtpm = try DebianSwtpm(place, .directory, there)
    try swtpm.connect(.data).run(TPMCommand.defineIndex)
    #expect(try swtpm.control("-v").status == 0)
    swtpm.end()
    unsafe unlink(there + "/.lock")
    return there
  }

  /// All files of a folder.
  private func content(_ folder: String) throws -> [String: [UInt8]] {
    var files: [String: [UInt8]] = [:]
    for name in try FileManager.default.contentsOfDirectory(atPath: folder) {
      files[name] = (try? File.bytes("\(folder)/\(name)")) ?? []
    }
    return files
  }

  private func put(_ files: [String: [UInt8]], _ folder: String) throws {
    for name in try FileManager.default.contentsOfDirectory(atPath: folder) {
      try FileManager.default.removeItem(atPath: "\(folder)/\(name)")
    }
    for (name, bytes) in files { try File.write(bytes, to: "\(folder)/\(name)") }
  }

  @Test func exporting() throws {
    let place = try Place()
    let there = try source(place)
    let image = there + "/tpm2-00.permall"
    let state = try File.bytes(image)
    let brought = try place.run(
      ["vnvram", "import-swtpm", there, image, "--key", place.key.name, "--remove-source"])
    try #require(brought.status == 0, "\(brought.text)")
    let before = try content(there)
    #expect(before.keys.sorted() == ["tpm2-00.made.permall", "tpm2-00.permall"])
    let command = ["vnvram", "export-swtpm", image, there, "--unencrypted"]

    // Another thing in the marker's place.
    let marker = there + "/tpm2-00.made.permall"
    unsafe unlink(marker)
    #expect(unsafe mkdir(marker, 0o700) == 0)
    let unremoved = try place.run(command)
    #expect(unremoved.status == 11 && unremoved.text.contains("the image has its place again"), "\(unremoved.text)")
    #expect(try content(there).keys.sorted() == before.keys.sorted())
    #expect(try File.bytes(image) == before["tpm2-00.permall"])
    try put(before, there)

    // The name can't be taken, or the image can't be given it back.
    let untaken = try run(place, command, sync: 100, "inject=rename:error=EIO:when=1")
    #expect(untaken.status == 11, "\(untaken.text)")
    #expect(try content(there) == before)
    let unreturned = try run(place, command, sync: 5, "inject=rename:error=EIO:when=2")
    #expect(unreturned.status == 11 && unreturned.text.contains("mv \(image).vnvram \(image)"), "\(unreturned.text)")
    var left = try content(there)
    #expect(left.removeValue(forKey: "tpm2-00.permall.vnvram") == before["tpm2-00.permall"])
    #expect(left["tpm2-00.permall"]?.dropFirst(10) == state.dropFirst(10))
    #expect(left.keys.sorted() == ["tpm2-00.made.permall", "tpm2-00.permall", "tpm2-00.volatilestate"])
    try put(before, there)

    var failed = 0
    for sync in 1...20 {
      let outcome = try run(place, command, sync: sync)
      if outcome.status == 0 { break }
      failed += 1
      #expect(outcome.status == 11, "\(sync): \(outcome.text)")
      #expect(try content(there) == before, "\(sync): \(outcome.text)")
    }
    #expect((3...19).contains(failed), "\(failed)")
    #expect(
      try content(there).keys.sorted() == ["tpm2-00.permall", "tpm2-00.permall.vnvram", "tpm2-00.volatilestate"])
  }

  @Test func importing() throws {
    let place = try Place()
    let there = try source(place)
    let image = there + "/tpm2-00.permall"
    let before = try content(there)
    let state = try #require(before["tpm2-00.permall"])
    let command = ["vnvram", "import-swtpm", there, image, "--key", place.key.name]

    // An older file that was kept isn't lost.
    let kept = there + "/tpm2-00.volatilestate.swtpm"
    try File.write([1, 2, 3], to: kept)
    let obstructed = try place.run(command)
    #expect(obstructed.status == 15 && obstructed.text.contains("\(kept): is there already"), "\(obstructed.text)")
    unsafe unlink(kept)
    #expect(try content(there) == before)

    var (without, with) = (0, 0)
    for sync in 1...20 {
      let outcome = try run(place, command, sync: sync)
      if outcome.status == 0 { break }
      #expect(outcome.status == 11, "\(sync): \(outcome.text)")
      var left = try content(there)
      if left["tpm2-00.permall"] == state {
        without += 1
        #expect(left == before, "\(sync): \(outcome.text)")
      } else {
        with += 1
        #expect(left["tpm2-00.permall.swtpm"] == state, "\(sync): \(outcome.text)")
        #expect(
          [left["tpm2-00.volatilestate"], left["tpm2-00.volatilestate.swtpm"]].contains(before["tpm2-00.volatilestate"])
        )
        // Where it is, or what is to be done with the rest.
        #expect(
          outcome.text.contains("\(image).swtpm") || outcome.text.contains("move them away"), "\(sync): \(outcome.text)"
        )
        #expect(try place.run(["vnvram", "check", image]).status == 0)
      }
      left = left.filter { $0.key.hasSuffix(".tmp") }
      #expect(left.isEmpty, "\(sync): \(left.keys)")
      try put(before, there)
    }
    #expect(without > 0 && with > 0 && without + with < 20, "\(without), \(with)")
  }
}
