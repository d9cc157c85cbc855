import Foundation
import TestSupport
import Testing

/// Memory follows what a commit changes, and not what the image or the entry has.
struct MemoryTests {
  /// Runs the program and prints what most memory it took, in KiB.
  private static let peak = """
    import resource, subprocess, sys
    status = subprocess.run(sys.argv[2:], stdin=open(sys.argv[1]), stdout=subprocess.DEVNULL).returncode
    print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss)
    sys.exit(status)
    """

  private func peak(_ workspace: Workspace, _ arguments: String..., input: String = "/dev/null") throws -> Int {
    try peak(workspace, of: ["vnvram"] + arguments, input: input, status: 0)
  }

  private func peak(_ workspace: Workspace, of command: [String], input: String, status: Int32) throws -> Int {
    let outcome = try Child(["python3", "-c", Self.peak, input] + command, in: workspace.folder).outcome()
    try TestFailure.unless(outcome.status == status, "\(command): \(outcome.status), \(outcome.errorText)")
    return try #require(Int(outcome.text.dropLast()))
  }

  @Test func followsWhatChanges() throws {
    let workspace = try Workspace()
    try workspace.makeImage("a.img", "--entry", "big=64M", "--entry", "other=10")
    var content = [UInt8](repeating: 0, count: 64 << 20)
    for i in stride(from: 0, to: content.count, by: 8) { content[i] = UInt8(truncatingIfNeeded: i >> 12 | 1) }
    try File.write(content, to: workspace.path("first"))
    content[33_000_000] ^= 1
    content[33_000_001] ^= 1
    try File.write(content, to: workspace.path("second"))

    let base = try peak(workspace, "info", "a.img")
    let (slack, all) = (16 << 10, 64 << 10)
    func expect(_ what: String, _ peak: Int, changed: Int) {
      #expect(peak <= base + changed * 22 / 10 + slack, "\(what): \(peak) KiB, where the program alone takes \(base)")
    }
    expect("all of it", try peak(workspace, "put", "a.img", "big", "first"), changed: all)
    expect("two bytes", try peak(workspace, "put", "a.img", "big", "second"), changed: 0)
    #expect(try workspace.shell("vnvram get a.img big | cmp - second").status == 0)
    expect("reading", try peak(workspace, "get", "a.img", "big", "-o", "out"), changed: 0)
    expect("a dump", try peak(workspace, "dump", "a.img", "--der", "-o", "a.der"), changed: 0)
    expect("a stream", try peak(workspace, "import-stream", "a.img", "a.der", "--force"), changed: 0)
    expect("another entry", try peak(workspace, "entry", "add", "a.img", "more=100"), changed: 0)
    // A pipe's content is held, since nobody knows its size beforehand; what it changes is nothing more.
    let piped = try workspace.shell("mkfifo pipe; cat first > pipe &")
    try #require(piped.status == 0)
    let pipe = workspace.path("pipe")
    expect("two bytes from a pipe", try peak(workspace, "put", "a.img", "big", input: pipe), changed: all / 2)
    #expect(try workspace.shell("vnvram get a.img big | cmp - first").status == 0)
  }
  /// Who has no key can make a header say what they like: neither memory nor output follows it.
  @Test func aShortFileThatClaimsALot() throws {
    let workspace = try Workspace()
    try workspace.makeImage()
    var bytes = try File.bytes(workspace.path("a.img"))
    try #require(bytes.count < 500_000)
    // FORMAT §1 and §2: sectorCount and what follows from it, in both copies.
    let (block, sectors, entries) = (4096, 65536, (160 + 40 * 65536 + 4095) / 4096 * 4096)
    let (ring, leaves) = (2 * (entries + sectors * block), sectors * 32)
    let data = 131_072 + ring + 2 * leaves
    let fields = [sectors, 131_072, ring, 131_072 + ring, leaves, data, data + sectors * block]
    for copy in [0, 65536] {
      for (index, value) in fields.enumerated() {
        for i in 0..<8 { bytes[copy + 64 + 8 * index + i] = UInt8(truncatingIfNeeded: value >> (8 * i)) }
      }
    }
    try File.write(bytes, to: workspace.path("a.img"))
    let peak = try peak(
      workspace, of: ["bash", "-c", "vnvram check a.img > said 2>&1"], input: "/dev/null", status: 6)
    #expect(peak < 64 << 10, "\(peak) KiB")
    let said = String(decoding: try File.bytes(workspace.path("said")), as: UTF8.self)
    #expect(said.split(separator: "\n").count < 100, "\(said.prefix(10_000))")
    #expect(said.contains("65535"), "it was believed at first: \(said)")
  }
}
