import Anchors
import BlockIO
import Primitives
import StorageSimulation
import Testing

@testable import SecureVolume

/// An anchor's failure after the point of no return says what is durable, in its words and by a field.
struct DurableFailureTests {
  private let image = newDisk()
  private let place = newAnchorDisk()

  init() throws {
    try format(image, anchor: FileAnchor(place))
    let volume = try open(image, FileAnchor(place))
    try volume.addSlot(makeKey(7), name: "spare", created: 1)
    try volume.close()
  }

  /// Lets the anchor's next record fail, does `change`, and gives the image as a power cut right after it leaves it.
  private func failing(
    _ words: String, _ change: (SecureVolume) throws(VolumeError) -> Void
  ) throws -> (SimulatedDisk, SecureVolume) {
    let volume = try open(image, FileAnchor(place))
    try commit(volume, 3)
    for call in 1...2 { place.inject(.fails(errno: 28), at: .write(place.writes + call)) }
    let error = #expect(throws: VolumeError.self) { try change(volume) }
    #expect(error?.code == .anchor(.device(.noSpace)) && error?.status == .noSpace && error?.isDurable == true)
    let text = error?.description ?? ""
    #expect(text.contains("\(words), durably; but its anchor anchor: "), "\(text)")
    var random = SeededGenerator(seed: 3)
    return (image.crashed(.nothing, using: &random), volume)
  }

  private func opens(_ image: SimulatedDisk, _ seed: UInt8) throws -> Bool {
    do {
      _ = try SealedVolume(SimulatedDisk(copyOf: image.bytes, isWritable: false)).unlock(with: makeKey(seed))
      return true
    } catch {
      guard error.code == .wrongKey else { throw error }
      return false
    }
  }

  @Test func addingASlot() throws {
    let (left, volume) = try failing("has the slot \"new\" now") { (volume) throws(VolumeError) in
      try volume.addSlot(makeKey(9), name: "new", created: 1)
    }
    #expect(try opens(left, 9))
    #expect(volume.slots.map(\.name).contains("new") && volume.failure == nil)
    // It goes on: the anchor isn't the store.
    try commit(volume, 4)
    place.clearFaults()
    try volume.close()
    #expect(try stamp(open(image, FileAnchor(place))) == 4)
  }

  @Test func removingASlot() throws {
    let (left, volume) = try failing("has the slot \"spare\" no more") { (volume) throws(VolumeError) in
      try volume.removeSlot(named: "spare")
    }
    #expect(try !opens(left, 7))
    #expect(!volume.slots.map(\.name).contains("spare") && volume.failure == nil)
  }

  /// The zeros come before the anchor.
  @Test func scrubbing() throws {
    let (left, _) = try failing("was scrubbed") { (volume) throws(VolumeError) in try volume.scrub() }
    let ring = Int(smallGeometry.ringOffset)..<Int(smallGeometry.leafOffset)
    #expect(left.bytes[ring].allSatisfy { $0 == 0 })
  }

  @Test func closing() throws {
    let (left, volume) = try failing("was closed cleanly") { (volume) throws(VolumeError) in try volume.close() }
    #expect(try open(SimulatedDisk(copyOf: left.bytes, isWritable: false), nil).opening.wasClosedCleanly)
    // It is closed: a second time there is nothing to do.
    try volume.close()
    #expect(try open(disk(left.bytes), FileAnchor(disk(place.bytes))).opening.anchor?.verdict == .ahead)
  }

  @Test func accepting() throws {
    let older = disk(image.bytes)
    let volume = try open(image, FileAnchor(place))
    try commit(volume, 3)
    try volume.close()
    place.inject(.fails(errno: 5), at: .write(place.writes + 1))
    let error = #expect(throws: VolumeError.self) { try accept(older, FileAnchor(self.place)) }
    #expect(error?.code == .anchor(.device(.inputOutput)) && error?.isDurable == true)
    #expect(
      error?.description.contains("was given generation 1048577, durably; but its anchor") == true,
      "\(String(describing: error))")
    #expect(try open(SimulatedDisk(copyOf: older.bytes, isWritable: false), nil).generation == Generation(1_048_577))
  }

  /// A commit that the anchor's bound refuses has not been done.
  @Test func aCommitAtTheBound() throws {
    let volume = try open(image, FileAnchor(place))
    volume.commitsPerAnchor = 1
    for n in place.writes + 1...place.writes + 100 { place.inject(.fails(errno: 28), at: .write(n)) }
    var error: VolumeError?
    for i in 1...9 as ClosedRange<UInt8> where error == nil {
      do { try commit(volume, i) } catch let failure { error = failure }
    }
    #expect(error?.code == .anchor(.device(.noSpace)) && error?.isDurable == false)
  }
}
