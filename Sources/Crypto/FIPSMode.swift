// libcrypto in FIPS mode: it hands out only what carries the property "fips=yes", as a host's configuration asks for.
import CLibcrypto

/// FIPS mode, and how the process that has libtpms leaves it. libtpms uses algorithms that FIPS doesn't allow, and
/// tests them when it starts: it would be in failure mode from then on. swtpm leaves it, too, from 0.8 on
/// (EVP_default_properties_enable_fips).
///
/// What this module has fetched before stays with the provider that it came from (`Algorithms`). So only a process for
/// libtpms calls `leave`, after `CryptoLibrary.prepare`; where keys are found and unwrapped FIPS mode stays on.
public enum FIPSMode {
  public static var isOn: Bool { EVP_default_properties_is_fips_enabled(nil) == 1 }

  /// What is fetched from now on may come from any provider. False where libcrypto doesn't do it.
  public static func leave() -> Bool {
    defer { ERR_clear_error() }
    return EVP_default_properties_enable_fips(nil, 0) == 1
  }
}
