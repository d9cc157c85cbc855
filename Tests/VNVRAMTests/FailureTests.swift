import Audit
import BlobStore
import BlockIO
import Foundation
import Primitives
import SecureVolume
import StorageSimulation
import Testing

@testable import VNVRAM

/// Devices that fail: nothing acknowledged is lost, and nothing more is written.
struct FailureTests {
  let place: TestPlace
  static let entries: [String: UInt64] = ["state": 4096, "vars": 10_000]

  init() throws {
    place = try TestPlace()
    try place.makeStore(Self.entries)
    try place.bring("a", 1)
  }

  private func nvram(_ disk: SharedDisk) throws -> NVRAM {
    let nvram = NVRAM(disk, audit: AuditLog(.none))
    for (name, capacity) in Self.entries {
      try nvram.register(entry: EntryName(name), capacity: ByteCount(capacity))
    }
    return nvram
  }

  private func disk() throws -> SharedDisk { SharedDisk(SimulatedDisk(copyOf: Array(try place.bytes()))) }

  /// Fails the n-th write or sync after the start, for every n that matters to one commit.
  @Test(arguments: 1...6) func aFailureMidwayEndsIt(_ n: Int) throws {
    let disk = try disk()
    let nvram = try nvram(disk)
    try nvram.start(failOnEncryptedDrive: true)
    try nvram.replace("state", content(1))
    disk.withDisk { $0.inject(.fails(errno: EIO), at: .operation($0.operations + n)) }
    var acknowledged = 1
    var error: NVRAMError?
    for i in 2...50 where error == nil {
      error = failure { try nvram.replace("state", content(i)) }
      if error == nil { acknowledged = i }
    }
    #expect(error?.status == .inputOutput)
    #expect(nvram.hadFatalError)
    let later = failure { try nvram.replace("vars", content(1)) }
    #expect(later?.code == .failedEarlier && later?.status == .inputOutput)
    #expect(failure { try nvram.readContent("state") }?.code == .failedEarlier)
    try nvram.close()

    // As after a power cut: only what was synced is sure to be there.
    for bytes in disk.withDisk({ [$0.durableBytes, $0.bytes] }) {
      let again = try self.nvram(SharedDisk(SimulatedDisk(copyOf: bytes)))
      try again.start(failOnEncryptedDrive: true)
      let found = try again.readContent("state")
      #expect(found == content(acknowledged) || found == content(acknowledged + 1))
      try again.replace("state", content(99))
      try again.close()
    }
  }

  @Test func everyRequestOfAFailedCommitFailsOnce() throws {
    let disk = try disk()
    let nvram = try nvram(disk)
    try nvram.start(failOnEncryptedDrive: true)
    try nvram.lock()
    let outcomes = Recorder<(Int, Status?)>()
    for i in 0..<5 {
      try nvram.submit("state", content(i)) { outcomes.add((i, $0.status)) }
      try nvram.readContent("state") { outcomes.add((i + 100, $0.map { _ in () }.status)) }
    }
    // The opening takes a few, the first commit another two.
    disk.withDisk { $0.inject(.fails(errno: EIO), at: .sync($0.syncs + 3)) }
    nvram.poke()
    #expect(eventually { outcomes.all.count == 10 })
    try nvram.close()
    #expect(outcomes.all.map(\.0) == (0..<5).flatMap { [$0, $0 + 100] })
    let failures = outcomes.all.drop { $0.1 == nil }
    #expect(!failures.isEmpty && failures.allSatisfy { $0.1 == .inputOutput })
    #expect(outcomes.all.count == 10)
  }

  @Test func aDeviceThatFailsAtTheStart() throws {
    let disk = try disk()
    disk.withDisk { disk in
      disk.makeUnreadable(block: 0)
      disk.makeUnreadable(block: 4)
    }
    let nvram = try nvram(disk)
    defer { try? nvram.close() }
    #expect(failure { try nvram.start(failOnEncryptedDrive: false) }?.status == .inputOutput)
    #expect(nvram.hadFatalError)
  }

  @Test func aReadOnlyDeviceIsNoFailure() throws {
    let nvram = try nvram(SharedDisk(SimulatedDisk(copyOf: Array(try place.bytes()), isWritable: false)))
    defer { try? nvram.close() }
    try nvram.start(failOnEncryptedDrive: true)
    #expect(try nvram.readContent("state") == [])
    #expect(failure { try nvram.replace("state", content(1)) }?.status == .refused)
    #expect(nvram.state == .running)
  }

  /// One sector that doesn't verify fails its own requests only.
  @Test func aDamagedSectorFailsItsReader() throws {
    let disk = try disk()
    var nvram = try nvram(disk)
    try nvram.start(failOnEncryptedDrive: true)
    try nvram.replace("vars", content(1, count: 10_000))
    try nvram.replace("state", content(2, count: 4096))
    try nvram.close()
    let sealed = try SealedVolume(disk)
    let geometry = try #require(sealed.geometry)
    // Every sector but the first, which has the headers.
    let image = Int(geometry.imageSize.value)
    disk.withDisk { $0.flip(bit: 8 * (image - 4096 - 100)) }
    nvram = try self.nvram(disk)
    defer { try? nvram.close() }
    try nvram.start(failOnEncryptedDrive: true)
    let results = ["state", "vars"].map { name in failure { try nvram.readContent(EntryName(name)) }?.status }
    #expect(results.contains(.notAuthentic))
    #expect(nvram.state == .running)
  }
}

extension Result<Void, NVRAMError> {
  var status: Status? { if case .failure(let error) = self { error.status } else { nil } }
}
