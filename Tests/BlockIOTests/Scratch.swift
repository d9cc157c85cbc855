import Foundation
import Primitives
import Testing

@testable import BlockIO

/// A directory for one test, removed with this object.
final class Scratch: Sendable {
  let path: String

  init() throws {
    let url = FileManager.default.temporaryDirectory.appendingPathComponent("blockio-\(UUID().uuidString)")
    try FileManager.default.createDirectory(at: url, withIntermediateDirectories: true)
    path = url.path
  }

  deinit { try? FileManager.default.removeItem(atPath: path) }

  func file(_ name: String) -> String { path + "/" + name }

  func file(_ name: String, holding bytes: [UInt8]) -> String {
    _ = FileManager.default.createFile(atPath: file(name), contents: Data(bytes))
    return file(name)
  }
}

/// Runs a program and returns its standard output, without the last newline.
@discardableResult
func run(_ program: String, _ arguments: [String]) throws -> String {
  let process = Process()
  process.executableURL = URL(fileURLWithPath: "/usr/bin/env")
  process.arguments = [program] + arguments
  let (output, complaint) = (Pipe(), Pipe())
  process.standardOutput = output
  process.standardError = complaint
  try process.run()
  let text = String(decoding: output.fileHandleForReading.readDataToEndOfFile(), as: UTF8.self)
  let words = String(decoding: complaint.fileHandleForReading.readDataToEndOfFile(), as: UTF8.self)
  process.waitUntilExit()
  guard process.terminationStatus == 0 else { throw ProgramFailure(program: program, complaint: words) }
  return text.trimmingCharacters(in: .newlines)
}

struct ProgramFailure: Error {
  let program: String
  let complaint: String
}

/// A small file system in memory over a directory, unmounted with this object.
final class MemoryFileSystem {
  let path: String

  init(over path: String, size: String) throws {
    try run("mount", ["-t", "tmpfs", "-o", "size=\(size)", "none", path])
    self.path = path
  }

  deinit { _ = try? run("umount", [path]) }
}

/// A loop device over a file, given back with this object.
final class LoopDevice {
  let path: String

  init(over backing: String, options: [String] = []) throws {
    path = try run("losetup", options + ["--find", "--show", backing])
  }

  /// Over a new file of `size` bytes.
  convenience init(backing: String, size: Int, options: [String] = []) throws {
    _ = FileManager.default.createFile(atPath: backing, contents: Data(count: size))
    try self.init(over: backing, options: options)
  }

  /// The same, without space for it.
  convenience init(sparse backing: String, size: Int, options: [String] = []) throws {
    try run("truncate", ["-s", "\(size)", backing])
    try self.init(over: backing, options: options)
  }

  deinit { _ = try? run("losetup", ["--detach", path]) }
}

/// What this machine permits, found by trying; tests that need it are skipped otherwise, with the reason.
enum Permitted {
  static let mounting: Bool = {
    guard let scratch = try? Scratch() else { return false }
    return (try? MemoryFileSystem(over: scratch.path, size: "64k")) != nil
  }()

  static let loopDevices: Bool = {
    guard let scratch = try? Scratch() else { return false }
    return (try? LoopDevice(backing: scratch.file("probe"), size: 65536)) != nil
  }()
}

/// The code of the error that `body` throws, or `nil`.
func code<T>(_ body: () throws -> T) -> BlockError.Code? {
  do {
    _ = try body()
    return nil
  } catch {
    guard let error = error as? BlockError else {
      Issue.record(error)
      return nil
    }
    return error.code
  }
}

/// Where two long arrays begin to differ, or `nil`: a failed test says that instead of printing both.
func difference(_ a: [UInt8], _ b: [UInt8]) -> Int? {
  if a == b { return nil }
  return zip(a, b).enumerated().first { $0.element.0 != $0.element.1 }?.offset ?? min(a.count, b.count)
}

extension BlockDevice {
  func bytes(_ offset: UInt64, _ count: Int) throws(BlockError) -> [UInt8] {
    var bytes = [UInt8](repeating: 0xAA, count: count)
    try read(at: ByteOffset(offset), into: bytes.mutableSpan)
    return bytes
  }

  func put(_ bytes: [UInt8], at offset: UInt64) throws(BlockError) {
    try write(bytes.span, at: ByteOffset(offset))
  }
}
