import Foundation
import TestSupport
import Testing

/// Stores that fail. The rule: no failure reads as "there is no state", nothing unread is overwritten, nothing
/// acknowledged is lost, and the log says why.
@Suite struct StoreFaultTests {
  static let initialize = "00000002 00000000"
  /// TPM2_NV_DefineSpace of index 0x01500000 + n by the owner: 16 bytes, OWNERWRITE|OWNERREAD|NO_DA.
  static func define(_ n: UInt8) -> String {
    "8002 0000002d 0000012a 40000001 00000009 40000009 0000 00 0000 0000"
      + "000e 015000\([n].hex) 000b 02020002 0000 0010"
  }

  /// A directory with the state of a TPM that has one NV index.
  private func seeded() throws -> (directory: TestDirectory, permall: [UInt8]) {
    let directory = try TestDirectory()
    let server = try TestServer(directory, ["--flags", "startup-clear"])
    #expect(try Socket(server, .data).ask(Self.define(0)).contains("00000000"))
    server.kill()
    return (directory, try #require(directory.read("state/permall")))
  }

  /// INIT's answer for each status of a failed load.
  @Test(arguments: [
    (3, "0000000d"), (4, "00000021"), (5, "00000021"), (6, "00000009"), (10, "00000011"), (11, "0000001f"),
    (1, "00000009"),
  ]) func loadFails(status: Int, answer: String) throws {
    let (directory, permall) = try seeded()
    try directory.write("\(status)", "state/fail-load")
    let server = try TestServer(directory)
    let client = try Socket(server, .control)
    #expect(client.ask(Self.initialize) == answer)
    #expect(client.ask(Self.initialize) == answer)
    #expect(directory.read("state/permall") == permall)
    #expect(server.log.contains("can't load the TPM's permall"))
    // The TPM stays off, and comes back with the store.
    #expect(client.ask("00000004") == "0000000a")
    #expect(try Socket(server, .data).ask("8001 0000000c 00000144 0000") == "80010000000a00000101")
    directory.remove("state/fail-load")
    #expect(client.ask(Self.initialize) == "00000000")
    let data = try Socket(server, .data)
    #expect(data.ask("8001 0000000c 00000144 0000") == "80010000000a00000000")
    // TPM_RC_NV_DEFINED: the index is there, so it is the same TPM.
    #expect(data.ask(Self.define(0)) == "80010000000a0000014c")
    #expect(!FileManager.default.fileExists(atPath: "\(server.workPath)/NVChip"))
  }

  @Test(arguments: [3, 4, 6, 11]) func loadFailsWithoutInit(status: Int) throws {
    let (directory, permall) = try seeded()
    try directory.write("\(status)", "state/fail-load")
    let server = try TestServer(directory, ["--flags", "startup-clear"])
    #expect(server.wait() == Int32(status))
    #expect(directory.read("state/permall") == permall)
    #expect(directory.names == ["log", "state", "work"])
  }

  enum Damage: CaseIterable {
    case empty
    case oneByte
    case cut
    case garbage
    case oversized
    case flippedMagic
  }

  @Test(arguments: Damage.allCases) func damagedPermall(damage: Damage) throws {
    let (directory, permall) = try seeded()
    var bad = permall
    switch damage {
    case .empty: bad = []
    case .oneByte: bad = [0]
    case .cut: bad.removeLast(permall.count / 2)
    case .garbage: bad = (0..<1315).map { _ in UInt8.random(in: 0...255) }
    case .oversized: bad = [UInt8](repeating: 0, count: 262_145)
    case .flippedMagic: bad[4] ^= 1
    }
    try directory.write(bad, "state/permall")
    let server = try TestServer(directory)
    let answer = try Socket(server, .control).ask(Self.initialize)
    #expect(answer != "00000000")
    #expect(answer.count == 8)
    #expect(directory.read("state/permall") == bad)
    #expect(server.log.split(separator: "\n").count == 1)
    #expect(!FileManager.default.fileExists(atPath: "\(server.workPath)/NVChip"))
  }

  /// libtpms itself overlooks one that is shorter than its checksum.
  @Test(arguments: [0, 3, 19, 20, 500]) func damagedVolatileState(size: Int) throws {
    let (directory, permall) = try seeded()
    let bad = (0..<size).map { _ in UInt8.random(in: 0...255) }
    try directory.write(bad, "state/volatilestate")
    let server = try TestServer(directory)
    #expect(try Socket(server, .control).ask(Self.initialize) != "00000000")
    #expect(directory.read("state/permall") == permall)
    #expect(directory.read("state/volatilestate") == bad)
  }

  /// A new TPM that can't be stored is no TPM.
  @Test func firstStoreFails() throws {
    let directory = try TestDirectory()
    let server = try TestServer(directory)
    try directory.write("10", "state/fail-store")
    let client = try Socket(server, .control)
    #expect(client.ask(Self.initialize) == "00000011")
    #expect(server.log.contains("can't store the TPM's permall"))
    #expect(directory.read("state/permall") == nil)
    directory.remove("state/fail-store")
    #expect(client.ask(Self.initialize) == "00000000")
    #expect(directory.read("state/permall") != nil)
  }

  /// In mid-command: that command fails, the TPM is in failure mode, and stays there though the store recovers; what
  /// was acknowledged is there after a restart, what wasn't is not.
  @Test func laterStoreFails() throws {
    let directory = try TestDirectory()
    let server = try TestServer(directory, ["--flags", "startup-clear"])
    let (data, control) = (try Socket(server, .data), try Socket(server, .control))
    #expect(data.ask(Self.define(0)).hasPrefix("8002"))
    let permall = directory.read("state/permall")
    try directory.write("11", "state/fail-store")
    #expect(data.ask(Self.define(1)) == "80010000000a00000101")
    directory.remove("state/fail-store")
    #expect(data.ask(Self.define(2)) == "80010000000a00000101")
    #expect(control.ask("0000000a") == "0000001f")
    #expect(directory.read("state/permall") == permall)
    #expect(directory.read("state/volatilestate") == nil)
    #expect(server.log.contains("failure mode"))
    // The log tells why, not what the guest said: no command bytes.
    #expect(!server.log.lowercased().contains("01 2a"))
    #expect(server.log.split(separator: "\n").count == 2)

    #expect(control.ask(Self.initialize) == "00000000")
    #expect(data.ask("8001 0000000c 00000144 0000") == "80010000000a00000000")
    #expect(data.ask(Self.define(0)) == "80010000000a0000014c")
    #expect(data.ask(Self.define(1)).hasPrefix("8002"))
  }

  @Test func volatileStateFails() throws {
    let directory = try TestDirectory()
    let server = try TestServer(directory, ["--flags", "startup-clear"])
    let control = try Socket(server, .control)
    #expect(control.ask("0000000a") == "00000000")
    try directory.write("10", "state/fail-store-volatilestate")
    #expect(control.ask("0000000a") == "00000011")
    directory.remove("state/fail-store-volatilestate")
    try directory.write("11", "state/fail-delete")
    #expect(control.ask("00000002 00000001") == "0000001f")
    #expect(control.ask("00000004") == "0000000a")
    directory.remove("state/fail-delete")
    #expect(control.ask("00000002 00000001") == "00000000")
  }
}
