import Glibc
import Synchronization

/// One descriptor that whole lines go to, and that is never waited for: what it doesn't take at once is lost, and
/// counted; how much that was is said as soon as it takes something again.
///
/// Invariants: lines of several threads don't mix; no open file description that somebody else shares is changed (a
/// shell would find its terminal non-blocking); nothing is opened after `init`, so that it works in a confined process.
///
/// How each kind of file is kept from waiting:
/// - pipes, FIFOs and terminals are opened once more through /proc, which gives a description of our own, without
///   waiting. A line has at most PIPE_BUF bytes there (what is longer is cut), so that a pipe takes all of it or
///   nothing;
/// - sockets can't be, and have a flag of send(2);
/// - where that doesn't go (no /proc, somebody else's pipe), poll(2) is asked first. Another process that fills the
///   pipe between the two can still make a line wait;
/// - files and other devices are written to. A full disk doesn't wait.
final class LogOutput: Sendable {
  private enum Kind {
    /// Takes lines of any length.
    case file
    case socket
    /// Has a description of its own that doesn't wait.
    case nonBlocking
    /// poll(2) is asked first.
    case polled
  }

  private struct State {
    var lost: UInt64 = 0
    /// Only the beginning of the last line went out.
    var isMidLine = false
  }

  let descriptor: Int32
  private let isOwned: Bool
  private let kind: Kind
  private let state = Mutex(State())

  /// - Parameters:
  ///   - descriptor: stays the caller's, and open; -1 is for nowhere.
  ///   - reopens: whether it may be opened once more, until this object goes. Not before a fork without exec: the child
  ///     would keep it open.
  init(_ descriptor: Int32, reopens: Bool) {
    var (number, isOwned) = (descriptor, false)
    kind = Self.kind(&number, &isOwned, reopens: reopens)
    (self.descriptor, self.isOwned) = (number, isOwned)
  }

  deinit { if isOwned { close(descriptor) } }

  private static func kind(_ descriptor: inout Int32, _ isOwned: inout Bool, reopens: Bool) -> Kind {
    var status = stat()
    guard descriptor >= 0, unsafe fstat(descriptor, &status) == 0 else { return .file }
    switch status.st_mode & S_IFMT {
    case S_IFSOCK: return .socket
    case S_IFIFO: break
    case S_IFCHR: guard isatty(descriptor) == 1 else { return .polled }
    default: return .file
    }
    let flags = fcntl(descriptor, F_GETFL)
    if flags >= 0, flags & O_NONBLOCK != 0 { return .nonBlocking }
    guard reopens else { return .polled }
    let path = "/proc/self/fd/\(descriptor)"
    var opened = unsafe open(path, O_WRONLY | O_NONBLOCK | O_APPEND | O_CLOEXEC | O_NOCTTY)
    // A FIFO whose readers are gone for now.
    if opened < 0, errno == ENXIO { opened = unsafe open(path, O_RDWR | O_NONBLOCK | O_CLOEXEC | O_NOCTTY) }
    guard opened >= 0 else { return .polled }
    (descriptor, isOwned) = (opened, true)
    return .nonBlocking
  }

  /// Writes one line, to which a newline is added, or counts it.
  ///
  /// - Parameter prefix: for what is said of lines that were lost.
  func line(_ text: String, prefix: String) {
    guard descriptor >= 0 else { return }
    state.withLock { state in
      // In one write with the line, so that it is said once, and is true.
      // A prefix may be of any length.
      let prefix = prefix.utf8.count < Self.longest / 4 ? prefix : ""
      let note = state.lost > 0 ? "\(prefix)\(Self.account(of: state.lost))\n" : ""
      let bytes = Array(((state.isMidLine ? "\n" : "") + note + shortened(text, beside: note.utf8.count) + "\n").utf8)
      let count = write(bytes)
      if count > 0 { state.isMidLine = count < bytes.count }
      state.lost = count == bytes.count ? 0 : state.lost + 1
    }
  }

  private static func account(of lost: UInt64) -> String {
    lost == 1
      ? "1 line before this one could not be written, and is lost"
      : "\(lost) lines before this one could not be written, and are lost"
  }

  /// A line that was cut says so.
  private func shortened(_ text: String, beside others: Int) -> String {
    // With a newline on either side.
    let limit = Self.longest - 2 - others
    guard kind != .file, text.utf8.count > limit else { return text }
    let mark = "... (cut)"
    var end = text.utf8.index(text.startIndex, offsetBy: max(0, limit - mark.utf8.count))
    while end.samePosition(in: text.unicodeScalars) == nil { end = text.utf8.index(before: end) }
    return text[..<end] + mark
  }

  /// PIPE_BUF of linux/limits.h.
  static let longest = 4096

  /// How many bytes were taken, without waiting.
  private func write(_ bytes: [UInt8]) -> Int {
    if kind == .polled {
      var place = pollfd(fd: descriptor, events: Int16(POLLOUT), revents: 0)
      guard unsafe poll(&place, 1, 0) == 1, place.revents & Int16(POLLOUT) != 0 else { return 0 }
    }
    while true {
      let count = unsafe bytes.withUnsafeBytes { bytes in
        kind == .socket
          ? unsafe send(descriptor, bytes.baseAddress, bytes.count, Int32(MSG_DONTWAIT) | Int32(MSG_NOSIGNAL))
          : unsafe Glibc.write(descriptor, bytes.baseAddress, bytes.count)
      }
      if count >= 0 { return count }
      guard errno == EINTR else { return 0 }
    }
  }
}
