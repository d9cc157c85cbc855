import Glibc

/// vnvram-swtpm against Debian's swtpm: all of them run at the same time, on the same file system, and take turns at
/// each operation, so that what else the machine does hits all alike.
struct ServerBenchmark {
  private let directory: String
  private let ours: ServerUnderTest
  private let inDirectory: ServerUnderTest
  private let inFile: ServerUnderTest
  private let keyedDirectory: ServerUnderTest
  private let keyedFile: ServerUnderTest
  private static let index: UInt32 = 0x0150_0001

  init(_ directory: String, programs: String) {
    self.directory = directory
    ours = .ours(directory, programs: programs, "ours")
    inDirectory = .swtpm(directory, .directory, keyed: false, "directory")
    inFile = .swtpm(directory, .file, keyed: false, "file")
    keyedDirectory = .swtpm(directory, .directory, keyed: true, "keyed-directory")
    keyedFile = .swtpm(directory, .file, keyed: true, "keyed-file")
  }

  private var all: [ServerUnderTest] { [ours, inDirectory, inFile, keyedDirectory, keyedFile] }

  func run(_ table: inout Table) {
    for server in all {
      server.start()
      server.run(TPMCommand.define(Self.index, size: 64))
    }
    writes("NV_Write of 64 bytes", operations: 2000, stateSize: 1400, asked: ("≤ 1.0", "≤ 1.1"), &table)
    same("NV_Read of 64 bytes", operations: 10_000, TPMCommand.read(Self.index, count: 64), &table)
    same("GetRandom(8)", operations: 10_000, TPMCommand.getRandom(8), &table)
    memory("resident memory after these commands", asked: "≤ 1.2", &table)
    // Long enough to be idle.
    sleep(12)
    memory("resident memory, idle", asked: "≤ 1.5", &table)
    for server in all { server.stop() }
    starts(1000, &table)
    for server in all {
      server.start()
      fill(server)
    }
    writes("NV_Write of 64 bytes, NV full", operations: 1000, stateSize: 150_000, asked: ("≤ 0.30", "reported"), &table)
    sleep(12)
    memory("resident memory, idle, NV full", asked: "reported", &table)
    for server in all { server.stop() }
  }

  // MARK: Commands

  /// Other content each time: the same again isn't stored.
  private static func write(_ operation: Int) -> [UInt8] {
    TPMCommand.write(index, (0..<64).map { UInt8(truncatingIfNeeded: $0 &+ operation) })
  }

  /// 2 KiB indices until the TPM has no more space.
  private func fill(_ server: ServerUnderTest) {
    let half = [UInt8](repeating: 0xA5, count: 1024)
    var index = Self.index + 1
    while server.attempt(TPMCommand.define(index, size: 2048)) != TPMCommand.noSpace {
      for offset in [0, 1024] { server.run(TPMCommand.write(index, half, at: offset)) }
      index += 1
    }
  }

  /// Has the contenders take turns of `length` operations, until each has had as many as asked for; a tenth more at
  /// first isn't counted. Who begins changes from turn to turn.
  private func turns(
    of length: Int, operations: Int, _ count: Int, _ body: (_ contender: Int, _ operation: Int) -> UInt64
  ) -> [Sample] {
    var samples = [Sample](repeating: Sample(), count: count)
    let warmUp = (operations / 10 + length - 1) / length
    for round in 0..<operations / length + warmUp {
      for turn in 0..<count {
        let contender = (round + turn) % count
        for operation in round * length..<(round + 1) * length {
          let time = body(contender, operation)
          if round >= warmUp { samples[contender].add(time) }
        }
      }
    }
    return samples
  }

  /// What each store takes, and beside it what the medium takes: for as many bytes as a commit of one sector has, and
  /// for a directory such as swtpm's, were it synced. In turns of fifty: what swtpm leaves to be written in the
  /// background would else be the time of the next, and never its own.
  private func writes(
    _ what: String, operations: Int, stateSize: Int, asked: (directory: String, file: String), _ table: inout Table
  ) {
    let medium = SyncedFile(directory + "/medium")
    let renamed = SyncedDirectory(directory + "/renamed", size: stateSize)
    let servers = all
    let samples = turns(of: 50, operations: operations, servers.count + 2) { contender, operation in
      switch contender - servers.count {
      case 0: return timed { medium.write(operation) }
      case 1: return timed { renamed.write() }
      default:
        let command = Self.write(operation)
        return timed { servers[contender].run(command) }
      }
    }
    let asked = [asked.directory, asked.file, "reported", "reported"]
    for (i, server) in servers.enumerated().dropFirst() {
      table.add(i == 1 ? "\(what), µs" : "", samples[0], server.name, samples[i], asked[i - 1])
    }
    table.add("", samples[0], "pwrite of 8 KiB + fdatasync", samples[servers.count], "reported")
    table.add("", samples[0], "temporary file + rename, both synced", samples[servers.count + 1], "reported")
  }

  /// In turns of ten, since what is measured is a few microseconds and another process is in the caches first.
  private func same(_ what: String, operations: Int, _ command: [UInt8], _ table: inout Table) {
    let servers = [ours, inDirectory]
    let samples = turns(of: 10, operations: operations, servers.count) { contender, _ in
      timed { servers[contender].run(command) }
    }
    table.add("\(what), µs", samples[0], servers[1].name, samples[1], "≤ 1.0")
  }

  // MARK: Starting

  /// From the start of the process to its first answer, with the state that the commands above have left.
  private func starts(_ count: Int, _ table: inout Table) {
    let servers = [ours, inDirectory, inFile, keyedDirectory]
    let samples = turns(of: 1, operations: count, servers.count) { contender, _ in
      let time = timed { servers[contender].start() }
      servers[contender].stop()
      return time
    }
    for (i, server) in servers.enumerated().dropFirst() {
      let (what, asked) = i == 1 ? ("start to the first answer, µs", "≤ 1.5") : ("", "reported")
      table.add(what, samples[0], server.name, samples[i], asked)
    }
  }

  // MARK: Memory

  private func memory(_ what: String, asked: String, _ table: inout Table) {
    func megabytes(_ kilobytes: Int) -> String { Table.number(Double(kilobytes) * 1024 / 1e6) }
    for (i, other) in [inDirectory, inFile].enumerated() {
      table.add(
        i == 0 ? "\(what), MB" : "", megabytes(ours.resident), "\(other.name): \(megabytes(other.resident))",
        Double(ours.resident) / Double(other.resident), i == 0 ? asked : "reported")
    }
    table.add(
      "of it written to, MB", megabytes(ours.own), "\(inDirectory.name): \(megabytes(inDirectory.own))",
      Double(ours.own) / Double(inDirectory.own), "reported")
  }
}
