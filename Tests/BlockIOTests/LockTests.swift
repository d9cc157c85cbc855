import Foundation
import Primitives
import Testing

@testable import BlockIO

/// Another process that locks a file as any program could, without our code.
private final class Locker {
  private static let script = """
    import fcntl, struct, sys
    how, path = sys.argv[1:]
    kind = fcntl.F_WRLCK if how == "exclusive" else fcntl.F_RDLCK
    f = open(path, "r+b" if how == "exclusive" else "rb")
    try:
        fcntl.fcntl(f, fcntl.F_OFD_SETLK, struct.pack("hhqqi4x", kind, 0, 0, 0, 0))
        print("locked", flush=True)
    except BlockingIOError:
        print("in use", flush=True)
    sys.stdin.read()
    """
  private let process = Process()
  private let input = Pipe()
  let answer: String

  init(_ how: String, _ path: String) throws {
    let output = Pipe()
    process.executableURL = URL(fileURLWithPath: "/usr/bin/env")
    process.arguments = ["python3", "-c", Self.script, how, path]
    process.standardInput = input
    process.standardOutput = output
    try process.run()
    answer = String(decoding: output.fileHandleForReading.availableData, as: UTF8.self)
      .trimmingCharacters(in: .newlines)
  }

  func end() {
    input.fileHandleForWriting.closeFile()
    process.waitUntilExit()
  }
}

@Suite struct LockTests {
  let scratch: Scratch

  init() throws { scratch = try Scratch() }

  private func openingFails(_ path: String, _ access: FileDevice.Access) -> Bool {
    code { try FileDevice.open(path: path, access: access) } == .inUse
  }

  @Test func oneWriterOrManyReaders() throws {
    let path = scratch.file("a", holding: [7])
    let first = try FileDevice.open(path: path, access: .readOnly)
    let second = try FileDevice.open(path: path, access: .readOnly)
    #expect(openingFails(path, .readWrite))
    first.close()
    #expect(openingFails(path, .readWrite))
    second.close()
    let writer = try FileDevice.open(path: path, access: .readWrite)
    #expect(openingFails(path, .readOnly))
    #expect(openingFails(path, .readWrite))
    #expect(code { try FileDevice.create(path: path, size: ByteCount(0), replacing: true) } == .inUse)
    let untouched = try writer.bytes(0, 1)
    #expect(untouched == [7])
    writer.close()
    #expect(!openingFails(path, .readOnly))
  }

  @Test func letGoWithTheObject() throws {
    let path = scratch.file("a", holding: [7])
    do { _ = try FileDevice.open(path: path, access: .readWrite) }
    #expect(!openingFails(path, .readWrite))
  }

  /// What was made is locked from the start.
  @Test func created() throws {
    let path = scratch.file("a")
    let device = try FileDevice.create(path: path, size: ByteCount(4096), replacing: false)
    #expect(openingFails(path, .readOnly))
    device.close()
    #expect(!openingFails(path, .readOnly))
  }

  @Test func anotherProcessHasIt() throws {
    let path = scratch.file("a", holding: [7])
    let writer = try Locker("exclusive", path)
    #expect(writer.answer == "locked")
    #expect(openingFails(path, .readOnly))
    #expect(openingFails(path, .readWrite))
    writer.end()
    let reader = try Locker("shared", path)
    #expect(reader.answer == "locked")
    #expect(!openingFails(path, .readOnly))
    #expect(openingFails(path, .readWrite))
    reader.end()
    #expect(!openingFails(path, .readWrite))
  }

  @Test func anotherProcessWantsIt() throws {
    let path = scratch.file("a", holding: [7])
    func answer(_ how: String) throws -> String {
      let locker = try Locker(how, path)
      locker.end()
      return locker.answer
    }
    let writer = try FileDevice.open(path: path, access: .readWrite)
    #expect(try answer("exclusive") == "in use")
    #expect(try answer("shared") == "in use")
    writer.close()
    let reader = try FileDevice.open(path: path, access: .readOnly)
    #expect(try answer("exclusive") == "in use")
    #expect(try answer("shared") == "locked")
    reader.close()
    #expect(try answer("exclusive") == "locked")
  }
}
