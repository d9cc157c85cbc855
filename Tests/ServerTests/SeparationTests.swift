import Foundation
import TestSupport
import Testing

/// Monitor and worker: neither outlives the other, the image is closed and free when the server has ended, and states
/// don't leave or come over the control channel without a record. What the worker can't do is in HarmTests; that it has
/// no key-encryption key, and the monitor none of the store's keys, in Tests/MemoryScan.
@Suite struct SeparationTests {
  private static func isGone(_ process: pid_t) -> Bool {
    for _ in 0..<5000 {
      // A zombie's child, once init has it, is gone as well.
      guard let status = try? String(contentsOfFile: "/proc/\(process)/stat", encoding: .utf8) else { return true }
      if status.contains(") Z ") { return true }
      usleep(2000)
    }
    return false
  }

  @Test(arguments: [SIGKILL, SIGSEGV, SIGSYS]) func killedWorkerEndsTheMonitor(signal: Int32) throws {
    let place = try Place()
    let server = try TestServer(place)
    try server.connect(.data).run(TPMCommand.defineIndex)
    kill(try server.worker, signal)
    #expect(server.wait() == 1, "\(server.log)")
    #expect(server.log.contains("ended on signal \(signal)"), "\(server.log)")
    let records = try String(decoding: place.bytes("audit.jsonl"), as: UTF8.self)
    #expect(records.split(separator: "\n").last?.contains("\"ended\"") == true, "\(records)")
    #expect(!place.names.contains("tpm") && !place.names.contains("tpm.ctrl"), "the sockets are removed")
    #expect(try TestServer(place).end() == 0)
  }

  @Test func killedMonitorEndsTheWorker() throws {
    let place = try Place()
    for _ in 0..<5 {
      let server = try TestServer(place)
      let worker = try server.worker
      try server.connect(.data).run(TPMCommand.getRandom)
      server.signal(SIGKILL)
      _ = server.wait()
      // At once: who starts it anew doesn't wait.
      let next = try TestServer(place)
      #expect(next.isRunning, "\(next.log)")
      #expect(Self.isGone(worker))
      #expect(next.end() == 0)
    }
  }

  /// Neither the lock nor a socket is left when the process that people see is gone.
  @Test func theLockIsFreeWhenItHasEnded() throws {
    let place = try Place()
    for _ in 0..<10 {
      let server = try TestServer(place)
      try server.connect(.data).run(TPMCommand.getRandom)
      #expect(server.end() == 0)
      #expect(!place.names.contains("tpm"))
      let check = try place.run(["vnvram", "check", place.image])
      #expect(check.status == 0, "\(check.text)")
    }
    #expect(try place.wasClosedCleanly())
  }

  /// Told to end as soon as its socket is there, before its worker has the image perhaps: it ends, and at once.
  @Test func endedWhileItStarts() throws {
    let place = try Place()
    for _ in 0..<20 {
      let command = TestServer.command(place.image, TestServer.unixSockets(place.folder), TestServer.startsByItself)
      let server = try place.start(command)
      while server.isRunning, (try? Socket(path: place.path("tpm.ctrl"))) == nil { usleep(200) }
      server.signal(SIGTERM)
      #expect(server.wait() == 0, "\(server.text)")
    }
    #expect(try place.wasClosedCleanly())
  }

  // MARK: States that leave and come

  /// GET_STATEBLOB of a state, from its beginning.
  private static func get(_ type: UInt8) -> [UInt8] { [0, 0, 0, 0x0C, 0, 0, 0, 1, 0, 0, 0, type, 0, 0, 0, 0] }
  /// SET_STATEBLOB of an empty one: there is none.
  private static func setNothing(_ type: UInt8) -> [UInt8] { [0, 0, 0, 0x0D, 0, 0, 0, 0, 0, 0, 0, type, 0, 0, 0, 0] }
  private static let stop: [UInt8] = [0, 0, 0, 0x0E]

  @Test func statesThatLeaveAreRecorded() throws {
    let place = try Place()
    let server = try TestServer(place)
    let control = try server.connect(.control)
    #expect(control.ask(Self.get(1)).prefix(4) == [0, 0, 0, 0])
    #expect(control.ask(Self.stop) == [0, 0, 0, 0])
    #expect(control.ask(Self.setNothing(2)) == [0, 0, 0, 0])
    let lines = try String(decoding: place.bytes("audit.jsonl"), as: UTF8.self).split(separator: "\n")
    #expect(lines.contains { $0.contains("\"exported\"") && $0.contains("permall, in clear, by GET_STATEBLOB") })
    #expect(lines.contains { $0.contains("\"imported\"") && $0.contains("volatilestate") })
    #expect(server.end() == 0)
  }

  /// Where the record can't be written, nothing leaves and nothing is taken.
  @Test func statesAreNotMovedWithoutARecord() throws {
    let place = try Place()
    let server = try TestServer(place)
    // A folder where the log was.
    let log = place.path("audit.jsonl")
    try FileManager.default.removeItem(atPath: log)
    try FileManager.default.createDirectory(atPath: log, withIntermediateDirectories: false)
    let control = try server.connect(.control)
    let answer = control.ask(Self.get(1))
    #expect(answer.prefix(4) != [0, 0, 0, 0], "refused")
    #expect(answer.count == 16, "and nothing else")
    #expect(control.ask(Self.stop) == [0, 0, 0, 0])
    #expect(control.ask(Self.setNothing(2)) != [0, 0, 0, 0])
    #expect(server.log.contains("can't hand out the TPM's permall"), "\(server.log)")
    #expect(server.end() == 0)
  }

  /// A child that has nothing of the monitor's memory for keys: neither its bytes nor its place.
  @Test(.enabled(if: geteuid() == 0)) func theWorkersNameAndMemory() throws {
    let place = try Place()
    let server = try TestServer(place)
    let worker = try server.worker
    let words = try String(contentsOfFile: "/proc/\(worker)/cmdline", encoding: .utf8).split(separator: "\0")
    #expect(words.first?.hasPrefix("vnvram-swtpm worker ") == true, "\(words)")
    #expect(words.count == 1, "\(words)")
    let environment = try File.bytes("/proc/\(worker)/environ")
    #expect(environment.allSatisfy { $0 == 0 }, "\(String(decoding: environment, as: UTF8.self))")
    let places = try [server.identifier, worker].map { process in
      try String(contentsOfFile: "/proc/\(process)/maps", encoding: .utf8).split(separator: "\n")
        .filter { $0.contains("secretmem") }.map { $0.prefix { $0 != "-" } }
    }
    // A kernel without memfd_secret has none.
    #expect(places[0].isEmpty == places[1].isEmpty, "\(places)")
    #expect(Set(places[0]).isDisjoint(with: places[1]), "\(places)")
    #expect(server.end() == 0)
  }
}
