import Audit
import BlobStore
import BlockIO
import Glibc
import Primitives
import SecureVolume
import VNVRAM

/// Backup, check and open of images of 1, 16 and 256 MiB, by `vnvram` as its users run it: seconds from start to end,
/// the volume's bytes in them, and the most memory that it had. Opened after a clean close, and after a cut with a full
/// ring.
func benchmarkImages(_ directory: String, programs: String) throws -> Table {
  var table = Table(["vnvram, median of 5", "image", "seconds", "MB/s", "peak RSS, MiB"])
  for mebibytes in [1, 16, 256] {
    let images = try MeasuredImages(directory, programs: programs, mebibytes: mebibytes)
    for operation in MeasuredImages.Operation.all {
      let (sample, peak) = images.measure(operation, rounds: 5)
      let seconds = sample.median / 1e6
      table.add(row: [
        operation.name, "\(mebibytes) MiB", Table.number(seconds),
        "\(Int(Double(mebibytes << 20) / 1e6 / seconds))", Table.number(Double(peak) / 1024),
      ])
    }
  }
  return table
}

/// The same image twice: closed cleanly, and as a power cut leaves it whose ring is full.
private final class MeasuredImages {
  struct Operation {
    let name: String
    /// What is done with the cut image, on a copy of it.
    let isCut: Bool
    let arguments: [String]

    static let all = [
      Operation(name: "backup", isCut: false, arguments: ["backup", "IMAGE", "BACKUP"]),
      Operation(name: "check", isCut: false, arguments: ["check", "IMAGE"]),
      Operation(name: "open for reading (ls)", isCut: false, arguments: ["ls", "IMAGE"]),
      Operation(name: "open for writing (put of 4 KiB)", isCut: false, arguments: ["put", "IMAGE", "small", "FILE"]),
      Operation(name: "open for reading, after a cut", isCut: true, arguments: ["ls", "IMAGE"]),
      Operation(name: "open for writing, after a cut", isCut: true, arguments: ["put", "IMAGE", "small", "FILE"]),
    ]
  }

  private let directory: String
  private let program: String
  private let log: String
  private var image: String { directory + "/image" }
  private var cut: String { directory + "/cut" }

  init(_ directory: String, programs: String, mebibytes: Int) throws {
    self.directory = directory
    program = programs + "/vnvram"
    log = directory + "/images.log"
    let key = "bench-\(getpid())-image-\(mebibytes)"
    ChildProcess.run([program, "key", "generate", key, "--keyring", "session"], log: log)
    let content = (mebibytes << 10) - 64
    ChildProcess.run(
      [program, "format", image, "--key", key, "--entry", "content=\(content)K", "--entry", "small=4K"], log: log)
    try fillRing([UInt8](repeating: 1, count: content << 10))
    let file = unsafe open(directory + "/small", O_WRONLY | O_CREAT | O_CLOEXEC, 0o600)
    _ = unsafe write(file, [UInt8](repeating: 7, count: 4096), 4096)
    close(file)
  }

  deinit { for path in [image, cut, directory + "/small"] { _ = unsafe unlink(path) } }

  /// Commits all of the entry's content twice without a checkpoint that nothing forces, and copies the image before it
  /// is closed.
  private func fillRing(_ first: [UInt8]) throws {
    let unlocker = Unlocker(audit: AuditLog(.file(directory + "/audit.jsonl")))
    let volume = try unlocker.unlock(SealedVolume(FileDevice.open(path: image, access: .readWrite)))
    let store = try BlobStore(volume)
    var content = first
    for round in 2...3 {
      try store.stageReplace("content", content.span)
      try store.commit()
      for i in stride(from: 0, to: content.count, by: 512) { content[i] = UInt8(round) }
    }
    ChildProcess.run(["cp", image, cut], log: log)
    try volume.close()
  }

  /// How long the program takes, and the most kilobytes that were resident.
  func measure(_ operation: Operation, rounds: Int) -> (Sample, peak: Int) {
    let (copy, backup) = (directory + "/copy", directory + "/backup")
    let names = [
      "IMAGE": operation.isCut ? copy : image, "BACKUP": backup, "FILE": directory + "/small",
    ]
    var (sample, peak) = (Sample(), 0)
    for _ in 0..<rounds {
      if operation.isCut { ChildProcess.run(["cp", cut, copy], log: log) }
      let measured = ChildProcess.measure([program] + operation.arguments.map { names[$0] ?? $0 }, log: log)
      sample.add(measured.time)
      peak = max(peak, measured.peak)
      for path in [copy, backup] { _ = unsafe unlink(path) }
    }
    return (sample, peak)
  }
}
