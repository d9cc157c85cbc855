import Foundation
import TestSupport
import Testing

/// Which place a marker of the host is of, as paths, devices and files come and go; and whose it is.
extension FirstUseFileTests {
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
