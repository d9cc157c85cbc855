import Foundation
import TestSupport
import Testing

/// The image of `--tpmstate backend-uri=file://`, which the server makes in what is blank, once, with
/// `--make-on-first-use`.
@Suite struct FirstUseFileTests {
  /// What there is before the first use.
  enum Kind: String, CaseIterable, Sendable {
    case nothing, empty, blankFile, blankDevice

    static let all = allCases.filter { $0 != .blankDevice || LoopDevice.isPermitted }
  }

  /// Proxmox's TPM disks.
  static let size = 4 << 20

  /// A path for an image, and what is there.
  final class Disk {
    let place: Place
    private(set) var loop: LoopDevice?

    init(_ kind: Kind, bytes: Int = FirstUseFileTests.size) throws {
      place = try Place(nil)
      place.image = place.path("vm-100-disk-1")
      switch kind {
      case .nothing: break
      case .empty: try place.write([])
      case .blankFile: try place.write([UInt8](repeating: 0, count: bytes))
      case .blankDevice: try attach(bytes)
      }
      place.state = "backend-uri=file://\(place.image),mode=0600"
    }

    /// As device mapper has it: the path is a link, to another device now and then.
    func attach(_ bytes: Int = FirstUseFileTests.size, _ file: String = "disk") throws {
      let device = try LoopDevice(over: place.path(file), bytes: bytes)
      unsafe unlink(place.image)
      try FileManager.default.createSymbolicLink(atPath: place.image, withDestinationPath: device.path)
      loop = device
    }

    /// Writes in place, whatever it is.
    func write(_ bytes: [UInt8], at offset: Int = 0) throws { try File.overwrite(place.image, bytes, at: offset) }

    func blank() throws { try write([UInt8](repeating: 0, count: try place.bytes().count)) }

    var markers: [String] {
      (try? FileManager.default.contentsOfDirectory(atPath: place.path("markers")))?.sorted() ?? []
    }
  }

  static func options(_ place: Place) -> [String] { ["--make-on-first-use", "--keyring-key", place.key.name] }

  static func start(_ place: Place, _ more: [String] = []) throws -> TestServer {
    try TestServer(place, TestServer.startsByItself + options(place) + more)
  }

  func expectRefused(
    _ disk: Disk, status: Int32, _ words: String..., sourceLocation: SourceLocation = #_sourceLocation
  ) throws {
    let before = try? disk.place.bytes()
    for flags in [[], TestServer.startsByItself] {
      let outcome = try disk.place.runServer(flags + Self.options(disk.place))
      #expect(outcome.status == status, "\(outcome.text)", sourceLocation: sourceLocation)
      for word in words { #expect(outcome.text.contains(word), "\(outcome.text)", sourceLocation: sourceLocation) }
    }
    #expect((try? disk.place.bytes()) == before, sourceLocation: sourceLocation)
  }

  func printed(_ place: Place, _ options: [String]) throws -> Place.Outcome {
    try place.run(["vnvram-swtpm", "socket", "--print-states", "--tpm2", "--tpmstate", place.state ?? ""] + options)
  }

  @Test(arguments: Kind.all) func onceOnly(kind: Kind) throws {
    let disk = try Disk(kind)
    let place = disk.place
    let states = try printed(place, Self.options(place))
    #expect(states.status == 0 && states.text.contains("\"states\": []"), "\(states.text)")
    var server = try Self.start(place)
    #expect(server.log.contains("\(place.image): made"), "\(server.log)")
    try server.connect(.data).run(TPMCommand.defineIndex)
    let second = try place.run(
      ["vnvram-swtpm", "socket", "--tpm2", "--tpmstate", place.state ?? "", "--ctrl", "type=unixio,path=second"]
        + TestServer.startsByItself + Self.options(place))
    #expect(second.status == 9, "\(second.text)")
    #expect(server.end() == 0)
    #expect(try place.run(["vnvram", "check", place.image]).status == 0)
    #expect(try printed(place, Self.options(place)).text.contains("\"permall\""))
    #expect(disk.markers.count == 1)
    // Without the option, too: it is an image.
    server = try TestServer(place)
    try server.connect(.data).run(TPMCommand.write(0x5A))
    #expect(server.end() == 0)
    let good = try place.bytes()

    // Its content is lost.
    try disk.blank()
    try expectRefused(disk, status: 11, place.image, "made one in it before", "vnvram marker forget \(place.image)")
    #expect(try printed(place, Self.options(place)).status == 11)
    if kind != .blankDevice {
      try File.write([], to: place.image)
      try expectRefused(disk, status: 11, "made one in it before")
      unsafe unlink(place.image)
      try expectRefused(disk, status: 11, "is gone", "vnvram marker forget")
      try place.write(good)
    } else {
      try disk.write(good)
    }
    // A backup is that TPM.
    server = try Self.start(place)
    #expect(try server.connect(.data).index() == [UInt8](repeating: 0x5A, count: TPMCommand.indexSize))
    #expect(server.end() == 0)

    // And a new one only where somebody says so.
    try disk.blank()
    try expectRefused(disk, status: 11)
    #expect(try place.run(["vnvram", "marker", "forget", place.image]).status == 0)
    server = try Self.start(place)
    #expect(server.log.contains("made"), "\(server.log)")
    #expect(server.end() == 0)
  }

  /// Blank is not enough: the options must say that it is to be made.
  @Test(arguments: Kind.all) func notWithoutTheOption(kind: Kind) throws {
    let disk = try Disk(kind)
    let place = disk.place
    let before = try? place.bytes()
    for more in [["--keyring-key", place.key.name], Self.options(place) + ["--make-on-first-use=no"]] {
      let outcome = try place.runServer(more)
      #expect(outcome.status == (kind == .nothing ? 11 : 8), "\(outcome.text)")
      if kind != .nothing { #expect(outcome.text.contains("is blank; with --make-on-first-use"), "\(outcome.text)") }
    }
    if kind != .nothing { #expect(try printed(place, []).status == 8) }
    // Nor without a key, and then nothing is remembered.
    let keyless = try place.runServer(["--make-on-first-use"])
    #expect(keyless.status == 3 && keyless.text.contains("--keyring-key NAME"), "\(keyless.text)")
    #expect((try? place.bytes()) == before && disk.markers == [])
    #expect(try place.runServer(["--make-on-first-use", "--keyring-key", "nobody"]).status == 3)
    #expect(try Self.start(place).end() == 0)
  }

  @Test func fromAFileOfOptions() throws {
    let disk = try Disk(.blankFile)
    let place = disk.place
    let name = "tpm-vm-100-disk-1"
    try place.write(Array("--make-on-first-use\n--keyring-key tpm-%n\n".utf8), "options")
    let outcome = try place.run([
      "keyctl", "session", "-", "bash", "-c",
      """
      vnvram key generate \(name) --keyring session && VNVRAM_SWTPM_OPTIONS=options timeout 20 vnvram-swtpm socket --tpm2 \
      --tpmstate '\(place.state ?? "")' --ctrl type=unixio,path=c & \
      until [ -S c ]; do sleep 0.05; done; swtpm_ioctl --unix c -i && swtpm_ioctl --unix c -s && wait
      """,
    ])
    #expect(outcome.status == 0 && outcome.text.contains("made"), "\(outcome.text)")
    #expect(try place.run(["vnvram", "slot", "list", place.image]).text.contains(name))
  }

  /// A TPM that swtpm_setup made is used by whatever start for a virtual machine, with the option or without.
  @Test(arguments: Kind.all.filter { $0 == .blankFile || $0 == .blankDevice }) func usedWithoutTheOption(
    kind: Kind
  ) throws {
    let disk = try Disk(kind)
    let place = disk.place
    #expect(try Self.start(place).end() == 0)
    let marker = place.path("markers/") + (try #require(disk.markers.first))
    try File.overwrite(marker, Array("used no ".utf8), at: 16)
    if kind == .blankFile {
      // In a file that was written anew, too.
      let image = try place.bytes()
      try FileManager.default.moveItem(atPath: place.image, toPath: place.path("old"))
      try place.write(image)
    }
    let server = try TestServer(place, TestServer.startsByItself + ["--keyring-key", place.key.name])
    #expect(server.end() == 0, "\(server.log)")
    #expect(try File.bytes(marker).dropFirst(16).prefix(8) == Array("used yes".utf8)[...])
    try disk.blank()
    try expectRefused(disk, status: 11, "made one in it before")
  }

  /// An image that came from elsewhere, as with a machine that was moved to this host, gets its marker.
  @Test(arguments: Kind.all.filter { $0 != .nothing }) func broughtThere(kind: Kind) throws {
    let disk = try Disk(kind)
    let place = disk.place
    let format = try place.run(["vnvram", "format", place.image, "--key", place.key.name, "--profile", "tpm2"])
    try #require(format.status == 0, "\(format.text)")
    #expect(try TestServer(place).end() == 0)
    #expect(disk.markers == [], "that is the option's")
    #expect(try Self.start(place).end() == 0)
    try disk.blank()
    try expectRefused(disk, status: 11, "made one in it before")
  }

  // MARK: Not made

  @Test(arguments: Kind.all.filter { $0 != .nothing }) func whatIsThereStays(kind: Kind) throws {
    let disk = try Disk(kind)
    if kind == .empty { try disk.write([UInt8](repeating: 0, count: 65_536)) }
    // One byte anywhere is something.
    for offset in [0, 7, 40_000, try disk.place.bytes().count - 1] {
      try disk.write([1], at: offset)
      try expectRefused(disk, status: 8, "no new TPM takes its place")
      #expect(try printed(disk.place, Self.options(disk.place)).status == 8)
      try disk.write([0], at: offset)
    }
    #expect(disk.markers == [])
    #expect(try Self.start(disk.place).end() == 0)
  }

  /// swtpm's own state in that place, before and after an image was made there.
  @Test(arguments: Kind.all.filter { $0 != .empty }) func swtpmsState(kind: Kind) throws {
    let disk = try Disk(kind)
    let place = disk.place
    do {
      let swtpm = try DebianSwtpm(place, .singleFile, place.image)
      try #require(swtpm.isRunning, "\(swtpm.log)")
    }
    for more in [[], Self.options(place)] {
      let outcome = try place.runServer(more)
      #expect(outcome.status == 15 && outcome.text.contains("vnvram import-swtpm"), "\(outcome.text)")
      #expect(!outcome.text.contains("though an image was made here"), "\(outcome.text)")
      #expect(outcome.text.contains("dd if=\(place.image)") == (kind == .blankDevice), "\(outcome.text)")
      #expect(try printed(place, more).status == 15)
    }
    #expect(disk.markers == [])
    let state = try place.bytes()
    try disk.blank()
    #expect(try Self.start(place).end() == 0)
    try disk.write(state)
    try expectRefused(disk, status: 15, "vnvram import-swtpm", "though an image was made here")
  }

  /// What the message about a device says, done.
  @Test(.enabled(if: LoopDevice.isPermitted)) func importedOntoADevice() throws {
    let disk = try Disk(.blankDevice)
    let place = disk.place
    do {
      let swtpm = try DebianSwtpm(place, .singleFile, place.image)
      let data = try swtpm.connect(.data)
      try data.run(TPMCommand.defineIndex)
      try data.run(TPMCommand.write(0x5A))
    }
    let done = try place.run([
      "bash", "-ec",
      "dd if=\(place.image) of=copy count=2048; vnvram import-swtpm copy new.img --key \(place.key.name); "
        + "dd if=new.img of=\(place.image) conv=fsync",
    ])
    try #require(done.status == 0, "\(done.text)")
    let server = try Self.start(place)
    #expect(try server.connect(.data).index() == [UInt8](repeating: 0x5A, count: TPMCommand.indexSize))
    #expect(server.end() == 0)
  }

  @Test(.enabled(if: LoopDevice.isPermitted)) func tooSmall() throws {
    let disk = try Disk(.blankDevice, bytes: 512 << 10)
    try expectRefused(disk, status: 10, "are needed")
  }

  /// A volume that isn't active is no file in memory.
  @Test func belowDev() throws {
    let place = try Place(nil)
    // Its folder isn't there either, so that nothing could be made.
    let path = "/dev/vnvram-\(UUID().uuidString)/vm-100-disk-1"
    for spelled in [path, "/tmp/..//\(path)"] {
      place.state = "backend-uri=file://\(spelled)"
      for outcome in [
        try place.runServer(Self.options(place)), try printed(place, Self.options(place)),
      ] {
        #expect(outcome.status == 11 && outcome.text.contains("activate the volume"), "\(outcome.text)")
      }
    }
    #expect(!File.exists(place.path("markers")))
  }

  /// Who may write to the folder names no other file by it.
  @Test(arguments: Kind.all.filter { $0 == .empty || $0 == .blankFile }) func linkToAFile(kind: Kind) throws {
    let disk = try Disk(kind)
    let place = disk.place
    try FileManager.default.moveItem(atPath: place.image, toPath: place.path("other"))
    try FileManager.default.createSymbolicLink(atPath: place.image, withDestinationPath: place.path("other"))
    try expectRefused(disk, status: 15, "is a link to a file", "name the file itself")
    #expect(try printed(place, Self.options(place)).status == 15)
    #expect(disk.markers == [])
    // An image that is there may have a link.
    place.state = "backend-uri=file://\(place.path("other"))"
    #expect(try Self.start(place).end() == 0)
    place.state = "backend-uri=file://\(place.image)"
    #expect(try Self.start(place).end() == 0)
  }

  /// swtpm_setup deletes what is there where it is told that there is no state.
  @Test(arguments: Kind.all) func printedWithoutAKey(kind: Kind) throws {
    let disk = try Disk(kind)
    let outcome = try printed(disk.place, ["--make-on-first-use"])
    #expect(outcome.status == 3 && outcome.text.contains("--keyring-key NAME"), "\(outcome.text)")
    #expect(File.exists(disk.place.image) == (kind != .nothing))
    #expect(disk.markers == [])
  }

  /// Killed at any moment of its first start, it leaves what is no image, and is made anew, or a whole one.
  @Test(arguments: Kind.all) func killed(kind: Kind) throws {
    let disk = try Disk(kind)
    let place = disk.place
    var (made, cut, rounds) = (0, 0, 0)
    while rounds < 15 || made == 0 && rounds < 90 {
      rounds += 1
      let child = try place.start(
        ["vnvram-swtpm", "socket", "--tpm2", "--tpmstate", place.state ?? ""] + TestServer.unixSockets(place.folder)
          + Self.options(place))
      usleep(UInt32.random(in: 2000...(rounds < 30 ? 80_000 : 800_000)))
      child.kill()
      _ = child.wait()
      if try place.run(["vnvram", "check", place.image]).status == 0 {
        made += 1
      } else if File.exists(place.image), try place.bytes().contains(where: { $0 != 0 }) {
        cut += 1
      }
      let server = try Self.start(place)
      #expect(server.end() == 0, "\(server.log)")
      #expect(try place.run(["vnvram", "check", place.image]).status == 0)
      try? FileManager.default.removeItem(atPath: place.path("markers"))
      if kind == .nothing { unsafe unlink(place.image) } else { try disk.blank() }
    }
    print("killed at its first start in \(kind): \(made) whole images, \(cut) cut short, of \(rounds)")
    #expect(made > 0, "it was always killed before")
  }

  /// While the marker isn't used: what was cut short, and what swtpm_setup wiped, is made anew; what is somebody else's
  /// by now stays.
  @Test(arguments: Kind.all.filter { $0 == .blankFile || $0 == .blankDevice }) func cutShort(kind: Kind) throws {
    let disk = try Disk(kind)
    let place = disk.place
    #expect(try Self.start(place).end() == 0)
    let marker = place.path("markers/") + (try #require(disk.markers.first))
    let (used, unused) = (Array("used yes".utf8), Array("used no ".utf8))
    #expect(try File.bytes(marker).dropFirst(16).prefix(8) == used[...])
    let remake = {
      try File.overwrite(marker, unused, at: 16)
      let server = try Self.start(place)
      #expect(server.log.contains("made"), "\(server.log)")
      #expect(server.end() == 0)
      #expect(try File.bytes(marker).dropFirst(16).prefix(8) == used[...])
    }
    // A whole image is taken, and used from then on.
    try File.overwrite(marker, unused, at: 16)
    let server = try Self.start(place)
    #expect(!server.log.contains("made"), "\(server.log)")
    #expect(server.end() == 0)
    #expect(try File.bytes(marker).dropFirst(16).prefix(8) == used[...])
    try disk.write([UInt8](repeating: 0, count: 8))
    try expectRefused(disk, status: 15, "conv=notrunc", "vnvram marker forget")
    try remake()
    // Headers come last, behind a journal of zeros.
    try disk.write([UInt8](repeating: 0, count: 400_000))
    try expectRefused(disk, status: 11, "made one in it before")
    try remake()
    // The superblock of btrfs, a CD's.
    for offset in [65_600, 32_769] {
      try disk.blank()
      try disk.write(Array("something".utf8), at: offset)
      try File.overwrite(marker, unused, at: 16)
      try expectRefused(disk, status: 8, "no new TPM takes its place")
    }
  }
}
