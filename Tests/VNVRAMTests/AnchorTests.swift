import Anchors
import Audit
import BlobStore
import BlockIO
import Foundation
import Primitives
import SecureVolume
import Testing

@testable import VNVRAM

/// An NVRAM with an anchor.
struct AnchorTests {
  let place: TestPlace
  static let entries: [String: UInt64] = ["state": 4096]
  private var anchorPath: String { place.directory + "/anchor" }

  init() throws {
    place = try TestPlace()
    let device = try FileDevice.create(path: place.image, size: .zero, replacing: false)
    let nvram = NVRAM(device, audit: AuditLog(.none), anchor: FileAnchor(path: anchorPath))
    try nvram.register(entry: "state", capacity: ByteCount(4096 as UInt64))
    try nvram.format(key: TestPlace.key(1), slotName: place.name("a"), growing: true)
    try nvram.close()
    try place.bring("a", 1)
  }

  private func nvram(
    _ events: Recorder<NVRAMEvent> = Recorder(), _ change: (inout NVRAMConfiguration) -> Void = { _ in }
  ) throws -> NVRAM {
    var configuration = NVRAMConfiguration()
    configuration.shortestKeySearchInterval = .milliseconds(2)
    change(&configuration)
    let nvram = try NVRAM.setUp(
      path: place.image, audit: place.audit, configuration: configuration, anchor: FileAnchor(path: anchorPath))
    nvram.observe { events.add($0) }
    try nvram.register(entry: "state", capacity: ByteCount(4096 as UInt64))
    return nvram
  }

  /// What the anchor remembers, and what the image has, looked at from outside.
  private func compare(_ image: String) throws -> AnchorFinding {
    let anchor = FileAnchor(path: anchorPath)
    let volume = try SealedVolume(FileDevice.open(path: image, access: .readOnly)).unlock(with: TestPlace.key(1))
    defer { anchor.release() }
    return try volume.compare(with: anchor)
  }

  @Test func followsAndRefuses() throws {
    let older = try place.bytes()
    let first = try nvram()
    try first.start(failOnEncryptedDrive: true)
    try first.replace("state", content(1))
    try first.close()
    #expect(try compare(place.image).verdict == .current)
    let newer = try place.bytes()
    try older.write(to: URL(fileURLWithPath: place.image))
    let second = try nvram()
    for fails in [true, false] {
      let error = failure { try second.start(failOnEncryptedDrive: fails) }
      #expect(fails ? error?.code == .volume(.rolledBack) : error != nil)
    }
    #expect(second.hadFatalError)
    try second.close()
    #expect(try place.bytes() == older)
    try newer.write(to: URL(fileURLWithPath: place.image))
    let third = try nvram()
    try third.start(failOnEncryptedDrive: true)
    #expect(try third.readContent("state") == content(1))
    try third.close()
  }

  /// A store that writes once and then never again is known to the anchor after the interval, not only when it closes.
  @Test func aCommitIsKnownAfterTheInterval() throws {
    let nvram = try nvram { $0.longestAnchorInterval = .milliseconds(30) }
    try nvram.start(failOnEncryptedDrive: true)
    for round in 1...3 {
      try nvram.replace("state", content(round))
      let copy = place.directory + "/copy-\(round)"
      // The image as a crash would leave it, beside the anchor as it is: at last they agree.
      let agree = eventually {
        try? FileManager.default.removeItem(atPath: copy)
        try? FileManager.default.copyItem(atPath: place.image, toPath: copy)
        guard let anchor = FileManager.default.contents(atPath: anchorPath) else { return false }
        try? anchor.write(to: URL(fileURLWithPath: anchorPath + "-copy"))
        return (try? generation(copy)) == UInt64(round)
      }
      #expect(agree, "round \(round)")
    }
    try nvram.close()
  }

  /// The generation that a copy of the anchor remembers.
  private func generation(_ image: String) throws -> UInt64 {
    _ = chmodOwnerOnly(anchorPath + "-copy")
    let anchor = FileAnchor(path: anchorPath + "-copy")
    defer { anchor.release() }
    let volume = try SealedVolume(FileDevice.open(path: image, access: .readOnly)).unlock(with: TestPlace.key(1))
    return try volume.compare(with: anchor).generation.value
  }

  private func chmodOwnerOnly(_ path: String) -> Bool {
    (try? FileManager.default.setAttributes([.posixPermissions: 0o600], ofItemAtPath: path)) != nil
  }

  /// Locked and unlocked, it is compared again: what somebody put back in between is refused.
  @Test func unlockingComparesAgain() throws {
    let older = try place.bytes()
    let nvram = try nvram()
    try nvram.start(failOnEncryptedDrive: true)
    try nvram.replace("state", content(1))
    try nvram.lock()
    let file = try FileHandle(forWritingTo: URL(fileURLWithPath: place.image))
    try file.write(contentsOf: older)
    try file.close()
    #expect(failure { try nvram.unlock(with: TestPlace.key(1)) }?.code == .volume(.rolledBack))
    #expect(nvram.hadFatalError)
    try nvram.close()
  }

  @Test func lockedAndUnlockedItGoesOn() throws {
    let nvram = try nvram()
    try nvram.start(failOnEncryptedDrive: true)
    for round in 1...3 {
      try nvram.replace("state", content(round))
      try nvram.lock()
      try nvram.unlock(with: TestPlace.key(1))
      #expect(try nvram.readContent("state") == content(round))
    }
    try nvram.close()
    #expect(try compare(place.image).verdict == .current)
  }

  /// An anchor's failure is not the store's: it is closed cleanly and locked, opens again, and nothing is lost.
  @Test func lockingWithoutTheAnchor() throws {
    let events = Recorder<NVRAMEvent>()
    let device = try FileDevice.open(path: place.image, access: .readWrite)
    let nvram = NVRAM(device, audit: place.audit, anchor: FailingAnchor(FileAnchor(path: anchorPath)))
    nvram.observe { events.add($0) }
    try nvram.register(entry: "state", capacity: ByteCount(4096 as UInt64))
    try nvram.start(failOnEncryptedDrive: true)
    for round in 1...2 {
      try nvram.replace("state", content(round))
      let error = failure { try nvram.lock() }
      #expect(error?.code == .volume(.anchor(.device(.noSpace))) && error?.isDurable == true)
      #expect(error?.description.contains("was closed cleanly, durably; but its anchor") == true)
      guard case .locked = nvram.state else {
        Issue.record("\(nvram.state)")
        return
      }
      #expect(!nvram.hadFatalError)
      let wasTold = eventually { events.all.count { if case .trouble = $0 { true } else { false } } == round }
      #expect(wasTold)
      try nvram.unlock(with: TestPlace.key(1))
      #expect(try nvram.readContent("state") == content(round))
    }
    #expect(failure { try nvram.close() }?.isDurable == true)
    #expect(try compare(place.image).verdict == .ahead)
  }

  /// Observers are told once that the anchor can't follow, and the store goes on.
  @Test func troubleIsTold() throws {
    let events = Recorder<NVRAMEvent>()
    var configuration = NVRAMConfiguration()
    configuration.longestAnchorInterval = .milliseconds(10)
    let device = try FileDevice.open(path: place.image, access: .readWrite)
    let nvram = NVRAM(
      device, audit: place.audit, configuration: configuration, anchor: FailingAnchor(FileAnchor(path: anchorPath)))
    nvram.observe { events.add($0) }
    try nvram.register(entry: "state", capacity: ByteCount(4096 as UInt64))
    try nvram.start(failOnEncryptedDrive: true)
    try nvram.replace("state", content(1))
    let wasTold = eventually { events.all.contains { if case .trouble = $0 { true } else { false } } }
    #expect(wasTold)
    try nvram.replace("state", content(2))
    #expect(nvram.state == .running)
    #expect(failure { try nvram.close() }?.code == .volume(.anchor(.device(.noSpace))))
    #expect(try compare(place.image).verdict == .ahead)
    #expect(events.all.count { if case .trouble = $0 { true } else { false } } == 1)
  }
}

/// An anchor whose file can be written up to an opening's record, as on a disk that has filled up since.
private final class FailingAnchor: FreshnessAnchor {
  private let file: FileAnchor
  private var isFull = false
  init(_ file: FileAnchor) { self.file = file }
  var name: String { file.name }

  func recall(_ store: StoreUUID, forWriting: Bool) throws(AnchorError) -> AnchorMemory {
    isFull = false
    return try file.recall(store, forWriting: forWriting)
  }

  func adopt(_ record: AnchorRecord, at index: Int, forWriting: Bool) throws(AnchorError) {
    try file.adopt(record, at: index, forWriting: forWriting)
  }

  func confirm() throws(AnchorError) { try file.confirm() }

  func establish(for store: StoreUUID, keeping index: Int?, replacing: Bool) throws(AnchorError) {
    try file.establish(for: store, keeping: index, replacing: replacing)
  }

  func store(_ sealed: borrowing ByteBuffer, _ moment: AnchorMoment) throws(AnchorError) {
    guard !isFull else { throw AnchorError(.device(.noSpace), anchor: name, "the disk is full") }
    try file.store(sealed, moment)
    isFull = moment == .opening
  }

  func release() { file.release() }
}
