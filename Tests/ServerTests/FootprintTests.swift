import Foundation
import TestSupport
import Testing

/// What an idle server takes, for people to read: there is one per virtual machine.
@Suite struct FootprintTests {
  @Test func idle() throws {
    let place = try Place()
    let server = try TestServer(place)
    #expect(try server.tpm2("tpm2_getrandom", "--hex", "8").status == 0)
    let before = try Self.switches(server)
    sleep(2)
    let woken = try Self.switches(server) - before
    // What both have in common counts once.
    let memory = try [server.identifier, server.worker].map { try Self.value("Pss", of: "/proc/\($0)/smaps_rollup") }
    print("idle vnvram-swtpm of this build: monitor and worker \(memory) KiB (PSS), \(woken) wake-ups in 2 s")
    #expect(server.end() == 0)
  }

  /// No core dump, whatever limits it was started under.
  @Test func noCoreDump() throws {
    let place = try Place()
    let server = try TestServer(place)
    for process in [server.identifier, try server.worker] {
      let limits = try String(contentsOfFile: "/proc/\(process)/limits", encoding: .utf8)
      let line = try #require(limits.split(separator: "\n").first { $0.hasPrefix("Max core file size") })
      #expect(line.split(separator: " ").dropFirst(4).prefix(2) == ["0", "0"])
    }
    #expect(server.end() == 0)
  }

  /// A number in a file of /proc.
  private static func value(_ name: String, of path: String) throws -> Int {
    let text = try String(contentsOfFile: path, encoding: .utf8)
    let line = try #require(text.split(separator: "\n").first { $0.hasPrefix(name + ":") })
    return try #require(Int(line.filter(\.isNumber)))
  }

  /// How often any of its threads was put on a processor again after it had waited.
  private static func switches(_ server: TestServer) throws -> Int {
    try [server.identifier, server.worker].reduce(0) { sum, process in
      let threads = "/proc/\(process)/task"
      return try FileManager.default.contentsOfDirectory(atPath: threads).reduce(sum) { sum, thread in
        sum + (try value("voluntary_ctxt_switches", of: "\(threads)/\(thread)/status"))
      }
    }
  }
}
