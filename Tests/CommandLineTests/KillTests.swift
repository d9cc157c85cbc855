import Foundation
import TestSupport
import Testing

/// SIGKILL in the middle of writing.
struct KillTests {
  @Test("killed 200 times during put, nothing acknowledged is lost and nothing is half there") func put() throws {
    let workspace = try Workspace()
    try workspace.makeImage("a.img", "--entry", "one=64K", "--entry", "two=64K")
    func content(_ round: Int) -> [UInt8] {
      (0..<(20_000 + round * 97)).map { UInt8(truncatingIfNeeded: $0 &* 31 &+ round) }
    }
    // How long one takes when nobody ends it, so that the kills fall all over it.
    let start = DispatchTime.now().uptimeNanoseconds
    try File.write(content(0), to: workspace.path("content"))
    try #require(try workspace.run("put", "a.img", "one", "content").status == 0)
    let whole = max(1_000_000, DispatchTime.now().uptimeNanoseconds - start)
    var last = 0
    var (killed, finished) = (0, 0)
    for round in 1...200 {
      try File.write(content(round), to: workspace.path("content"))
      let child = try Child(["vnvram", "put", "a.img", "one", "content"], in: workspace.folder)
      usleep(UInt32(UInt64(round % 100) * whole / 80_000))
      child.kill()
      let outcome = try child.outcome()
      if outcome.status == 0 { finished += 1 } else { killed += 1 }
      try #require(outcome.status == 0 || outcome.status == -SIGKILL, "\(outcome.errorText)")
      let got = try workspace.run("get", "a.img", "one")
      try #require(got.status == 0, "round \(round): \(got.errorText)")
      let isNew = got.output == content(round)
      let isOld = got.output == content(last)
      // A put that was acknowledged is there; one that wasn't is there as a whole or not at all.
      try #require(isNew || (isOld && outcome.status != 0), "round \(round): neither the old content nor the new")
      if isNew { last = round }
    }
    #expect(killed > 20 && finished > 0, "\(killed) killed, \(finished) finished")
    #expect(try workspace.run("check", "a.img").status == 0)
    try #require(try workspace.run("scrub", "a.img").status == 0)
    let status = try Workspace.json(try workspace.run("status", "a.img", "--json"))
    #expect(status["closed_cleanly"] as? Bool == true)
  }

  @Test("format that is killed leaves no image, and no store that would open") func format() throws {
    let workspace = try Workspace()
    try workspace.makeImage()
    for round in 0..<20 {
      let child = try Child(
        ["vnvram", "format", "b.img", "--key", workspace.key, "--entry", "x=4M", "--force"], in: workspace.folder)
      usleep(UInt32(round * 4000))
      child.kill()
      _ = try child.outcome()
      let status = try workspace.run("ls", "b.img").status
      #expect(status == 0 || status == 8 || status == 11, "round \(round): \(status)")
    }
  }
}
