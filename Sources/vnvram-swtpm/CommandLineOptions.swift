import Anchors
import Audit
import Confinement
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

  var image = ""
  var server = ServerOptions()
  var failOnEncryptedDrive = true
  var keyLossPolicy = NVRAMConfiguration.KeyLossPolicy.lock
  var audit: AuditDestination?
  var anchor: AnchorSpecification?
  var violations = SystemCallFilter.Action.kill
  /// Who to go on as.
  var user: String?
  private var isTPM2 = false

  static func parse(_ arguments: [String]) throws(TPMError) -> Request {
    if arguments.contains("--help") || arguments.contains("-h") { return .help }
    if arguments.contains("--version") || arguments.contains("-v") { return .version }
    guard arguments.first == "socket" else {
      throw .usage("the first argument is \"socket\"; see vnvram-swtpm --help")
    }
    var options = CommandLineOptions()
    var rest = arguments.dropFirst()
    while let argument = rest.popFirst() { try options.take(argument, &rest) }
    guard options.isTPM2 else { throw .usage("--tpm2 is needed: a TPM 1.2 is not supported yet") }
    guard !options.image.isEmpty else {
      throw .usage("--tpmstate backend-uri=vnvram://IMAGE is needed; `vnvram format IMAGE --profile tpm2` makes one")
    }
    guard options.server.data != nil || options.server.control != nil else {
      throw .usage("nobody could reach the TPM: give --server, --ctrl or both")
    }
    return .serve(options)
  }

  private mutating func take(_ argument: String, _ rest: inout ArraySlice<String>) throws(TPMError) {
    let parts = argument.split(separator: "=", maxSplits: 1, omittingEmptySubsequences: false)
    let option = String(parts[0])
    let attached = parts.count == 2 ? String(parts[1]) : nil
    switch option {
    case "--tpm2": isTPM2 = true
    case "--terminate", "-t": server.terminatesOnHangUp = true
    case "--fail-on-encrypted-drive": failOnEncryptedDrive = try Self.yesOrNo(attached ?? "yes", option)
    default:
      guard let value = attached ?? rest.popFirst() else { throw .usage("\(option) needs a value") }
      try take(option, value)
    }
  }

  private mutating func take(_ option: String, _ value: String) throws(TPMError) {
    switch option {
    case "--tpmstate": image = try StateLocation(parsing: value).image
    case "--server": server.data = try ChannelOptions(parsing: value, as: .server)
    case "--ctrl": server.control = try ChannelOptions(parsing: value, as: .ctrl)
    case "--flags": try server.parseFlags(value)
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
    vnvram-swtpm: a TPM 2.0 whose state is sealed in a vnvram image

    Usage: vnvram-swtpm socket --tpm2 --tpmstate backend-uri=vnvram://IMAGE
             [--server type=tcp,port=PORT[,bindaddr=ADDRESS][,disconnect]]
             [--server type=unixio,path=PATH[,mode=0600][,uid=UID][,gid=GID]]
             [--ctrl type=tcp,port=PORT… | type=unixio,path=PATH…]
             [--flags [not-need-init][,startup-clear|startup-state|startup-none]]
             [--terminate] [--seccomp action=kill|log|none] [--runas USER]

    As in swtpm:
      --tpmstate backend-uri=vnvram://IMAGE
                         The image; `vnvram format IMAGE --key NAME --profile tpm2` makes one. Nothing here ever does.
      --server           Where TPM commands come in. TCP listens on 127.0.0.1 unless told otherwise.
      --ctrl             Where the control channel's commands come in (swtpm_ioctl; not yet QEMU).
      --flags            not-need-init: power on without waiting for INIT; startup-clear: and send TPM2_Startup(CLEAR).
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
                         keys; commands that store something fail until the server is started again. keep: go on.
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
