import Anchors
import BlockIO
import Foundation
import Primitives
import SecureVolume
import StorageSimulation
import Testing

/// What went wrong in other stores, case 8 as Tests/README.md lists them: an absent or empty anchor was taken for a
/// first use, and so an old snapshot for the store.
struct KnownFailuresElsewhereTests {
  /// A store's image as it was once, as it is now, and its anchor now.
  private func history() throws -> (older: [UInt8], newer: [UInt8], anchor: [UInt8]) {
    let (image, place) = (newDisk(), newAnchorDisk())
    try format(image, anchor: FileAnchor(place))
    var images: [[UInt8]] = []
    for stamp: UInt8 in [1, 2] {
      let volume = try open(image, FileAnchor(place))
      try commit(volume, stamp)
      try volume.close()
      images.append(image.bytes)
    }
    return (images[0], images[1], place.bytes)
  }

  @Test("case 8: an empty, cut, zeroed or overwritten anchor opens no image, old or new, and is not written to")
  func case8EmptyAnchor() throws {
    let (older, newer, anchor) = try history()
    var random = SeededGenerator(seed: 8)
    let damaged: [(String, [UInt8])] = [
      ("empty", []), ("one byte", [0]), ("cut to one record", Array(anchor.prefix(65_536))),
      ("cut by a byte", Array(anchor.dropLast())), ("zeros", [UInt8](repeating: 0, count: anchor.count)),
      ("noise", random.bytes(anchor.count)), ("ones", [UInt8](repeating: 0xFF, count: anchor.count)),
    ]
    for (name, bytes) in damaged {
      for (age, image) in [("older", older), ("newer", newer)] {
        for isWritable in [true, false] {
          let place = SimulatedDisk(copyOf: bytes, name: "anchor", isWritable: isWritable)
          let medium = SimulatedDisk(copyOf: image, name: "image", isWritable: isWritable)
          let error = refusal(medium, FileAnchor(place))
          #expect(error != nil, "the \(age) image opened beside an anchor that is \(name)")
          #expect(
            error?.status != .done && error?.description.contains("anchor") == true, "\(String(describing: error))")
          #expect(place.writes == 0 && medium.writes == 0, "\(name)")
        }
      }
    }
    // Beside the anchor as it is, the old one is rolled back and the new one opens.
    #expect(refusal(disk(older), FileAnchor(disk(anchor)))?.status == .rolledBack)
    #expect(refusal(disk(newer), FileAnchor(disk(anchor))) == nil)
  }

  @Test("case 8: an absent anchor opens no image, old or new, and none is made") func case8AbsentAnchor() throws {
    let (older, newer, anchor) = try history()
    let folder = NSTemporaryDirectory() + "vnvram-case8-\(UUID().uuidString)"
    try FileManager.default.createDirectory(atPath: folder, withIntermediateDirectories: false)
    defer { try? FileManager.default.removeItem(atPath: folder) }
    // A file that isn't there, a folder without one for this store, a folder that isn't there, a dangling link.
    try FileManager.default.createSymbolicLink(atPath: folder + "/link", withDestinationPath: folder + "/gone")
    let before = try FileManager.default.contentsOfDirectory(atPath: folder)
    for path in ["\(folder)/missing", folder, "\(folder)/missing/anchor", "\(folder)/link"] {
      for image in [older, newer] {
        let medium = disk(image)
        let error = refusal(medium, FileAnchor(path: path))
        #expect(error != nil && medium.writes == 0, "\(path)")
      }
    }
    #expect(try FileManager.default.contentsOfDirectory(atPath: folder).sorted() == before.sorted())
    try Data(anchor).write(to: URL(fileURLWithPath: folder + "/missing"))
    #expect(refusal(disk(newer), FileAnchor(path: folder + "/missing")) == nil)
  }
}
