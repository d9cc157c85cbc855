import Foundation
import TestSupport
import Testing

/// `vnvram import-swtpm --remove-source` and a source that changes, or is used, while it goes on.
@Suite struct SwtpmMeanwhileTests {
  /// Starts an import whose libtpms waits until there is a file `go`: the source was read by then.
  private func importSlowly(_ place: Place, _ source: String, _ more: [String]) throws -> Child {
    for name in ["vnvram", "vnvram-swtpm", "tried", "go"] { unsafe unlink(place.path(name)) }
    let script = """
      #!/bin/sh
      : >'\(place.path("tried"))'
      while [ ! -e '\(place.path("go"))' ]; do sleep 0.01; done
      exec '\(Program.directory)/vnvram-swtpm' "$@"

      """
    try place.write(Array(script.utf8), "script")
    // By another process: a child that another test starts meanwhile could have them open for writing (ETXTBSY).
    let copied = try place.run(
      ["bash", "-c", "cp \(Program.directory)/vnvram . && cp script vnvram-swtpm && chmod 755 vnvram-swtpm"])
    try TestFailure.unless(copied.status == 0, copied.text)
    let child = try place.start(
      [place.path("vnvram"), "import-swtpm", source, place.path("new.img"), "--remove-source"] + more)
    while child.isRunning, !File.exists(place.path("tried")) { usleep(2000) }
    try TestFailure.unless(child.isRunning, child.text)
    return child
  }

  private func finish(_ child: Child, _ place: Place) throws -> (status: Int32, text: String) {
    try place.write([], "go")
    return (child.wait(), child.text)
  }

  /// swtpm's file:// backend writes in place, and looks at no lock: what it stored after the source was read isn't
  /// lost.
  @Test(arguments: [false, true]) func aSwtpmMeanwhile(isStillRunning: Bool) throws {
    let place = try Place()
    let there = try SwtpmSourceTests.source(place, .singleFile)
    let slow = try importSlowly(place, there, ["--key", place.key.name])
    let swtpm = try DebianSwtpm(place, .singleFile, there)
    try #require(swtpm.isRunning, "\(swtpm.log)")
    do { try swtpm.connect(.data).run(TPMCommand.write(0xA5)) }
    if !isStillRunning { swtpm.end() }
    let newer = try File.bytes(there)
    let outcome = try finish(slow, place)
    #expect(outcome.status == 9 && outcome.text.contains("the source is newer than the image"), "\(outcome.text)")
    #expect(outcome.text.contains("new.img --force --remove-source"), "\(outcome.text)")
    #expect(try File.bytes(there) == newer)
    if isStillRunning { swtpm.end() }
    let again = try place.run(
      ["vnvram", "import-swtpm", there, place.path("new.img"), "--force", "--remove-source"])
    #expect(again.status == 0 && !File.exists(there), "\(again.text)")
    place.image = place.path("new.img")
    let server = try TestServer(place)
    #expect(try server.connect(.data).index() == [UInt8](repeating: 0xA5, count: TPMCommand.indexSize))
    #expect(server.end() == 0)
  }

  /// In a directory the lock keeps swtpm out, where it never made one, too. What else changes there isn't removed.
  @Test func aDirectoryMeanwhile() throws {
    let place = try Place()
    let there = try SwtpmSourceTests.source(place)
    let (permall, lock) = (there + "/tpm2-00.permall", there + "/.lock")
    let state = try File.bytes(permall)
    unsafe unlink(lock)
    let changes: [() throws -> Void] = [
      { try File.write(Array(state.dropLast()) + [state[state.count - 1] ^ 1], to: permall) },
      {
        try File.write(state, to: permall + ".new")
        #expect(unsafe rename(permall + ".new", permall) == 0)
      }, { try File.write(state, to: there + "/tpm2-00.volatilestate") }, { unsafe unlink(permall) },
    ]
    for change in changes {
      try File.write(state, to: permall)
      unsafe unlink(there + "/tpm2-00.volatilestate")
      unsafe unlink(place.path("new.img"))
      let slow = try importSlowly(place, there, ["--key", place.key.name])
      let swtpm = try DebianSwtpm(place, .directory, there)
      #expect(!swtpm.isRunning)
      try change()
      let left = try FileManager.default.contentsOfDirectory(atPath: there).filter { $0 != ".lock" }
      let outcome = try finish(slow, place)
      #expect(outcome.status == 9 && outcome.text.contains("nothing of it was removed"), "\(outcome.text)")
      #expect(try FileManager.default.contentsOfDirectory(atPath: there) == left)
    }
    try File.write(state, to: permall)
    unsafe unlink(place.path("new.img"))
    let outcome = try finish(try importSlowly(place, there, ["--key", place.key.name]), place)
    #expect(outcome.status == 0, "\(outcome.text)")
    #expect(try FileManager.default.contentsOfDirectory(atPath: there) == [])
  }
}
