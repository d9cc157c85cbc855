import SwtpmFormat

/// What a `Server` is told. The names are swtpm's where swtpm has them.
public struct ServerOptions: Sendable {
  /// `--tpm2`: which TPM it is.
  public var version = TPMVersion.tpm2
  /// `--server`: where TPM commands come in.
  public var data: ChannelOptions?
  /// `--ctrl`: where the control channel's commands come in.
  public var control: ChannelOptions?
  /// `--flags not-need-init`: the TPM is powered on as soon as the store is ready, without waiting for INIT.
  public var startsByItself = false
  /// `--flags startup-…`: sent when the TPM has powered itself on.
  public var startup: TPM.Startup = .none
  /// `--terminate`: end when the data channel's client hangs up. (For the control channel's client `--ctrl` has a
  /// word.)
  public var terminatesOnHangUp = false
  /// Seconds that the store may stay pending before the server gives up with status 13; nil: forever.
  public var keyTimeout: Int?

  /// `--flags disable-auto-shutdown` turns it off: the server sends the TPM2_Shutdown that a guest didn't send.
  public var concludesForGuest = true
  /// `--locality reject-locality-4`.
  public var rejectsLocality4 = false
  /// `--locality allow-set-locality`: the kernel's command to set it is obeyed.
  public var allowsSetLocality = false
  /// `--key`: under which states leave and come where they are not asked for in clear, as GET_CONFIG says.
  public var stateKey: (any SwtpmStateCipher)?
  /// `--migration-key`: under which states leave and come. Without one they do in clear.
  public var migrationKey: SwtpmKey?
  /// `--migration release-lock-outgoing`: when the whole state has been handed out, other processes may have the store.
  public var releasesLockOutgoing = false
  /// `--migration incoming`: the store is still somebody else's, and taken when it is first needed.
  public var isIncoming = false

  /// Whether a server that powers on by itself serves already while its store waits for a key: else it is told to serve
  /// once the TPM is on.
  public var servesWhilePending = true

  public init() {}

  /// Where the server's Unix sockets are: it removes them from there in the end.
  public var socketDirectories: [String] {
    [data?.place, control?.place].compactMap { place in
      guard case .unix(let path)? = place else { return nil }
      guard let slash = path.utf8.lastIndex(of: UInt8(ascii: "/")) else { return "." }
      return slash == path.startIndex ? "/" : String(path[..<slash])
    }
  }

  /// A data channel that is one client, and not a place to listen at, is over when it hangs up, and so is the server:
  /// as in swtpm.
  var endsWithDataClient: Bool {
    if case .connected? = data?.place { return true }
    return terminatesOnHangUp
  }

  /// Parses `--flags`: `not-need-init`, `disable-auto-shutdown` and one of `startup-clear`, `startup-state`,
  /// `startup-deactivated` (for a TPM 1.2, see `validate`), `startup-none`. As in swtpm the startup flags but
  /// `startup-none` imply `not-need-init`.
  public mutating func parseFlags(_ text: String) throws(TPMError) {
    var list = try KeyValueList<TPMError>(text, option: "--flags")
    if try list.flag("not-need-init") { startsByItself = true }
    if try list.flag("disable-auto-shutdown") { concludesForGuest = false }
    var startups: [TPM.Startup] = []
    if try list.flag("startup-clear") { startups.append(.clear) }
    if try list.flag("startup-state") { startups.append(.state) }
    if try list.flag("startup-none") { startups.append(.none) }
    if try list.flag("startup-deactivated") { startups.append(.deactivated) }
    guard startups.count <= 1 else { throw .usage("--flags: more than one startup flag") }
    if let startup = startups.first {
      self.startup = startup
      if startup != .none { startsByItself = true }
    }
    try list.finish()
  }

  /// Parses `--locality`: `reject-locality-4`, `allow-set-locality`.
  public mutating func parseLocality(_ text: String) throws(TPMError) {
    var list = try KeyValueList<TPMError>(text, option: "--locality")
    if try list.flag("reject-locality-4") { rejectsLocality4 = true }
    if try list.flag("allow-set-locality") { allowsSetLocality = true }
    try list.finish()
  }

  /// Parses `--migration`: `release-lock-outgoing`, `incoming`.
  public mutating func parseMigration(_ text: String) throws(TPMError) {
    var list = try KeyValueList<TPMError>(text, option: "--migration")
    if try list.flag("release-lock-outgoing") { releasesLockOutgoing = true }
    if try list.flag("incoming") { isIncoming = true }
    try list.finish()
  }

  /// What no option shows by itself.
  package func validate() throws(TPMError) {
    guard data != nil || control != nil else { throw .usage("say where to listen: --server, --ctrl or both") }
    if let keyTimeout, !(0...31_536_000).contains(keyTimeout) { throw .usage("--key-timeout: 0 seconds to a year") }
    if startup == .deactivated, version == .tpm2 {
      throw .usage("--flags: startup-deactivated is for TPM 1.2 only")
    }
    if startsByItself, isIncoming {
      throw .usage("--migration incoming: the state comes with INIT, so --flags not-need-init has no sense")
    }
  }
}
