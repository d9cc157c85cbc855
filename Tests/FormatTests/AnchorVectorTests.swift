import BlockIO
import Crypto
import Foundation
import Primitives
import SecureVolume
import StorageSimulation
import Testing

@testable import Anchors

/// Anchor files that the independent builder made, with images that it made; and ours, read by it.
struct AnchorVectorTests {
  private static let folder = ImageVector.folder.deletingLastPathComponent().appending(path: "anchors")

  private static func vectors() throws -> [ImageVector] {
    try FileManager.default.contentsOfDirectory(at: folder, includingPropertiesForKeys: nil)
      .filter { $0.pathExtension == "txt" }.sorted { $0.path < $1.path }.map { try ImageVector($0) }
  }

  @Test func everyVectorIsTakenOrRefusedForItsReason() throws {
    var count = 0
    for vector in try Self.vectors() {
      let image = try ImageVector(ImageVector.folder.appending(path: "good-\(vector["image"] ?? "").txt"))
      #expect(try outcome(image, vector, false) == vector.expected, "\(vector)")
      // A writer has to hand over at least one record more, and after the last number there is none.
      let written = "\(vector)" == "current-sequence-limit" ? "no number left" : vector.expected
      #expect(try outcome(image, vector, true) == written, "\(vector), for writing")
      count += 1
    }
    #expect(count >= 34)
    print("vectors: anchors: \(count) taken or refused with their reason")
  }

  private func outcome(_ image: ImageVector, _ vector: ImageVector, _ isWritable: Bool) throws -> String {
    let file = FileAnchor(SimulatedDisk(copyOf: vector.bytes, name: "anchor"))
    let anchor: any FreshnessAnchor =
      if let counter = vector["counter"].flatMap({ UInt64($0) }) { CountedAnchor(file, counter) } else { file }
    let key = try image.key()
    do throws(VolumeError) {
      let volume = try SealedVolume(image.disk(isWritable: isWritable)).unlock(with: key, anchor: anchor)
      return volume.opening.anchor?.verdict.rawValue ?? "none"
    } catch {
      switch error.code {
      case .rolledBack: return "rolled-back"
      case .forked: return "forked"
      case .anchor(.notAuthentic): return "anchor-damaged"
      case .anchor(.rolledBack): return "anchor-rolled-back"
      case .anchor(.refused): return "anchor-counter"
      case .noSpace: return "no number left"
      default: return "\(error)"
      }
    }
  }

  /// What this program writes is what the reader in Python, made from FORMAT.md, takes; and refuses for an older image.
  @Test func theIndependentReaderReadsOurs() throws {
    let scratch = FileManager.default.temporaryDirectory.appending(path: "vnvram-anchor-\(UUID().uuidString)")
    try FileManager.default.createDirectory(at: scratch, withIntermediateDirectories: true)
    defer { try? FileManager.default.removeItem(at: scratch) }
    let image = try #require(
      ImageVector.all().first { $0["clean"] == "yes" && $0["copies-differ"] == "no" && $0["key"] != nil })
    let (disk, place) = (image.disk(isWritable: true), SimulatedDisk(size: FileAnchor.size, name: "anchor"))
    let volume = try SealedVolume(disk).unlock(with: image.key(), accepting: FileAnchor(place))
    var changes = SectorChanges(sectorSize: volume.sectorSize)
    _ = changes.append(SectorIndex(0))
    try volume.read(SectorIndex(0), into: changes.mutablePlaintext(0))
    try volume.commit(changes)
    #expect(try answer(scratch, image, disk.bytes, place.bytes).contains("\"anchor\": \"ahead\""))
    let unclosed = disk.bytes
    try volume.close()
    #expect(try answer(scratch, image, disk.bytes, place.bytes).contains("\"anchor\": \"current\""))
    #expect(try answer(scratch, image, unclosed, place.bytes).contains("\"reason\": \"rolled-back\""))
    #expect(try answer(scratch, image, image.bytes, place.bytes).contains("\"reason\": \"rolled-back\""))
  }

  private func answer(_ scratch: URL, _ vector: ImageVector, _ image: [UInt8], _ anchor: [UInt8]) throws -> String {
    try Data(image).write(to: scratch.appending(path: "image"))
    try Data(anchor).write(to: scratch.appending(path: "anchor"))
    try Data((vector["key"] ?? "").utf8).write(to: scratch.appending(path: "key"))
    let process = Process()
    process.executableURL = URL(filePath: "/usr/bin/env")
    process.arguments = [
      IndependentReaderTests.python, IndependentReaderTests.folder.appending(path: "vnvram_reader.py").path, "--json",
      "--key", "key", "--anchor", "anchor", "image",
    ]
    process.currentDirectoryURL = scratch
    process.environment = ProcessInfo.processInfo.environment.merging(["PYTHONDONTWRITEBYTECODE": "1"]) { $1 }
    let output = Pipe()
    process.standardOutput = output
    try process.run()
    let bytes = output.fileHandleForReading.readDataToEndOfFile()
    process.waitUntilExit()
    return String(decoding: bytes, as: UTF8.self)
  }
}

/// The rule for counters with a counter of any value. The real one is in TPMAnchorTests.
private final class CountedAnchor: FreshnessAnchor {
  private let file: FileAnchor
  private var value: UInt64
  init(_ file: FileAnchor, _ value: UInt64) {
    self.file = file
    self.value = value
  }
  var name: String { file.name }

  func recall(_ store: StoreUUID, forWriting: Bool) throws(AnchorError) -> AnchorMemory {
    try file.recall(store, forWriting: forWriting)
  }
  func adopt(_ record: AnchorRecord, at index: Int, forWriting: Bool) throws(AnchorError) {
    switch CounterPlace(of: record, counter: value) {
    case .equal: break
    case .oneAhead: value += 1
    case .behind: throw AnchorError(.rolledBack, anchor: name, "behind")
    case .elsewhere: throw AnchorError(.notAuthentic, anchor: name, "elsewhere")
    }
  }
  func establish(for store: StoreUUID, keeping index: Int?, replacing: Bool) throws(AnchorError) {
    try file.establish(for: store, keeping: index, replacing: replacing)
  }
  func confirm() throws(AnchorError) { try file.confirm() }
  func counter(for moment: AnchorMoment) -> UInt64 { value + 1 }
  func store(_ sealed: borrowing ByteBuffer, _ moment: AnchorMoment) throws(AnchorError) {
    try file.store(sealed, moment)
    value += 1
  }
}
