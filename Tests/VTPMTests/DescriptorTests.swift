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

  /// Of a file the kernel tells nothing: it would take the channel's place for good.
  @Test func noSocket() throws {
    let server = try TestServer(TestDirectory(), ["--flags", "startup-clear"], channels: [.control])
    let control = try Socket(server, .control)
    for path in ["/dev/null", "/proc/self/stat"] { #expect(unsafe send(control, [open(path, O_RDONLY)]) == "00000003") }
    #expect(server.log.contains("the descriptor that came with it is no socket"), "\(server.log)")
    let (data, theirs) = try Socket.pair()
    #expect(send(control, [theirs]) == "00000000")
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

  // MARK: What comes there are a guest's bytes

  private static let wrongSize = "80010000000a00000142"
  /// TPM2_PCR_Reset of PCR 20, which locality 2 may.
  static let reset = "8002 0000001b 0000013d 00000014 00000009 40000009 0000 00 0000"

  private func guest(_ arguments: [String] = []) throws -> (server: TestServer, data: Socket, control: Socket) {
    let server = try TestServer(TestDirectory(), arguments, channels: [.control])
    let control = try Socket(server, .control)
    let (data, theirs) = try Socket.pair()
    #expect(send(control, [theirs]) == "00000000")
    #expect(control.ask("00000002 00000000") == "00000000")
    #expect(data.ask(DataChannelTests.startup) == "80010000000a00000000")
    return (server, data, control)
  }

  /// No prefix, and none of the kernel's command that sets the locality: a guest has the one that QEMU said.
  @Test func aGuestChoosesNoLocality() throws {
    let (server, data, control) = try guest(["--locality", "allow-set-locality"])
    for locality in 0...5 {
      #expect(data.ask("00000008 0\(locality) 0000001b" + Self.reset) == Self.wrongSize)
      #expect(data.ask("8001 0000000b 20001000 0\(locality)") == "80010000000a00000101")
      #expect(data.ask(Self.reset) == "80010000000a00000907")
    }
    #expect(control.ask("00000005 02") == "00000000")
    #expect(data.ask(Self.reset).hasPrefix("8002"))
    #expect(server.isRunning)
  }

  /// What is no command of its size is answered once, and gone.
  @Test(arguments: [
    "00", "8001 00000000", "8001 00000000 00000144", "8001 00000009 00000144", "8001 00001001 00000144",
    "8001 ffffffff 00000144", DataChannelTests.family + "00", DataChannelTests.family + DataChannelTests.family,
    "8001 00000016 0000017a 00000006 00000100",
  ]) func oneAnswerToWhatIsNoCommand(bytes: String) throws {
    let (server, data, _) = try guest()
    for _ in 0..<2 {
      #expect(data.ask(bytes) == Self.wrongSize)
      #expect(data.ask(DataChannelTests.family) == DataChannelTests.familyAnswer)
    }
    #expect(server.log.components(separatedBy: "its size is not what came").count == 2, "said once")
  }

  /// A stream may bring a command in pieces.
  @Test func inPieces() throws {
    let (server, data, _) = try guest()
    for byte in bytes(DataChannelTests.family) { data.send([byte]) }
    #expect(data.receive().hex == DataChannelTests.familyAnswer)
    #expect(server.isRunning)
  }

  /// What comes while a command waits for the TPM is none.
  @Test func whatComesBeforeTheAnswerIsDropped() throws {
    let directory = try TestDirectory()
    try FileManager.default.createDirectory(atPath: "\(directory.path)/state", withIntermediateDirectories: true)
    try directory.write("", "state/pending")
    let server = try TestServer(directory, ["--flags", "startup-clear"], channels: [.control])
    let (data, theirs) = try Socket.pair()
    let control = try Socket(server, .control)
    #expect(send(control, [theirs]) == "00000000")
    data.send(bytes(DataChannelTests.family))
    #expect(control.ask("0000000f") == "0000000000000000")
    for _ in 0..<3 { data.send(bytes(StoreFaultTests.define(7))) }
    directory.remove("state/pending")
    #expect(data.receive().hex == DataChannelTests.familyAnswer)
    #expect(data.ask(DataChannelTests.family) == DataChannelTests.familyAnswer)
    #expect(data.ask(StoreFaultTests.define(7)).hasPrefix("8002"))
  }

  /// Nor does a descriptor that comes with a command stay.
  @Test func descriptorsThatComeWithCommands() throws {
    let (server, data, control) = try guest()
    let before = try descriptors(server)
    for count in [1, 2] {
      let pairs = try (0..<count).map { _ in try Socket.pair() }
      data.send(bytes(DataChannelTests.family), passing: pairs.map(\.1))
      #expect(data.receive().hex == DataChannelTests.familyAnswer)
      for pair in pairs { close(pair.1) }
      #expect(try descriptors(server) == before)
    }
    #expect(control.ask("0000000f") == "0000000000000000")
  }

  private func descriptors(_ server: TestServer) throws -> Int {
    try FileManager.default.contentsOfDirectory(atPath: "/proc/\(server.identifier)/fd").count
  }
}
