import Glibc

/// SQLite and LMDB, each with one value of 4 KiB that it updates durably, in a process of their own (peers.c).
final class Peers {
  enum Peer: UInt8 {
    case sqlite = 0x73
    case lmdb = 0x6C
  }

  private let process: ChildProcess
  private let requests: Int32
  private let answers: Int32

  /// - Parameter program: what peers.c was compiled to.
  init(_ program: String, directory: String) {
    let (input, output) = (Self.pipe(), Self.pipe())
    process = ChildProcess(
      [program, directory], log: directory + "/peers.log", input: input.read, output: output.write)
    close(input.read)
    close(output.write)
    (requests, answers) = (input.write, output.read)
  }

  deinit {
    close(requests)
    close(answers)
    _ = process.wait()
  }

  private static func pipe() -> (read: Int32, write: Int32) {
    var ends: [Int32] = [0, 0]
    guard unsafe Glibc.pipe(&ends) == 0 else { fatalError("no pipe: \(errno)") }
    for end in ends { _ = fcntl(end, F_SETFD, FD_CLOEXEC) }
    return (ends[0], ends[1])
  }

  /// Has one of them make `count` updates, one after the other; the nanoseconds of each.
  func update(_ peer: Peer, _ count: Int) -> [UInt64] {
    var request = [peer.rawValue]
    unsafe withUnsafeBytes(of: UInt32(count)) { unsafe request.append(contentsOf: $0) }
    guard unsafe write(requests, request, request.count) == request.count else { fatalError("peers ended") }
    var times = [UInt64](repeating: 0, count: count)
    unsafe times.withUnsafeMutableBytes { times in
      var done = 0
      while done < times.count {
        let got = unsafe read(answers, times.baseAddress.map { unsafe $0 + done }, times.count - done)
        guard got > 0 else { fatalError("peers ended: see peers.log") }
        done += got
      }
    }
    return times
  }
}
