import Foundation
import TestSupport
import Testing

/// A libcrypto that refuses what libtpms needs: as broken, and as on a host in FIPS mode. The TPM works, or the log
/// says why not.
@Suite struct FailureModeTests {
  /// No Camellia, which libtpms tests.
  private static let refusesCamellia = """
    #define _GNU_SOURCE
    #include <dlfcn.h>
    #include <string.h>
    #include <openssl/evp.h>
    #define REFUSE(name) int name(EVP_CIPHER_CTX *x, const EVP_CIPHER *c, ENGINE *e, const unsigned char *k, const unsigned char *i) { \\
      int (*next)(EVP_CIPHER_CTX *, const EVP_CIPHER *, ENGINE *, const unsigned char *, const unsigned char *) = dlsym(RTLD_NEXT, #name); \\
      return c && !strncmp(EVP_CIPHER_get0_name(c), "CAMELLIA", 8) ? 0 : next(x, c, e, k, i); }
    REFUSE(EVP_EncryptInit_ex) REFUSE(EVP_DecryptInit_ex)
    """

  /// A provider with the property "fips=yes", as a host in FIPS mode has one: what libcrypto's default provider has,
  /// without what FIPS doesn't allow.
  private static let approved = """
    #include <openssl/core_dispatch.h>
    #include <openssl/crypto.h>
    #include <openssl/provider.h>
    #include <stdlib.h>
    #include <string.h>
    static OSSL_PROVIDER *other;
    static int is_approved(const char *names) {
      static const char *const not[] = {"CAMELLIA", "ARIA", "SM2", "SM3", "SM4", "SCRYPT", "CHACHA", "MD5", "RIPEMD", "BLAKE", 0};
      for (int i = 0; not[i]; i++) if (strstr(names, not[i])) return 0;
      return 1;
    }
    static const OSSL_ALGORITHM *query(void *unused, int operation, int *no_store) {
      const OSSL_ALGORITHM *all = OSSL_PROVIDER_query_operation(other, operation, no_store);
      size_t count = 0, kept = 0;
      if (!all) return 0;
      while (all[count].algorithm_names) count++;
      OSSL_ALGORITHM *ours = calloc(count + 1, sizeof *ours);
      for (size_t i = 0; i < count; i++) {
        if (!is_approved(all[i].algorithm_names)) continue;
        ours[kept] = all[i];
        ours[kept++].property_definition = "provider=approved,fips=yes";
      }
      return ours;
    }
    static const OSSL_DISPATCH functions[] = {{OSSL_FUNC_PROVIDER_QUERY_OPERATION, (void (*)(void))query}, {0, 0}};
    int OSSL_provider_init(const OSSL_CORE_HANDLE *h, const OSSL_DISPATCH *in, const OSSL_DISPATCH **out, void **context) {
      other = OSSL_PROVIDER_load(OSSL_LIB_CTX_new(), "default");
      if (!other) return 0;
      *context = OSSL_PROVIDER_get0_provider_ctx(other);
      *out = functions;
      return 1;
    }
    """

  private func library(_ source: String, _ place: Place) throws -> String {
    try place.write(Array(source.utf8), "library.c")
    let made = try place.run([
      "gcc", "-Werror=implicit", "-shared", "-fPIC", "-o", "library.so", "library.c", "-lcrypto", "-ldl",
    ])
    try TestFailure.unless(made.status == 0, made.text)
    return place.path("library.so")
  }

  /// libcrypto's configuration: FIPS mode, with the provider at this path or without any.
  private func configuration(_ provider: String?, _ place: Place) throws -> [String: String] {
    let providers = """
      [providers]
      default = default_provider
      approved = approved_provider
      [default_provider]
      activate = 1
      [approved_provider]
      module = \(provider ?? "")
      activate = 1
      """
    let text = """
      openssl_conf = start
      [start]
      \(provider == nil ? "" : "providers = providers")
      alg_section = algorithms
      [algorithms]
      default_properties = fips=yes
      \(provider == nil ? "" : providers)
      """
    try place.write(Array((text + "\n").utf8), "openssl.cnf")
    return ["OPENSSL_CONF": place.path("openssl.cnf")]
  }

  /// A server that is powered on, with these variables; its sockets once it listens.
  private func start(_ place: Place, _ environment: [String: String], isTPM2: Bool = true) throws -> Child {
    let command = TestServer.command(
      place.image, TestServer.unixSockets(place.folder), TestServer.startsByItself)
    let server = try place.start(isTPM2 ? command : command.filter { $0 != "--tpm2" }, environment: environment)
    while server.isRunning, (try? Socket(path: place.path("tpm.ctrl")))?.ask([0, 0, 0, 1]).isEmpty ?? true {
      usleep(2000)
    }
    return server
  }

  private func end(_ server: Child) -> Int32 {
    server.signal(SIGTERM)
    return server.wait()
  }

  private static let selfTest: [UInt8] = [0x80, 0x01, 0, 0, 0, 11, 0, 0, 0x01, 0x43, 1]
  private static let random: [UInt8] = [0x80, 0x01, 0, 0, 0, 12, 0, 0, 0x01, 0x7B, 0, 4]

  /// Why, once for each start, and nothing of what was sent: libtpms prints the command behind it.
  @Test func theLogSaysWhy() throws {
    let place = try Place()
    let server = try start(place, ["LD_PRELOAD": library(Self.refusesCamellia, place)])
    let data = try Socket(path: place.path("tpm"))
    for command in [Self.selfTest, Self.random, Self.random] {
      #expect(data.ask(command) == [0x80, 0x01, 0, 0, 0, 10, 0, 0, 0x01, 0x01])
    }
    let control = try Socket(path: place.path("tpm.ctrl"))
    func lines() -> [Substring] { server.text.split(separator: "\n").filter { $0.contains("failure mode") } }
    #expect(lines().count == 1, "\(server.text)")
    #expect(lines().first?.contains("code 6 at TestSymmetricAlgorithm, line ") == true, "\(server.text)")
    #expect(!server.text.contains("01 43"), "\(server.text)")
    #expect(control.ask([0, 0, 0, 2, 0, 0, 0, 0]) == [0, 0, 0, 0])
    _ = data.ask([0x80, 0x01, 0, 0, 0, 12, 0, 0, 0x01, 0x44, 0, 0])
    _ = data.ask(Self.selfTest)
    #expect(lines().count == 2, "\(server.text)")
    #expect(end(server) == 0)
  }

  /// The process with libtpms leaves FIPS mode, and the TPM works, all that it tests among it.
  @Test func onAHostInFIPSMode() throws {
    let place = try Place()
    let server = try start(place, configuration(library(Self.approved, place), place))
    try TestFailure.unless(server.isRunning, server.text)
    let data = try Socket(path: place.path("tpm"))
    #expect(data.ask(Self.selfTest) == [0x80, 0x01, 0, 0, 0, 10, 0, 0, 0, 0], "\(server.text)")
    try data.run(TPMCommand.defineIndex)
    try data.run(TPMCommand.write(3))
    #expect(try data.index() == [UInt8](repeating: 3, count: TPMCommand.indexSize))
    #expect(server.text.contains("libcrypto is in FIPS mode; the TPM's process leaves it"), "\(server.text)")
    #expect(end(server) == 0)
    // What was written so is read without it.
    let plain = try TestServer(place)
    #expect(try plain.connect(.data).index() == [UInt8](repeating: 3, count: TPMCommand.indexSize))
    #expect(plain.end() == 0)
  }

  @Test func aTPM12OnAHostInFIPSMode() throws {
    let place = try Place(["--profile", "tpm1.2"])
    let server = try start(place, configuration(library(Self.approved, place), place), isTPM2: false)
    let data = try Socket(path: place.path("tpm"))
    // TPM_SelfTestFull, TPM_GetRandom.
    #expect(data.ask([0, 0xC1, 0, 0, 0, 10, 0, 0, 0, 0x50]) == [0, 0xC4, 0, 0, 0, 10, 0, 0, 0, 0], "\(server.text)")
    #expect(data.ask([0, 0xC1, 0, 0, 0, 14, 0, 0, 0, 0x46, 0, 0, 0, 4]).count == 18)
    #expect(end(server) == 0)
  }

  /// Nothing works where no provider has anything: said at the start, and nothing else is done.
  @Test func inFIPSModeWithoutAProvider() throws {
    let place = try Place()
    let before = try place.bytes()
    let server = try start(place, configuration(nil, place))
    #expect(server.wait() == 1)
    #expect(server.text.contains("it is in FIPS mode, and no provider that is configured has them"), "\(server.text)")
    #expect(try place.bytes() == before)
  }
}
