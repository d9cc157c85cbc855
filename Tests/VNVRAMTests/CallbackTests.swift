import BlobStore
import Primitives
import Testing

@testable import VNVRAM

/// Devices that are called, as the 2013 design has them.
struct CallbackTests {
  /// A device with a few fields, used from several threads.
  final class Device: Sendable {
    struct Fields: Equatable {
      var isEnabled = false
      var count: UInt32 = 0
      var seed: [UInt8] = []
    }

    let fields = Locked(Fields())
    let calls = Recorder<NVRAMOperation>()

    var callback: NVRAMCallback {
      { (operation, visitor, _) throws(VisitorError) in
        self.calls.add(operation)
        try self.fields.withLock { (fields) throws(VisitorError) in
          try visitor.structure("device", extensible: true) { () throws(VisitorError) in
            try visitor.visit("enabled", &fields.isEnabled)
            try visitor.visit("count", &fields.count)
            try visitor.visit("seed", &fields.seed, max: 64)
          }
        }
      }
    }
  }

  let place: TestPlace

  init() throws { place = try TestPlace() }

  private func started(_ device: Device) throws -> NVRAM {
    try place.bring("a", 1)
    let nvram = try place.nvram([:])
    try nvram.register(entry: "device", callback: device.callback)
    try nvram.start(failOnEncryptedDrive: true)
    return nvram
  }

  private func make() throws {
    let device = Device()
    try place.makeStore([:])
    let nvram = try place.nvram([:])
    try nvram.register(entry: "device", callback: device.callback)
    #expect(device.calls.all == [.format])
    try nvram.format(key: TestPlace.key(1), slotName: place.name("a"), replacing: true, growing: true)
    try nvram.close()
  }

  @Test func oneDescriptionForAllThreeOperations() throws {
    try make()
    let before = Device()
    before.fields.withLock { $0 = Device.Fields(isEnabled: true, count: 77, seed: [1, 2, 3]) }
    var nvram = try started(before)
    try nvram.write("device")
    before.fields.withLock { $0 = Device.Fields() }
    try nvram.read("device")
    #expect(before.fields.withLock { $0 } == Device.Fields(isEnabled: true, count: 77, seed: [1, 2, 3]))
    #expect(before.calls.all == [.format, .write, .read])
    try nvram.close()

    let after = Device()
    nvram = try started(after)
    let outcomes = Recorder<NVRAMError.Code?>()
    after.fields.withLock { $0.count = 1 }
    try nvram.read("device") { outcomes.add($0.error) }
    try nvram.processRequests()
    #expect(outcomes.all == [nil])
    #expect(after.fields.withLock { $0 } == Device.Fields(isEnabled: true, count: 77, seed: [1, 2, 3]))
    try nvram.close()
  }

  /// What is written is what the fields were when it was asked for.
  @Test func writesAreOfTheirMoment() throws {
    try make()
    let device = Device()
    let nvram = try place.nvram([:])
    defer { try? nvram.close() }
    try nvram.register(entry: "device", callback: device.callback)
    try nvram.start(failOnEncryptedDrive: false)
    device.fields.withLock { $0.count = 1 }
    try nvram.write("device") { _ in }
    device.fields.withLock { $0.count = 2 }
    try place.bring("a", 1)
    try nvram.processRequests()
    try nvram.read("device")
    #expect(device.fields.withLock { $0.count } == 1)
  }

  @Test func whatDoesNotFitIsRefused() throws {
    try make()
    let device = Device()
    let nvram = try started(device)
    defer { try? nvram.close() }
    // Never written: no bytes are no field.
    #expect(failure { try nvram.read("device") }?.status == .notAuthentic)
    device.fields.withLock { $0.seed = [UInt8](repeating: 1, count: 65) }
    let error = try #require(failure { try nvram.write("device") })
    #expect(error.status == .noSpace && error.description.contains("seed") && error.description.contains("device"))
    #expect(failure { try nvram.write("device") { _ in } }?.status == .noSpace)
    #expect(failure { try nvram.write("other") }?.code == .notRegistered)
  }
}
