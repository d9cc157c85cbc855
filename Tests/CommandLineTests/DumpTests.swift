import Foundation
import TestSupport
import Testing

/// The dump is DER that others read, and says what `ls` says.
struct DumpTests {
  @Test("openssl asn1parse reads the dump, and agrees with ls", arguments: [4096, 16384])
  func agreement(_ blockSize: Int) throws {
    let workspace = try Workspace()
    try workspace.makeImage(
      "a.img", "--profile", "tpm2", "--entry", "small=10", "--entry", "odd=4097", "--entry", "empty=1", "--block-size",
      "\(blockSize)")
    for (entry, size) in [("permall", 1315), ("volatilestate", 65536), ("small", 10), ("odd", 4096)] {
      let filled = try workspace.shell("head -c \(size) /dev/urandom | vnvram put a.img \(entry)")
      try #require(filled.status == 0, "\(filled.text)")
    }
    let listed = try #require(
      try Workspace.json(try workspace.run("ls", "a.img", "--json"))["entries"] as? [[String: Any]])
    #expect(listed.count == 5)
    try #require(try workspace.run("dump", "a.img", "--der", "-o", "a.der").status == 0)
    let parsed = try workspace.runOther("openssl", "asn1parse", "-inform", "DER", "-in", "a.der")
    try #require(parsed.status == 0, "\(parsed.errorText)")
    let entries = try Self.entries(parsed.text)
    #expect(entries.map(\.name) == listed.map { $0["name"] as? String })
    #expect(entries.map(\.size) == listed.map { $0["size"] as? Int })
    #expect(entries.map(\.capacity) == listed.map { $0["capacity"] as? Int })
    // The contents lie where openssl says.
    let dump = try File.bytes(workspace.path("a.der"))
    for entry in entries {
      let content = try workspace.run("get", "a.img", entry.name)
      let isSame = content.output == Array(dump[entry.offset..<entry.offset + entry.size])
      #expect(isSame, "\(entry.name)")
    }
  }

  private struct Parsed {
    var name = ""
    var size = 0
    var capacity = 0
    var offset = 0
  }

  /// From openssl's lines: `   29:d=3  hl=2 l=   8 prim: OCTET STRING      [HEX DUMP]:0000000000000F35`.
  private static func entries(_ text: String) throws -> [Parsed] {
    var entries: [Parsed] = []
    for line in text.split(separator: "\n") {
      let fields = line.split(whereSeparator: { " :=".contains($0) })
      let (offset, depth) = (Int(fields[0]) ?? -1, Int(fields[2]) ?? -1)
      let header = Int(fields[4]) ?? -1
      let length = Int(fields[6]) ?? -1
      let value = line.split(separator: ":", maxSplits: 3).last.map(String.init) ?? ""
      if depth == 2, line.contains("UTF8STRING") {
        entries.append(Parsed(name: value))
      } else if depth == 3, line.contains("OCTET STRING"), let last = entries.indices.last {
        // The first is the real size, the second the content.
        if entries[last].capacity == 0, length == 8, entries[last].offset == 0 {
          entries[last].size = Int(value, radix: 16) ?? -1
          entries[last].offset = -1
        } else {
          entries[last].capacity = length
          entries[last].offset = offset + header
        }
      }
    }
    return entries
  }
}
