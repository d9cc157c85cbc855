import Glibc
import Primitives

/// What this host remembers of the files and devices in which it made an image (`--make-on-first-use`): should one be
/// blank later, no new TPM is made in it. It protects this host only; another one knows nothing of it.
///
/// Each has a file of its own in one folder, named after path and device. Who may write there decides whether a new TPM
/// is made, so folder and files must be one's own or root's, and nobody else's to write.
public struct HostMarkers {
  /// The environment's word for another folder.
  public static let variable = "VNVRAM_MARKERS"

  public let folder: String

  /// `VNVRAM_MARKERS`, else `/var/lib/vnvram/made` for root, else `vnvram/made` in `$XDG_STATE_HOME` or
  /// `~/.local/state`. The environment is not asked in a set-user-ID program.
  public init() throws(HostMarkerError) {
    if let path = Self.environment(Self.variable) {
      folder = Path.absolute(path)
    } else if geteuid() == 0 {
      folder = "/var/lib/vnvram/made"
    } else if let state = Self.environment("XDG_STATE_HOME"), state.hasPrefix("/") {
      folder = state + "/vnvram/made"
    } else if let home = Self.environment("HOME"), home.hasPrefix("/") {
      folder = home + "/.local/state/vnvram/made"
    } else {
      throw HostMarkerError(
        .usage, "there is no place for markers, since HOME is not set; say one with \(Self.variable)")
    }
  }

  private static func environment(_ name: String) -> String? {
    guard getuid() == geteuid(), getgid() == getegid(), let value = unsafe getenv(name) else { return nil }
    let text = unsafe String(cString: value)
    return text.isEmpty ? nil : text
  }

  // MARK: Looking

  /// All that there are, in the order of their paths. Empty where there is no folder.
  public func all() throws(HostMarkerError) -> [HostMarker] { try found() }

  /// Those of a path, however it is spelled, whatever device it was.
  public func of(path: String) throws(HostMarkerError) -> [HostMarker] {
    let path = Path.folded(path)
    return try found(prefix: Self.digits(path) + "-").filter { $0.path == path }
  }

  /// Those of what lies at a path, used or not: the path's that may be of this device (where of either nothing is
  /// known, they are), those of any file that was there where it is a file, and this device's under other paths.
  public func concerning(path: String, device: String) throws(HostMarkerError) -> [HostMarker] {
    let own = try of(path: path).filter {
      $0.device == device || $0.device.isEmpty || device.isEmpty || Self.areFiles($0.device, device)
    }
    guard DeviceIdentity.isLasting(device) else { return own }
    let path = Path.folded(path)
    return own + (try found(ending: "-" + Self.digits(device)).filter { $0.device == device && $0.path != path })
  }

  /// Those that say what may be made there: without the unused ones of other files.
  public func of(path: String, device: String) throws(HostMarkerError) -> [HostMarker] {
    try concerning(path: path, device: device).filter {
      $0.isUsed || $0.device == device || !Self.areFiles($0.device, device)
    }
  }

  private func found(prefix: String = "", ending: String = "") throws(HostMarkerError) -> [HostMarker] {
    let names = try names().filter { $0.hasPrefix(prefix) && $0.hasSuffix(ending + Self.suffix) }
    guard !names.isEmpty else { return [] }
    try checkFolder()
    var markers: [HostMarker] = []
    for name in names { markers.append(try HostMarker("\(folder)/\(name)")) }
    return markers.sorted { ($0.path, $0.device) < ($1.path, $1.device) }
  }

  private func names() throws(HostMarkerError) -> [String] {
    guard let directory = unsafe opendir(folder) else {
      if errno == ENOENT { return [] }
      throw HostMarkerError(errno: errno, folder, "looking into it")
    }
    defer { unsafe closedir(directory) }
    var names: [String] = []
    while let entry = unsafe readdir(directory) {
      names.append(
        unsafe withUnsafePointer(to: &entry.pointee.d_name) {
          unsafe $0.withMemoryRebound(to: CChar.self, capacity: 256) { unsafe String(cString: $0) }
        })
    }
    return names
  }

  // MARK: Making

  private static let suffix = ".marker"

  /// Makes the marker of a device, or takes the one that there is. Durable on return.
  ///
  /// - Parameter isUsed: see `HostMarker`.
  public func make(path: String, device: String, isUsed: Bool) throws(HostMarkerError) -> HostMarker {
    let path = Path.folded(path)
    try makeFolder(Path.folder(of: folder))
    try makeFolder(folder)
    try checkFolder()
    // Of a file that had this path before, and that no virtual machine had, nothing is to be remembered any more.
    for old in try of(path: path)
    where !old.isUsed && old.device != device && Self.areFiles(old.device, device) {
      try old.remove()
    }
    if let marker = try of(path: path).first(where: { $0.device == device }) { return marker }
    let name = "\(folder)/\(Self.digits(path))-\(Self.digits(device))\(Self.suffix)"
    try HostMarker.write(name, path: path, device: device, isUsed: isUsed)
    return try HostMarker(name)
  }

  private static func areFiles(_ one: String, _ other: String) -> Bool {
    DeviceIdentity.isFile(one) && DeviceIdentity.isFile(other)
  }

  /// Durable on return: with a folder that power takes away its markers would go, too.
  private func makeFolder(_ folder: String) throws(HostMarkerError) {
    guard unsafe mkdir(folder, 0o700) == 0 else {
      if errno == EEXIST { return }
      throw HostMarkerError(
        errno: errno, folder, "making it, for markers,", "; say another place with \(Self.variable)")
    }
    do { try HostMarker.syncFolder(of: folder) } catch {
      throw HostMarkerError(error.status, error.description)
    }
  }

  private func checkFolder() throws(HostMarkerError) {
    do { try FolderTrust.check(folder) } catch {
      throw HostMarkerError(
        .refused,
        "\(error.path): others can say what lies in it (\(error.reason)), and with that where a new TPM is made; chown or chmod "
          + "it, or say another place with \(Self.variable)")
    }
  }

  /// FNV-1a, of 64 bits, in digits: a name for a file, whose content says what it is of.
  private static func digits(_ text: String) -> String {
    var hash: UInt64 = 0xCBF2_9CE4_8422_2325
    for byte in text.utf8 { hash = (hash ^ UInt64(byte)) &* 0x100_0000_01B3 }
    let digits = String(hash, radix: 16)
    return String(repeating: "0", count: 16 - digits.count) + digits
  }
}

/// What goes wrong with markers.
public struct HostMarkerError: StatusError {
  public let status: Status
  public let description: String

  init(_ status: Status, _ description: String) { (self.status, self.description) = (status, description) }

  init(errno: Int32, _ path: String, _ action: String, _ remedy: String = "") {
    let error = FileError(errno: errno, file: path, action)
    self.init(error.status, error.description + remedy)
  }
}
