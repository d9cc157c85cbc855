import Foundation
import TestSupport
import Testing

/// `--migration`: two servers that share one state, as on storage that two hosts have.
@Suite struct HandoverTests {
  private static let outgoing = ["--migration", "release-lock-outgoing"]
  private static let incoming = ["--migration", "release-lock-outgoing,incoming"]
  private static let getRandom = LockedStoreTests.getRandom

  /// A second server on the same state, with sockets and a log of its own.
  private func target(_ source: TestServer, _ arguments: [String] = incoming) throws -> TestServer {
    try TestServer(TestDirectory(), arguments, state: source.statePath)
  }

  private func source(_ arguments: [String] = outgoing) throws -> (server: TestServer, data: Socket, control: Socket) {
    let server = try TestServer(TestDirectory(), arguments)
    let (data, control) = (try Socket(server, .data), try Socket(server, .control))
    #expect(control.ask("00000002 00000000") == "00000000")
    #expect(data.ask(DataChannelTests.startup) == "80010000000a00000000")
    #expect(data.ask(StoreFaultTests.define(0)).hasPrefix("8002"))
    return (server, data, control)
  }

  /// The blobs in QEMU's order; an empty one where there is none.
  private func fetch(_ control: Socket, _ types: [Int] = [1, 2, 3]) -> [[UInt8]] {
    types.map { type in
      control.send(bytes("0000000c 00000001 0000000\(type) 00000000"))
      var answer = control.receive(atLeast: 16)
      let size = Int(answer.integer(at: 12))
      answer += control.receive(atLeast: 16 + size - answer.count)
      return Array(answer.dropFirst(16))
    }
  }

  private func give(_ blobs: [[UInt8]], _ control: Socket) {
    for (index, blob) in blobs.enumerated() where !blob.isEmpty {
      control.send(bytes("0000000d 00000000 0000000\(index + 1) \(String(format: "%08x", blob.count))") + blob)
      #expect(control.receive().hex == "00000000")
    }
  }

  @Test func aMove() throws {
    let (source, data, control) = try source()
    #expect(data.ask(LockedStoreTests.extend).hasPrefix("8002"))
    let measured = data.ask(LockedStoreTests.readPCR)
    let target = try target(source)
    let (theirData, theirControl) = (try Socket(target, .data), try Socket(target, .control))
    let blobs = fetch(control)
    #expect(source.log.contains("the store is released"))
    #expect(theirControl.ask("0000000e") == "00000000")
    give(blobs, theirControl)
    #expect(theirControl.ask("00000002 00000001") == "00000000")
    #expect(theirData.ask(LockedStoreTests.readPCR) == measured)
    #expect(theirData.ask(StoreFaultTests.define(0)) == "80010000000a0000014c")
    #expect(theirData.ask(StoreFaultTests.define(1)).hasPrefix("8002"))
    // The source ends without a write.
    let permall = source.directory.read("state/permall")
    #expect(control.ask("00000003") == "00000000")
    #expect(source.wait() == 0)
    #expect(source.directory.read("state/permall") == permall)
    #expect(theirData.ask(StoreFaultTests.define(1)) == "80010000000a0000014c")
  }

  /// Only when all three have gone out, one after the other, and nothing was asked in between.
  @Test func notBefore() throws {
    let (server, data, control) = try source()
    for types in [[1], [1, 2], [2, 3], [3], [1, 3], [3, 2]] {
      _ = fetch(control, types)
      #expect(!server.log.contains("released"), "\(types)")
      #expect(data.ask(Self.getRandom).hasPrefix("8001000000140000000000"))
    }
    _ = fetch(control, [1, 2])
    #expect(data.ask(Self.getRandom).hasPrefix("8001000000140000000000"))
    _ = fetch(control, [3])
    #expect(!server.log.contains("released"))
    let other = try source([])
    _ = fetch(other.control)
    #expect(!other.server.log.contains("released"))
  }

  /// The move failed: the source goes on, by LOCK_STORAGE or with the next command.
  @Test(arguments: [true, false]) func theSourceGoesOn(isAsked: Bool) throws {
    let (server, data, control) = try source()
    _ = fetch(control)
    #expect(server.log.contains("released"))
    if isAsked { #expect(control.ask("00000013 0000012c") == "00000000") }
    #expect(data.ask(StoreFaultTests.define(1)).hasPrefix("8002"))
    #expect(server.log.contains("the store is had again"))
    #expect(control.ask("00000013 00000000") == "00000000")
    #expect(data.ask(StoreFaultTests.define(1)) == "80010000000a0000014c")
  }

  /// The target has it still: the source waits for a moment, and then says that it can't; when it is free again it can.
  @Test func theTargetHasIt() throws {
    let (server, data, control) = try source()
    _ = fetch(control)
    var other: TestServer? = try target(server, ["--flags", "not-need-init"])
    #expect(control.ask("00000013 00000005") == "00000009")
    // Others are served in the meantime.
    control.send(bytes("00000013 00000064"))
    #expect(!control.hasInput(within: 100))
    let second = try Socket(server, .control)
    #expect(second.ask("00000001") == "000000000001ffff")
    #expect(control.receive().hex == "00000009")
    data.send(bytes(Self.getRandom))
    #expect(data.receive().hex == LockedStoreTests.unavailable)
    data.send(bytes(Self.getRandom))
    #expect(!data.hasInput(within: 100))
    // A SIGKILL, so that nothing is stored.
    other?.kill()
    other = nil
    #expect(data.receive().hex.hasPrefix("8001000000140000000000"))
  }

  /// The target was the TPM, and changed it: the source must not go on from what it has in memory.
  @Test func theTargetChangedIt() throws {
    let (server, data, control) = try source()
    let blobs = fetch(control)
    let other = try target(server)
    let (theirData, theirControl) = (try Socket(other, .data), try Socket(other, .control))
    give(blobs, theirControl)
    #expect(theirControl.ask("00000002 00000001") == "00000000")
    #expect(theirData.ask(StoreFaultTests.define(1)).hasPrefix("8002"))
    other.kill()
    let permall = server.directory.read("state/permall")
    #expect(data.ask(StoreFaultTests.define(2)) == "80010000000a00000101")
    #expect(server.log.contains("another server was this TPM in the meantime"))
    #expect(server.directory.read("state/permall") == permall)
    // INIT starts from what is there now.
    #expect(control.ask("00000002 00000000") == "00000000")
    #expect(data.ask(DataChannelTests.startup) == "80010000000a00000000")
    #expect(data.ask(StoreFaultTests.define(1)) == "80010000000a0000014c")
  }

  /// Who asked for INIT left: the store isn't taken for nobody.
  @Test func theWaitingClientLeaves() throws {
    let (server, _, _) = try source()
    let other = try target(server)
    var control: Socket? = try Socket(other, .control)
    control?.send(bytes("00000002 00000000"))
    #expect(control?.hasInput(within: 50) == false)
    control = nil
    // Answered when the one that left was noticed.
    #expect(try Socket(other, .control).ask("00000001") == "000000000001ffff")
    server.kill()
    usleep(200_000)
    #expect(!other.log.contains("the store is had again"))
    #expect(try Socket(other, .control).ask("00000002 00000000") == "00000000")
  }

  /// A target whose source doesn't let go.
  @Test func theSourceHasIt() throws {
    let (server, data, _) = try source()
    let other = try target(server)
    let control = try Socket(other, .control)
    control.send(bytes("00000002 00000000"))
    #expect(!control.hasInput(within: 100))
    #expect(control.receive().hex != "00000000")
    #expect(other.log.contains("in use by another process"))
    #expect(other.isRunning)
    #expect(data.ask(StoreFaultTests.define(1)).hasPrefix("8002"))
  }
}
