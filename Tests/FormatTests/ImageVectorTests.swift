import Crypto
import Foundation
import Primitives
import SecureVolume
import StorageSimulation
import Testing

import BlobStore

/// The vectors that the independent builder made: images this program did not write, good and bad.
struct ImageVectorTests {
  @Test func everyVectorIsReadOrRefusedForItsReason() throws {
    var (good, bad) = (0, 0)
    for vector in try ImageVector.all() {
      for isWritable in [false, true] {
        let outcome = try Self.read(vector, isWritable: isWritable)
        // The last numbers can be read; nobody could write the next ones.
        let isSpent = isWritable && vector.description.hasSuffix("numbers-limit")
        #expect(
          outcome == (isSpent ? "no number left" : vector.expected),
          "\(vector), \(isWritable ? "for writing" : "for reading")")
      }
      if vector.expected == "ok" { good += 1 } else { bad += 1 }
    }
    #expect(good >= 19 && bad >= 139)
    print("vectors: images: \(good) good read, \(bad) bad refused with their reason")
  }

  /// The reason of FORMAT §10 in the words of the vectors, or `ok`; what was read is compared on the way.
  private static func read(_ vector: ImageVector, isWritable: Bool) throws -> String {
    let disk = vector.disk(isWritable: isWritable)
    do {
      let volume = try SealedVolume(disk).unlock(with: vector.key())
      let store = try BlobStore(volume)
      if let finding = try volume.check().first(where: { $0.severity != .notice }) {
        return finding.code.rawValue
      }
      try store.check()
      compare(vector, volume, try contents(store))
      if isWritable {
        // And what was recovered stays so.
        try volume.close()
        let again = try SealedVolume(disk).unlock(with: vector.key())
        #expect(again.opening.wasClosedCleanly && again.opening.outdatedHeaderCopy == nil)
        compare(vector, nil, try contents(BlobStore(again)))
      }
      return "ok"
    } catch let error as VolumeError {
      return reason(error)
    } catch let error as BlobStoreError {
      if case .volume(let error) = error.code { return reason(error) }
      return error.code == .damaged ? "stream" : "\(error)"
    }
  }

  private static func reason(_ error: VolumeError) -> String {
    switch error.code {
    case .notAuthentic(let evidence): evidence.rawValue
    case .notAnImage: "not-an-image"
    case .unsupportedVersion: "unsupported-version"
    case .wrongKey: "wrong-key"
    case .noSpace: "no number left"
    default: "\(error)"
    }
  }

  private static func contents(_ store: BlobStore) throws -> [String] {
    try store.entries.map { entry in
      let bytes = try store.read(entry.name, limit: 1 << 24)
      let digest = try Digest.sha256(bytes.span)
      return "\(entry.capacity.value) \(entry.size.value) \(digest.array.hex) \(entry.name)"
    }
  }

  private static func compare(_ vector: ImageVector, _ volume: SecureVolume?, _ contents: [String]) {
    let expected = vector.headers.filter { $0.name == "content" }.map { Array($0.value.utf8) }
    #expect(contents.map { Array($0.utf8) } == expected, "\(vector)")
    guard let volume else { return }
    #expect(volume.uuid.description == vector["uuid"], "\(vector)")
    #expect(String(volume.generation.value) == vector["generation"], "\(vector)")
    #expect((volume.opening.wasClosedCleanly ? "yes" : "no") == vector["clean"], "\(vector)")
    #expect((volume.opening.outdatedHeaderCopy == nil ? "no" : "yes") == vector["copies-differ"], "\(vector)")
    #expect(String(volume.opening.recordsReplayed) == vector["records"], "\(vector)")
  }
}
