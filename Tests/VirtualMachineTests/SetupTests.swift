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
    #expect(names.contains("tpm2-00.permall"), "\(names)")
    let made = try place.bytes("state/tpm2-00.permall")
    let second = try place.run(command)
    #expect(second.status == 0 && second.text.contains("Not overwriting existing state"), "\(second.text)")
    #expect(try place.bytes("state/tpm2-00.permall") == made)

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

  // MARK: Run again

  /// What swtpm_setup makes a TPM in.
  enum Storage: String, CaseIterable, Sendable {
    case folder, file, device

    static let all = allCases.filter { $0 != .device || LoopDevice.isPermitted }
  }

  /// A place for a TPM, and swtpm_setup with vnvram-swtpm under the name swtpm, its options in a file, as on a host.
  private struct Host {
    let place: Place
    let location: String
    let loop: LoopDevice?
    let environment: [String: String]

    init(_ storage: Storage) throws {
      place = try Place(nil)
      let path = place.path("state")
      switch storage {
      case .folder:
        try FileManager.default.createDirectory(atPath: path, withIntermediateDirectories: true)
        (loop, location) = (nil, "dir://\(path)")
        place.image = path + "/tpm2-00.permall"
      case .file:
        try place.write([UInt8](repeating: 0, count: 4 << 20), "state")
        (loop, location) = (nil, "file://\(path)")
        place.image = path
      case .device:
        let device = try LoopDevice(over: place.path("disk"), bytes: 4 << 20)
        try FileManager.default.createSymbolicLink(atPath: path, withDestinationPath: device.path)
        (loop, location) = (device, "file://\(path)")
        place.image = path
      }
      place.state = "backend-uri=\(location),mode=0600"
      let options = "--keyring-key \(place.key.name)\n--make-on-first-use\n--upcall=no\n"
      try place.write(Array(options.utf8), "swtpm.options")
      environment = [
        "PATH": "\(try Manager.programs(place)):\(Program.directory):/usr/sbin:/usr/bin:/sbin:/bin",
        "VNVRAM_SWTPM_OPTIONS": place.path("swtpm.options"),
      ]
    }

    /// With what it and its server say in their log.
    func setup(_ more: String...) throws -> (status: Int32, text: String) {
      let log = place.path("setup.log")
      unsafe unlink(log)
      let outcome = try place.run(
        ["swtpm_setup", "--tpm2", "--tpmstate", location, "--createek", "--create-ek-cert", "--create-platform-cert"]
          + ["--lock-nvram", "--config", place.path("setup.conf"), "--logfile", log] + more, environment: environment)
      return (
        status: outcome.status, text: outcome.text + ((try? String(contentsOfFile: log, encoding: .utf8)) ?? "")
      )
    }

    /// What the TPM is known by: its endorsement key. Throws where it has no certificate of it.
    func identity() throws -> String {
      let server = try TestServer(
        place, TestServer.startsByItself + ["--keyring-key", place.key.name, "--make-on-first-use"])
      defer { _ = server.end() }
      try TestFailure.unless(server.isRunning, server.log)
      let indices = try server.tpm2("tpm2_getcap", "handles-nv-index").text.uppercased()
      try TestFailure.unless(indices.contains("0X1C00002"), "no certificate of the endorsement key: \(indices)")
      let key = try server.tpm2("tpm2_readpublic", "-c", "0x81010001")
      try TestFailure.unless(key.status == 0, key.text)
      return key.text
    }
  }

  /// The certificates' folder can't be made, so that swtpm_setup fails half-way; `mend` puts that right.
  private func failing(_ host: Host, _ mend: () throws -> Void) throws {
    try authority(host.place)
    let folder = host.place.path("authority")
    try FileManager.default.removeItem(atPath: folder)
    try host.place.write([], "authority")
    let first = try host.setup()
    #expect(first.status != 0 && !first.text.contains("Successfully authored"), "\(first.text)")
    try mend()
    try FileManager.default.removeItem(atPath: folder)
    try FileManager.default.createDirectory(atPath: folder, withIntermediateDirectories: true)
  }

  /// After a run that failed half-way, plain or with either option: a TPM with its certificates, as with swtpm.
  @Test(arguments: ["", "--overwrite", "--not-overwrite"]) func again(option: String) throws {
    try again(Host(.folder), option)
  }

  @Test(arguments: Storage.all.filter { $0 != .folder }, ["", "--overwrite", "--not-overwrite"])
  func againOnADisk(storage: Storage, option: String) throws {
    let host = try Host(storage)
    try again(host, option)
    // A virtual machine had it by now: should it be blank, no other TPM takes its place.
    try File.overwrite(host.place.image, [UInt8](repeating: 0, count: try host.place.bytes().count))
    let lost = try host.setup("--not-overwrite")
    #expect(lost.status != 0 && lost.text.contains("made one in it before"), "\(lost.text)")
  }

  private func again(_ host: Host, _ option: String) throws {
    try failing(host) {}
    let second = try option.isEmpty ? host.setup() : host.setup(option)
    #expect(second.status == 0 && second.text.contains("Successfully authored"), "\(second.text)")
    _ = try host.identity()
  }

  /// Of a TPM that is there: plain is an error, --not-overwrite leaves it, --overwrite makes another one, never the old
  /// one again.
  @Test func ofATPMThatIsThere() throws {
    let host = try Host(.folder)
    try authority(host.place)
    #expect(try host.setup().status == 0)
    let first = try host.identity()
    let plain = try host.setup()
    #expect(plain.status != 0 && plain.text.contains("Found existing TPM state"), "\(plain.text)")
    #expect(try host.setup("--not-overwrite").status == 0)
    #expect(try host.identity() == first)
    #expect(try host.setup("--overwrite").status == 0)
    #expect(try host.identity() != first)
    let names = try FileManager.default.contentsOfDirectory(atPath: host.place.path("state")).sorted()
    #expect(names == ["tpm2-00.made.permall", "tpm2-00.permall"])
  }

  /// On a disk whose TPM a virtual machine had, --overwrite is an error, and says how the TPM comes back, or a new one
  /// is made.
  @Test(arguments: Storage.all.filter { $0 != .folder }) func overwritingADisk(storage: Storage) throws {
    let host = try Host(storage)
    try authority(host.place)
    #expect(try host.setup().status == 0)
    let first = try host.identity()
    let image = host.place.image
    let outcome = try host.setup("--overwrite")
    #expect(outcome.status != 0 && !outcome.text.contains("Successfully authored"), "\(outcome.text)")
    if storage == .device {
      #expect(outcome.text.contains("dd of=\(image)"), "\(outcome.text)")
      let restored = try host.place.run(["bash", "-c", "printf nilmptws | dd of=\(image) conv=notrunc"])
      #expect(restored.status == 0, "\(restored.text)")
      #expect(try host.identity() == first)
    } else {
      #expect(outcome.text.contains("is gone"), "\(outcome.text)")
    }
    #expect(try host.place.run(["vnvram", "marker", "forget", image]).status == 0)
    if storage == .device {
      #expect(try host.place.run(["dd", "if=/dev/zero", "of=\(image)", "bs=1M", "count=4"]).status == 0)
    }
    #expect(try host.setup("--overwrite").status == 0)
    #expect(try host.identity() != first)
  }

  /// An image that somebody prepared, with a second way to open it: it isn't replaced by one without.
  @Test(arguments: Storage.all) func anImageWithMoreSlots(storage: Storage) throws {
    let host = try Host(storage)
    let (place, image) = (host.place, host.place.image)
    try authority(place)
    for command in [
      ["format", image, "--key", place.key.name, "--profile", "tpm2"],
      ["slot", "add", image, "--recovery-key", "--recovery-key-fd", "1"],
    ] {
      let outcome = try place.run(["vnvram"] + command)
      try #require(outcome.status == 0, "\(outcome.status)")
    }
    let before = try place.bytes()
    let refused = try host.setup("--not-overwrite")
    #expect(refused.status != 0 && refused.text.contains("vnvram slot remove"), "\(refused.text)")
    #expect(try place.bytes() == before)
    // On a device swtpm_setup wipes the beginning of what isn't this host's own, which is an error then.
    guard storage != .device else { return }
    #expect(try place.run(["vnvram", "slot", "remove", image, "recovery-key"]).status == 0)
    let done = try host.setup("--not-overwrite")
    #expect(done.status == 0 && done.text.contains("Successfully authored"), "\(done.text)")
    _ = try host.identity()
  }

  /// Proxmox' two command lines, at each start of a machine.
  @Test(arguments: Storage.all.filter { $0 != .folder }) func asProxmox(storage: Storage) throws {
    let host = try Host(storage)
    let place = host.place
    try authority(place)
    let run = geteuid() == 0 ? ["--runas", "0"] : []
    var identities: [String] = []
    for start in 0..<2 {
      let setup = try place.run(
        ["swtpm_setup", "--tpmstate", host.location, "--createek", "--create-ek-cert", "--create-platform-cert"]
          + ["--lock-nvram", "--config", place.path("setup.conf")] + run + ["--not-overwrite", "--tpm2"],
        environment: host.environment)
      #expect(setup.status == 0, "\(setup.text)")
      #expect(setup.text.contains("Not overwriting existing state") == (start > 0), "\(setup.text)")
      let server = try place.run(
        ["swtpm", "socket", "--tpmstate", "backend-uri=\(host.location),mode=0600"]
          + [
            "--ctrl", "type=unixio,path=\(place.path("swtpm.sock")),mode=0600", "--pid",
            "file=\(place.path("swtpm.pid"))",
          ]
          + ["--terminate", "--daemon", "--log", "file=\(place.path("swtpm.log")),level=1,prefix=[swtpm]", "--tpm2"],
        environment: host.environment)
      #expect(server.status == 0, "\(server.text)")
      // QEMU's INIT, and SHUTDOWN.
      let control = try place.run([
        "bash", "-c", "swtpm_ioctl --unix swtpm.sock -i && swtpm_ioctl --unix swtpm.sock -s",
      ])
      #expect(control.status == 0, "\(control.text)")
      let pid = place.path("swtpm.pid")
      for _ in 0..<5000 where File.exists(pid) { usleep(2000) }
      identities.append(try host.identity())
    }
    #expect(Set(identities).count == 1)
  }
}
