import Foundation
import TestSupport
import Testing

/// A server that is started with closed standard streams, or may have hardly any descriptors.
@Suite struct DescriptorLimitTests {
  /// Started by a shell, which closes what this process has left open for its children.
  private func start(_ place: Place, _ shell: String) throws -> Child {
    let close = "for i in /proc/self/fd/*; do i=${i##*/}; [ $i -le 2 ] || eval \"exec $i>&-\"; done"
    return try place.start(
      ["bash", "-c", "\(close); \(shell); exec \"$0\" \"$@\""]
        + TestServer.command(place.image, TestServer.unixSockets(place.folder), TestServer.startsByItself))
  }

  private func waitUntilServed(_ place: Place, _ server: Child) -> Socket? {
    while server.isRunning {
      if let client = try? Socket(path: place.path("tpm")), !client.ask(TPMCommand.getRandom).isEmpty { return client }
      usleep(2000)
    }
    return nil
  }

  /// None of its files and sockets takes the number of a standard stream, where its messages would go into it.
  @Test(arguments: ["<&-", ">&-", "2>&-", "<&- >&-", "<&- >&- 2>&-"]) func closedStreams(how: String) throws {
    let place = try Place()
    let server = try start(place, "exec \(how)")
    let client = try #require(waitUntilServed(place, server))
    try client.run(TPMCommand.defineIndex)
    try client.run(TPMCommand.write(3))
    for stream in 0...2 {
      let target = try FileManager.default.destinationOfSymbolicLink(
        atPath: "/proc/\(server.identifier)/fd/\(stream)")
      #expect(target == "/dev/null" || target.hasPrefix(place.path("log-")), "\(stream): \(target)")
    }
    // A message in the log, were there one.
    let control = try Socket(path: place.path("tpm.ctrl"))
    #expect(control.ask([0, 0, 0, 0x99]) == [0, 0, 0, 0x0A])
    #expect(try client.index() == [UInt8](repeating: 3, count: TPMCommand.indexSize))
    server.signal(SIGTERM)
    #expect(server.wait() == 0)
    let check = try place.run(["vnvram", "check", place.image])
    #expect(check.status == 0, "\(check.text)")
  }

  /// With each limit it serves, or says why not and ends: never by a signal, and the image stays what it was.
  @Test func fewDescriptors() throws {
    let place = try Place()
    var (refused, served) = (0, 0)
    // Below 4 no program finds its libraries.
    for limit in 4...20 {
      let server = try start(place, "ulimit -n \(limit)")
      guard let client = waitUntilServed(place, server) else {
        let status = server.wait()
        #expect(status > 0 && status < 127, "\(limit): \(status): \(server.text)")
        #expect(served == 0, "\(limit): \(server.text)")
        refused += 1
        continue
      }
      if served == 0 { try client.run(TPMCommand.defineIndex) }
      try client.run(TPMCommand.write(UInt8(limit)))
      #expect(try client.index() == [UInt8](repeating: UInt8(limit), count: TPMCommand.indexSize))
      server.signal(SIGTERM)
      #expect(server.wait() == 0, "\(limit): \(server.text)")
      served += 1
    }
    print("descriptors: refused with up to \(2 + refused), served with \(served) limits above")
    #expect(refused > 0 && served > 0)
    let check = try place.run(["vnvram", "check", place.image])
    #expect(check.status == 0, "\(check.text)")
  }

  /// The limit is reached in the middle of its life: clients for whom there is no descriptor are turned away, where
  /// they would else be reported to the server again and again; who is there is served as before, and later clients
  /// are.
  @Test func noDescriptorLeft() throws {
    let place = try Place()
    let server = try start(place, "true")
    let client = try #require(waitUntilServed(place, server))
    try client.run(TPMCommand.defineIndex)
    let worker = try #require(try Child.children(of: server.identifier).first)
    let open = try FileManager.default.contentsOfDirectory(atPath: "/proc/\(worker)/fd").compactMap { Int($0) }
    let free = try #require((0...).first { !open.contains($0) })
    try limit(worker, place, "\(free):")
    for _ in 0..<3 {
      let other = try Socket(path: place.path("tpm.ctrl"))
      #expect(other.hasInput(within: 10_000) && other.receive().isEmpty)
    }
    try client.run(TPMCommand.write(5))
    #expect(try client.index() == [UInt8](repeating: 5, count: TPMCommand.indexSize))
    try limit(worker, place, "1024:")
    #expect(try Socket(path: place.path("tpm.ctrl")).ask([0, 0, 0, 0x0E]) == [0, 0, 0, 0])
    server.signal(SIGTERM)
    #expect(server.wait() == 0)
  }

  /// The soft limit; nothing behind the colon leaves the other one.
  private func limit(_ process: pid_t, _ place: Place, _ limits: String) throws {
    let outcome = try place.run(["prlimit", "--pid", "\(process)", "--nofile=\(limits)"])
    try TestFailure.unless(outcome.status == 0, outcome.text)
  }
}
