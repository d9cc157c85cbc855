import Foundation
import TestSupport
import Testing

/// What the TPM acknowledged outlives the server, however it ends.
@Suite struct DurabilityTests {
  /// Ended between two commands, and in the middle of one.
  @Test("killed 20 times, nothing acknowledged is lost, and no new TPM") func killed() throws {
    let place = try Place()
    // The last that was acknowledged, and one more where a command was under way.
    var counter: UInt64 = 0
    var written: UInt8 = 0
    var inFlight = false
    for round in 1...20 {
      let server = try TestServer(place)
      let client = try server.connect(.data)
      if round == 1 {
        try client.run(TPMCommand.defineCounter)
        try client.run(TPMCommand.defineIndex)
        // The first one sets a counter to where the TPM's counters stand.
        try client.run(TPMCommand.increment)
        counter = try client.counter()
      } else {
        let found = try client.counter()
        #expect(found == counter || (inFlight && found == counter + 1), "round \(round): \(found), not \(counter)")
        counter = found
        #expect(try client.index() == [UInt8](repeating: written, count: TPMCommand.indexSize), "round \(round)")
      }
      for _ in 0..<5 {
        try client.run(TPMCommand.increment)
        counter += 1
      }
      written = UInt8(round)
      try client.run(TPMCommand.write(written))
      inFlight = round.isMultiple(of: 2)
      if inFlight {
        client.send(TPMCommand.increment)
        usleep(UInt32(round * 100))
      }
      #expect(server.kill() == -SIGKILL)
    }
    let check = try place.run(["vnvram", "check", place.image])
    #expect(check.status == 0, "\(check.text)")
  }

  /// Each of the signals that ask a server to end.
  @Test(arguments: [SIGTERM, SIGINT]) func closedCleanly(signal: Int32) throws {
    let place = try Place()
    var server = try TestServer(place)
    var client: Socket? = try server.connect(.data)
    try client?.run(TPMCommand.defineIndex)
    try client?.run(TPMCommand.write(7))
    client = nil
    #expect(server.kill() == -SIGKILL)
    #expect(try !place.wasClosedCleanly())
    server = try TestServer(place)
    server.signal(signal)
    #expect(server.wait() == 0)
    #expect(try place.wasClosedCleanly())
    #expect(place.names == ["tpm.vnvram"], "no sockets are left, and libtpms made no file of its own")
    server = try TestServer(place)
    #expect(try server.connect(.data).index() == [UInt8](repeating: 7, count: TPMCommand.indexSize))
    #expect(server.end() == 0)
  }

  /// The store brings its journal in place in pauses between commands. A command that comes meanwhile waits for a step
  /// of that; it doesn't fail for it, which would put the TPM into failure mode.
  @Test func upkeepIsNoReasonToFail() throws {
    let place = try Place()
    let server = try TestServer(place)
    let client = try server.connect(.data)
    try client.run(TPMCommand.defineIndex)
    for i in 0..<400 {
      try #require(TPMCommand.code(client.ask(TPMCommand.write(UInt8(i % 256)))) == 0, "write \(i): \(server.log)")
      usleep(UInt32(900 + i))
    }
    #expect(server.end() == 0)
  }

  /// A server that is killed between TPM2_Shutdown and SIGTERM, and one without any command: nothing to lose.
  @Test func killedAtOnce() throws {
    let place = try Place()
    let first = try TestServer(place, [])
    #expect(first.kill() == -SIGKILL)
    let second = try TestServer(place)
    #expect(try second.tpm2("tpm2_getrandom", "--hex", "8").status == 0)
    #expect(second.end() == 0)
  }
}
