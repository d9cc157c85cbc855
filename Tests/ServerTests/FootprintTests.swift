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
    let memory = try Self.value("VmRSS", of: "/proc/\(server.identifier)/status")
    print("idle vnvram-swtpm of this build: \(memory) KiB resident, \(woken) wake-ups in 2 s")
    #expect(server.end() == 0)
  }

  /// No core dump, whatever limits it was started under.
  @Test func noCoreDump() throws {
    let place = try Place()
    let server = try TestServer(place)
    let limits = try String(contentsOfFile: "/proc/\(server.identifier)/limits", encoding: .utf8)
    let line = try #require(limits.split(separator: "\n").first { $0.hasPrefix("Max core file size") })
    #expect(line.split(separator: " ").dropFirst(4).prefix(2) == ["0", "0"])
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
    let threads = "/proc/\(server.identifier)/task"
    return try FileManager.default.contentsOfDirectory(atPath: threads).reduce(0) { sum, thread in
      sum + (try value("voluntary_ctxt_switches", of: "\(threads)/\(thread)/status"))
    }
  }
}
