import Foundation
import TestSupport
import Testing

/// `--print-capabilities`, `--print-states` and `--print-info`: what managers ask before they start a server.
@Suite struct PrintTests {
  /// As another JSON parser reads it.
  private func parsed(_ text: String) throws -> [String: Any] {
    try #require(try JSONSerialization.jsonObject(with: Data(text.utf8)) as? [String: Any])
  }

  private func states(_ place: Place, _ more: [String] = [], image: String? = nil) throws -> [String: Int] {
    let location = image ?? "backend-uri=vnvram://\(place.image)"
    let command = ["vnvram-swtpm", "socket", "--print-states", "--tpm2", "--tpmstate", location]
    let outcome = try Child(command + more, in: place.folder).outcome()
    try TestFailure.unless(outcome.status == 0, outcome.errorText)
    let list = try #require(try parsed(outcome.text)["states"] as? [[String: Any]])
    return Dictionary(uniqueKeysWithValues: list.map { ($0["name"] as? String ?? "", $0["size"] as? Int ?? -1) })
  }

  /// The same shape, and each feature that Debian's swtpm has.
  @Test(arguments: [[], ["--tpm2"]]) func capabilities(more: [String]) throws {
    let place = try Place()
    let ours = try parsed(place.run(["vnvram-swtpm", "socket", "--print-capabilities"] + more).text)
    let theirs = try parsed(place.run(["swtpm", "socket", "--print-capabilities"] + more).text)
    #expect(ours["type"] as? String == "swtpm")
    #expect(ours["version"] as? String == "0.10.1")
    // The same number, where tools look for it.
    let line = try place.run(["vnvram-swtpm", "--version"]).text
    #expect(
      line.hasPrefix("TPM emulator version 0.10.1, ") && line.components(separatedBy: "version").count == 2, "\(line)")
    let features = try #require(ours["features"] as? [String])
    #expect(Set(features).count == features.count)
    let missing = Set(try #require(theirs["features"] as? [String])).subtracting(features)
    #expect(missing.isEmpty, "\(missing)")
    let profiles = try #require(ours["profiles"] as? [String: Any])
    #expect((profiles["names"] as? [String] ?? []) == (more.isEmpty ? [] : ["null"]))
    #expect(features.contains("cmdarg-profile") == !more.isEmpty)
    for feature in ["cmdarg-migration", "cmdarg-print-info", "flags-opt-disable-auto-shutdown", "tpmstate-opt-lock"] {
      #expect(features.contains(feature))
    }
    #expect(features.contains("rsa-keysize-2048") == !more.isEmpty)
  }

  /// swtpm_setup tells libvirt on their strength what a domain may have.
  @Test func swtpmSetupReadsThem() throws {
    let place = try Place()
    let answers = try ["\(Program.directory)/vnvram-swtpm socket", "/usr/bin/swtpm socket"].map { program in
      try place.run(["swtpm_setup", "--tpm", program, "--print-capabilities"])
    }
    #expect(answers[0].status == 0, "\(answers[0].text)")
    let features = try answers.map { try #require(try parsed($0.text)["features"] as? [String]) }
    #expect(features[0] == features[1])
    #expect(features[0].contains("tpm-2.0") && features[0].contains("tpm2-rsa-keysize-2048"))
  }

  /// A key that opens the image tells the truth, and its use is recorded.
  @Test func statesWithTheKey() throws {
    let place = try Place()
    #expect(try states(place).isEmpty)
    let server = try TestServer(place)
    try server.connect(.data).run(TPMCommand.defineIndex)
    #expect(server.end() == 0)
    let size = try #require(try states(place)["permall"])
    let listed = try place.run(["vnvram", "ls", place.image, "--json"]).text
    #expect(listed.contains("\"permall\",\"size\":\(size)") || listed.contains("\(size)"), "\(listed)")
    let before = try place.bytes()
    #expect(try states(place, ["--audit", "audit.states"]) == ["permall": size])
    #expect(try place.bytes() == before)
    let records = try String(decoding: place.bytes("audit.states"), as: UTF8.self)
    #expect(records.contains("\"unwrapped\"") && records.contains(place.key.name), "\(records)")
  }

  /// Without it an image is a state all the same, however it is: nobody may make a TPM in its place.
  @Test func statesWithoutTheKey() throws {
    let place = try Place()
    let whole = try place.bytes().count
    place.key.remove()
    #expect(try states(place) == ["permall": whole])
    place.key.loadWrong()
    #expect(try states(place) == ["permall": whole])
    place.key.load()
    let server = try TestServer(place, [])
    #expect(try states(place) == ["permall": whole], "a server has it")
    #expect(server.end() == 0)
    try place.flip(144)
    try place.flip(65536 + 144)
    #expect(try states(place) == ["permall": whole], "damaged")
    for bytes in [[], [UInt8](repeating: 0, count: 4096)] {
      try place.write(bytes)
      #expect(try states(place) == ["permall": bytes.count])
    }
  }

  @Test func noStates() throws {
    let place = try Place()
    #expect(try states(place, image: "backend-uri=vnvram://\(place.path("absent"))").isEmpty)
    let nowhere = ["vnvram-swtpm", "socket", "--print-states", "--tpm2", "--tpmstate"]
    let outcome = try place.run(nowhere + ["backend-uri=vnvram://\(place.path("absent/absent"))"])
    #expect(outcome.status == 11, "\(outcome.text)")
  }

  /// libtpms' own words.
  @Test(arguments: [["--tpm2"], []]) func information(version: [String]) throws {
    let place = try Place()
    for (flags, keys) in [
      ("1", ["TPMSpecification"]), ("0x2", ["TPMAttributes"]), ("03", ["TPMAttributes", "TPMSpecification"]), ("0", []),
      ("0x100", []),
    ] {
      let outcome = try place.run(["vnvram-swtpm", "socket", "--print-info", flags] + version)
      #expect(outcome.status == 0)
      #expect(try parsed(outcome.text).keys.sorted() == keys, "\(outcome.text)")
    }
    // The same that the control channel says.
    let server = try TestServer(place, [])
    let asked = try server.control("--info", "1").text.trimmingCharacters(in: .whitespacesAndNewlines)
    #expect(server.end() == 0)
    let printed = try place.run(["vnvram-swtpm", "socket", "--tpm2", "--print-info", "1"]).text
    #expect(printed.trimmingCharacters(in: .whitespacesAndNewlines) == asked)
  }
}
