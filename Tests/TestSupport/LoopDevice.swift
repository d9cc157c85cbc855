import Foundation

/// A block device over a file of a test's own, detached with this object.
public final class LoopDevice {
  /// Whether this machine lets tests have one; found by trying.
  public static let isPermitted: Bool = {
    let file = NSTemporaryDirectory() + "vnvram-loop-\(UUID().uuidString.prefix(8))"
    defer { try? FileManager.default.removeItem(atPath: file) }
    return (try? LoopDevice(over: file, bytes: 1 << 20)) != nil
  }()

  public let path: String

  /// - Parameter file: is made, of zeros.
  public convenience init(over file: String, bytes: Int) throws {
    try Data(count: bytes).write(to: URL(fileURLWithPath: file))
    try self.init(attaching: file)
  }

  /// - Parameters:
  ///   - file: is there. A second device over it is what another host has of a shared disk: a cache and
  ///     locks of its own.
  ///   - options: losetup's.
  public init(attaching file: String, options: [String] = []) throws {
    let folder = (file as NSString).deletingLastPathComponent
    let made = try Self.run(["losetup"] + options + ["--show", "--find", file], in: folder)
    try TestFailure.unless(made.status == 0, made.text)
    path = made.text.trimmingCharacters(in: .whitespacesAndNewlines)
  }

  deinit { _ = try? Self.run(["losetup", "--detach", path], in: NSTemporaryDirectory()) }

  private static func run(_ arguments: [String], in folder: String) throws -> Child.Outcome {
    let path = "/usr/sbin:/sbin:" + (ProcessInfo.processInfo.environment["PATH"] ?? "/usr/bin:/bin")
    return try Child(
      arguments, in: folder, merged: true, output: "\(folder)/.losetup-\(UUID().uuidString)",
      environment: ["PATH": path]
    ).outcome()
  }
}
