import Foundation
import Primitives
import Testing

@testable import BlockIO

/// What a power cut may tear, by what the kernel says of a file, its file system and the device below.
@Suite struct TearingUnitTests {
  struct Case: Sendable, CustomStringConvertible {
    let description: String
    var page: UInt64 = 4096
    var type: UInt32?
    var block: UInt64 = 4096
    var physical: UInt64?
    var alignment: Int64?
    var start: UInt64?
    let bytes: Int
    /// A word of each notice.
    var notices: [String] = []

    var readings: TearingUnit.Readings {
      TearingUnit.Readings(
        page: page, fileSystem: type.map { .init(type: $0, block: block) },
        device: .init(physicalBlock: physical, alignment: alignment, start: start))
    }
  }

  private static let (ext4, xfs, nfs): (UInt32, UInt32, UInt32) = (0xEF53, 0x5846_5342, 0x6969)

  static let cases = [
    Case(description: "nothing known", bytes: 4096),
    Case(description: "large pages", page: 65536, bytes: 65536),
    Case(description: "small blocks", type: ext4, block: 1024, physical: 512, bytes: 4096),
    Case(description: "the file system's block", type: xfs, block: 16384, physical: 512, bytes: 16384),
    Case(description: "the device's block", type: ext4, block: 4096, physical: 8192, bytes: 8192),
    Case(description: "overlayfs passes on", type: 0x794C_7630, block: 16384, bytes: 16384),
    Case(description: "btrfs", type: 0x9123_683E, block: 16384, bytes: 16384),
    Case(description: "FAT's cluster", type: 0x4D44, block: 32768, bytes: 4096),
    Case(description: "NFS's transfers", type: nfs, block: 1 << 20, bytes: 4096),
    Case(description: "NFS's transfers of an ordinary size", type: nfs, block: 16384, bytes: 4096),
    Case(description: "FUSE", type: 0x6573_5546, block: 65536, bytes: 4096),
    Case(description: "SMB", type: 0xFE53_4D42, block: 65536, bytes: 4096),
    Case(description: "9p", type: 0x0102_1997, block: 65536, bytes: 4096),
    Case(description: "ZFS's records", type: 0x2FC1_2FC1, block: 131072, bytes: 4096),
    Case(description: "F2FS, whose device counts", type: 0xF2F5_2010, block: 16384, physical: 8192, bytes: 8192),
    Case(description: "bcachefs", type: 0xCA45_1A4E, block: 16384, bytes: 4096),
    Case(description: "tmpfs", type: 0x0102_1994, block: 65536, bytes: 4096),
    Case(description: "no power of two", physical: 4160, bytes: 8192),
    Case(description: "the largest", physical: 65536, bytes: 65536),
    Case(description: "too large by one", physical: 65537, bytes: 65536, notices: ["65537"]),
    Case(description: "too large", physical: 262_144, bytes: 65536, notices: ["262144"]),
    Case(description: "past all measure", physical: .max, bytes: 65536, notices: ["65536"]),
    Case(description: "exFAT's cluster", type: 0x2011_BAB0, block: 131_072, bytes: 4096),
    Case(description: "a device of blocks of no bytes", physical: 0, start: 512, bytes: 4096),
    Case(description: "aligned", physical: 4096, alignment: 0, start: 1 << 20, bytes: 4096),
    Case(description: "aligned by its start alone", physical: 4096, start: 1 << 20, bytes: 4096),
    Case(description: "misaligned by its start", physical: 4096, start: 63 * 512, bytes: 4096, notices: ["4096"]),
    Case(
      description: "a disk whose blocks begin elsewhere", physical: 4096, alignment: 0, start: 63 * 512, bytes: 4096),
    Case(description: "misaligned", physical: 4096, alignment: 3584, start: 1 << 20, bytes: 4096, notices: ["4096"]),
    Case(description: "misaligned to stripes alone", physical: 4096, alignment: 61440, start: 4096, bytes: 4096),
    Case(description: "devices below disagree", physical: 512, alignment: -1, bytes: 4096, notices: ["512"]),
    Case(
      description: "large and misaligned", physical: 131_072, alignment: 4096, bytes: 65536,
      notices: ["lies on blocks", "begins within"]),
  ]

  @Test(arguments: cases) func decided(_ given: Case) {
    let unit = TearingUnit(given.readings)
    #expect(unit.bytes == given.bytes)
    #expect(unit.notices.count == given.notices.count, "\(unit.notices)")
    for (notice, word) in zip(unit.notices, given.notices) { #expect(notice.contains(word)) }
  }

  /// A disk with one partition, as sysfs has them: the partition has no queue of its own.
  @Test func sysfs() throws {
    let scratch = try Scratch()
    let disk = scratch.file("sda")
    for folder in ["/queue", "/sda1"] {
      try FileManager.default.createDirectory(atPath: disk + folder, withIntermediateDirectories: true)
    }
    for (file, text) in [
      ("/queue/physical_block_size", "16384\n"), ("/alignment_offset", "0\n"), ("/sda1/partition", "1\n"),
      ("/sda1/start", "2049\n"), ("/sda1/alignment_offset", "-1\n"),
    ] {
      try Data(text.utf8).write(to: URL(fileURLWithPath: disk + file))
    }
    typealias Device = TearingUnit.Readings.Device
    #expect(Device(in: disk) == Device(physicalBlock: 16384, alignment: 0, start: nil))
    // By a symbolic link, as in /sys/dev/block.
    let link = scratch.file("8:1")
    try FileManager.default.createSymbolicLink(atPath: link, withDestinationPath: "sda/sda1")
    #expect(Device(in: link) == Device(physicalBlock: 16384, alignment: -1, start: 2049 * 512))
    #expect(Device(in: scratch.file("8:2")) == Device())
    for text in ["", "\n", "many\n", "-5\n", "99999999999999999999999\n"] {
      try Data(text.utf8).write(to: URL(fileURLWithPath: disk + "/queue/physical_block_size"))
      #expect(Device(in: disk).physicalBlock == nil, "\(text)")
    }
  }

  /// Compared with what stat(1) says of the file system here and lsblk(8) of the device below.
  @Test func aFileHere() throws {
    let scratch = try Scratch()
    let path = scratch.file("a", holding: [7])
    var expected = max(4096, sysconf(Int32(_SC_PAGESIZE)))
    let type = try #require(UInt32(try run("stat", ["-f", "-c", "%t", path]), radix: 16))
    if TearingUnit.inPlace.contains(type) {
      expected = max(expected, try #require(Int(try run("stat", ["-f", "-c", "%S", path]))))
    }
    let numbers = try run("stat", ["-c", "%Hd:%Ld", path])
    let disks = try run("lsblk", ["-n", "-r", "-o", "MAJ:MIN,PHY-SEC"]).split(separator: "\n")
    if let disk = disks.first(where: { $0.hasPrefix(numbers + " ") }) {
      expected = max(expected, try #require(disk.split(separator: " ").last.flatMap { Int($0) }))
    }
    let device = try FileDevice.open(path: path, access: .readOnly)
    #expect(device.blockSize == expected)
    #expect(device.blockNotices == [])
    #expect(FileDevice.blockSize(ofNewFileAt: scratch.file("new")) == expected)
    let made = try FileDevice.create(path: scratch.file("new"), size: ByteCount(5), replacing: false)
    #expect(made.blockSize == expected)
    let unnamed = try FileDevice.createUnnamed(for: scratch.file("other"), size: ByteCount(5))
    #expect(unnamed?.blockSize ?? expected == expected)
    #expect(FileDevice.blockSize(ofNewFileAt: scratch.file("no folder/new")) == 4096)
  }
}
