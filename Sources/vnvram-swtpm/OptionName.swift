/// Every option that the command line knows, as it is written there. The help, the manual page and README.md's table
/// have each of them and no other (`test_documents.py`).
enum OptionName: String, CaseIterable {
  // As in swtpm.
  case tpm2 = "--tpm2"
  case tpmstate = "--tpmstate"
  case key = "--key"
  case server = "--server"
  case port = "--port"
  case fd = "--fd"
  case ctrl = "--ctrl"
  case flags = "--flags"
  case locality = "--locality"
  case migrationKey = "--migration-key"
  case migration = "--migration"
  case terminate = "--terminate"
  case daemon = "--daemon"
  case pid = "--pid"
  case log = "--log"
  case seccomp = "--seccomp"
  case runas = "--runas"
  case printCapabilities = "--print-capabilities"
  case printStates = "--print-states"
  case printInfo = "--print-info"
  case profile = "--profile"
  case printProfiles = "--print-profiles"
  case help = "--help"
  case version = "--version"
  // Ours.
  case keyringKey = "--keyring-key"
  case failOnEncryptedDrive = "--fail-on-encrypted-drive"
  case makeOnFirstUse = "--make-on-first-use"
  case upcall = "--upcall"
  case keyTimeout = "--key-timeout"
  case onKeyLoss = "--on-key-loss"
  case anchor = "--anchor"
  case audit = "--audit"
  case requireAudit = "--require-audit"
  // swtpm's that are refused.
  case chroot = "--chroot"
  case pcap = "--pcap"

  enum Argument {
    case none
    /// The rest of the word, or the next one.
    case required
    /// Only as `--option=value`.
    case attached
  }

  var argument: Argument {
    switch self {
    case .tpm2, .terminate, .daemon, .printCapabilities, .printStates, .help, .version, .printProfiles,
      .requireAudit:
      .none
    case .failOnEncryptedDrive, .upcall, .makeOnFirstUse: .attached
    default: .required
    }
  }

  /// The short form: one letter behind one dash.
  var letter: Character? {
    switch self {
    case .port: "p"
    case .fd: "f"
    case .terminate: "t"
    case .daemon: "d"
    case .runas: "r"
    case .help: "h"
    case .version: "v"
    case .chroot: "R"
    default: nil
    }
  }

  init?(letter: Character) {
    guard let name = Self.allCases.first(where: { $0.letter == letter }) else { return nil }
    self = name
  }

  /// Whether an options file may have it: what an operator decides for all virtual machines of a host, and a manager of
  /// virtual machines knows nothing of.
  var mayBeInFile: Bool {
    switch self {
    case .keyringKey, .makeOnFirstUse, .failOnEncryptedDrive, .upcall, .keyTimeout, .onKeyLoss, .anchor, .audit,
      .requireAudit, .seccomp:
      true
    default: false
    }
  }

  /// Why an option of swtpm's isn't taken, and what to do instead. Nil for those that are.
  var refusal: String? {
    switch self {
    case .chroot:
      "the server confines itself to the places that it needs (landlock, seccomp); use --runas for another user"
    case .pcap:
      "the commands of a TPM hold passwords and keys and are never written anywhere; watch them in the guest instead"
    default: nil
    }
  }
}
