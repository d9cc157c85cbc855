import Glibc
import Primitives

/// One of `HostMarkers`: an image was made in this file or device.
///
/// As long as it isn't used, nobody but swtpm_setup had that TPM, or making the image was cut short: then it may be
/// made anew. From the first start for a virtual machine on it never is.
///
///     vnvram marker 1
///     used yes
///     path /dev/pve/vm-100-disk-1
///     device dm LVM-…
public final class HostMarker {
  public let path: String
  /// What `DeviceIdentity` said.
  public let device: String
  public private(set) var isUsed: Bool
  /// The marker's own path.
  public let name: String
  private let descriptor: Int32

  private static let title = "vnvram marker 1"
  private static let limit = 16 << 10
  private static func used(_ isUsed: Bool) -> String { isUsed ? "used yes" : "used no " }

  /// Reads one. Throws for one that isn't to be trusted, or isn't one.
  init(_ name: String) throws(HostMarkerError) {
    // For writing, where that is permitted: who is another user later changes it all the same.
    var raw = unsafe open(name, O_RDWR | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK)
    if raw < 0, errno == EACCES || errno == EROFS || errno == EPERM {
      raw = unsafe open(name, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK)
    }
    guard raw >= 0 else { throw HostMarkerError(errno: errno, name, "opening this marker") }
    let fields: [String]
    do { fields = try Self.fields(raw, name) } catch {
      close(raw)
      throw error
    }
    (self.name, descriptor) = (name, raw)
    (isUsed, path, device) = (
      fields[1] == Self.used(true), String(fields[2].dropFirst(5)), String(fields[3].dropFirst(7))
    )
  }

  deinit { close(descriptor) }

  private static func fields(_ raw: Int32, _ name: String) throws(HostMarkerError) -> [String] {
    var status = stat()
    guard unsafe fstat(raw, &status) == 0 else { throw HostMarkerError(errno: errno, name, "looking at it") }
    do { try FileDistrust.check(file: status) } catch {
      throw HostMarkerError(
        .refused,
        "\(name): others can change this marker (\(error)), and with that where a new TPM is made; look into it")
    }
    var bytes = [UInt8](repeating: 0, count: limit)
    let count: Int
    do { count = try InputFile(descriptor: raw, name: name).read(into: bytes.mutableSpan) } catch {
      throw HostMarkerError(error.status, error.description)
    }
    let lines = bytes[..<count].split(separator: 0x0A, omittingEmptySubsequences: false)
      .map { String(decoding: $0, as: UTF8.self) }
    guard lines.count >= 5, lines[0] == title, [used(true), used(false)].contains(lines[1]),
      lines[2].hasPrefix("path "),
      lines[3].hasPrefix("device ")
    else {
      throw HostMarkerError(
        .refused,
        "\(name): is no marker of vnvram's, or a damaged one, so whether a TPM was made here isn't known; remove it if "
          + "none was")
    }
    return lines
  }

  /// A new one; durable on return.
  static func write(_ name: String, path: String, device: String, isUsed: Bool) throws(HostMarkerError) {
    // A line would end in the middle of it.
    guard !path.utf8.contains(0x0A) else {
      throw HostMarkerError(.usage, "\(path): a path with a line break can't have a marker; name another")
    }
    let text = "\(title)\n\(used(isUsed))\npath \(path)\ndevice \(device)\n"
    let temporary = "\(name).\(getpid()).tmp"
    // Left by a process of this number that was killed.
    _ = unsafe unlink(temporary)
    let raw = unsafe open(temporary, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0o600)
    guard raw >= 0 else { throw HostMarkerError(errno: errno, temporary, "making this marker") }
    defer { close(raw) }
    do throws(FileError) {
      try OutputFile(descriptor: raw, name: temporary).write(text)
      guard fsync(raw) == 0 else { throw FileError(errno: errno, file: temporary, "syncing it") }
      guard unsafe rename(temporary, name) == 0 else { throw FileError(errno: errno, file: temporary, "renaming it") }
      try syncFolder(of: name)
    } catch {
      _ = unsafe unlink(temporary)
      throw HostMarkerError(error.status, error.description)
    }
  }

  static func syncFolder(of name: String) throws(FileError) {
    let folder = Path.folder(of: name)
    let raw = unsafe open(folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC)
    guard raw >= 0 else { throw FileError(errno: errno, file: folder, "opening it") }
    defer { close(raw) }
    guard fsync(raw) == 0 || errno == EINVAL else { throw FileError(errno: errno, file: folder, "syncing it") }
  }

  /// A virtual machine has that TPM from now on. Durable on return.
  public func use() throws(HostMarkerError) {
    guard !isUsed else { return }
    let text = Array(Self.used(true).utf8)
    let offset = off_t(Self.title.utf8.count + 1)
    guard unsafe pwrite(descriptor, text, text.count, offset) == text.count, fsync(descriptor) == 0 else {
      throw HostMarkerError(errno: errno, name, "writing this marker")
    }
    isUsed = true
  }

  /// Durable on return.
  public func remove() throws(HostMarkerError) {
    guard unsafe unlink(name) == 0 || errno == ENOENT else {
      throw HostMarkerError(errno: errno, name, "removing this marker")
    }
    do { try Self.syncFolder(of: name) } catch { throw HostMarkerError(error.status, error.description) }
  }
}
