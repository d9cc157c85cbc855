import Foundation
import TestSupport
import Testing

/// An entry that isn't as FORMAT §8 says: no command gives its content out, and the other entries are to be had. The
/// plain form shows it as well as any: there its bytes can be changed.
struct DamagedEntryTests {
  @Test("an empty entry whose capacity isn't zeros") func empty() throws {
    let workspace = try Workspace()
    try #require(try workspace.run("format", "a.der", "--unencrypted", "--entry", "one=8K").status == 0)
    var bytes = try File.bytes(workspace.path("a.der"))
    #expect(try workspace.run("get", "--plaintext", "a.der", "one").status == 0)
    bytes[9000] = 1
    try File.write(bytes, to: workspace.path("a.der"))
    #expect(try workspace.run("get", "--plaintext", "a.der", "one").status == 6)
  }

  @Test("bytes that have to be zero and aren't", arguments: ["padding", "beyond"]) func notZero(_ what: String) throws {
    let workspace = try Workspace()
    let made = try workspace.run("format", "a.der", "--unencrypted", "--entry", "one=8K", "--entry", "two=8K")
    try #require(made.status == 0, "\(made.errorText)")
    for entry in ["one", "two"] {
      let filled = try workspace.shell("head -c 5000 /dev/zero | tr '\\0' x | vnvram put --plaintext a.der \(entry)")
      try #require(filled.status == 0, "\(filled.text)")
    }
    var bytes = try File.bytes(workspace.path("a.der"))
    let last = try #require(bytes.lastIndex(of: UInt8(ascii: "x")))
    // Of entry two: the first byte that its content doesn't use, or of its padding.
    let place = what == "padding" ? last - 5000 - 100 : last + 1
    try #require(bytes[place] == 0)
    bytes[place] = 1
    try File.write(bytes, to: workspace.path("a.der"))
    try workspace.makeImage("b.img", "--entry", "one=8K")

    for command in [
      ["get", "--plaintext", "a.der", "two", "-o", "out"], ["dump", "--plaintext", "a.der", "--der", "-o", "out"],
      ["check", "--plaintext", "a.der"], ["import-stream", "b.img", "a.der"],
      ["entry", "resize", "--plaintext", "a.der", "two=7K"],
    ] {
      let outcome = try Child(["vnvram"] + command, in: workspace.folder).outcome()
      #expect(outcome.status == 6, "\(command)")
      #expect(outcome.errorText.contains("entry \"two\""), "\(outcome.errorText)")
      #expect(!FileManager.default.fileExists(atPath: workspace.path("out")))
    }
    #expect(try File.bytes(workspace.path("a.der")) == bytes)
    #expect(try workspace.run("ls", "--plaintext", "a.der").status == 0)
    let other = try workspace.run("get", "--plaintext", "a.der", "one")
    #expect(other.status == 0 && other.output == [UInt8](repeating: UInt8(ascii: "x"), count: 5000))
  }
}
