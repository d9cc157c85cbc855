import Anchors
import BlockIO
import Foundation
import Primitives
import SecureVolume
import StorageSimulation
import Testing

/// Anchors in real files: where they lie, whose they are, and that one is never used twice at a time.
final class FileAnchorTests {
  private let folder: String

  init() throws {
    folder = NSTemporaryDirectory() + "vnvram-anchor-\(UUID().uuidString.prefix(8).lowercased())"
    try FileManager.default.createDirectory(atPath: folder, withIntermediateDirectories: true)
  }

  deinit { try? FileManager.default.removeItem(atPath: folder) }

  private func path(_ name: String) -> String { "\(folder)/\(name)" }

  /// Formats, opens, commits and closes, each with an anchor object of its own, as processes do.
  private func use(_ image: SimulatedDisk, _ path: String) throws {
    let first = FileAnchor(path: path)
    try format(image, anchor: first)
    first.release()
    let second = FileAnchor(path: path)
    let volume = try open(image, second)
    try commit(volume, 1)
    try volume.close()
    second.release()
  }

  /// Where making a store fails, what was made for it is gone, and nothing else: it can be made again.
  @Test func noStoreNoAnchor() throws {
    try FileManager.default.createDirectory(atPath: path("dir"), withIntermediateDirectories: false)
    for place in [path("a"), path("dir")] {
      #expect(throws: VolumeError.self) { try self.formatInVain(FileAnchor(path: place)) }
    }
    #expect(try FileManager.default.contentsOfDirectory(atPath: folder) == ["dir"])
    #expect(try FileManager.default.contentsOfDirectory(atPath: path("dir")) == [])
    try use(newDisk(), path("a"))
    let before = try Data(contentsOf: URL(fileURLWithPath: path("a")))
    #expect(throws: VolumeError.self) { try self.formatInVain(FileAnchor(path: self.path("a"))) }
    #expect(try Data(contentsOf: URL(fileURLWithPath: path("a"))) == before)
  }

  private func formatInVain(_ anchor: FileAnchor) throws {
    defer { anchor.release() }
    try VolumeFormatter.format(
      newDisk(), geometry: smallGeometry, key: makeKey(1), name: "k", created: 1,
      content: { (_, _) throws(VolumeError) in throw VolumeError(.refused, store: "image", "no") }, anchor: anchor)
  }

  @Test func aFileOfItsOwn() throws {
    let image = newDisk()
    try use(image, path("a"))
    let attributes = try FileManager.default.attributesOfItem(atPath: path("a"))
    #expect(attributes[.posixPermissions] as? Int == 0o600)
    #expect(attributes[.size] as? UInt64 == FileAnchor.size.value)
    let anchor = FileAnchor(path: path("a"))
    let volume = try open(image, anchor)
    #expect(volume.opening.anchor?.verdict == .current && volume.opening.anchor?.generation == Generation(1))
    #expect(try FileManager.default.contentsOfDirectory(atPath: folder) == ["a"])
  }

  @Test func aDirectoryOfMany() throws {
    let images = [newDisk(), newDisk()]
    for image in images { try use(image, folder) }
    let names = try images.map { "\(try SealedVolume($0).uuid).anchor" }
    #expect(try FileManager.default.contentsOfDirectory(atPath: folder).sorted() == names.sorted())
    for image in images { #expect(refusal(image, FileAnchor(path: folder + "/")) == nil) }
  }

  /// Never "first use": neither for reading nor for writing, nor where the directory is gone, too.
  @Test func aMissingAnchorIsAnError() throws {
    let image = newDisk()
    try use(image, path("a"))
    try FileManager.default.removeItem(atPath: path("a"))
    for place in [path("a"), folder, path("gone/"), path("gone/a")] {
      for isWritable in [false, true] {
        let copy = SimulatedDisk(copyOf: image.bytes, isWritable: isWritable)
        let error = refusal(copy, FileAnchor(path: place))
        #expect(error?.code == .anchor(.missing) && error?.status == .rolledBack, "\(place)")
        #expect(error?.description.contains("accept-rollback") == true && copy.writes == 0)
      }
    }
    #expect(try FileManager.default.contentsOfDirectory(atPath: folder) == [])
  }

  @Test func whatOthersCouldChangeIsRefused() throws {
    let image = newDisk()
    try use(image, path("a"))
    try FileManager.default.createSymbolicLink(atPath: path("link"), withDestinationPath: path("a"))
    #expect(refusal(image, FileAnchor(path: path("link")))?.code == .anchor(.refused))
    #expect(refusal(image, FileAnchor(path: "/dev/null"))?.code == .anchor(.refused))
    for mode in [0o620, 0o602, 0o666] {
      _ = unsafe chmod(path("a"), mode_t(mode))
      let error = refusal(image, FileAnchor(path: path("a")))
      #expect(error?.code == .anchor(.refused) && error?.status == .refused, "\(String(mode, radix: 8))")
    }
    _ = unsafe chmod(path("a"), 0o600)
    if geteuid() == 0 {
      _ = unsafe chown(path("a"), 12345, 0)
      #expect(refusal(image, FileAnchor(path: path("a")))?.code == .anchor(.refused))
      _ = unsafe chown(path("a"), 0, 0)
    }
    #expect(refusal(image, FileAnchor(path: path("a"))) == nil)
  }

  /// Two copies of one image, both as new as the anchor: the second opening is refused, not made a fork.
  @Test func oneProcessAtATime() throws {
    let image = newDisk()
    try use(image, path("a"))
    let copy = disk(image.bytes)
    let first = FileAnchor(path: path("a"))
    let volume = try open(image, first)
    #expect(refusal(copy, FileAnchor(path: path("a")))?.code == .anchor(.device(.inUse)))
    try commit(volume, 2)
    try volume.close()
    first.release()
    #expect(refusal(copy, FileAnchor(path: path("a")))?.code == .rolledBack)
  }

  @Test func whatIsThereIsKept() throws {
    let image = newDisk()
    try use(image, path("a"))
    let before = try Data(contentsOf: URL(fileURLWithPath: path("a")))
    #expect(throws: VolumeError(.anchor(.exists), store: "", "")) {
      try format(newDisk(), anchor: FileAnchor(path: path("a")))
    }
    #expect(try Data(contentsOf: URL(fileURLWithPath: path("a"))) == before)
    // Nor for who insists: what is replaced is the image, not another store's anchor.
    #expect(throws: VolumeError(.anchor(.exists), store: "", "")) {
      try format(newDisk(), anchor: FileAnchor(path: path("a")), replacingAnchor: true)
    }
    #expect(try Data(contentsOf: URL(fileURLWithPath: path("a"))) == before)
  }

  /// Accepting an image writes over nothing but an anchor of its own: neither another store's, nor an image, nor a key.
  @Test func acceptingKeepsWhatIsOthers() throws {
    let image = newDisk()
    try use(image, path("a"))
    let other = newDisk()
    try use(other, path("b"))
    let imageFile = Data(other.bytes)
    try imageFile.write(to: URL(fileURLWithPath: path("image")))
    let key = Data((0..<32).map { UInt8($0) })
    try key.write(to: URL(fileURLWithPath: path("key")))
    for name in ["image", "key"] { _ = unsafe chmod(path(name), 0o600) }
    for name in ["b", "image", "key"] {
      let before = try Data(contentsOf: URL(fileURLWithPath: path(name)))
      let (bytes, writes) = (image.bytes, image.writes)
      #expect(throws: VolumeError(.anchor(.exists), store: "", "")) { try accept(image, FileAnchor(path: path(name))) }
      #expect(try Data(contentsOf: URL(fileURLWithPath: path(name))) == before, "\(name)")
      #expect(image.bytes == bytes && image.writes == writes, "and the image is as it was")
    }
    let own = FileAnchor(path: path("a"))
    try accept(image, own).close()
    own.release()
    #expect(refusal(image, FileAnchor(path: path("a"))) == nil)
  }

  /// What is accepted is what was shown, not what somebody put in its place meanwhile.
  @Test func acceptingWhatWasShown() throws {
    let image = newDisk()
    try use(image, path("a"))
    let earlier = image.bytes
    let volume = try open(image, nil)
    try commit(volume, 2)
    try volume.close()
    let shown = try open(disk(image.bytes), nil).moment
    let swapped = disk(earlier)
    #expect(throws: VolumeError(.refused, store: "", "")) {
      try SealedVolume(swapped).unlock(
        with: makeKey(), slotName: nil, use: .accepting(FileAnchor(path: path("a")), shown: shown))
    }
    #expect(swapped.bytes == earlier)
  }

  /// A file that was removed or replaced under a running store is no anchor any more, and that is told.
  @Test func replacedWhileInUse() throws {
    let image = newDisk()
    try use(image, path("a"))
    let anchor = FileAnchor(path: path("a"))
    let volume = try open(image, anchor)
    try commit(volume, 2)
    let copy = try Data(contentsOf: URL(fileURLWithPath: path("a")))
    try FileManager.default.removeItem(atPath: path("a"))
    try copy.write(to: URL(fileURLWithPath: path("a")))
    #expect(throws: VolumeError(.anchor(.missing), store: "", "")) { try volume.close() }
    #expect(try Data(contentsOf: URL(fileURLWithPath: path("a"))) == copy)
  }

  /// A file that was cut short, or grew, or lost the newer of its records.
  @Test func damage() throws {
    let image = newDisk()
    try use(image, path("a"))
    let whole = try Data(contentsOf: URL(fileURLWithPath: path("a")))
    for count in [0, 1, 255, 65536, whole.count - 1] {
      try whole.prefix(count).write(to: URL(fileURLWithPath: path("a")))
      #expect(refusal(image, FileAnchor(path: path("a")))?.code == .anchor(.notAuthentic), "\(count)")
    }
    // One record is what a power cut may leave; the other counts then.
    for lost in 0...1 {
      var one = whole
      one.replaceSubrange(lost * 65536..<lost * 65536 + 256, with: Data(count: 256))
      try one.write(to: URL(fileURLWithPath: path("a")))
      #expect(refusal(disk(image.bytes), FileAnchor(path: path("a"))) == nil)
    }
  }

  // MARK: How people name them

  @Test func specifications() throws {
    #expect(AnchorSpecification("/a/b") == .file("/a/b"))
    #expect(AnchorSpecification("none") == AnchorSpecification.none)
    #expect(AnchorSpecification("generation:12") == .generation(Generation(12)))
    #expect(
      AnchorSpecification("tpm:0x01800100,/a")
        == .tpm(index: 0x0180_0100, file: "/a", tcti: TPMCounterAnchor.defaultTCTI))
    #expect(
      AnchorSpecification("tpm:01c00001,a,b,tcti=swtpm:host=x,port=1")
        == .tpm(index: 0x01C0_0001, file: "a,b", tcti: "swtpm:host=x,port=1"))
    for text in [
      "", "generation:", "generation:-1", "generation:9223372036854775808", "generation:1x", "tpm:", "tpm:0x01800100",
      "tpm:0x01800100,", "tpm:0x81000001,a", "tpm:x,a", "tpm:0x01800100,a,tcti=", "a\0b",
    ] {
      #expect(AnchorSpecification(text) == nil, "\(text)")
    }
  }
}
