import Glibc

/// How a TPM is reached, as tpm2-tss has it: `device:/dev/tpmrm0`, `swtpm:host=127.0.0.1,port=2321`.
///
/// Hosts must be numeric addresses. tpm2-tss may connect anew for each command; by then a server is confined, where
/// looking up a name (files, sockets, plug-ins of the C library) would end it in the middle of its work.
struct TCTIConfiguration {
  let text: String

  /// What is wrong with it; nil where nothing is.
  var objection: String? {
    let parts = text.split(separator: ":", maxSplits: 1, omittingEmptySubsequences: false)
    guard ["swtpm", "mssim"].contains(where: { Self.isNamed(parts[0], $0) }) else { return nil }
    var host: Substring?
    for option in parts.count > 1 ? parts[1].split(separator: ",") : [] {
      if option.hasPrefix("path=") { return nil }
      if option.hasPrefix("host=") { host = option.dropFirst(5) }
    }
    // Without one tpm2-tss connects to "localhost".
    guard let host else { return "names no host; say host=127.0.0.1" }
    return Self.isAddress(String(host)) ? nil : "names a host; it must be a numeric address, such as host=127.0.0.1"
  }

  /// A module may be given by its file, too: `libtss2-tcti-swtpm.so.0`, with or without a directory.
  private static func isNamed(_ module: Substring, _ name: String) -> Bool {
    module == name || module.split(separator: "/").last?.hasPrefix("libtss2-tcti-\(name).so") ?? false
  }

  private static func isAddress(_ host: String) -> Bool {
    var address = in6_addr()
    return unsafe inet_pton(AF_INET, host, &address) == 1 || inet_pton(AF_INET6, host, &address) == 1
  }
}
