import Foundation

/// vnvram-swtpm as a child process on a place's image, over either transport.
public final class TestServer {
  public enum Transport: CaseIterable, Sendable {
    case unix
    case tcp
  }

  /// What a system's own rules say of keys is none of a test's business, but where one says `--upcall`.
  private static let asksNobody = ["--upcall=no"]
  public static let startsByItself = ["--flags", "not-need-init,startup-clear"]

  public let place: Place
  public let transport: Transport
  private let folder: String
  private let port: UInt16
  private let process: Child
  private var hasEnded = false

  /// Starts it and waits until it serves, unless it ended before.
  ///
  /// - Parameter folder: where its sockets are, where not in the place's own; two servers of one image need two.
  public init(
    _ place: Place, _ arguments: [String] = TestServer.startsByItself, over transport: Transport = .unix,
    isTPM2: Bool = true, folder: String? = nil
  ) throws {
    self.place = place
    self.transport = transport
    self.folder = folder ?? place.folder
    port = transport == .tcp ? try Socket.freePorts() : 0
    let sockets = transport == .unix ? Self.unixSockets(self.folder) : Self.ports(port)
    let command =
      ["vnvram-swtpm", "socket", "--tpm2", "--tpmstate", place.state ?? "backend-uri=vnvram://\(place.image)"]
      + Self.asksNobody + sockets + arguments
    process = try place.start(isTPM2 ? command : command.filter { $0 != "--tpm2" })
    // CMD_GET_CAPABILITY, which it answers in any state; it listens before it answers.
    while process.isRunning, (try? connect(.control))?.ask([0, 0, 0, 1]).isEmpty ?? true { usleep(2000) }
  }

  deinit {
    if !hasEnded { _ = kill() }
  }

  public static func command(_ image: String, _ sockets: [String], _ arguments: [String]) -> [String] {
    ["vnvram-swtpm", "socket", "--tpm2", "--tpmstate", "backend-uri=vnvram://\(image)"] + asksNobody + sockets
      + arguments
  }

  public static func unixSockets(_ folder: String) -> [String] {
    ["--server", "type=unixio,path=\(folder)/tpm", "--ctrl", "type=unixio,path=\(folder)/tpm.ctrl"]
  }

  public static func ports(_ port: UInt16) -> [String] {
    ["--server", "type=tcp,port=\(port)", "--ctrl", "type=tcp,port=\(port + 1)"]
  }

  // MARK: The process

  /// The monitor.
  public var identifier: pid_t { process.identifier }
  /// The process that has libtpms.
  public var worker: pid_t {
    get throws {
      let children = try Child.children(of: identifier)
      try TestFailure.unless(children.count == 1, "one worker, and not \(children)")
      return children[0]
    }
  }
  public var isRunning: Bool { process.isRunning }
  public var log: String { process.text }

  /// Waits until the log says `text`. What it says comes after what it did.
  public func waitUntilLogged(_ text: String) throws {
    for _ in 0..<10_000 {
      if log.contains(text) { return }
      try TestFailure.unless(isRunning, log)
      usleep(2000)
    }
    throw TestFailure("not logged: \(text)\n\(log)")
  }

  public func signal(_ number: Int32) { process.signal(number) }

  /// The exit status; minus a signal's number. To be called once.
  public func wait() -> Int32 {
    hasEnded = true
    return process.wait()
  }

  public func end() -> Int32 {
    signal(SIGTERM)
    return wait()
  }

  public func kill() -> Int32 { process.killWithChildren() }

  // MARK: Clients

  public enum Channel: Sendable {
    case data
    case control
  }

  public func connect(_ channel: Channel) throws -> Socket {
    switch transport {
    case .unix: try Socket(path: "\(folder)/\(channel == .data ? "tpm" : "tpm.ctrl")")
    case .tcp: try Socket(port: channel == .data ? port : port + 1)
    }
  }

  /// Runs one of tpm2-tools. Where the data channel is, the control channel is taken to be beside it.
  @discardableResult
  public func tpm2(_ arguments: String...) throws -> Place.Outcome {
    let way = transport == .unix ? "swtpm:path=\(folder)/tpm" : "swtpm:host=127.0.0.1,port=\(port)"
    return try place.run(arguments, environment: ["TPM2TOOLS_TCTI": way])
  }

  /// Runs swtpm_ioctl.
  @discardableResult
  public func control(_ arguments: String...) throws -> Place.Outcome { try place.run(controlCommand + arguments) }

  public func startControl(_ arguments: String...) throws -> Child { try place.start(controlCommand + arguments) }

  private var controlCommand: [String] {
    ["swtpm_ioctl"] + (transport == .unix ? ["--unix", "\(folder)/tpm.ctrl"] : ["--tcp", "127.0.0.1:\(port + 1)"])
  }
}
