import Foundation
import TestSupport
import Testing

/// Bad input: each is answered by its documented status, in text and in JSON, and changes nothing on disk.
struct BadInputTests {
  /// Runs every command that takes an image, and expects of each this status and the image as it was.
  private func expectAll(
    _ status: Int32, _ workspace: Workspace, _ image: String = "a.img", _ comment: Comment? = nil,
    sourceLocation: SourceLocation = #_sourceLocation
  ) throws {
    let before = try? File.bytes(workspace.path(image))
    try File.write([UInt8](repeating: 7, count: 10), to: workspace.path("ten"))
    let commands = [
      ["status", image], ["ls", image], ["get", image, "one"], ["put", image, "one", "ten"], ["check", image],
      ["scrub", image], ["dump", image, "--der"], ["slot", "remove", image, "x"], ["entry", "add", image, "new=10"],
      ["import", image, "new", "ten"],
    ]
    for command in commands {
      let outcome = try Child(["vnvram"] + command, in: workspace.folder).outcome()
      #expect(outcome.status == status, "\(command): \(outcome.errorText)", sourceLocation: sourceLocation)
      #expect(outcome.errorText.hasPrefix("vnvram: "), sourceLocation: sourceLocation)
      // What is there to be told of such an image, these two tell.
      if command[0] != "status", command[0] != "check" {
        #expect(outcome.output.isEmpty, sourceLocation: sourceLocation)
      }
    }
    let json = try Workspace.json(try workspace.run("status", image, "--json"))
    #expect((json["error"] as? [String: Any])?["code"] as? Int == Int(status), sourceLocation: sourceLocation)
    let isSame = (try? File.bytes(workspace.path(image))) == before
    #expect(isSame, "the image was changed", sourceLocation: sourceLocation)
  }

  @Test("a missing image is 11 and is not made") func missing() throws {
    let workspace = try Workspace()
    try expectAll(11, workspace)
    #expect(FileManager.default.fileExists(atPath: workspace.path("a.img")) == false)
  }

  @Test("a directory, a device, a pipe are 8") func wrongKind() throws {
    let workspace = try Workspace()
    try FileManager.default.createDirectory(atPath: workspace.path("folder"), withIntermediateDirectories: true)
    try expectAll(8, workspace, "folder")
    try #require(try workspace.shell("mkfifo pipe").status == 0)
    #expect(try workspace.run("ls", "pipe").status == 8)
    #expect(try workspace.run("ls", "/dev/null").status == 8)
  }

  @Test("a missing key is 3, and a wrong one 4") func keys() throws {
    let workspace = try Workspace()
    try workspace.makeImage()
    try #require(try workspace.run("key", "unlink", workspace.key).status == 0)
    try expectAll(3, workspace)
    try #require(try workspace.run("key", "generate", workspace.key, "--keyring", "session").status == 0)
    try expectAll(4, workspace)
    try #require(try workspace.run("key", "revoke", workspace.key).status == 0)
    try expectAll(5, workspace)
  }

  @Test("a short key is 4, wherever it comes from") func shortKey() throws {
    let workspace = try Workspace()
    try workspace.makeImage()
    try #require(try workspace.run("key", "unlink", workspace.key).status == 0)
    for size in [0, 1, 31, 33] {
      try File.write([UInt8](repeating: 1, count: size), to: workspace.path("key"))
      #expect(try workspace.run("key", "load", workspace.key, "--file", "key", "--keyring", "session").status == 4)
    }
    let added = try workspace.shell("head -c 31 /dev/zero | keyctl padd user vnvram:\(workspace.key) @s")
    try #require(added.status == 0, "\(added.text)")
    try expectAll(4, workspace)
  }

  @Test("a key of whose use no record can be made isn't used: 12") func audit() throws {
    let workspace = try Workspace()
    try workspace.makeImage()
    try FileManager.default.removeItem(atPath: workspace.path("audit.jsonl"))
    try FileManager.default.createDirectory(atPath: workspace.path("audit.jsonl"), withIntermediateDirectories: true)
    try expectAll(12, workspace)
    #expect(try workspace.run("ls", "a.img", "--audit", "none").status == 0)
    #expect(try workspace.run("format", "b.img", "--key", workspace.key).status == 12)
    #expect(FileManager.default.fileExists(atPath: workspace.path("b.img")) == false)
  }

  @Test("cut off at every block: 6, or 8 where no header is left", arguments: [4096, 65536])
  func truncated(_ blockSize: Int) throws {
    let workspace = try Workspace()
    try workspace.makeImage("a.img", "--entry", "one=8K", "--block-size", "\(blockSize)")
    let whole = try File.bytes(workspace.path("a.img"))
    for size in stride(from: 0, to: whole.count, by: blockSize) {
      try File.write(Array(whole[..<size]), to: workspace.path("cut"))
      let outcome = try workspace.run("ls", "cut")
      #expect(outcome.status == (size == 0 ? 8 : 6), "\(size): \(outcome.errorText)")
      let isSame = try File.bytes(workspace.path("cut")) == Array(whole[..<size])
      #expect(isSame)
    }
    try File.write(Array(whole[..<(whole.count - blockSize)]), to: workspace.path("cut"))
    try expectAll(6, workspace, "cut")
  }

  @Test("random bytes are 8") func random() throws {
    let workspace = try Workspace()
    var generator = SystemRandomNumberGenerator()
    for size in [1, 511, 4096, 32768, 400_000] {
      var bytes = (0..<size).map { _ in UInt8.random(in: 0...255, using: &generator) }
      // 0x30 would make it look like a plain stream.
      bytes[0] = 0x31
      try File.write(bytes, to: workspace.path("random"))
      #expect(try workspace.run("ls", "random").status == 8)
    }
    try expectAll(8, workspace, "random")
  }

  @Test("a future version is 8") func futureVersion() throws {
    let workspace = try Workspace()
    try workspace.makeImage()
    var bytes = try File.bytes(workspace.path("a.img"))
    // FORMAT §2: the version lies at byte 20 of both copies.
    for offset in [20, 65536 + 20] { bytes[offset] = 3 }
    try File.write(bytes, to: workspace.path("a.img"))
    try expectAll(8, workspace)
    let json = try Workspace.json(try workspace.run("ls", "a.img", "--json"))
    #expect((json["error"] as? [String: Any])?["reason"] as? String == "unsupported-version")
  }

  @Test("version 1 of the format is refused by name") func earlierVersion() throws {
    let workspace = try Workspace()
    // Its first bytes: magic, version, suite.
    let beginning: [UInt8] = [0x89, 0x56, 0x4E, 0x56, 0x52, 0x41, 0x4D, 0x0A, 1, 0, 0, 0, 1, 0, 0, 0]
    try File.write(beginning + [UInt8](repeating: 0, count: 400_000), to: workspace.path("old.img"))
    try expectAll(8, workspace, "old.img")
    let outcome = try workspace.run("ls", "old.img")
    #expect(outcome.errorText.contains("version 1"), "\(outcome.errorText)")
  }

  @Test("sizes near 2^63 in a header are 6") func hugeSizes() throws {
    let workspace = try Workspace()
    try workspace.makeImage()
    let whole = try File.bytes(workspace.path("a.img"))
    // FORMAT §2: sectorCount, and the offsets and sizes behind it.
    for field in stride(from: 64, through: 112, by: 8) {
      for value: UInt64 in [1 << 63, (1 << 63) - 1, .max, 1 << 62] {
        var bytes = whole
        for copy in [0, 65536] {
          for i in 0..<8 { bytes[copy + field + i] = UInt8(truncatingIfNeeded: value >> (8 * i)) }
        }
        try File.write(bytes, to: workspace.path("a.img"))
        let outcome = try workspace.run("ls", "a.img")
        #expect(outcome.status == 6, "\(field) \(value): \(outcome.errorText)")
      }
    }
    try expectAll(6, workspace)
    #expect(try workspace.run("info", "a.img").status == 6)
  }

  @Test("sizes near 2^63 on the command line are 10") func hugeArguments() throws {
    let workspace = try Workspace()
    try workspace.makeImage()
    let before = try File.bytes(workspace.path("a.img"))
    for size in ["9223372036854775807", "9223372036854775808", "18446744073709551615", "8589934591G"] {
      #expect(try workspace.run("size", "--entry", "x=\(size)").status == 10)
      #expect(try workspace.run("entry", "add", "a.img", "x=\(size)").status == 10)
      #expect(try workspace.run("entry", "resize", "a.img", "one=\(size)").status == 10)
      #expect(try workspace.run("format", "b.img", "--key", workspace.key, "--size", size).status == 10)
      #expect(
        try workspace.run("format", "a.img", "--key", workspace.key, "--entry", "x=\(size)", "--force").status == 10)
    }
    let isSame = try File.bytes(workspace.path("a.img")) == before
    #expect(isSame)
    #expect(FileManager.default.fileExists(atPath: workspace.path("b.img")) == false)
  }

  @Test("an entry's name of a megabyte is refused") func longName() throws {
    let workspace = try Workspace()
    try workspace.makeImage()
    let before = try File.bytes(workspace.path("a.img"))
    // The kernel takes no argument of more than 128 KiB.
    let name = String(repeating: "n", count: 120_000)
    for outcome in [
      try workspace.run("entry", "add", "a.img", "\(name)=10"),
      try workspace.run("import", "a.img", name, "audit.jsonl"),
    ] {
      #expect(outcome.status == 10)
      #expect(outcome.errors.count < 1000)
    }
    #expect(try workspace.run("get", "a.img", name).status == 14)
    #expect(try workspace.run("put", "a.img", name, "audit.jsonl").status == 14)
    // A stream can have one of a megabyte: SEQUENCE { UTF8String "qemu-nvram", SEQUENCE { UTF8String name … } }.
    let magic: [UInt8] = [0x0C, 10] + Array("qemu-nvram".utf8)
    let text: [UInt8] = [0x0C, 0x83, 0x10, 0, 0] + [UInt8](repeating: 0x6E, count: 1 << 20) + [0x04, 1, 0]
    let entry: [UInt8] = [0x30, 0x83, 0x10, 0, 8] + text
    let stream: [UInt8] = [0x30, 0x83, 0x10, 0, 25] + magic + entry
    try File.write(stream, to: workspace.path("stream"))
    #expect(try workspace.run("import-stream", "a.img", "stream").status == 6)
    #expect(try workspace.run("ls", "stream", "--plaintext").status == 6)
    let isSame = try File.bytes(workspace.path("a.img")) == before
    #expect(isSame)
  }

  @Test("what is larger than the capacity is 10") func tooLarge() throws {
    let workspace = try Workspace()
    try workspace.makeImage()
    let before = try File.bytes(workspace.path("a.img"))
    try File.write([UInt8](repeating: 1, count: 101), to: workspace.path("large"))
    #expect(try workspace.run("put", "a.img", "two", "large").status == 10)
    #expect(try workspace.run("put", "a.img", "two", input: workspace.path("large")).status == 10)
    // A pipe's end isn't known.
    #expect(try workspace.shell("yes | vnvram put a.img two").status == 10)
    let isSame = try File.bytes(workspace.path("a.img")) == before
    #expect(isSame)
  }

  @Test("an image that may not be written: reading works, writing is 11") func readOnly() throws {
    let workspace = try Workspace()
    try workspace.makeImage()
    let before = try File.bytes(workspace.path("a.img"))
    // The superuser may write to any file, so an ordinary user does it; a session keyring goes with the process.
    let prefix = getuid() == 0 ? "chown -R 65534:65534 . && setpriv --reuid 65534 --regid 65534 --clear-groups " : ""
    let setUp = try workspace.shell("chmod 755 .; chmod 644 audit.jsonl; chmod 444 a.img")
    try #require(setUp.status == 0)
    #expect(try workspace.shell(prefix + "vnvram ls a.img").status == 0)
    for command in ["put a.img one audit.jsonl", "scrub a.img", "entry add a.img x=1", "slot remove a.img x"] {
      let outcome = try workspace.shell(prefix + "vnvram " + command)
      #expect(outcome.status == (command.hasPrefix("slot") ? 14 : 11), "\(command): \(outcome.text)")
    }
    let isSame = try File.bytes(workspace.path("a.img")) == before
    #expect(isSame)
  }

  @Test("no room on the disk is 10, and leaves nothing behind") func fullDisk() throws {
    let workspace = try Workspace()
    try workspace.makeImage()
    // A limit on file sizes works everywhere; it is 64 blocks of 1024 bytes here.
    let key = workspace.key
    #expect(try workspace.shell("ulimit -f 64; vnvram format b.img --key \(key) --profile tpm2").status == 10)
    #expect(FileManager.default.fileExists(atPath: workspace.path("b.img")) == false)
    try #require(try workspace.shell("head -c 8000 /dev/urandom > content; vnvram put a.img one content").status == 0)
    let before = try File.bytes(workspace.path("a.img"))
    #expect(try workspace.shell("ulimit -f 4; vnvram get a.img one -o out --audit new.jsonl").status == 10)
    #expect(try workspace.shell("ls out*").status == 2)
    #expect(try workspace.shell("vnvram get a.img one > /dev/full").status == 10)
    #expect(try workspace.shell("vnvram ls a.img --json > /dev/full").status == 10)
    let isSame = try File.bytes(workspace.path("a.img")) == before
    #expect(isSame)
    // The real thing, where one may mount.
    let mounted = try workspace.shell(
      "mkdir disk && unshare --mount true && mount -t tmpfs -o size=512k none disk 2> /dev/null")
    guard mounted.status == 0 else { return }
    defer { _ = try? workspace.shell("umount disk") }
    #expect(try workspace.shell("vnvram format disk/b.img --key \(key) --profile tpm2").status == 10)
    #expect(try workspace.shell("test -z \"$(ls disk)\"").status == 0)
    #expect(try workspace.shell("cp a.img disk; yes > disk/rest; vnvram put disk/a.img one content").status == 0)
  }

  @Test("a second process is 9, for reading beside reading is not") func secondProcess() throws {
    let workspace = try Workspace()
    try workspace.makeImage()
    try File.write([UInt8](repeating: 1, count: 8192), to: workspace.path("content"))
    try #require(try workspace.run("put", "a.img", "one", "content").status == 0)
    let before = try File.bytes(workspace.path("a.img"))
    // This process holds the lock that another vnvram would: an open file description lock over the whole file.
    let descriptor = unsafe open(workspace.path("a.img"), O_RDWR | O_CLOEXEC)
    try #require(descriptor >= 0)
    defer { close(descriptor) }
    try #require(Lock.take(descriptor, exclusively: true))
    try expectAll(9, workspace)
    #expect(try workspace.run("info", "a.img").status == 9)
    let format = try workspace.run("format", "a.img", "--key", workspace.key, "--force")
    #expect(format.status == 9, "\(format.errorText)")
    try #require(Lock.take(descriptor, exclusively: false))
    #expect(try workspace.run("ls", "a.img").status == 0)
    #expect(try workspace.run("put", "a.img", "one", "content").status == 9)
    let isSame = try File.bytes(workspace.path("a.img")) == before
    #expect(isSame)
  }
}
