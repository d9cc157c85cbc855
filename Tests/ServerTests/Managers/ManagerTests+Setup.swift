import Foundation
import TestSupport
import Testing

/// swtpm_setup of 0.10, which Debian 12 hasn't: what it asks of the server, in its order. Debian's 0.7.1 itself is in
/// `SetupTests`.
extension ManagerTests {
  /// A new TPM is made: what swtpm can, which states there are, and a server on two socket pairs that it then has make
  /// keys.
  @Test func setupOfTen() throws {
    let key = KernelKey()
    key.load()
    let host = try ManagedHost(["--keyring-key \(key.name)"])
    let state = try host.makeFolder("state")
    let capabilities = try host.expect(["swtpm", "socket", "--print-capabilities", "--tpm2"])
    let object = try #require(try JSONSerialization.jsonObject(with: Data(capabilities.utf8)) as? [String: Any])
    let profiles = try #require(object["profiles"] as? [String: Any])
    #expect(profiles["names"] as? [String] == ["null"], "\(capabilities)")
    let states = ["swtpm", "socket", "--print-states", "--tpmstate", "backend-uri=dir://\(state)", "--tpm2"]
    #expect(try host.expect(states).contains("\"states\": []"))
    // The descriptors are left open for the server, and the file for its number is there, and empty.
    let script = """
      import os, select, socket, subprocess, sys, tempfile, time
      control, theirControl = socket.socketpair()
      data, theirData = socket.socketpair()
      number, path = tempfile.mkstemp(prefix=".swtpm_setup.pidfile.", dir=".")
      server = subprocess.Popen(
        sys.argv[1:3] + ["--flags", "not-need-init,startup-clear", "--tpmstate", "backend-uri=dir://" + sys.argv[3]]
        + ["--pid", "file=" + os.path.abspath(path), "--tpm2"] + sys.argv[4:]
        + ["--log", "file=" + os.path.abspath("setup.log"), "--server", f"type=tcp,fd={theirData.fileno()}"]
        + ["--ctrl", f"type=unixio,clientfd={theirControl.fileno()}"], pass_fds=[theirData.fileno(), theirControl.fileno()])
      # Its own file is written, and none in its place; it gives up after 5 seconds.
      for _ in range(6000):
        if os.fstat(number).st_size > 0: break
        assert server.poll() is None, server.poll()
        time.sleep(0.005)
      else:
        server.kill()
        sys.exit("no process number")
      os.unlink(path)
      theirControl.close(); theirData.close()
      def ask(end, request):
        end.sendall(bytes.fromhex(request))
        return end.recv(4096)
      # GET_INFO: specification and attributes; the active profile, cut at the first colon and the last brace.
      for flags in ("03", "20"):
        answer = ask(control, "00000012" + "00000000000000" + flags + "0000000000000000")
        assert answer[:4] == bytes(4), answer
        print(answer[12:].rstrip(bytes(1)).decode())
      # TPM2_GetCapability of PCRs, TPM2_Shutdown(CLEAR).
      assert ask(data, "8001000000160000017a000000050000000000000040")[6:10] == bytes(4)
      assert ask(data, "80010000000c000001450000")[6:10] == bytes(4)
      assert ask(control, "00000003") == bytes(4)
      sys.exit(server.wait(60))
      """
    let made = try host.expect(
      ["python3", "-c", script, "swtpm", "socket", state, "--profile", "profile={\"Name\":\"null\"}"])
    #expect(made.contains("\"TPMSpecification\"") && made.contains("\"ActiveProfile\":{"), "\(made)")
    #expect(try host.expect(states).contains("\"permall\""))
    // --reconfigure, at each start of a machine of libvirt's whose definition names banks of PCRs: the state is there,
    // no profile.
    try host.expect(["python3", "-c", script, "swtpm", "socket", state])
  }
}
