import Foundation
import TestSupport
import Testing

/// A response leaves when what its command stored would survive a power cut, and not before. A SIGKILL can't show that:
/// it loses nothing that the kernel has. So the server runs under strace, and images are put together that hold what it
/// had synced when it sent a response, and nothing of what it had only written.
@Suite(.enabled(if: SystemCallTrace.isAvailable, "strace can't trace processes here"))
struct AcknowledgementTests {
  /// SIGTERM comes while a client writes without a pause.
  @Test func everyAcknowledgementIsDurable() throws {
    let place = try Place()
    let command = TestServer.command(place.image, TestServer.unixSockets(place.folder), TestServer.startsByItself)
    let first = try place.bytes()
    let server = try place.start(SystemCallTrace.command(place.path("trace")) + command)
    while server.isRunning, (try? Socket(path: place.path("tpm")))?.ask(TPMCommand.getRandom).isEmpty ?? true {
      usleep(2000)
    }
    let client = try Socket(path: place.path("tpm"))
    try client.run(TPMCommand.defineIndex)
    let acknowledged = try write(client, untilEnded: server)
    #expect(server.wait() == 0, "\(server.text)")
    #expect(acknowledged > 10)

    let trace = try SystemCallTrace(place.bytes("trace"))
    let answers = trace.events.indices.filter {
      // TPM_ST_SESSIONS: the definition, and the writes.
      if case .sent(let bytes) = trace.events[$0] { bytes.starts(with: [0x80, 2]) } else { false }
    }
    try #require(answers.count == acknowledged + 1 || answers.count == acknowledged + 2)
    // The second write, the last that was acknowledged, some in between, and the end.
    let numbers = Set([2, acknowledged] + (0..<6).map { _ in Int.random(in: 2...acknowledged) })
    let last = trace.events.count - 1
    let disks = trace.disks(first, after: Set(numbers.map { answers[$0] } + [last]))
    for number in numbers.sorted() { #expect(try found(place, disks[answers[number]]) == [UInt8(number % 256)]) }
    let end = try found(place, disks[last])
    #expect(end == [UInt8(acknowledged % 256)] || end == [UInt8((acknowledged + 1) % 256)])
    #expect(try disks[last] == place.bytes(), "all that was written was synced in the end")
    #expect(first != disks[last])

    // Power that goes before a sync has ended takes the acknowledged write along: what is looked for can be found
    // missing. The first sync after the answer before it: the last may be a checkpoint's, between commit and answer.
    let syncs = trace.events.indices.filter { if case .synced = trace.events[$0] { true } else { false } }
    let sync = try #require(syncs.first { $0 > answers[acknowledged - 1] && $0 < answers[acknowledged] })
    #expect(try found(place, trace.disks(first, after: [sync - 1])[sync - 1]) == [UInt8((acknowledged - 1) % 256)])
    print("acknowledgements: \(acknowledged), \(numbers.count + 2) power cuts")
  }

  /// Writes 1, 2, 3, … until the server is gone, which is told to end after a while. The last number that was
  /// acknowledged.
  private func write(_ client: Socket, untilEnded server: Child) throws -> Int {
    let children = try String(
      contentsOfFile: "/proc/\(server.identifier)/task/\(server.identifier)/children", encoding: .utf8)
    let traced = try #require(pid_t(children.split(separator: " ").first ?? ""))
    let end = Date(timeIntervalSinceNow: 0.5 + .random(in: 0...0.1))
    var number = 0
    while true {
      client.send(TPMCommand.write(UInt8((number + 1) % 256)))
      if number > 10, Date() > end { _ = kill(traced, SIGTERM) }
      let response = client.receive()
      if response.isEmpty { return number }
      try #require(TPMCommand.code(response) == 0, "\(response)")
      number += 1
    }
  }

  /// What a TPM finds in the index on that disk: the bytes that are in it.
  private func found(_ place: Place, _ disk: [UInt8]?) throws -> Set<UInt8> {
    let copy = "copy.vnvram"
    try place.write(try #require(disk), copy)
    let image = place.image
    defer { place.image = image }
    place.image = place.path(copy)
    let server = try TestServer(place)
    try #require(server.isRunning, "\(server.log)")
    let content = try server.connect(.data).index()
    #expect(server.end() == 0)
    return Set(content)
  }
}
