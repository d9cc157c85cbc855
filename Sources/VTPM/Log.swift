import Glibc
import Synchronization

/// Plain lines to a descriptor, one write each. What the server logs is what happened and to which state; never a
/// secret, never a byte of a TPM command or response.
///
/// It never waits: a pipe that nobody reads, or a full disk, doesn't stop a TPM (`LogOutput`).
///
/// A log of its own (`--log`) has standard error beside it until the server serves: whoever started it looks there.
public struct Log: Sendable {
  private let output: LogOutput
  /// Whether it has a place of its own, besides `beside`.
  private let isElsewhere: Bool
  public let prefix: String
  /// Its own place, for another process that is to log there; -1 where there is none.
  public var descriptor: Int32 { output.descriptor }
  private let beside: Beside

  /// Where lines go besides.
  private final class Beside: Sendable {
    let output: Mutex<LogOutput>
    init(_ output: LogOutput) { self.output = Mutex(output) }
  }

  public static let standardPrefix = "vnvram-swtpm: "
  /// For what goes wrong before there is another one, and in a process that may fork.
  public static let standardError = Log(LogOutput(2, reopens: false), false, standardPrefix, beside: -1)

  /// The descriptors stay the caller's and open; -1 logs nowhere. Those that could make a line wait are opened once
  /// more, for as long as this log, or what is beside it, lasts. Lines beside have the standard prefix, where they are
  /// beside something.
  public init(descriptor: Int32, prefix: String = Log.standardPrefix, beside: Int32 = -1) {
    self.init(LogOutput(descriptor, reopens: true), descriptor >= 0, prefix, beside: beside)
  }

  private init(_ output: LogOutput, _ isElsewhere: Bool, _ prefix: String, beside: Int32) {
    self.output = output
    self.isElsewhere = isElsewhere
    self.prefix = Self.printable(prefix)
    self.beside = Beside(LogOutput(beside, reopens: true))
  }

  /// Whose lines went to `beside` too goes on with another descriptor there, which is opened now; -1: with none.
  public func setBeside(_ descriptor: Int32) {
    let output = LogOutput(descriptor, reopens: true)
    beside.output.withLock { $0 = output }
  }

  /// Writes one line. Control characters become "?", so that a name from an image can't forge lines or steer a
  /// terminal. A log that can't be written doesn't stop a TPM.
  public func line(_ message: String) {
    let message = Self.printable(message)
    output.line(prefix + message, prefix: prefix)
    let besidePrefix = isElsewhere ? Self.standardPrefix : prefix
    beside.output.withLock { $0 }.line(besidePrefix + message, prefix: besidePrefix)
  }

  /// With "?" for each control character.
  public static func printable(_ text: String) -> String {
    var result = ""
    for scalar in text.unicodeScalars {
      let isControl = scalar.value < 0x20 || (0x7F..<0xA0).contains(scalar.value)
      result.unicodeScalars.append(isControl ? "?" : scalar)
    }
    return result
  }
}
