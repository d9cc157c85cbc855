import VTPM

/// `--print-capabilities`: what of swtpm's this program has, in swtpm's words, for managers that look there before they use it.
///
/// `version` is the swtpm whose command line and control channel are followed, since that is what it is compared with; our
/// own stands beside it. Order and spaces are swtpm's: swtpm_setup and scripts search for strings.
enum Capabilities {
  /// LOCK_STORAGE and --migration came with swtpm 0.8, lock and --print-info with 0.10.
  static let swtpmVersion = "0.10.0"

  static func json(_ version: TPMVersion) -> String {
    let versions = LibraryInfo.versions.map { $0 == .tpm2 ? "tpm-2.0" : "tpm-1.2" }
    // As in swtpm these are the sizes of a TPM 2.0.
    let sizes = version == .tpm2 ? LibraryInfo.rsaKeySizes(version).map { "rsa-keysize-\($0)" } : []
    let features =
      versions + [
        "tpm-send-command-header", "flags-opt-startup", "flags-opt-disable-auto-shutdown", "ctrl-opt-terminate",
        "cmdarg-seccomp", "cmdarg-key-fd", "cmdarg-pwd-fd", "cmdarg-print-states", "cmdarg-migration",
        "nvram-backend-dir",
      ] + sizes + ["cmdarg-print-info", "tpmstate-opt-lock"]
    let list = features.map { "\"\($0)\"" }.joined(separator: ", ")
    return """
      { "type": "swtpm", "features": [ \(list) ], "version": "\(swtpmVersion)", \
      "implementation": "vnvram-swtpm \(CommandLineOptions.version)" }
      """
  }
}
