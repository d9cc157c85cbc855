import Foundation
import TestSupport
import Testing

extension KnownFailuresElsewhereTests {
  /// OP-TEE without its replay-protected memory takes an old snapshot of its files for the newest. Here every command
  /// that opens an image, and the server, refuse one beside the anchor, and refuse any image where the anchor is gone;
  /// none of them changes the image, or makes an anchor.
  @Test func case8OldSnapshotBesideItsAnchor() throws {
    let place = try Place(["--profile", "tpm2", "--anchor", "anchor"])
    let snapshot = try place.bytes()
    try place.write([1, 2, 3], "content")
    let put = ["vnvram", "put", place.image, "permall", "content", "--anchor", "anchor"]
    #expect(try place.run(put).status == 0)
    let newest = try place.bytes()
    let anchor = try place.bytes("anchor")
    for (image, hasAnchor) in [(snapshot, true), (newest, false), (snapshot, false)] {
      try place.write(image)
      if hasAnchor {
        try place.write(anchor, "anchor")
        try FileManager.default.setAttributes([.posixPermissions: 0o600], ofItemAtPath: place.path("anchor"))
      } else {
        try FileManager.default.removeItem(atPath: place.path("anchor"))
        try place.write([], "anchor-was-here")
      }
      let prefix = ["env", "VNVRAM_ANCHOR=\(place.path("anchor"))"]
      let ways = [[], TestServer.startsByItself, TestServer.startsByItself + ["--fail-on-encrypted-drive=no"]]
      for command in commands(place) + ways {
        let isServer = command.first != "vnvram"
        let outcome = try isServer ? place.runServer(command, through: prefix) : place.run(prefix + command)
        #expect(outcome.status == 7, "\(command): \(outcome.text)")
        #expect(try place.bytes() == image, "\(command)")
        #expect(File.exists(place.path("anchor")) == hasAnchor, "\(command)")
      }
      if !hasAnchor {
        try place.write(anchor, "anchor")
        try FileManager.default.setAttributes([.posixPermissions: 0o600], ofItemAtPath: place.path("anchor"))
      }
    }
    try place.write(newest)
    #expect(try place.run(["vnvram", "get", place.image, "permall", "--anchor", "anchor"]).text == "\u{1}\u{2}\u{3}")
  }

  private func commands(_ place: Place) -> [[String]] {
    let image = place.image
    return [
      ["status", image], ["ls", image], ["get", image, "permall"], ["check", image], ["dump", image, "--der"],
      ["put", image, "permall", "content"], ["scrub", image], ["entry", "add", image, "new=10"],
      ["entry", "resize", image, "permall=300K"], ["entry", "remove", image, "permall"],
      ["import", image, "new", "content"], ["slot", "add", image, "--key", place.key.name],
      ["slot", "remove", image, place.key.name],
    ].map { ["vnvram"] + $0 }
  }
}
