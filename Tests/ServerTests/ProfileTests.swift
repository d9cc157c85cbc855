import Foundation
import TestSupport
import Testing

/// Profiles, as swtpm_setup 0.10 asks for them: there is "null", and nothing else.
@Suite struct ProfileTests {
  private static func lines(_ text: String) -> String { text.trimmingCharacters(in: .whitespacesAndNewlines) }

  private static func member(_ text: String, _ name: String) throws -> Any {
    let all = try #require(try JSONSerialization.jsonObject(with: Data(text.utf8)) as? [String: Any], "\(text)")
    return try #require(all[name], "\(text)")
  }

  /// GET_INFO, from an offset: the result, the total length, and the text without its zero.
  private static func info(_ control: Socket, _ flags: UInt8, offset: UInt8 = 0) -> (result: UInt8, text: String) {
    let answer = control.ask([0, 0, 0, 0x12, 0, 0, 0, 0, 0, 0, 0, flags, 0, 0, 0, offset, 0, 0, 0, 0])
    return (answer.count < 4 ? 255 : answer[3], String(decoding: answer.dropFirst(12).dropLast(), as: UTF8.self))
  }

  /// What swtpm_setup 0.10 does to make a TPM 2.0, call by call, and how it cuts what it gets: the capabilities, then a
  /// server with descriptors and a profile, its specification, its active profile, and its end. Debian has 0.7.1.
  @Test(arguments: ["profile={\"Name\":\"null\"}", "fd=0", "name=null,remove-disabled=check"])
  func asSetupOf010Does(profile: String) throws {
    let place = try Place.forFirstUse()
    let script = """
      import json, os, socket, subprocess, sys, time
      program, state, key, profile = sys.argv[1:]
      said = subprocess.run([program, "socket", "--print-capabilities", "--tpm2"], stdout=subprocess.PIPE, check=True).stdout
      assert "null" in json.loads(said)["profiles"]["names"], said
      assert b'"cmdarg-profile"' in said and b'"tpm-2.0"' in said
      states = [program, "socket", "--print-states", "--tpmstate", "backend-uri=dir://" + state, "--tpm2"]
      assert b"permall" not in subprocess.run(states, stdout=subprocess.PIPE, check=True).stdout
      ctrl, ctrl_theirs = socket.socketpair()
      data, data_theirs = socket.socketpair()
      pid = state + "/../pid"
      open(pid, "w").close()
      read, write = os.pipe()
      os.write(write, b'{"Name":"null","Description":"of {mine}"}')
      server = subprocess.Popen(
          [program, "socket", "--flags", "not-need-init,startup-clear", "--tpmstate", "backend-uri=dir://" + state,
           "--pid", "file=" + pid, "--tpm2", "--keyring-key", key, "--upcall=no", "--profile", profile, "--log", "file=" + pid + ".log",
           "--server", "type=tcp,fd=%d" % data_theirs.fileno(), "--ctrl", "type=unixio,clientfd=%d" % ctrl_theirs.fileno()],
          stdin=read, pass_fds=[data_theirs.fileno(), ctrl_theirs.fileno()])
      data_theirs.close(); ctrl_theirs.close()
      while os.stat(pid).st_size == 0:
          assert server.poll() is None, open(pid + ".log").read()
          time.sleep(0.005)
      def ask(flags):
          ctrl.sendall(bytes.fromhex("00000012") + flags.to_bytes(8, "big") + bytes(8))
          # It reads once, into 1024 bytes.
          answer = ctrl.recv(1024)
          result, length = answer[:4], int.from_bytes(answer[8:12], "big")
          assert result == bytes(4) and len(answer) >= 12 + length, answer
          return answer[12:12 + length].rstrip(bytes(1)).decode()
      assert "TPMSpecification" in ask(3)
      text = ask(0x20)
      # From behind the first colon to the last brace but one.
      active = json.loads(text[text.index(":") + 1:text.rindex("}")])
      assert active["Name"] == "null" and active["StateFormatLevel"] == 1, text
      ctrl.sendall(bytes.fromhex("00000003"))
      assert ctrl.recv(1024) == bytes(4)
      sys.exit(server.wait(60))
      """
    let arguments = [
      "python3", "-c", script, Program.directory + "/vnvram-swtpm", place.path("state"), place.key.name, profile,
    ]
    let outcome = try place.run(arguments)
    #expect(outcome.status == 0, "\(outcome.text)")
  }

  /// What there is to be told: by the option, and on the control channel, and the same by both.
  @Test func whatThereIs() throws {
    let place = try Place()
    let printed = Self.lines(try place.run(["vnvram-swtpm", "socket", "--tpm2", "--print-profiles"]).text)
    let profiles = try #require(try Self.member(printed, "AvailableProfiles") as? [[String: Any]])
    #expect(profiles.map { $0["Name"] as? String } == ["null"])
    let server = try TestServer(place, [])
    let control = try server.connect(.control)
    for (flag, name): (UInt8, String) in [
      (1, "TPMSpecification"), (8, "RuntimeAlgorithms"), (0x10, "RuntimeCommands"), (0x20, "ActiveProfile"),
      (0x40, "AvailableProfiles"), (0x80, "RuntimeAttributes"),
    ] {
      let (result, text) = Self.info(control, flag)
      #expect(result == 0)
      _ = try Self.member(text, name)
      let same = try place.run(["vnvram-swtpm", "socket", "--tpm2", "--print-info", "\(flag)"]).text
      #expect(Self.lines(same) == text)
    }
    #expect(Self.info(control, 0x40).text == printed)
    // All of them, in parts: a client asks for the rest.
    let all = try place.run(["vnvram-swtpm", "socket", "--tpm2", "--print-info", "0xff"]).text
    #expect(try JSONSerialization.jsonObject(with: Data(all.utf8)) as? [String: Any] != nil)
    #expect(Self.lines(all).hasPrefix(String(Self.info(control, 0xFF).text.prefix(2000))))
    #expect(server.end() == 0)
    #expect(
      Self.lines(try place.run(["vnvram-swtpm", "socket", "--print-profiles"]).text) == "{}", "a TPM 1.2 has none")
  }

  /// The list of commands is the TPM's own.
  @Test func commandsAreTheTPMs() throws {
    let place = try Place()
    let server = try TestServer(place)
    let data = try server.connect(.data)
    var (codes, next): (Set<UInt32>, UInt32) = ([], 0)
    while true {
      let first = (0..<4).map { UInt8(truncatingIfNeeded: next >> (24 - 8 * $0)) }
      // TPM2_GetCapability(TPM_CAP_COMMANDS): moreData, the capability, the count, and attributes with the code below.
      let answer = data.ask([0x80, 1, 0, 0, 0, 22, 0, 0, 1, 0x7A, 0, 0, 0, 2] + first + [0, 0, 0, 64])
      let words = stride(from: 19, to: answer.count - 3, by: 4).map { place in
        answer[place..<place + 4].reduce(UInt32(0)) { $0 << 8 | UInt32($1) } & 0xFFFF
      }
      codes.formUnion(words)
      guard answer.count > 19, answer[10] != 0, let last = words.max() else { break }
      next = last + 1
    }
    let text = Self.info(try server.connect(.control), 0x20).text
    let profile = try #require(try Self.member(text, "ActiveProfile") as? [String: Any])
    var listed: Set<UInt32> = []
    for range in try #require(profile["Commands"] as? String).split(separator: ",") {
      let ends = range.split(separator: "-").compactMap { UInt32($0.dropFirst(2), radix: 16) }
      listed.formUnion((ends.first ?? 1)...(ends.last ?? 0))
    }
    #expect(listed == codes)
    #expect(server.end() == 0)
  }

  /// Another one is refused, and why.
  @Test(arguments: [
    ("name=default-v1", "\"default-v1\" can't be had"),
    ("profile={\"Name\":\"custom:mine\",\"Algorithms\":\"rsa,aes\"}", "custom:mine"),
    ("profile={\"Name\":\"null\",\"Algorithms\":\"rsa,aes\"}", "can't be changed"),
    ("profile={\"Name\":null}", "no profile"),
    ("profile={}", "has no \"Name\""), ("profile={\"Name\":\"null\"", "doesn't end"), ("file=nowhere", "nowhere"),
    ("fd=0", "no profile"), ("name=null,file=x", "say one of"), ("remove-disabled=check", "say one of"),
    ("name=null,remove-disabled=all", "remove-disabled"), ("name=null,what=x", "what"),
  ]) func refused(profile: String, why: String) throws {
    let place = try Place()
    let before = try place.bytes()
    let outcome = try place.runServer(["--profile", profile])
    #expect(outcome.status == 2 && outcome.text.contains(why), "\(outcome.text)")
    #expect(try place.bytes() == before)
  }

  @Test(arguments: ["name=default-v1", "fd=0"]) func aTPM12HasNone(profile: String) throws {
    let place = try Place(["--profile", "tpm1.2"])
    let server = try TestServer(place, TestServer.startsByItself + ["--profile", profile], isTPM2: false)
    #expect(Self.info(try server.connect(.control), 0x20).text == "{}")
    #expect(server.end() == 0)
  }

  @Test func fromAFile() throws {
    let place = try Place()
    try place.write(Array(" {\"Name\": \"null\", \"StateFormatLevel\": 1}\n".utf8), "profile")
    let server = try TestServer(place, TestServer.startsByItself + ["--profile", "file=\(place.path("profile"))"])
    #expect(server.end() == 0, "\(server.log)")
  }
}
