import CSystem
import Glibc

/// The unit in bytes that a power cut may leave old, new or garbage as a whole, as far as the kernel tells it.
///
/// It is the largest of 4096, the page, the file system's block and the physical block of the device below. Not known,
/// and not taken: what lies below a loop device's file, a network file system, FUSE, or a host's virtual disk that says
/// otherwise; and the device below a file on btrfs or overlayfs, which have device numbers of their own.
struct TearingUnit: Equatable {
  /// A power of two, 4096 to `largest`.
  let bytes: Int
  /// See `BlockDevice.blockNotices`.
  let notices: [String]

  static let largest = 65536

  /// What the kernel says.
  struct Readings: Equatable {
    /// Bytes.
    var page: UInt64 = 4096
    /// Of a file.
    var fileSystem: FileSystem?
    /// Of the block device itself, or of that which a file lies on.
    var device = Device()

    struct FileSystem: Equatable {
      /// As in linux/magic.h.
      var type: UInt32
      /// Bytes.
      var block: UInt64
    }

    /// In bytes; nil where it isn't known.
    struct Device: Equatable {
      var physicalBlock: UInt64?
      /// How far the beginning is from where physical blocks begin; -1 where the devices below disagree.
      var alignment: Int64?
      /// Where on its disk a partition begins.
      var start: UInt64?
    }
  }

  /// File systems on a block device that overwrite a file's blocks in place, by a block of their own.
  ///
  /// btrfs does so with files that aren't copied on write (`chattr +C`, images of virtual machines often). overlayfs
  /// passes on the block of the file system that is written to. Left out: what puts sizes of transfers or records there
  /// (NFS, SMB, 9p, virtiofs, FUSE, ZFS) or of clusters, which aren't written as a whole (FAT, exFAT, NTFS), always
  /// writes elsewhere (F2FS, NILFS, bcachefs, ZFS) or doesn't outlast a power cut (tmpfs).
  static let inPlace: Set<UInt32> = [
    0xEF53,  // ext2, ext3, ext4
    0x5846_5342,  // XFS
    0x3153_464A,  // JFS
    0x5265_4973,  // ReiserFS
    0x482B,  // HFS+
    0x1501_3346,  // UDF
    0x0116_1970,  // GFS2
    0x7461_636F,  // OCFS2
    0x9123_683E,  // btrfs
    0x794C_7630,  // overlayfs
  ]

  init(_ readings: Readings) {
    var unit = max(4096, readings.page, readings.device.physicalBlock ?? 0)
    if let fileSystem = readings.fileSystem, Self.inPlace.contains(fileSystem.type) {
      unit = max(unit, min(fileSystem.block, UInt64(Self.largest)))
    }
    var notices: [String] = []
    if unit > UInt64(Self.largest) {
      notices.append(
        "lies on blocks of \(unit) bytes, and no store can have more than \(Self.largest): a power cut can damage more "
          + "than can be mended; keep a backup, or use another device")
      unit = UInt64(Self.largest)
    }
    if let block = readings.device.misalignedBlock {
      notices.append(
        "begins within a physical block, and those have \(block) bytes: a power cut can damage what wasn't being "
          + "written; have its partition begin at a multiple of that")
    }
    bytes = 1 << (UInt64.bitWidth - (unit - 1).leadingZeroBitCount)
    self.notices = notices
  }

  /// What another process found.
  init(bytes: Int, notices: [String]) { (self.bytes, self.notices) = (bytes, notices) }
}

extension TearingUnit.Readings.Device {
  /// The physical block, where the device doesn't begin with one. The kernel's alignment allows for disks whose blocks
  /// begin elsewhere than at byte 0; it is in units of RAID's stripes, too, which don't matter here.
  fileprivate var misalignedBlock: UInt64? {
    guard let block = physicalBlock, block > 0 else { return nil }
    let isMisaligned: Bool
    if let alignment {
      isMisaligned = alignment < 0 || UInt64(alignment) % block != 0
    } else {
      isMisaligned = (start ?? 0) % block != 0
    }
    return isMisaligned ? block : nil
  }
}

// MARK: Asking the kernel

extension TearingUnit {
  /// - Throws: where a block device doesn't tell its physical block. What can't be had otherwise is left out.
  init(of descriptor: Int32, _ kind: FileStatus.Kind, path: String) throws(BlockError) {
    var readings = Readings(of: descriptor)
    if kind == .block {
      readings.fileSystem = nil
      var bytes: UInt32 = 0
      guard unsafe csystem_block_device_physical_block(descriptor, &bytes) == 0 else {
        throw BlockError(errno: errno, device: path, "asking for its physical block")
      }
      readings.device.physicalBlock = UInt64(bytes)
    }
    self.init(readings)
  }

  /// Of a file that is to be made. What can't be had is left out: making the file will tell.
  init(ofNewFileAt path: String) {
    let pathOnly: Int32 = 0o10000000
    guard let folder = try? Descriptor.open(FileDevice.directory(of: path), O_CLOEXEC | pathOnly, "opening it") else {
      self.init(Readings())
      return
    }
    self.init(Readings(of: folder.raw))
  }
}

extension TearingUnit.Readings {
  fileprivate init(of descriptor: Int32) {
    page = UInt64(max(0, sysconf(Int32(_SC_PAGESIZE))))
    var (type, block): (UInt32, UInt64) = (0, 0)
    if unsafe csystem_file_system(descriptor, &type, &block) == 0 { fileSystem = FileSystem(type: type, block: block) }
    var status = stat()
    if unsafe csystem_fstat(descriptor, &status) == 0 { device = Device(in: Device.folder(of: status)) }
  }
}

extension TearingUnit.Readings.Device {
  /// Where sysfs describes the device that a status is of: a block device's own, else that which the file lies on.
  static func folder(of status: stat) -> String {
    let number = UInt64(status.st_mode & S_IFMT == S_IFBLK ? status.st_rdev : status.st_dev)
    return "/sys/dev/block/\(csystem_major(number)):\(csystem_minor(number))"
  }

  /// Reads what sysfs says in such a folder; nothing where there is none.
  init(in folder: String) {
    // A partition has its disk's queue, beside it.
    let block =
      Self.number(folder + "/queue/physical_block_size") ?? Self.number(folder + "/../queue/physical_block_size")
    physicalBlock = block.flatMap { UInt64(exactly: $0) }
    alignment = Self.number(folder + "/alignment_offset")
    // In units of 512 bytes, whatever the device's are.
    start = Self.number(folder + "/start").flatMap { UInt64(exactly: $0) }.map { $0 &* 512 }
  }

  /// The files that may be read there.
  static let files = [
    "/queue/physical_block_size", "/../queue/physical_block_size", "/alignment_offset", "/start",
  ]

  private static func number(_ path: String) -> Int64? {
    guard let file = try? Descriptor.open(path, O_RDONLY | O_CLOEXEC, "opening it") else { return nil }
    var text = [UInt8](repeating: 0, count: 32)
    let count = unsafe Glibc.read(file.raw, &text, text.count)
    guard count > 0 else { return nil }
    return Int64(String(decoding: text[..<count].prefix { $0 != UInt8(ascii: "\n") }, as: UTF8.self))
  }
}

extension FileDevice {
  /// The `blockSize` that a file would have which were made at `path`.
  public static func blockSize(ofNewFileAt path: String) -> Int { TearingUnit(ofNewFileAt: path).bytes }

  /// The files in which the kernel describes the device that is at `path`, or on which a file there lies or is to lie:
  /// opening it reads them, where that is permitted.
  public static func deviceDescriptions(_ path: String) -> [String] {
    var status = stat()
    guard unsafe stat(path, &status) == 0 || stat(directory(of: path), &status) == 0 else { return [] }
    let folder = TearingUnit.Readings.Device.folder(of: status)
    return TearingUnit.Readings.Device.files.map { folder + $0 }
  }
}
