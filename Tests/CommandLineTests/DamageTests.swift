import Foundation
import TestSupport
import Testing

/// Images that were damaged or tampered with: status 6, with the place.
struct DamageTests {
  private func flip(_ workspace: Workspace, _ offset: Int) throws {
    var bytes = try File.bytes(workspace.path("a.img"))
    bytes[offset] ^= 1
    try File.write(bytes, to: workspace.path("a.img"))
  }

  /// An image with content, and where its data sectors begin: they are its end.
  private func make() throws -> (Workspace, data: Int, sectors: Int) {
    let workspace = try Workspace()
    try workspace.makeImage("a.img", "--entry", "one=8K", "--entry", "two=8K")
    for entry in ["one", "two"] {
      let filled = try workspace.shell("head -c 8192 /dev/urandom | vnvram put a.img \(entry)")
      try #require(filled.status == 0, "\(filled.text)")
    }
    let info = try Workspace.json(try workspace.run("info", "a.img", "--json"))
    let size = try #require(info["image_size"] as? Int)
    let sectors = try #require(info["sectors"] as? Int)
    return (workspace, size - sectors * 4096, sectors)
  }

  @Test("flipped bits in sectors: check names every one and goes on, reading refuses") func sectors() throws {
    let (workspace, data, sectors) = try make()
    // Sector 1 begins entry one's content (FORMAT §8), and the last one is of entry two.
    try flip(workspace, data + 4096 + 77)
    try flip(workspace, data + (sectors - 1) * 4096 + 4095)
    let before = try File.bytes(workspace.path("a.img"))
    let check = try workspace.run("check", "a.img", "--json")
    #expect(check.status == 6)
    let json = try Workspace.json(check)
    let findings = try #require(json["findings"] as? [[String: Any]])
    #expect(findings.map { $0["sector"] as? Int } == [1, sectors - 1])
    #expect(findings.map { $0["offset"] as? Int } == [data + 4096, data + (sectors - 1) * 4096])
    #expect(findings.map { $0["reason"] as? String } == ["sector", "sector"])
    #expect((json["error"] as? [String: Any])?["reason"] as? String == "sector")
    let text = try workspace.run("check", "a.img")
    #expect(text.text.contains("sector 1 is damaged or was changed, at byte \(data + 4096)\n"), "\(text.text)")
    #expect(try workspace.run("get", "a.img", "one", "-o", "out").status == 6)
    #expect(FileManager.default.fileExists(atPath: workspace.path("out")) == false)
    #expect(try workspace.run("dump", "a.img", "--der", "-o", "out").status == 6)
    #expect(FileManager.default.fileExists(atPath: workspace.path("out")) == false)
    let isSame = try File.bytes(workspace.path("a.img")) == before
    #expect(isSame)
  }

  @Test("a damaged stream header is found and doesn't end the check") func stream() throws {
    let (workspace, data, sectors) = try make()
    try flip(workspace, data)
    try flip(workspace, data + (sectors - 1) * 4096)
    let json = try Workspace.json(try workspace.run("check", "a.img", "--json"))
    #expect((json["findings"] as? [Any])?.count == 2)
    for command in ["status", "ls"] { #expect(try workspace.run(command, "a.img").status == 6) }
  }

  @Test("a spoilt header copy is reported; two spoilt ones are 6") func headers() throws {
    let (workspace, _, _) = try make()
    try flip(workspace, 65536 + 3800)
    let check = try workspace.run("check", "a.img", "--json")
    #expect(check.status == 0)
    let findings = try #require(try Workspace.json(check)["findings"] as? [[String: Any]])
    #expect(findings.map { $0["reason"] as? String } == ["header-pair"])
    #expect(check.errorText.contains("warning"))
    let status = try Workspace.json(try workspace.run("status", "a.img", "--json"))
    #expect(status["header_copies_equal"] as? Bool == false)
    try flip(workspace, 3800)
    #expect(try workspace.run("check", "a.img").status == 6)
  }

  @Test("the bit put back, all is well") func putBack() throws {
    let (workspace, data, _) = try make()
    try flip(workspace, data + 5000)
    #expect(try workspace.run("check", "a.img").status == 6)
    try flip(workspace, data + 5000)
    #expect(try workspace.run("check", "a.img").status == 0)
  }
}
