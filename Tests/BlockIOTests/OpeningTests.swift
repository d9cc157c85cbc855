import Foundation
import Primitives
import Testing

@testable import BlockIO

@Suite struct OpeningTests {
  let scratch: Scratch

  init() throws { scratch = try Scratch() }

  @Test func regularFile() throws {
    let path = scratch.file("a", holding: [UInt8](1...200))
    let device = try FileDevice.open(path: path, access: .readOnly)
    #expect(device.size == ByteCount(200))
    #expect(device.name == path)
    #expect(!device.isWritable)
    let bytes = try device.bytes(100, 100)
    #expect(bytes == [UInt8](101...200))
    #expect(code { try device.put([1], at: 0) } == .readOnly)
    #expect(code { try device.grow(to: ByteCount(4096)) } == .readOnly)
  }

  @Test func throughASymbolicLink() throws {
    let path = scratch.file("a", holding: [7])
    try FileManager.default.createSymbolicLink(atPath: scratch.file("link"), withDestinationPath: path)
    let device = try FileDevice.open(path: scratch.file("link"), access: .readWrite)
    let bytes = try device.bytes(0, 1)
    #expect(bytes == [7])
  }

  @Test(arguments: [FileDevice.Access.readOnly, .readWrite]) func missing(access: FileDevice.Access) {
    let path = scratch.file("missing")
    #expect(code { try FileDevice.open(path: path, access: access) } == .notFound)
    #expect(!FileManager.default.fileExists(atPath: path))
    #expect(code { try FileDevice.open(path: "", access: access) } == .notFound)
  }

  /// The kernel would take the path to end at the NUL.
  @Test func pathWithNUL() {
    let path = scratch.file("a", holding: [7]) + "\0b"
    #expect(code { try FileDevice.open(path: path, access: .readOnly) } == .notFound)
    #expect(code { try FileDevice.create(path: path, size: ByteCount(1), replacing: true) } == .notFound)
  }

  @Test(arguments: [FileDevice.Access.readOnly, .readWrite]) func wrongKinds(access: FileDevice.Access) throws {
    func refusal(_ path: String) -> BlockError.Code? { code { try FileDevice.open(path: path, access: access) } }
    #expect(refusal(scratch.path) == .wrongKind)
    // Opening a FIFO for reading would wait for a writer.
    try run("mkfifo", [scratch.file("fifo")])
    #expect(refusal(scratch.file("fifo")) == .wrongKind)
    #expect(refusal("/dev/zero") == .wrongKind)
    try run("python3", ["-c", "import socket, sys; socket.socket(1).bind(sys.argv[1])", scratch.file("socket")])
    #expect(refusal(scratch.file("socket")) == .wrongKind)
  }

  @Test func notPermitted() async throws {
    let path = scratch.file("a", holding: [7])
    try run("chmod", ["755", scratch.path])
    try run("chmod", ["000", path])
    await #expect(processExitsWith: .success) { [path = path as String] in
      if geteuid() == 0 { #expect(setuid(65534) == 0) }
      for access in [FileDevice.Access.readOnly, .readWrite] {
        #expect(code { try FileDevice.open(path: path, access: access) } == .permissionDenied)
      }
    }
  }

  @Test(.enabled(if: Permitted.mounting, "mount(8) is not permitted here")) func readOnlyFileSystem() throws {
    let fileSystem = try MemoryFileSystem(over: scratch.path, size: "64k")
    let path = scratch.file("a", holding: [7])
    try run("mount", ["-o", "remount,ro", fileSystem.path])
    #expect(code { try FileDevice.open(path: path, access: .readWrite) } == .readOnly)
    let new = scratch.file("b")
    #expect(code { try FileDevice.create(path: new, size: ByteCount(1), replacing: false) } == .readOnly)
    let device = try FileDevice.open(path: path, access: .readOnly)
    #expect(device.size == ByteCount(1))
    device.close()
    _ = consume fileSystem
  }

  @Test func messagesSayWhatToDo() throws {
    let path = scratch.file("a", holding: [7])
    let device = try FileDevice.open(path: path, access: .readWrite)
    do {
      _ = try FileDevice.open(path: path, access: .readWrite)
      Issue.record("opened twice")
    } catch {
      #expect(error.status == .inUse)
      #expect(error.description.hasPrefix(path + ": "))
      #expect(error.description.contains("in use by another process"))
    }
    device.close()
  }

  /// Descriptors are closed on every path, and not inherited by programs that are started.
  @Test func descriptors() async throws {
    let path = scratch.file("a", holding: [7])
    await #expect(processExitsWith: .success) { [path = path as String, directory = scratch.path as String] in
      // Those on the scratch directory alone: others come and go with the process that runs this.
      func open() throws -> [String] {
        try FileManager.default.contentsOfDirectory(atPath: "/proc/self/fd").filter { descriptor in
          let target = try? FileManager.default.destinationOfSymbolicLink(atPath: "/proc/self/fd/\(descriptor)")
          return target?.hasPrefix(directory) ?? false
        }
      }
      let before = try open().count
      for i in 0..<20 {
        let device = try FileDevice.open(path: path, access: .readWrite)
        let during = try open().count
        #expect(during == before + 1)
        _ = code { try FileDevice.open(path: path, access: .readOnly) }
        _ = code { try FileDevice.open(path: directory, access: .readOnly) }
        _ = code { try FileDevice.create(path: "\(directory)/n", size: ByteCount(UInt64.max), replacing: false) }
        _ = try FileDevice.create(path: "\(directory)/\(i)", size: ByteCount(10), replacing: false)
        if i % 2 == 0 { device.close() }
        device.close()
      }
      let after = try open().count
      #expect(after == before)

      let device = try FileDevice.open(path: path, access: .readWrite)
      let descriptor = try #require(
        try open().first { (try? FileManager.default.destinationOfSymbolicLink(atPath: "/proc/self/fd/\($0)")) == path }
      )
      let info = try String(contentsOfFile: "/proc/self/fdinfo/\(descriptor)", encoding: .utf8)
      let flags = try #require(info.split(separator: "\n").first { $0.hasPrefix("flags:") })
      let value = try #require(Int(flags.dropFirst(6).trimmingCharacters(in: .whitespaces), radix: 8))
      #expect(value & 0o2000000 != 0, "not close-on-exec")
      device.close()
      #expect(code { try device.bytes(0, 1) } == .inputOutput(errno: EBADF))
    }
  }
}
