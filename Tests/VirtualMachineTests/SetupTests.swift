import Foundation
import TestSupport
import Testing

/// swtpm_setup, Debian's, with vnvram-swtpm in swtpm's place.
@Suite(.enabled(if: Manager.isServed, Manager.unserved)) struct SetupTests {
  /// A certificate authority of the test's own, so that the system's isn't touched.
  private func authority(_ place: Place) throws {
    let folder = place.path("authority")
    try FileManager.default.createDirectory(atPath: folder, withIntermediateDirectories: true)
    let authority = """
      statedir = \(folder)
      signingkey = \(folder)/key.pem
      issuercert = \(folder)/certificate.pem
      certserial = \(folder)/serial

      """
    try place.write(Array(authority.utf8), "authority.conf")
    try place.write(
      Array("--platform-manufacturer vnvram\n--platform-version 1\n--platform-model test\n".utf8), "options")
    let setup = """
      create_certs_tool = /usr/bin/swtpm_localca
      create_certs_tool_config = \(place.path("authority.conf"))
      create_certs_tool_options = \(place.path("options"))
      active_pcr_banks = sha256

      """
    try place.write(Array(setup.utf8), "setup.conf")
  }

  /// Endorsement keys with their certificates, once; the server that then serves the state has them.
  @Test func endorsementKeysAndCertificates() throws {
    let place = try Place()
    try authority(place)
    try place.write(Array("correct horse battery".utf8), "password")
    let state = place.path("state")
    try FileManager.default.createDirectory(atPath: state, withIntermediateDirectories: true)
    let command = [
      "swtpm_setup", "--tpm2", "--tpm", "\(Program.directory)/vnvram-swtpm socket", "--config",
      place.path("setup.conf"),
      "--pwdfile", place.path("password"), "--cipher", "aes-256-cbc", "--tpm-state", state, "--vmid", "vm7:1",
      "--createek", "--create-ek-cert", "--create-platform-cert", "--lock-nvram", "--not-overwrite",
    ]
    let first = try place.run(command)
    #expect(first.status == 0, "\(first.text)")
    let names = try FileManager.default.contentsOfDirectory(atPath: state)
    #expect(names.contains("tpm2-00.vnvram"), "\(names)")
    let made = try place.bytes("state/tpm2-00.vnvram")
    let second = try place.run(command)
    #expect(second.status == 0 && second.text.contains("Not overwriting existing state"), "\(second.text)")
    #expect(try place.bytes("state/tpm2-00.vnvram") == made)

    let server = try place.start(
      ["vnvram-swtpm", "socket", "--tpm2", "--tpmstate", "dir=\(state)", "--flags", "not-need-init,startup-clear"]
        + ["--key", "pwdfile=\(place.path("password")),mode=aes-256-cbc"] + TestServer.unixSockets(place.folder))
    defer {
      server.kill()
      _ = server.wait()
    }
    for _ in 0..<5000 where server.isRunning && !File.exists(place.path("tpm.ctrl")) { usleep(2000) }
    let tools = ["TPM2TOOLS_TCTI": "swtpm:path=\(place.path("tpm"))"]
    for index in ["0x1c00002", "0x1c00016", "0x1c08000"] {
      let read = try place.run(["tpm2_nvread", index, "-o", index], environment: tools)
      #expect(read.status == 0, "\(read.text) \(server.text)")
    }
    // The certificate is the authority's, and of the key that is in the TPM.
    let convert = try place.run(["openssl", "x509", "-inform", "DER", "-in", "0x1c00002", "-out", "certificate.pem"])
    #expect(convert.status == 0, "\(convert.text)")
    let verify = try place.run(
      ["openssl", "verify", "-partial_chain", "-CAfile", "authority/certificate.pem", "certificate.pem"])
    #expect(verify.status == 0, "\(verify.text)")
    let read = try place.run(
      ["tpm2_readpublic", "-c", "0x81010001", "-f", "pem", "-o", "key.pem"], environment: tools)
    #expect(read.status == 0, "\(read.text)")
    let key = try place.run(["openssl", "x509", "-in", "certificate.pem", "-noout", "-pubkey"])
    #expect(try key.text == String(decoding: place.bytes("key.pem"), as: UTF8.self))
  }
}
