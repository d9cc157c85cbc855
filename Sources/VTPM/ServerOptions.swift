/// What a `Server` is told. The names are swtpm's where swtpm has them.
public struct ServerOptions: Sendable {
  /// `--server`: where TPM commands come in.
  public var data: ChannelOptions?
  /// `--ctrl`: where the control channel's commands come in.
  public var control: ChannelOptions?
  /// `--flags not-need-init`: the TPM is powered on as soon as the store is ready, without waiting for INIT.
  public var startsByItself = false
  /// `--flags startup-…`: sent when the TPM has powered itself on.
  public var startup: TPM.Startup = .none
  /// `--terminate`: end when a client of either channel hangs up.
  public var terminatesOnHangUp = false
  /// Seconds that the store may stay pending before the server gives up with status 13; nil: forever.
  public var keyTimeout: Int?

  public init() {}

  /// Where the server's Unix sockets are: it removes them from there in the end.
  public var socketDirectories: [String] {
    [data?.place, control?.place].compactMap { place in
      guard case .unix(let path)? = place else { return nil }
      guard let slash = path.utf8.lastIndex(of: UInt8(ascii: "/")) else { return "." }
      return slash == path.startIndex ? "/" : String(path[..<slash])
    }
  }

  /// Parses `--flags`: `not-need-init` and one of `startup-clear`, `startup-state`, `startup-none`. As in swtpm the
  /// startup flags but `startup-none` imply `not-need-init`; `startup-deactivated` is TPM 1.2's.
  public mutating func parseFlags(_ text: String) throws(TPMError) {
    var list = try KeyValueList(text, option: "--flags")
    if try list.flag("not-need-init") { startsByItself = true }
    var startups: [TPM.Startup] = []
    if try list.flag("startup-clear") { startups.append(.clear) }
    if try list.flag("startup-state") { startups.append(.state) }
    if try list.flag("startup-none") { startups.append(.none) }
    if try list.flag("startup-deactivated") { throw .usage("--flags: startup-deactivated is for TPM 1.2 only") }
    guard startups.count <= 1 else { throw .usage("--flags: more than one startup flag") }
    if let startup = startups.first {
      self.startup = startup
      if startup != .none { startsByItself = true }
    }
    try list.finish()
  }
}
