import Foundation
import TestSupport
import Testing

/// Something else than a socket where a Unix socket is to be.
@Suite struct ObstructedSocketTests {
  private func start(_ place: Place) throws -> Place.Outcome {
    try place.run(
      ["vnvram-swtpm", "socket", "--tpm2", "--tpmstate", "backend-uri=vnvram://\(place.image)"]
        + ["--ctrl", "type=unixio,path=there"])
  }

  /// It stays, and the message says what it is. (swtpm removes it, whatever it is.)
  @Test(arguments: [
    ("echo precious >there", "a file with content"), ("mkdir there", "a folder"),
    ("ln -s elsewhere there", "a symbolic link"),
    ("mkfifo there", "a FIFO"), (": >there; ln there log.other", "other names"),
  ]) func stays(make: String, word: String) throws {
    let place = try Place()
    #expect(try place.run(["bash", "-c", make]).status == 0)
    let before = try place.run(["stat", "-c", "%i %s %F", "there"]).text
    let outcome = try start(place)
    #expect(
      outcome.status == 15 && outcome.text.contains("there: is") && outcome.text.contains(word), "\(outcome.text)")
    #expect(try place.run(["stat", "-c", "%i %s %F", "there"]).text == before)
  }

  /// A script's mktemp(1) leaves an empty file: its name is what is wanted.
  @Test func anEmptyFile() throws {
    let place = try Place()
    let script = """
      name=$(mktemp log.XXXXXX) && "$@" --ctrl type=unixio,path=$name --daemon && [ -S $name ] &&
      swtpm_ioctl --unix $name -s
      """
    let outcome = try place.run(
      [
        "bash", "-c", script, "bash", "vnvram-swtpm", "socket", "--tpm2", "--tpmstate",
        "backend-uri=vnvram://\(place.image)",
      ])
    #expect(outcome.status == 0, "\(outcome.text)")
  }

  /// A dead server's socket is replaced; one that is listened on isn't.
  @Test func sockets() throws {
    let place = try Place()
    let script = """
      import os, socket
      one = socket.socket(socket.AF_UNIX); one.bind("there")
      """
    #expect(try place.run(["python3", "-c", script]).status == 0)
    let server = try place.start(
      ["vnvram-swtpm", "socket", "--tpm2", "--tpmstate", "backend-uri=vnvram://\(place.image)"]
        + ["--ctrl", "type=unixio,path=there"])
    while server.isRunning, (try? Socket(path: place.path("there"))) == nil { usleep(2000) }
    #expect(server.isRunning, "\(server.text)")
    let other = try Place()
    let second = try other.run(
      ["vnvram-swtpm", "socket", "--tpm2", "--tpmstate", "backend-uri=vnvram://\(other.image)"]
        + ["--ctrl", "type=unixio,path=\(place.path("there"))"])
    #expect(second.status == 9 && second.text.contains("in use"), "\(second.text)")
    server.signal(SIGTERM)
    #expect(server.wait() == 0)
  }
}
