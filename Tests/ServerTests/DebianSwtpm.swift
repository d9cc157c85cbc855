import Foundation
import TestSupport

/// Debian's swtpm on a state directory or a single file, with its sockets beside one another, as tpm2-tools want them.
final class DebianSwtpm {
  /// Where its state is.
  enum Storage: String, CaseIterable, Sendable {
    case directory
    case singleFile

    func option(_ path: String) -> String {
      self == .directory ? "dir=\(path)" : "backend-uri=file://\(path)"
    }
  }

  private let process: Child
  private let place: Place
  private let socket: String
  private var hasEnded = false

  /// Starts it, powered on and started up unless `flags` says otherwise (nil: it waits for INIT); on return it serves,
  /// or has ended.
  init(
    _ place: Place, _ storage: Storage, _ path: String, key: String? = nil, isTPM2: Bool = true,
    flags: String? = "not-need-init,startup-clear"
  ) throws {
    self.place = place
    socket = place.path("s-\(UUID().uuidString.prefix(6))")
    if storage == .directory, !File.exists(path) {
      try FileManager.default.createDirectory(atPath: path, withIntermediateDirectories: true)
    }
    process = try place.start(
      ["swtpm", "socket", "--tpmstate", storage.option(path)] + (isTPM2 ? ["--tpm2"] : [])
        + (key.map { ["--key", $0] } ?? []) + [
          "--server", "type=unixio,path=\(socket)", "--ctrl", "type=unixio,path=\(socket).ctrl",
        ] + (flags.map { ["--flags", $0] } ?? []))
    while process.isRunning, (try? connect(.control))?.ask([0, 0, 0, 1]).isEmpty ?? true { usleep(2000) }
  }

  deinit { if !hasEnded { end() } }

  var isRunning: Bool { process.isRunning }
  var log: String { process.text }

  func connect(_ channel: TestServer.Channel) throws -> Socket {
    try Socket(path: channel == .data ? socket : socket + ".ctrl")
  }

  @discardableResult
  func tpm2(_ arguments: String...) throws -> Place.Outcome { try run(arguments) }

  func run(_ arguments: [String]) throws -> Place.Outcome {
    try place.run(arguments, environment: ["TPM2TOOLS_TCTI": "swtpm:path=\(socket)"])
  }

  @discardableResult
  func control(_ arguments: String...) throws -> Place.Outcome { try control(arguments) }

  func control(_ arguments: [String]) throws -> Place.Outcome {
    try place.run(["swtpm_ioctl", "--unix", socket + ".ctrl"] + arguments)
  }

  func end() {
    hasEnded = true
    process.signal(SIGTERM)
    _ = process.wait()
  }
}

/// A key of swtpm's in one of its forms.
struct SwtpmKeyForm: CustomStringConvertible, Sendable {
  /// What the file holds; none: no key.
  let content: [UInt8]?
  /// Behind the file's name.
  let rest: String
  let isPassword: Bool
  var description: String { content == nil ? "none" : (isPassword ? "pwdfile" : "file") + rest }

  static let none = SwtpmKeyForm(content: nil, rest: "", isPassword: false)
  static let all: [SwtpmKeyForm] =
    [none]
    + [16, 32].flatMap { count in
      let mode = ",mode=" + (count == 16 ? "aes-cbc" : "aes-256-cbc")
      let bytes = (0..<count).map { UInt8(200 - 5 * $0) }
      let digits = bytes.map { String(format: "%02x", $0) }.joined()
      return [
        SwtpmKeyForm(content: Array(digits.utf8), rest: mode, isPassword: false),
        SwtpmKeyForm(content: Array("0x\(digits)\n".utf8), rest: ",format=hex" + mode, isPassword: false),
        SwtpmKeyForm(content: bytes, rest: ",format=binary" + mode, isPassword: false),
        SwtpmKeyForm(content: Array("correct horse\n".utf8), rest: mode, isPassword: true),
        SwtpmKeyForm(content: Array("staple".utf8), rest: ",kdf=sha512" + mode, isPassword: true),
      ]
    }

  /// The option's value, with the key in a file of the place; nil for none.
  func option(_ place: Place, _ name: String = "swtpm.key") throws -> String? {
    guard let content else { return nil }
    try place.write(content, name)
    return (isPassword ? "pwdfile=" : "file=") + place.path(name) + rest
  }
}
