import Foundation
import TestSupport
import Testing

/// Debian's swtpm, started by accident on an image of ours: it refuses the image and writes nothing into it. An image
/// begins with the magic number of swtpm's single file and a version that swtpm doesn't know (FORMAT.md); swtpm formats
/// a file that lacks the first.
@Suite struct SwtpmOnImagesTests {
  /// How it is told where its state is, with which key, and for which TPM.
  struct Start: Sendable, CustomTestStringConvertible {
    let storage: DebianSwtpm.Storage
    let isKeyed: Bool
    let isTPM2: Bool

    static let all = DebianSwtpm.Storage.allCases.flatMap { storage in
      [false, true].flatMap { isKeyed in
        [true, false].map { Start(storage: storage, isKeyed: isKeyed, isTPM2: $0) }
      }
    }
    var testDescription: String { "\(storage), \(isKeyed ? "keyed" : "plain"), TPM \(isTPM2 ? "2.0" : "1.2")" }
  }

  /// An image that swtpm finds where it looks for its state, and all that a write would change.
  final class Found {
    struct Condition: Equatable {
      let bytes: [UInt8]
      let inode: UInt64
      let seconds: Int
      let nanoseconds: Int
    }

    let start: Start
    let place: Place
    let before: Condition

    init(_ start: Start) throws {
      self.start = start
      place = try Place.forFirstUse(isTPM2: start.isTPM2)
      let made = try place.run(
        ["vnvram", "format", place.image, "--key", place.key.name, "--profile", start.isTPM2 ? "tpm2" : "tpm1.2"])
      try TestFailure.unless(made.status == 0, made.text)
      before = try Self.condition(place.image)
    }

    private static func condition(_ path: String) throws -> Condition {
      var status = stat()
      guard unsafe stat(path, &status) == 0 else { throw POSIXError(POSIXErrorCode(rawValue: errno) ?? .EIO) }
      return Condition(
        bytes: try File.bytes(path), inode: UInt64(status.st_ino), seconds: status.st_mtim.tv_sec,
        nanoseconds: status.st_mtim.tv_nsec)
    }

    var isUnchanged: Bool { (try? Self.condition(place.image)) == before }

    /// What `--tpmstate` says.
    var option: String {
      start.storage.option(start.storage == .directory ? place.path("state") : place.image)
    }
    /// What `--tpm-state` of swtpm_setup says.
    var uri: String {
      start.storage == .directory ? "dir://\(place.path("state"))" : "file://\(place.image)"
    }

    func key() throws -> String? {
      start.isKeyed ? try SwtpmKeyForm.all[1].option(place) : nil
    }

    func swtpm(flags: String? = nil) throws -> DebianSwtpm {
      try DebianSwtpm(
        place, start.storage, start.storage == .directory ? place.path("state") : place.image, key: try key(),
        isTPM2: start.isTPM2, flags: flags)
    }

    /// Says that it is no state of swtpm's, as far as it gets to look: for a single file always, before anything else.
    func isRefused(_ log: String) -> Bool {
      start.storage == .directory || log.contains("Unknown format version: 255") && !log.contains("Formatting")
    }
  }

  @Test(arguments: Start.all) func printStates(_ start: Start) throws {
    let found = try Found(start)
    let printed = try found.place.run(
      ["swtpm", "socket", "--print-states", "--tpmstate", found.option] + (start.isTPM2 ? ["--tpm2"] : [])
        + (try found.key().map { ["--key", $0] } ?? []))
    #expect(found.isUnchanged && found.isRefused(printed.text), "\(printed.text)")
    // In a folder its name is enough for it to be a state.
    #expect(printed.status == (start.storage == .directory ? 0 : 1), "\(printed.text)")
  }

  @Test(arguments: Start.all) func startedAtOnce(_ start: Start) throws {
    let found = try Found(start)
    let swtpm = try found.swtpm(flags: "not-need-init,startup-clear")
    #expect(!swtpm.isRunning && found.isRefused(swtpm.log), "\(swtpm.log)")
    #expect(found.isUnchanged, "\(swtpm.log)")
  }

  /// It serves its control channel, refuses INIT, and writes nothing then or after any other command.
  @Test(arguments: Start.all) func initialized(_ start: Start) throws {
    let found = try Found(start)
    let swtpm = try found.swtpm()
    for command in [["-i"], ["-i"], ["-v"], ["-h", "abc"], ["-r", "0"], ["--save", "permanent", "out"], ["--stop"]] {
      let answer = try swtpm.control(command)
      #expect((answer.status != 0) == (command != ["--stop"]), "\(command): \(answer.text)")
      #expect(found.isUnchanged, "\(command): \(swtpm.log)")
    }
    swtpm.end()
    #expect(found.isUnchanged && found.isRefused(swtpm.log), "\(swtpm.log)")
  }

  /// A TPM that comes over the control channel, as a migration brings it, doesn't go over an image in a single file.
  @Test(arguments: Start.all.filter { $0.storage == .singleFile }) func migratedOnto(_ start: Start) throws {
    let found = try Found(start)
    let swtpm = try found.swtpm()
    for blob in try Self.stateBlobs(found) {
      try swtpm.control("--load", blob, blob)
      #expect(try swtpm.control("-i").status != 0 && found.isUnchanged, "\(blob): \(swtpm.log)")
    }
    swtpm.end()
    #expect(found.isUnchanged && found.isRefused(swtpm.log), "\(swtpm.log)")
  }

  /// The state of a TPM that Debian's swtpm has, in files beside the image; their kinds, which are their names.
  private static func stateBlobs(_ found: Found) throws -> [String] {
    let source = try DebianSwtpm(found.place, .directory, found.place.path("source"), isTPM2: found.start.isTPM2)
    for kind in ["permanent", "volatile"] {
      let saved = try source.control("--save", kind, kind)
      try TestFailure.unless(saved.status == 0, saved.text)
    }
    return ["permanent", "volatile"]
  }

  /// On purpose swtpm_setup replaces a state in a folder, whatever it holds; in a single file not even then.
  @Test(
    arguments: Start.all.filter { $0.isTPM2 && !$0.isKeyed },
    [[], ["--overwrite"], ["--not-overwrite"], ["--create-ek-cert", "--overwrite"]])
  func setUp(_ start: Start, options: [String]) throws {
    let found = try Found(start)
    let setup = try found.place.run(["swtpm_setup", "--tpm2", "--tpm-state", found.uri] + options)
    let isReplaced = start.storage == .directory && options.contains("--overwrite")
    #expect(found.isUnchanged != isReplaced, "\(setup.text)")
    let isFine = isReplaced || start.storage == .directory && options == ["--not-overwrite"]
    #expect((setup.status == 0) == isFine, "\(setup.text)")
  }

  /// The same on a block device, which swtpm's single file may be.
  @Test(.enabled(if: LoopDevice.isPermitted)) func onADevice() throws {
    let place = try Place(nil)
    let device = try LoopDevice(over: place.path("disk"), bytes: 4 << 20)
    let made = try place.run(["vnvram", "format", device.path, "--key", place.key.name, "--profile", "tpm2", "--force"])
    try #require(made.status == 0, "\(made.text)")
    let bytes = try File.bytes(device.path)
    let printed = try place.run(
      ["swtpm", "socket", "--print-states", "--tpm2", "--tpmstate", "backend-uri=file://\(device.path)"])
    #expect(printed.status == 1 && printed.text.contains("Unknown format version: 255"), "\(printed.text)")
    let swtpm = try DebianSwtpm(place, .singleFile, device.path)
    #expect(!swtpm.isRunning, "\(swtpm.log)")
    #expect(try File.bytes(device.path) == bytes)
  }
}
