import Foundation

/// The project's rule of request-key.conf(5), for the keys of one test alone: those whose names begin with a prefix
/// that nobody else has. They come from a folder of the test's own.
///
/// It lies in the system's /etc until this object is gone: the kernel runs /sbin/request-key outside of all namespaces,
/// and that looks nowhere else.
public final class RequestKeyRule: Sendable {
  public static let unavailable =
    "the kernel doesn't ask this system's /etc/request-key.d for keys, or that isn't writable"

  /// Whether the kernel heeds a rule that is put there. (In a container it is the host's that counts.)
  public static let isAvailable: Bool = {
    guard geteuid() == 0, File.exists("/sbin/request-key") else { return false }
    let prefix = "probe-\(UUID().uuidString)"
    guard let rule = try? RequestKeyRule(prefix, command: "|/bin/echo there") else { return false }
    defer { rule.remove() }
    let child = try? Child(
      ["keyctl", "session", "-", "keyctl", "request2", "user", "vnvram:\(prefix)", "probe", "@s"],
      in: NSTemporaryDirectory())
    return (try? child?.outcome().status) == 0
  }()

  public static let sources = URL(fileURLWithPath: #filePath).deletingLastPathComponent().path + "/../../Keys"
  public static let provider = "\(sources)/providers/vnvram-key-from-file"

  private let path: String

  /// With the provider that the rule names, and `keys` in place of its folder.
  ///
  /// - Parameter program: what to run in the provider's place, with its arguments.
  public convenience init(_ prefix: String, keys: String, program: String? = nil) throws {
    let text = try String(contentsOfFile: "\(Self.sources)/request-key.d/vnvram.conf", encoding: .utf8)
    let line = text.split(separator: "\n").last ?? ""
    let fields = line.split(separator: "\t", maxSplits: 4).map(String.init)
    try TestFailure.unless(fields.prefix(4) == ["create", "user", "vnvram:*", "*"], "\(line)")
    let command = fields[4].replacingOccurrences(
      of: "@LIBEXECDIR@/vnvram-key-from-file", with: program ?? "\(Self.provider) --keys \(keys)")
    try TestFailure.unless(command != fields[4], "\(line)")
    try self.init(prefix, command: command)
  }

  private init(_ prefix: String, command: String) throws {
    path = "/etc/request-key.d/vnvram-test-\(prefix).conf"
    try Data("create\tuser\tvnvram:\(prefix)*\t*\t\(command)\n".utf8).write(to: URL(fileURLWithPath: path))
  }

  deinit { remove() }

  public func remove() { try? FileManager.default.removeItem(atPath: path) }

  /// Puts a key where the provider finds it.
  public static func put(_ bytes: [UInt8], _ name: String, of user: String, in keys: String) throws {
    let folder = "\(keys)/\(user)"
    try FileManager.default.createDirectory(
      atPath: folder, withIntermediateDirectories: true, attributes: [.posixPermissions: 0o700])
    try TestFailure.unless(
      FileManager.default.createFile(
        atPath: "\(folder)/\(name).key", contents: Data(bytes), attributes: [.posixPermissions: 0o600]), folder)
  }
}
