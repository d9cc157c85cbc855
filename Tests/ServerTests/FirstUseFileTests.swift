import Foundation
import TestSupport
import Testing

/// The image of `--tpmstate backend-uri=file://`, which the server makes in what is blank, once, with `--make-on-first-use`.
@Suite struct FirstUseFileTests {
  /// What there is before the first use.
  enum Kind: String, CaseIterable, Sendable {
    case nothing, empty, blankFile, blankDevice

    static let all = allCases.filter { $0 != .blankDevice || LoopDevice.isPermitted }
  }

  /// Proxmox's TPM disks.
  private static let size = 4 << 20

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

  private static func options(_ place: Place) -> [String] { ["--make-on-first-use", "--keyring-key", place.key.name] }

  private static func start(_ place: Place, _ more: [String] = []) throws -> TestServer {
    try TestServer(place, TestServer.startsByItself + options(place) + more)
  }

  private func expectRefused(
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

  private func printed(_ place: Place, _ options: [String]) throws -> Place.Outcome {
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

  /// A VM's number is given out again: the same path, and another device.
  @Test(.enabled(if: LoopDevice.isPermitted)) func anotherDevice() throws {
    let disk = try Disk(.blankDevice)
    let place = disk.place
    #expect(try Self.start(place).end() == 0)
    let first = disk.loop
    try disk.attach(Self.size, "other")
    let server = try Self.start(place)
    #expect(server.log.contains("made"), "\(server.log)")
    #expect(server.end() == 0)
    #expect(disk.markers.count == 2)
    // Both are remembered.
    try disk.blank()
    try expectRefused(disk, status: 11, "made one in it before")
    unsafe unlink(place.image)
    try FileManager.default.createSymbolicLink(atPath: place.image, withDestinationPath: try #require(first).path)
    try disk.blank()
    try expectRefused(disk, status: 11, "made one in it before")
    // The path alone is gone.
    unsafe unlink(place.image)
    try expectRefused(disk, status: 11, "is gone")
  }

  /// A file that is removed, or written anew, has another number, and is another one only where somebody says so.
  @Test func anotherFile() throws {
    let disk = try Disk(.blankFile)
    let place = disk.place
    #expect(try Self.start(place).end() == 0)
    // The old one stays while the new one is made: else it could have its number.
    try FileManager.default.moveItem(atPath: place.image, toPath: place.path("old"))
    try expectRefused(disk, status: 11, "is gone")
    try place.write([UInt8](repeating: 0, count: Self.size))
    try expectRefused(disk, status: 11, "made one in it before", "vnvram marker forget \(place.image)")
    #expect(try printed(place, Self.options(place)).status == 11)
    #expect(try place.run(["vnvram", "marker", "forget", place.image]).status == 0)
    let server = try Self.start(place)
    #expect(server.log.contains("made"), "\(server.log)")
    #expect(server.end() == 0)
    #expect(disk.markers.count == 1)
    #expect(try place.bytes().count == Self.size, "a file keeps its size")
  }

  /// A device is the same one by each of its paths, and a path by each of its spellings.
  @Test(.enabled(if: LoopDevice.isPermitted)) func otherPaths() throws {
    let disk = try Disk(.blankDevice)
    let place = disk.place
    let device = try #require(disk.loop).path
    #expect(try Self.start(place).end() == 0)
    try disk.blank()
    let folder = place.folder
    for path in ["\(folder)//vm-100-disk-1", "\(folder)/./x/../vm-100-disk-1", "/..\(place.image)", device] {
      if path.contains("/x/") {
        try FileManager.default.createDirectory(atPath: place.path("x"), withIntermediateDirectories: true)
      }
      place.state = "backend-uri=file://\(path)"
      try expectRefused(disk, status: 11, "made one in it before", "vnvram marker forget \(path)")
    }
    let forgotten = try place.run(["vnvram", "marker", "forget", device])
    #expect(forgotten.status == 0 && forgotten.text.contains("\(place.image): forgotten, too"), "\(forgotten.text)")
    let records = String(decoding: try place.bytes("audit.jsonl"), as: UTF8.self)
    #expect(records.contains("\"event\":\"marker-forgotten\",\"store\":\"\(place.image)\""), "\(records)")
    #expect(disk.markers == [])
    let server = try Self.start(place)
    #expect(server.log.contains("made"), "\(server.log)")
    #expect(server.end() == 0)
  }

  /// The spellings of a file's path, too.
  @Test func otherSpellings() throws {
    let disk = try Disk(.blankFile)
    let place = disk.place
    place.state = "backend-uri=file://\(place.folder)/.//vm-100-disk-1"
    #expect(try Self.start(place).end() == 0)
    try disk.blank()
    place.state = "backend-uri=file://\(place.image)"
    try expectRefused(disk, status: 11, "made one in it before")
    #expect(try place.run(["vnvram", "marker", "forget", ".//vm-100-disk-1"]).status == 0)
    #expect(try Self.start(place).end() == 0)
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

  /// While the marker isn't used: what was cut short, and what swtpm_setup wiped, is made anew; what is somebody else's by now
  /// stays.
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

  // MARK: Markers

  /// Whoever may write there decides whether a new TPM is made.
  @Test func markersOfOthers() throws {
    let disk = try Disk(.blankFile)
    let place = disk.place
    #expect(try Self.start(place).end() == 0)
    let (folder, marker) = (place.path("markers"), place.path("markers/") + (try #require(disk.markers.first)))
    for (path, mode, right) in [(folder, mode_t(0o777), mode_t(0o700)), (marker, 0o620, 0o600)] {
      #expect(unsafe chmod(path, mode) == 0)
      try expectRefused(disk, status: 15, path)
      #expect(try place.run(["vnvram", "marker", "list"]).status == 15)
      #expect(unsafe chmod(path, right) == 0)
    }
    let content = try File.bytes(marker)
    for damaged in [[], Array(content.prefix(20)), Array("something else\n".utf8)] {
      try File.write(damaged, to: marker)
      try expectRefused(disk, status: 15, marker)
    }
    try File.write(content, to: marker)
    unsafe unlink(place.path("elsewhere"))
    try FileManager.default.moveItem(atPath: marker, toPath: place.path("elsewhere"))
    try FileManager.default.createSymbolicLink(atPath: marker, withDestinationPath: place.path("elsewhere"))
    try expectRefused(disk, status: 11, marker)
    unsafe unlink(marker)
    try FileManager.default.moveItem(atPath: place.path("elsewhere"), toPath: marker)
    #expect(try Self.start(place).end() == 0)
    // No place for a marker, no image.
    let other = try Disk(.blankFile)
    try other.place.write([], "markers")
    try expectRefused(other, status: 11, "markers")
    #expect(try other.place.bytes().allSatisfy { $0 == 0 })
  }

  /// What a kill left, by a process whose number is given out again.
  @Test func temporaryOfAKilledProcess() throws {
    let disk = try Disk(.blankFile)
    let place = disk.place
    #expect(try Self.start(place).end() == 0)
    let marker = place.path("markers/") + (try #require(disk.markers.first))
    #expect(try place.run(["vnvram", "marker", "forget", place.image]).status == 0)
    try disk.blank()
    let outcome = try place.run([
      "bash", "-c",
      """
      (: > "\(marker).$BASHPID.tmp"; exec vnvram-swtpm socket --tpm2 --tpmstate '\(place.state ?? "")' \
      --ctrl type=unixio,path=c --make-on-first-use --keyring-key \(place.key.name)) & server=$!
      until [ -S c ] || ! kill -0 $server; do sleep 0.05; done; swtpm_ioctl --unix c -s; wait $server
      """,
    ])
    #expect(outcome.status == 0 && outcome.text.contains("made"), "\(outcome.text)")
  }

  @Test func forgotten() throws {
    let disk = try Disk(.blankFile)
    let place = disk.place
    let none = try place.run(["vnvram", "marker", "forget", place.image])
    #expect(none.status == 14, "\(none.text)")
    #expect(try place.run(["vnvram", "marker", "list"]).text == "")
    #expect(try Self.start(place).end() == 0)
    let list = try place.run(["vnvram", "marker", "list"]).text
    #expect(list.hasPrefix("\(place.image)  used  file "), "\(list)")
    // As it is written on the command line, from the folder where one is.
    let lost = try place.run(["vnvram", "marker", "forget", "vm-100-disk-1", "--audit", "/dev/full"])
    #expect(lost.status == 12 && disk.markers.count == 1, "\(lost.text)")
    #expect(try place.run(["vnvram", "marker", "forget", "vm-100-disk-1"]).status == 0)
    #expect(disk.markers == [])
    let records = String(decoding: try place.bytes("audit.jsonl"), as: UTF8.self)
    #expect(
      records.contains("\"event\":\"marker-forgotten\",\"store\":\"\(place.image)\""), "\(records)")
  }

  @Test(.enabled(if: geteuid() == 0)) func asAnotherUser() throws {
    let disk = try Disk(.nothing)
    let place = disk.place
    let nobody = try unsafe #require(getpwnam("nobody"))
    let (user, group) = unsafe (nobody.pointee.pw_uid, nobody.pointee.pw_gid)
    // The markers stay root's.
    let own = place.path("own")
    try FileManager.default.createDirectory(atPath: own, withIntermediateDirectories: false)
    #expect(unsafe chown(own, user, group) == 0)
    place.image = own + "/disk"
    place.state = "backend-uri=file://\(place.image)"
    let arguments =
      TestServer.startsByItself + Self.options(place) + ["--runas", "nobody", "--audit", own + "/log-of-nobody"]
    let server = try TestServer(place, arguments, folder: own)
    try #require(server.isRunning, "\(server.log)")
    do {
      let socket = try Socket(path: own + "/tpm")
      try socket.run(TPMCommand.defineIndex)
    }
    #expect(server.end() == 0, "\(server.log)")
    #expect(try FileManager.default.attributesOfItem(atPath: place.image)[.ownerAccountID] as? Int == Int(user))
    try disk.blank()
    try expectRefused(disk, status: 11, "made one in it before")
  }
}
