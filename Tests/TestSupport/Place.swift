import Foundation

/// A folder of one test's own, removed with it, with a kernel key and an image for it; programs run in the folder.
public final class Place {
  public let folder: String
  public let key = KernelKey()

  /// Another one may take its place.
  public var image: String
  /// What --tpmstate says; nil for the image itself.
  public var state: String?

  /// Makes the key and an image, with the entries of a TPM 2.0 unless others are asked for; nil for no image.
  public init(_ layout: [String]? = ["--profile", "tpm2"]) throws {
    // Short: a Unix socket's path has at most 107 bytes.
    folder = NSTemporaryDirectory() + "vnvram-server-\(UUID().uuidString.prefix(8).lowercased())"
    image = folder + "/tpm.vnvram"
    try FileManager.default.createDirectory(atPath: folder, withIntermediateDirectories: true)
    key.load()
    guard let layout else { return }
    let format = try run(["vnvram", "format", image, "--key", key.name] + layout)
    try TestFailure.unless(format.status == 0, format.text)
  }

  /// A place whose image is one that the server makes by itself, in a folder of its own; it isn't made yet.
  public static func forFirstUse(isTPM2: Bool = true, state folder: String = "state") throws -> Place {
    let place = try Place(nil)
    try FileManager.default.createDirectory(atPath: place.path(folder), withIntermediateDirectories: true)
    place.image = place.path(folder) + (isTPM2 ? "/tpm2-00.permall" : "/tpm-00.permall")
    place.state = "dir=\(place.path(folder))"
    return place
  }

  deinit { try? FileManager.default.removeItem(atPath: folder) }

  /// The marker beside an image that the server made, which outlasts it.
  public var marker: String { image.dropLast(8) + ".made.permall" }

  public func path(_ name: String) -> String { "\(folder)/\(name)" }

  /// Files other than those that the tests themselves need.
  public var names: [String] {
    let all = (try? FileManager.default.contentsOfDirectory(atPath: folder)) ?? []
    return all.filter { !$0.hasPrefix("log") && !$0.hasPrefix("audit") }.sorted()
  }

  public func bytes(_ name: String? = nil) throws -> [UInt8] {
    try File.bytes(name.map(path) ?? image)
  }

  public func write(_ bytes: [UInt8], _ name: String? = nil) throws {
    try Data(bytes).write(to: URL(fileURLWithPath: name.map(path) ?? image))
  }

  /// Flips a bit of the image.
  public func flip(_ offset: Int) throws {
    var all = try bytes()
    all[offset] ^= 1
    try write(all)
  }

  public struct Outcome {
    /// The exit status; minus a signal's number.
    public let status: Int32
    /// Both outputs.
    public let text: String
  }

  /// Runs a program and waits for it.
  @discardableResult
  public func run(_ arguments: [String], environment: [String: String] = [:]) throws -> Outcome {
    let child = try start(arguments, environment: environment)
    let status = child.wait()
    defer { try? FileManager.default.removeItem(atPath: child.output) }
    return Outcome(status: status, text: child.text)
  }

  public func start(_ arguments: [String], environment: [String: String] = [:]) throws -> Child {
    try Child(arguments, in: folder, merged: true, output: path("log-\(UUID().uuidString)"), environment: environment)
  }

  /// Runs a server that is to have no TPM, on Unix sockets in the folder: it ends by itself; or it refuses INIT, and is
  /// ended.
  ///
  /// - Parameter prefix: what starts it.
  public func runServer(
    _ arguments: [String] = [], on image: String? = nil, isTPM2: Bool = true, through prefix: [String] = []
  ) throws -> Outcome {
    let sockets = TestServer.unixSockets(folder)
    let command =
      if image == nil, let state {
        ["vnvram-swtpm", "socket", "--tpm2", "--tpmstate", state] + sockets + arguments
      } else { TestServer.command(image ?? self.image, sockets, arguments) }
    let child = try start(prefix + (isTPM2 ? command : command.filter { $0 != "--tpm2" }))
    defer { try? FileManager.default.removeItem(atPath: child.output) }
    while child.isRunning {
      usleep(2000)
      guard let control = try? Socket(path: path("tpm.ctrl")) else { continue }
      // CMD_INIT. No answer, where it ended.
      let answer = control.ask([0, 0, 0, 2, 0, 0, 0, 0])
      try TestFailure.unless(answer != [0, 0, 0, 0], "INIT wasn't refused: \(child.text)")
      if answer.count == 4 { child.signal(SIGTERM) }
    }
    let status = child.wait()
    return Outcome(status: status, text: child.text)
  }

  /// The image's content at a byte offset, as `FORMAT.md` has it in the header.
  public static func headerField(_ bytes: [UInt8], at offset: Int) -> Int {
    bytes[offset..<offset + 8].reversed().reduce(0) { $0 << 8 | Int($1) }
  }

  /// Whether `vnvram info` says that the image was closed cleanly.
  public func wasClosedCleanly() throws -> Bool {
    let info = try run(["vnvram", "info", image, "--json"])
    try TestFailure.unless(info.status == 0, info.text)
    return info.text.contains("\"closed_cleanly\":true")
  }
}
