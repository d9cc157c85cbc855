import BlockIO
import Crypto
import Glibc
import Primitives
import StorageSimulation
import Testing

@testable import SecureVolume

/// How much memory things take, in processes of their own, as the kernel counts it.
struct MemoryTests {
  /// A figure of /proc/self/status, in KiB.
  private static func kibibytes(_ name: String) -> Int {
    let descriptor = unsafe Glibc.open("/proc/self/status", O_RDONLY)
    defer { close(descriptor) }
    var bytes = [UInt8](repeating: 0, count: 8192)
    let count = unsafe bytes.withUnsafeMutableBytes { buffer in
      unsafe read(descriptor, buffer.baseAddress, buffer.count)
    }
    let text = String(decoding: bytes.prefix(max(0, count)), as: UTF8.self)
    guard let line = text.split(separator: "\n").first(where: { $0.hasPrefix(name + ":") }) else { return -1 }
    return line.split(separator: " ").dropLast().last.flatMap { Int($0) } ?? -1
  }

  /// How far what is resident goes beyond what was, at its highest, in KiB.
  private static func peak(of body: () throws -> Void) rethrows -> Int {
    // Sets VmHWM back to what is resident now (proc(5)).
    let descriptor = unsafe Glibc.open("/proc/self/clear_refs", O_WRONLY)
    let five: [UInt8] = [0x35]
    precondition(unsafe five.withUnsafeBytes { unsafe write(descriptor, $0.baseAddress, 1) } == 1)
    close(descriptor)
    let before = kibibytes("VmRSS")
    try body()
    return kibibytes("VmHWM") - before
  }

  /// A disk on which what is written to ring and sectors is gone: it takes no memory itself.
  private final class Sink: BlockDevice {
    private let headers: SimulatedDisk
    let size: ByteCount
    init(_ size: ByteCount) {
      self.size = size
      headers = SimulatedDisk(size: ByteCount(Format.ringOffset))
    }
    let name = "sink"
    let blockSize = 4096
    let isWritable = true
    func read(at offset: ByteOffset, into destination: consuming MutableSpan<UInt8>) throws(BlockError) {
      if offset.value < Format.ringOffset { return try headers.read(at: offset, into: destination) }
      destination.fill(0)
    }
    func write(_ source: Span<UInt8>, at offset: ByteOffset) throws(BlockError) {
      if offset.value < Format.ringOffset { try headers.write(source, at: offset) }
    }
    func sync() throws(BlockError) { try headers.sync() }
  }

  /// A commit of 64 MiB, in place of changes that are there already: its head (640 KiB), a batch, and where its
  /// sectors are.
  @Test func aLargeCommitTakesLittleBesideItsChanges() async {
    await #expect(processExitsWith: .success) {
      let count = 16384
      guard let geometry = Geometry(blockSize: 4096, sectorCount: UInt64(count)) else {
        fatalError("within the limits")
      }
      let device = Sink(geometry.imageSize)
      var keys = try VolumeKeys(storeKey: Random.secret(count: 32), uuid: StoreUUID(InlineBytes16()))
      let digest = try Header.geometryDigest(uuid: keys.uuid, geometry: geometry)
      var header = Header(
        uuid: keys.uuid, geometry: geometry, isClean: false, sequence: 1, generation: Generation(0),
        epoch: InlineBytes16(), cursor: JournalCursor(position: 0, sequence: 1, chain: InlineBytes32()),
        root: InlineBytes32(), slots: [KeySlot?](repeating: nil, count: Format.slotCount))
      try header.lineage.begin(
        header.epoch, after: header.generation, auditHeads: header.auditHeads, digest: digest, with: &keys.structure)
      let report = OpeningReport(
        wasClosedCleanly: true, outdatedHeaderCopy: nil, recordsReplayed: 0, generation: Generation(0), findings: [])
      let volume = SecureVolume(
        medium: Medium(device), keys: keys, header: header, digest: digest,
        leaves: LeafTable(geometry: geometry, current: 0), journal: Journal(geometry: geometry, at: header.cursor),
        generation: Generation(0), opening: report)
      var all = SectorChanges(sectorSize: 4096)
      for sector in 0..<count {
        let place = all.append(SectorIndex(sector))
        fill(UInt64(sector + 1), all.mutablePlaintext(place))
      }
      // Code and tables of a first commit are there already.
      try volume.commit(changes(4096, [(0, 1)]))
      let peak = try MemoryTests.peak { try volume.commit(all) }
      print("memory of a commit of 64 MiB, beside its changes: \(peak) KiB")
      precondition(volume.generation == Generation(2) && peak < 6 * 1024, "\(peak) KiB")
    }
  }

  /// A file of 420 KB whose headers claim 65536 sectors, as anyone can make it: what there is is looked at, and no
  /// more is taken than that is worth; a line says what is missing.
  @Test func aShortFileThatClaimsMuch() async {
    await #expect(processExitsWith: .success) {
      guard let small = Geometry(blockSize: 4096, sectorCount: 6),
        let large = Geometry(blockSize: 4096, sectorCount: 65536)
      else { fatalError("within the limits") }
      let disk = SimulatedDisk(size: small.imageSize)
      try format(disk, small, key: makeKey(1), content: [1, 2, 3, 4, 5, 6])
      try open(disk, makeKey(1)).commit(changes(4096, [(0, 7), (1, 8)]))
      for copy in [0, 65536] {
        for (i, value) in [
          large.sectorCount, large.ringOffset, large.ringSize, large.leafOffset, large.leafTableSize, large.dataOffset,
          large.imageSize.value,
        ].enumerated() {
          disk.overwrite(
            ByteOffset(copy + 64 + 8 * i), with: (0..<8).map { UInt8(truncatingIfNeeded: value >> UInt64(8 * $0)) })
        }
      }
      let image = SimulatedDisk(copyOf: disk.bytes, isWritable: false)
      var findings: [VolumeFinding] = []
      let peak = try MemoryTests.peak {
        let volume = try SealedVolume(image, for: .salvage).unlock(with: makeKey(1))
        findings = try volume.check(for: LeftOverSearch(contentSize: volume.geometry.volumeSize))
        _ = try volume.checkUnusedSpace(for: nil)
      }
      print("memory of checking a file that claims 256 MiB: \(peak) KiB, \(findings.count) findings")
      let sectors = findings.filter { $0.sector != nil }
      precondition(sectors.count == 1 && sectors[0].sectorCount == 65536 && sectors[0].sector == SectorIndex(0))
      precondition(findings.count <= 6, "\(findings)")
      precondition(peak < 32 * 1024, "\(peak) KiB")
      let opening = thrownError { _ = try open(image, makeKey(1)) }
      precondition(opening?.code == .notAuthentic(.geometry))
    }
  }
}
