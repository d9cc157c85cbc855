import Foundation
import TestSupport
import Testing

/// SET_DATAFD: a data channel that comes over the control channel, as QEMU's does.
@Suite struct DescriptorTests {
  private func send(_ client: Socket, _ descriptors: [Int32]) -> String {
    client.send(bytes("00000010"), passing: descriptors)
    for descriptor in descriptors { close(descriptor) }
    return client.receive().hex
  }

  @Test func aDataChannelByDescriptor() throws {
    let server = try TestServer(TestDirectory(), channels: [.control])
    let control = try Socket(server, .control)
    // None with it.
    #expect(control.ask("00000010") == "00000003")
    let (data, theirs) = try Socket.pair()
    #expect(send(control, [theirs]) == "00000000")
    // QEMU's probe, before INIT.
    #expect(data.ask("8001 0000000a 00000181") == "80010000000a00000101")
    #expect(control.ask("00000002 00000000") == "00000000")
    #expect(data.ask(DataChannelTests.startup) == "80010000000a00000000")
    // A second one, while there is one.
    let (second, theirsToo) = try Socket.pair()
    #expect(send(control, [theirsToo]) == "0000001f")
    #expect(second.ask(DataChannelTests.family) == "", "its descriptor was closed")
    #expect(data.ask(DataChannelTests.family) == DataChannelTests.familyAnswer)
  }

  @Test func anotherOneWhenTheFirstHasGone() throws {
    let server = try TestServer(TestDirectory(), ["--flags", "startup-clear"], channels: [.control])
    let control = try Socket(server, .control)
    for _ in 0..<3 {
      let (data, theirs) = try Socket.pair()
      // Until the server has noticed that the one before left.
      while send(control, [dup(theirs)]) != "00000000" { usleep(1000) }
      close(theirs)
      #expect(data.ask(DataChannelTests.family) == DataChannelTests.familyAnswer)
    }
  }

  /// Descriptors where none belong are closed, and more than one are none.
  @Test func descriptorsThatNobodyAskedFor() throws {
    let server = try TestServer(TestDirectory(), channels: [.control])
    let control = try Socket(server, .control)
    // Answered when the client before has gone.
    #expect(control.ask("0000000e") == "00000000")
    let before = try descriptors(server)
    for count in [1, 2] {
      for _ in 0..<20 {
        let pairs = try (0..<count).map { _ in try Socket.pair() }
        control.send(bytes("00000001"), passing: pairs.map(\.1))
        #expect(control.receive().hex == "000000000001ffff")
        for pair in pairs { close(pair.1) }
      }
    }
    let pairs = try (0..<2).map { _ in try Socket.pair() }
    #expect(send(control, pairs.map(\.1)) == "00000003")
    #expect(try descriptors(server) == before)
  }

  private func descriptors(_ server: TestServer) throws -> Int {
    try FileManager.default.contentsOfDirectory(atPath: "/proc/\(server.identifier)/fd").count
  }
}
