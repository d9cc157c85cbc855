import BlockIO
import Foundation
import Primitives
import SecureVolume
import TestSupport
import Testing

@testable import vnvram_swtpm

/// What the monitor takes from a worker for the store's anchor: the next record and no other.
@Suite struct AnchorDeskTests {
  /// An anchor in memory, of two places; what it was given is `stored`.
  private final class Memory: FreshnessAnchor {
    let name = "memory"
    var records: [[UInt8]] = [[], []]
    var stored = 0
    var confirmed = 0
    var released = 0

    func recall(_ store: StoreUUID, forWriting: Bool) throws(AnchorError) -> AnchorMemory { .records(records) }
    func establish(for store: StoreUUID, keeping index: Int?, replacing: Bool) throws(AnchorError) {}
    func confirm() { confirmed += 1 }
    func store(_ sealed: borrowing ByteBuffer, _ moment: AnchorMoment) throws(AnchorError) {
      records[stored % 2] = sealed.span.array
      stored += 1
    }
    func release() { released += 1 }
  }

  /// Every record that a volume makes as it is opened, written to and closed.
  private func history() throws -> (AnchorVerifier, [(record: [UInt8], moment: AnchorMoment)]) {
    let image = NSTemporaryDirectory() + "/anchor-desk-\(UUID().uuidString)"
    defer { try? FileManager.default.removeItem(atPath: image) }
    final class Recorder: FreshnessAnchor {
      let name = "recorder"
      var all: [(record: [UInt8], moment: AnchorMoment)] = []
      func recall(_ store: StoreUUID, forWriting: Bool) throws(AnchorError) -> AnchorMemory {
        .records(all.map(\.record))
      }
      func confirm() {}
      func establish(for store: StoreUUID, keeping index: Int?, replacing: Bool) throws(AnchorError) {}
      func store(_ sealed: borrowing ByteBuffer, _ moment: AnchorMoment) throws(AnchorError) {
        all.append((sealed.span.array, moment))
      }
    }
    func key() -> KeyEncryptionKey {
      KeyEncryptionKey(.keyring, SecretBytes(copying: [UInt8](repeating: 7, count: 32).span))
    }
    let recorder = Recorder()
    let geometry = try #require(Geometry(blockSize: 4096, sectorCount: 2))
    let device = try FileDevice.create(path: image, size: geometry.imageSize, replacing: false)
    _ = try VolumeFormatter.format(
      device, geometry: geometry, key: key(), name: "a", cost: nil, created: 1,
      content: { (_, plaintext) throws(VolumeError) in
        var plaintext = plaintext
        for i in 0..<plaintext.count { plaintext[i] = 0 }
      }, anchor: recorder)
    for _ in 0..<2 {
      let volume = try SealedVolume(device).unlock(with: key(), anchor: recorder)
      try volume.close()
    }
    let verifier = try SealedVolume(device).storeKey(with: key()).verifier
    device.close()
    return (verifier, recorder.all)
  }

  private func code(_ message: consuming MonitorMessage) -> AnchorError.Code? {
    if case .anchorFailure(let error) = message { error.code } else { nil }
  }

  @Test func onlyTheNextRecord() throws {
    let (verifier, history) = try history()
    try #require(history.count >= 4)
    let memory = Memory()
    memory.records[0] = history[0].record
    var desk = AnchorDesk(memory)
    #expect(code(desk.answer(.recall(forWriting: true))) == .refused, "no store is open")
    desk.serve(verifier)
    _ = desk.answer(.recall(forWriting: true))
    let next = history[1]
    _ = desk.answer(.counter(next.moment))
    #expect(code(desk.answer(.store(next.record, next.moment))) == .refused, "before it was compared with its counter")
    #expect(code(desk.answer(.adopt(index: 1))) == .refused, "another record than the newest")
    #expect(code(desk.answer(.confirm)) == .refused, "before it was compared with its counter")
    #expect(code(desk.answer(.adopt(index: 0))) == nil)
    #expect(memory.confirmed == 0 && code(desk.answer(.confirm)) == nil && memory.confirmed == 1)
    for wrong in [history[0].record, history[2].record, [UInt8](repeating: 0, count: AnchorRecord.size), []] {
      _ = desk.answer(.counter(next.moment))
      #expect(code(desk.answer(.store(wrong, next.moment))) == .refused)
    }
    #expect(memory.stored == 0)
    _ = desk.answer(.counter(.closing))
    #expect(code(desk.answer(.store(next.record, next.moment))) == .refused, "at another moment than the counter's")
    _ = desk.answer(.counter(next.moment))
    #expect(code(desk.answer(.store(next.record, next.moment))) == nil)
    #expect(memory.stored == 1)
    #expect(code(desk.answer(.store(next.record, next.moment))) == .refused, "twice")
    desk.serve(nil)
    #expect(code(desk.answer(.confirm)) == .refused && memory.confirmed == 1, "the store is closed")
    #expect(code(desk.answer(.counter(.running))) == .refused, "the store is closed")
    #expect(code(desk.answer(.release)) == nil)
    #expect(memory.released == 1)
  }
}
