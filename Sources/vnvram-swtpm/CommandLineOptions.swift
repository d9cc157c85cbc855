import Anchors
import Audit
import Confinement
import SwtpmFormat
import VNVRAM
import VTPM

/// What the command line says. swtpm's options keep their names and forms (`--option value`, `--option=value`); those
/// that swtpm doesn't have are marked as ours in the help. ArgumentParser has no options with an optional value and
/// takes a megabyte of memory in a process that there is one of per VM.
struct CommandLineOptions {
  enum Request {
    case help
    case version
    case serve(CommandLineOptions)
  }

  static let version = "0.1.0"

  var state: StateLocation?
  var server = ServerOptions()
  var failOnEncryptedDrive = true
  var keyLossPolicy = NVRAMConfiguration.KeyLossPolicy.lock
  var audit: AuditDestination?
  var anchor: AnchorSpecification?
  var violations = SystemCallFilter.Action.kill
  /// Who to go on as.
  var user: String?
  /// `--key`: not loaded yet.
  var key: SwtpmKeySource?
  /// `--keyring-key`: the name of a kernel key.
  var keyringKey: String?
  private var migrationKey: SwtpmKeySource?

  /// The image's path.
  var image: String { state?.image(for: server.version) ?? "" }

  static func parse(_ arguments: [String]) throws(TPMError) -> Request {
    if arguments.contains("--help") || arguments.contains("-h") { return .help }
    if arguments.contains("--version") || arguments.contains("-v") { return .version }
    guard arguments.first == "socket" else {
      throw .usage("the first argument is \"socket\"; see vnvram-swtpm --help")
    }
    var options = CommandLineOptions()
    // As in swtpm.
    options.server.version = .tpm12
    var rest = arguments.dropFirst()
    while let argument = rest.popFirst() { try options.take(argument, &rest) }
    guard options.state != nil else {
      throw .usage("--tpmstate is needed: dir=DIR, or backend-uri=vnvram://IMAGE, which `vnvram format` makes")
    }
    guard options.server.data != nil || options.server.control != nil else {
      throw .usage("nobody could reach the TPM: give --server, --ctrl or both")
    }
    guard options.key == nil || options.keyringKey == nil else {
      throw .usage("--key and --keyring-key don't go together")
    }
    // When all else is right: a descriptor is read, and a file perhaps removed, once.
    do { options.server.migrationKey = try options.migrationKey?.load() } catch {
      throw .key(option: "--migration-key", error)
    }
    return .serve(options)
  }

  private mutating func take(_ argument: String, _ rest: inout ArraySlice<String>) throws(TPMError) {
    let parts = argument.split(separator: "=", maxSplits: 1, omittingEmptySubsequences: false)
    let option = String(parts[0])
    let attached = parts.count == 2 ? String(parts[1]) : nil
    switch option {
    case "--tpm2": server.version = .tpm2
    case "--terminate", "-t": server.terminatesOnHangUp = true
    case "--fail-on-encrypted-drive": failOnEncryptedDrive = try Self.yesOrNo(attached ?? "yes", option)
    default:
      guard let value = attached ?? rest.popFirst() else { throw .usage("\(option) needs a value") }
      try take(option, value)
    }
  }

  private mutating func take(_ option: String, _ value: String) throws(TPMError) {
    switch option {
    case "--tpmstate": state = try StateLocation(parsing: value)
    case "--server": server.data = try ChannelOptions(parsing: value, as: .server)
    case "--ctrl": server.control = try ChannelOptions(parsing: value, as: .ctrl)
    case "--flags": try server.parseFlags(value)
    case "--locality": try server.parseLocality(value)
    case "--migration": try server.parseMigration(value)
    case "--migration-key": migrationKey = try SwtpmKeySource(parsing: value, option: option)
    case "--key": key = try SwtpmKeySource(parsing: value, option: option)
    case "--keyring-key":
      guard !value.isEmpty else { throw .usage("--keyring-key is the name of a kernel key") }
      keyringKey = value
    case "--key-timeout":
      guard let seconds = Int(value), (1...31_536_000).contains(seconds) else {
        throw .usage("--key-timeout is a number of seconds from 1 to 31536000")
      }
      server.keyTimeout = seconds
    case "--on-key-loss":
      switch value {
      case "lock": keyLossPolicy = .lock
      case "keep": keyLossPolicy = .keep
      default: throw .usage("--on-key-loss is lock or keep")
      }
    case "--audit": audit = AuditDestination(value)
    case "--anchor":
      guard let specification = AnchorSpecification(value) else {
        throw .usage("--anchor is \(AnchorSpecification.syntax)")
      }
      anchor = specification
    case "--seccomp": violations = try Self.action(value)
    case "--runas", "-r": user = value
    default: throw .usage("unknown option \(option); see vnvram-swtpm --help")
    }
  }

  /// `action=kill`, `log` or `none`, as swtpm has it.
  private static func action(_ text: String) throws(TPMError) -> SystemCallFilter.Action {
    guard text.hasPrefix("action="), let action = SystemCallFilter.Action(rawValue: String(text.dropFirst(7))) else {
      throw .usage("--seccomp is action=kill, action=log or action=none")
    }
    return action
  }

  private static func yesOrNo(_ text: String, _ option: String) throws(TPMError) -> Bool {
    switch text {
    case "yes": true
    case "no": false
    default: throw .usage("\(option) is yes or no")
    }
  }

  static let help = """
    vnvram-swtpm: a TPM whose state is sealed in a vnvram image

    Usage: vnvram-swtpm socket [--tpm2] --tpmstate backend-uri=vnvram://IMAGE
             [--server type=tcp,port=PORT[,bindaddr=ADDRESS][,disconnect]]
             [--server type=unixio,path=PATH[,mode=0600][,uid=UID][,gid=GID]]
             [--ctrl type=tcp,port=PORT… | type=unixio,path=PATH…]
             [--flags [not-need-init][,startup-clear|startup-state|startup-none][,disable-auto-shutdown]]
             [--locality [reject-locality-4][,allow-set-locality]] [--terminate] [--seccomp action=kill|log|none] [--runas USER]
             [--migration-key file=FILE|fd=N[,format=hex|binary][,mode=aes-cbc|aes-256-cbc][,remove]]
             [--migration-key pwdfile=FILE|pwdfd=N[,kdf=pbkdf2|sha512][,mode=aes-cbc|aes-256-cbc][,remove]]
             [--migration [release-lock-outgoing][,incoming]]

    As in swtpm:
      --tpm2             A TPM 2.0. Without it, a TPM 1.2, whose image has the profile tpm1.2.
      --tpmstate backend-uri=vnvram://IMAGE
                         The image; `vnvram format IMAGE --key NAME --profile tpm2` makes one. Nothing here ever does.
      --server           Where TPM commands come in. TCP listens on 127.0.0.1 unless told otherwise.
      --ctrl             Where the control channel's commands come in: swtpm_ioctl, QEMU.
      --flags            not-need-init: power on without waiting for INIT; startup-clear: and send TPM2_Startup(CLEAR);
                         disable-auto-shutdown: don't send the TPM2_Shutdown that a killed guest didn't send.
      --locality         reject-locality-4: nobody gets it; allow-set-locality: obey the kernel's command to set it.
      --migration-key    Encrypts the state when it is handed out to migrate. Without it, it goes in clear.
      --migration        release-lock-outgoing: let others have the image when the state has gone out; incoming: take the
                         image only when it is needed, since another server still has it.
      -t, --terminate    End when a client hangs up.
      --seccomp action=kill|log|none
                         What to do on a system call that a TPM server doesn't need: end (the default), log it, or allow all.
      -r, --runas USER   Go on as USER once image and sockets are open; for root only. Keys are looked for in USER's keyrings
                         and in the session's, and the record of uses is USER's to write.
      -h, --help; -v, --version

    Ours:
      --fail-on-encrypted-drive[=yes|no]
                         What to do when no key of the image is in the keyring. yes (the default): say which are missing
                         and end with status 3. no: listen at once, and power the TPM on when a key comes.
      --key-timeout SECONDS
                         How long to wait for a key, where it is waited for; after that end with status 13. The default is
                         for ever.
      --on-key-loss lock|keep
                         What to do when the key is revoked or expires while the TPM runs. lock (the default): drop all
                         keys; commands that may store something are answered with TPM_RC_NV_UNAVAILABLE until a key
                         is back. keep: go on.
      --audit FILE|none  Where uses of keys are recorded (see vnvram format --help).
      --anchor ANCHOR    What remembers how far the image had come, so that an older copy of it is refused with status 7: a
                         file or directory; tpm:INDEX,FILE[,tcti=CONFIGURATION]; generation:N; none. The default is
                         VNVRAM_ANCHOR. `vnvram format --anchor` makes it.

    Example:
      vnvram key generate vm7
      vnvram format vm7.vnvram --key vm7 --profile tpm2
      vnvram-swtpm socket --tpm2 --tpmstate backend-uri=vnvram://vm7.vnvram \\
        --server type=tcp,port=2321 --ctrl type=tcp,port=2322 --flags not-need-init,startup-clear &
      tpm2_getrandom -T swtpm:host=127.0.0.1,port=2321 --hex 8

    The exit statuses are those of vnvram: 0 done, 2 usage, 3 key missing, 4 wrong key, 5 key unusable, 6 not authentic,
    7 rolled back, 8 not an image, 9 in use, 10 no space, 11 input/output, 12 audit, 13 timed out, 14 no entry for a TPM's state,
    15 not encrypted.

    """
}
