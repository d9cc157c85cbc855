import BlockIO
import Foundation
import TestSupport
import Testing

@testable import SecureVolume

/// As `AnotherWriterTests`, on a real disk: two loop devices over one file are what two hosts have of one disk,
/// each with a page cache and locks of its own.
@Suite(.enabled(if: LoopDevice.isPermitted, "losetup(8) is not permitted here")) struct TwoHostsTests {
  @Test(arguments: AnotherWriterTests.How.allCases) func theFirstStops(_ how: AnotherWriterTests.How) throws {
    let geometry = try #require(AnotherWriterTests.geometry)
    let folder = NSTemporaryDirectory() + "vnvram-hosts-\(UUID().uuidString.prefix(8))"
    try FileManager.default.createDirectory(atPath: folder, withIntermediateDirectories: true)
    defer { try? FileManager.default.removeItem(atPath: folder) }
    let file = folder + "/disk"
    let here = try LoopDevice(over: file, bytes: Int(geometry.imageSize.value))
    let device = try FileDevice.open(path: here.path, access: .readWrite)
    try format(device, geometry, key: makeKey(1))
    let first = try open(device, makeKey(1))
    try first.commit(changes(4096, [(0, 1), (1, 1)]))

    let there = try LoopDevice(attaching: file)
    let otherDevice = try FileDevice.open(path: there.path, access: .readWrite)
    let second = try open(otherDevice, makeKey(1))
    #expect(try contents(second).prefix(2) == [1, 1])
    try second.commit(changes(4096, [(2, 2)]))
    try second.startCheckpoint()
    try second.finishCheckpoint()
    try second.close()
    otherDevice.close()
    let before = try File.bytes(file)

    let error = thrownError { try how.run(on: first) }
    #expect(error?.code == .anotherWriter && error?.status.rawValue == 9, "\(error?.description ?? "it went on")")
    for attempt: () throws -> Void in [
      { try first.commit(changes(4096, [(3, 3)])) }, { try first.close() }, { _ = try first.startCheckpoint() },
    ] { #expect(thrownError(attempt)?.code == .anotherWriter) }
    // Whatever is in this host's cache is in the file then.
    device.close()
    let isSame = try File.bytes(file) == before
    #expect(isSame, "the first went on writing")
    let reader = try FileDevice.open(path: there.path, access: .readOnly)
    #expect(try contents(open(reader, makeKey(1))) == [1, 1, 2, 0, 0, 0])
    reader.close()
    _ = (consume here, consume there)
  }
}
