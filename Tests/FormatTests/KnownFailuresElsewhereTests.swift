import BlobStore
import BlockIO
import Crypto
import Foundation
import Primitives
import SecureVolume
import StorageSimulation
import Testing

/// What went wrong in other stores, case by case as Tests/README.md lists them: what concerns the stream and the inputs
/// of MACs, with the reader in Python as the second opinion.
struct KnownFailuresElsewhereTests {
  // MARK: Case 4

  /// Two images of one store, closed, whose streams differ in nothing but an entry's real size; and the key.
  private static func twoSizes() throws -> (first: [UInt8], second: [UInt8], key: [UInt8], geometry: Geometry) {
    let key: [UInt8] = (0..<32).map { $0 &* 11 &+ 3 }
    let name: EntryName = "nvram"
    let layout = try StreamLayout([EntrySpecification(name: name, capacity: ByteCount(100))])
    let geometry = try #require(Geometry(holding: layout.size, blockSize: 4096))
    let disk = SimulatedDisk(size: geometry.imageSize)
    try VolumeFormatter.format(disk, geometry: geometry, key: sealed(key), name: "k", created: 1) {
      (sector, out) throws(VolumeError) in layout.fillPlaintext(sector, sectorSize: 4096, into: out)
    }
    var images: [[UInt8]] = []
    // Each closing makes the other leaf table count: the one between has the first's again.
    for content: [UInt8] in [[1, 2, 3], [9], [1, 2, 3, 0]] {
      let volume = try SealedVolume(disk).unlock(with: sealed(key))
      let store = try BlobStore(volume)
      try store.stageReplace(name, content.span)
      try store.commit()
      try volume.close()
      images.append(disk.bytes)
    }
    return (images[0], images[2], key, geometry)
  }

  private static func sealed(_ key: [UInt8]) -> KeyEncryptionKey {
    KeyEncryptionKey(.keyring, SecretBytes(copying: key.span))
  }

  private static func plaintext(_ image: [UInt8], _ key: [UInt8]) throws -> [UInt8] {
    let volume = try SealedVolume(SimulatedDisk(copyOf: image, isWritable: false)).unlock(with: sealed(key))
    var sector = ByteBuffer(count: volume.sectorSize)
    var all: [UInt8] = []
    for index in 0..<volume.sectorCount {
      try volume.read(SectorIndex(index), into: sector.mutableSpan)
      all += sector.span.array
    }
    return all
  }

  /// The reason for which the program refuses an image; nil where it reads it.
  private static func reason(_ image: [UInt8], _ key: [UInt8]) -> String? {
    do {
      let volume = try SealedVolume(SimulatedDisk(copyOf: image, isWritable: false)).unlock(with: sealed(key))
      _ = try BlobStore(volume)
      return try volume.check().first?.code.rawValue
    } catch let error as VolumeError {
      if case .notAuthentic(let evidence) = error.code { return evidence.rawValue }
      return "\(error)"
    } catch let error as BlobStoreError {
      if case .volume(let error) = error.code, case .notAuthentic(let evidence) = error.code {
        return evidence.rawValue
      }
      return "\(error)"
    } catch { return "\(error)" }
  }

  @Test(
    "case 4: the real size alone changes the root, which the independent reader computes too; an old size is refused")
  func case4TheRealSizeIsUnderTheRoot() throws {
    let (first, second, key, geometry) = try Self.twoSizes()
    let (a, b) = (try Self.plaintext(first, key), try Self.plaintext(second, key))
    #expect(zip(a, b).count { $0 != $1 } == 1, "one byte of the stream: the real size")
    let reader = try PythonReader()
    defer { reader.stop() }
    let scratch = FileManager.default.temporaryDirectory.appending(path: "vnvram-case4-\(UUID().uuidString)")
    defer { try? FileManager.default.removeItem(at: scratch) }
    func independent(_ image: [UInt8]) throws -> PythonReader.Answer {
      try Data(image).write(to: scratch)
      return try reader.read(scratch.path, key: key)
    }
    #expect(try independent(first).entries?.map(\.size) == [3])
    #expect(try independent(second).entries?.map(\.size) == [4])
    let root = 224..<256
    #expect(first[root] != second[root] && first[188] == 1 && second[188] == 1)
    // The size of before, in the image of after: with all that goes with it but the root.
    let image = second.count
    let (leaves, data) = (image - Int(geometry.volumeSize.value) - 4096, image - Int(geometry.volumeSize.value))
    for (name, ranges, expected) in [
      ("the sector", [data..<image], "sector"), ("the leaf", [leaves..<leaves + 32], "tree"),
      ("the sector and its leaf", [data..<image, leaves..<data], "tree"),
      ("the sector, its leaf and the root in copy A", [data..<image, leaves..<data, root], "header-pair"),
      (
        "the sector, its leaf and the root in both copies",
        [data..<image, leaves..<data, root, 65536 + 224..<65536 + 256], "header"
      ),
    ] {
      var mixed = second
      for range in ranges { mixed.replaceSubrange(range, with: first[range]) }
      #expect(Self.reason(mixed, key) == expected, "\(name)")
      #expect(try independent(mixed).reason == expected, "\(name), the independent reader")
    }
  }

  // MARK: Case 5

  /// What other programs got wrong in such an input: its end missing, the size of a pointer in its place, one byte
  /// more, a length or type that isn't the one meant, fields in each other's place.
  private static func mistakes(_ input: [UInt8]) -> [[UInt8]] {
    var all = [
      Array(input.dropLast()), Array(input.dropLast(4)), Array(input.prefix(8)), input + [0], [], input.reversed(),
    ]
    all.append(Array(input.dropFirst(4)))
    all.append(Array(input.dropFirst(8)))
    for byte in 0..<min(input.count, 160) {
      var changed = input
      changed[byte] ^= 1
      all.append(changed)
    }
    for type in [0, 1, 2, 3, 4, 5, 16, 6, 7] as [UInt8] where input[0] != type {
      all.append([type] + input.dropFirst())
    }
    for field in stride(from: 0, to: min(input.count, 128) - 8, by: 4) {
      var changed = input
      changed.replaceSubrange(field..<field + 8, with: input[field + 4..<field + 8] + input[field..<field + 4])
      all.append(changed)
    }
    return all.filter { $0 != input }
  }

  @Test("case 5: a vector pins the input of every MAC; one of another length, type or order doesn't verify")
  func case5EveryMACsInput() throws {
    var (verified, refused): ([String: Int], Int) = ([:], 0)
    for vector in try ImageVector.all() where vector.expected == "ok" {
      for input in try MACInputs(vector).all() {
        #expect(try input.verify(input.bytes), "\(vector): \(input.name)")
        verified[input.name, default: 0] += 1
        for mistake in Self.mistakes(input.bytes) {
          let passed = try input.verify(mistake)
          #expect(!passed, "\(vector): \(input.name)")
          refused += 1
        }
      }
    }
    #expect(Set(verified.keys) == ["slot", "header", "lineage", "leaf block", "root", "record", "sector"])
    let counts = verified.sorted { $0.key < $1.key }.map { "\($0.value) of \($0.key)" }.joined(separator: ", ")
    print("vectors: MAC inputs: \(counts) verified, \(refused) mistaken ones refused")
  }
}
