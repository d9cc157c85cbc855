import Audit
import BlobStore
import BlockIO
import Glibc
import Primitives
import ProgramIO
import SecureVolume
import VNVRAM
import VTPM

/// `--print-states`: which states there are, and how large they are. swtpm_setup asks so whether it has to make a TPM.
///
/// A state that exists is never taken for none: only where there is no image, or where a key opens it and the state is
/// empty, is it left out. Where an image was made and is gone, or what lies in its place is none, swtpm's own state
/// among it, that is an error, as it is for a server. An image that can't be opened (its key is missing, a server has
/// it, it is damaged) has a permanent state of the image's own size, which is all that can be known; a line of the log
/// says why.
///
/// Where there is none swtpm_setup deletes whatever is there and starts a server, which has to make an image: so it
/// must have a key for that. Nothing is written but the record of the key's use, and where swtpm_setup needs a file to
/// delete, that file.
struct PrintedStates {
  private typealias State = (name: TPMStateName, size: UInt64)

  private let options: CommandLineOptions
  private let log: Log
  private let version: TPMVersion

  init(_ options: CommandLineOptions, _ log: Log) {
    self.options = options
    self.log = log
    version = options.server.version
  }

  /// Order and spaces are swtpm's, which callers search for strings.
  func json() throws -> String {
    let list = try states().map { "{\"name\": \"\($0.name.rawValue)\", \"size\": \($0.size)}" }
    return "{ \"type\": \"swtpm\", \"states\": [\(list.isEmpty ? "" : " " + list.joined(separator: ", ") + " ")] }"
  }

  private func states() throws -> [State] {
    let image = options.image
    let states: [State]
    if try options.place?.isVacant() ?? false {
      states = []
    } else if let size = try Self.size(image) {
      try options.place?.check()
      do { states = try contents(image) } catch {
        log.line("a state is there, and how large it is isn't known: \(error)")
        return [(.permall, size)]
      }
    } else {
      return []
    }
    if states.isEmpty { try options.place?.prepareForSetup(hasKey: options.key != nil || options.keyringKey != nil) }
    return states
  }

  /// Bytes; nil where there is nothing of that name in a folder that is there.
  private static func size(_ path: String) throws -> UInt64? {
    var status = stat()
    if unsafe lstat(path, &status) == 0 { return UInt64(max(0, status.st_size)) }
    guard errno == ENOENT else { throw FileError(errno: errno, file: path, "looking for it") }
    let folder = Path.folder(of: path)
    guard unsafe stat(folder, &status) == 0 else { throw FileError(errno: errno, file: folder, "looking into it") }
    return nil
  }

  /// What is in it. Throws where no key opens it.
  private func contents(_ image: String) throws -> [State] {
    let device = try FileDevice.open(path: image, access: .readOnly)
    defer { device.close() }
    let audit = AuditLog(try options.auditDestination(log), subcommand: "socket \(OptionName.printStates.rawValue)")
    let store = try BlobStore(
      try unlock(try SealedVolume(device), Unlocker(audit: audit, asksForKeys: options.asksForKeys)))
    var states: [State] = []
    for name in version.states {
      guard let entry = store.entry(NVRAMStateStore.entry(name)) else {
        throw TPMStateError(.notFound, "\(image): has no entry \(name.rawValue)")
      }
      if entry.size.value > 0 { states.append((name, entry.size.value)) }
    }
    return states
  }

  private func unlock(_ sealed: SealedVolume, _ unlocker: Unlocker) throws -> SecureVolume {
    // Who only asks doesn't have the key's file removed.
    var options = options
    options.key?.removesFile = false
    let keys = try StateKeys(options)
    guard let given = keys.given else { return try unlocker.unlock(sealed, only: keys.onlyKey) }
    var volume: SecureVolume?
    _ = try given.use { (key) throws(NVRAMError) in volume = try unlocker.unlock(sealed, with: key) }
    guard let volume else { preconditionFailure("the key is there until it is wiped") }
    return volume
  }
}
