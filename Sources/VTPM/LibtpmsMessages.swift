import CLibtpms
import CSystem
import Glibc
import Primitives

/// What libtpms says by itself: lines for a descriptor. Only one of them goes on to the log, and of that a number, an
/// identifier and a line number alone. Behind it libtpms prints the whole command that led to failure mode, with its
/// passwords.
///
/// It goes into a pipe of this process that is never waited for: what doesn't fit is lost. libtpms says something only
/// when a state can't be read, and when it enters failure mode, so the pipe is emptied at each start, and when a TPM is
/// found in failure mode; no command costs anything for it.
@safe final class LibtpmsMessages {
  private let reader: Int32
  let descriptor: Int32

  /// Nil where the process may have no more descriptors.
  init?() {
    var ends: [Int32] = [-1, -1]
    guard unsafe csystem_pipe(&ends) == 0 else { return nil }
    (reader, descriptor) = (ends[0], ends[1])
    for end in ends { _ = fcntl(end, F_SETFL, O_NONBLOCK) }
  }

  deinit {
    close(reader)
    close(descriptor)
  }

  /// Why libtpms is in failure mode (TPM 2.0 Part 4, FatalError): its code, and where in its source that was found.
  struct Failure: Equatable, CustomStringConvertible {
    let code: Int
    let place: String

    /// TPM 2.0 Part 4, FatalError.h.
    var description: String {
      let meaning =
        switch code {
        case 6: ", a self-test that failed: does libcrypto refuse an algorithm, as on a host in FIPS mode?"
        case 7: ", an algorithm of libcrypto's that failed"
        case 8: ", a stored state that could not be read or written"
        default: ""
        }
      return "code \(code)\(place.isEmpty ? "" : " at \(place)")\(meaning)"
    }
  }

  /// Empties the pipe; the last failure that was in it.
  func takeFailure() -> Failure? {
    var bytes = [UInt8](repeating: 0, count: 65_536)
    defer { wipe(&bytes) }
    var count = 0
    while count < bytes.count {
      let got = unsafe bytes.withUnsafeMutableBytes { buffer in
        unsafe read(reader, buffer.baseAddress.map { unsafe $0 + count }, buffer.count - count)
      }
      if got < 0 && errno == EINTR { continue }
      guard got > 0 else { break }
      count += got
    }
    return bytes[..<count].split(separator: 0x0A).compactMap { Self.failure(in: $0) }.last
  }

  private static let mark = Array("Entering failure mode; code: ".utf8)
  private static let separator = Array(", location: ".utf8)
  private static let lineMark = Array(" line ".utf8)

  /// From `libtpms/tpm2: Entering failure mode; code: 6, location: TestSymmetricAlgorithm line 233`, and from nothing
  /// else: the prefix is libtpms', the place a C function's name.
  static func failure(in line: ArraySlice<UInt8>) -> Failure? {
    let prefix = Array("libtpms/tpm2: ".utf8)
    guard line.starts(with: prefix + mark) else { return nil }
    var rest = line.dropFirst(prefix.count + mark.count)
    guard let code = number(&rest) else { return nil }
    guard !rest.isEmpty else { return Failure(code: code, place: "") }
    guard take(separator, from: &rest) else { return nil }
    let name = rest.prefix { isOfName($0) }
    rest = rest.dropFirst(name.count)
    guard (1...64).contains(name.count), take(lineMark, from: &rest), let place = number(&rest), rest.isEmpty else {
      return nil
    }
    return Failure(code: code, place: "\(String(decoding: name, as: UTF8.self)), line \(place)")
  }

  private static func take(_ mark: [UInt8], from bytes: inout ArraySlice<UInt8>) -> Bool {
    guard bytes.starts(with: mark) else { return false }
    bytes = bytes.dropFirst(mark.count)
    return true
  }

  private static func number(_ bytes: inout ArraySlice<UInt8>) -> Int? {
    let digits = bytes.prefix { (0x30...0x39).contains($0) }
    guard (1...9).contains(digits.count) else { return nil }
    bytes = bytes.dropFirst(digits.count)
    return Int(String(decoding: digits, as: UTF8.self))
  }

  private static func isOfName(_ byte: UInt8) -> Bool {
    switch byte {
    case 0x30...0x39, 0x41...0x5A, 0x5F, 0x61...0x7A: true
    default: false
    }
  }
}
