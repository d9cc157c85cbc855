import VTPM

/// `--print-capabilities`: what of swtpm's this program has, in swtpm's words, for managers that look there before they
/// use it.
///
/// `version` is the swtpm whose command line and control channel are followed, since that is what it is compared with;
/// our own stands beside it. Order and spaces are swtpm's: swtpm_setup and scripts search for strings.
enum Capabilities {
  /// --profile, --print-info and lock came with swtpm 0.10, backup and fsync with 0.11.
  static let swtpmVersion = "0.10.1"

  static func json(_ version: TPMVersion) -> String {
    let versions = LibraryInfo.versions.map { $0 == .tpm2 ? "tpm-2.0" : "tpm-1.2" }
    // As in swtpm these are the sizes of a TPM 2.0, and so are the profiles.
    let isTPM2 = version == .tpm2
    let sizes = isTPM2 ? LibraryInfo.rsaKeySizes(version).map { "rsa-keysize-\($0)" } : []
    let profiles = isTPM2 ? ["cmdarg-profile", "cmdarg-print-profiles", "profile-opt-remove-disabled"] : []
    let features =
      versions + [
        "tpm-send-command-header", "flags-opt-startup", "flags-opt-disable-auto-shutdown", "ctrl-opt-terminate",
        "cmdarg-seccomp", "cmdarg-key-fd", "cmdarg-pwd-fd", "cmdarg-print-states", "cmdarg-migration",
        "nvram-backend-dir", "nvram-backend-file",
      ] + sizes + profiles + [
        "cmdarg-print-info", "tpmstate-opt-lock", "tpmstate-dir-backend-opt-backup", "tpmstate-dir-backend-opt-fsync",
      ]
    let list = features.map { "\"\($0)\"" }.joined(separator: ", ")
    return """
      { "type": "swtpm", "features": [ \(list) ], "profiles": { \(isTPM2 ? profileMembers : "")}, \
      "version": "\(swtpmVersion)", "implementation": "vnvram-swtpm \(CommandLineOptions.version)" }
      """
  }

  /// Without `names` swtpm_setup 0.10 makes no TPM 2.0.
  private static var profileMembers: String {
    """
    "names": [ "\(TPMProfile.name)" ], \
    "algorithms": { "canbedisabled": "", "implemented": "\(TPMProfile.algorithms)" }, \
    "commands": { "canbedisabled": "", "implemented": "\(TPMProfile.commands)" } 
    """
  }
}
