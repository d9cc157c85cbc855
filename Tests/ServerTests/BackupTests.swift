import Foundation
import Synchronization
import TestSupport
import Testing

/// Backups of a TPM that writes all the time, each put back and run: its counter stands where it stood meanwhile.
struct BackupTests {
  /// Increments the TPM's counter until it is told to stop.
  final class Client: Sendable {
    private let path: String
    private let isDone = Atomic(false)
    /// Commands sent, and those of them that were acknowledged.
    let sent: Atomic<UInt64>
    let acknowledged: Atomic<UInt64>
    private let ended = DispatchSemaphore(value: 0)

    init(_ server: TestServer) throws {
      path = server.place.path("tpm")
      let socket = try server.connect(.data)
      try socket.run(TPMCommand.defineCounter)
      try socket.run(TPMCommand.increment)
      let start = try socket.counter()
      sent = Atomic(start)
      acknowledged = Atomic(start)
    }

    func start() {
      Thread { [self] in
        defer { ended.signal() }
        guard let socket = try? Socket(path: path) else { return }
        while !isDone.load(ordering: .acquiring) {
          sent.add(1, ordering: .acquiringAndReleasing)
          let response = socket.ask(TPMCommand.increment)
          guard TPMCommand.code(response) == 0 else {
            Issue.record("the TPM answered \(response)")
            break
          }
          acknowledged.add(1, ordering: .acquiringAndReleasing)
        }
      }.start()
    }

    func end() {
      isDone.store(true, ordering: .releasing)
      ended.wait()
    }
  }

  @Test("8 backups of a TPM that writes all the time") func busy() throws {
    let place = try Place()
    let server = try TestServer(place)
    let client = try Client(server)
    client.start()
    var expected: [ClosedRange<UInt64>] = []
    for round in 0..<8 {
      let first = client.acknowledged.load(ordering: .acquiring)
      let backup = try place.run(["vnvram", "backup", place.image, place.path("backup-\(round)")])
      #expect(backup.status == 0, "\(backup.text)")
      expected.append(first...client.sent.load(ordering: .acquiring))
    }
    client.end()
    #expect(server.isRunning && expected.last != expected.first, "it was at work all the time")
    // What is in use is not replaced.
    #expect(try place.run(["vnvram", "restore", place.path("backup-0"), place.image, "--force"]).status == 9)
    #expect(try place.run(["vnvram", "backup", place.path("backup-0"), place.image, "--force"]).status == 9)
    #expect(server.end() == 0)
    var found: [UInt64] = []
    // A backup takes no older image's place, and a newer one's only where that is meant.
    for round in (0..<8).reversed() {
      let restored = try place.run(["vnvram", "restore", place.path("backup-\(round)"), place.image, "--force", "--older"])
      #expect(restored.status == 0, "\(restored.text)")
      let again = try TestServer(place)
      let counter = try again.connect(.data).counter()
      #expect(expected[round].contains(counter), "\(counter) is not in \(expected[round])")
      found.append(counter)
      #expect(again.end() == 0)
    }
    print(
      "backups of a busy TPM: counters \(found.sorted()) of \(expected.first?.lowerBound ?? 0) to \(expected.last?.upperBound ?? 0)"
    )
  }
}
