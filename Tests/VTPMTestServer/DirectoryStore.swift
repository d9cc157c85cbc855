import CSystem
import Glibc
import Primitives
import VTPM

/// A directory with a file for each state, replaced atomically and synced. Files beside them make it fail on purpose:
/// `fail-load`, `fail-store` and `fail-delete` hold the status to fail with and `fail-store-volatilestate` too, for
/// that state only; while `pending` is there the store isn't ready, `failed` makes it fail for
/// good, and `refused` has it refuse until it is tried again without it. One process at
/// a time has it: it locks the file `.lock`.
final class DirectoryStore: TPMStateStore {
  private let path: String
  private let version: TPMVersion
  private let changes: (read: Int32, write: Int32)
  /// What it refuses with, since it was tried last.
  private var refusal: Status?
  /// Of the file whose lock it has; -1 where it hasn't.
  private var lock: Int32 = -1

  init(path: String, version: TPMVersion) {
    self.path = path
    self.version = version
    var ends: [Int32] = [-1, -1]
    guard unsafe pipe(&ends) == 0 else { fatalError("pipe") }
    for end in ends { _ = fcntl(end, F_SETFL, O_NONBLOCK) }
    changes = (ends[0], ends[1])
    watch()
    retry()
  }

  var readinessDescriptor: Int32 { changes.read }

  func acquire() throws(TPMStateError) {
    guard lock < 0 else { return }
    let descriptor = unsafe open("\(path)/.lock", O_RDWR | O_CREAT | O_CLOEXEC, 0o600)
    guard descriptor >= 0 else { throw TPMStateError(.inputOutput, "\(path): errno \(errno)") }
    guard csystem_lock_exclusive(descriptor) == 0 else {
      close(descriptor)
      throw TPMStateError(.inUse, "\(path): in use by another process")
    }
    lock = descriptor
  }

  func release() {
    if lock >= 0 { close(lock) }
    lock = -1
  }

  var readiness: TPMStateReadiness {
    if lock < 0 { return .released }
    if let status = fault("failed") { return .failed(TPMStateError(status, "\(path): failed on purpose")) }
    if let refusal { return .refused(TPMStateError(refusal, "\(path): refused on purpose")) }
    return exists("pending") ? .pending("\(path): the key \"test\" is missing") : .ready
  }

  func retry() { refusal = fault("refused") }

  func load(_ name: TPMStateName) throws(TPMStateError) -> [UInt8]? {
    guard lock >= 0 else { throw TPMStateError(.inUse, "\(path): was released") }
    if let status = fault("fail-load") { throw TPMStateError(status, "\(path): no load on purpose") }
    let descriptor = unsafe open("\(path)/\(name.rawValue)", O_RDONLY | O_CLOEXEC)
    guard descriptor >= 0 else {
      if errno == ENOENT { return nil }
      throw TPMStateError(.inputOutput, "\(path): errno \(errno)")
    }
    defer { close(descriptor) }
    var bytes = [UInt8](repeating: 0, count: name.maximumSize(version) + 1)
    let n = unsafe read(descriptor, &bytes, bytes.count)
    guard n >= 0 else { throw TPMStateError(.inputOutput, "\(path): errno \(errno)") }
    bytes.removeLast(bytes.count - n)
    return bytes
  }

  func store(_ bytes: Span<UInt8>, as name: TPMStateName) throws(TPMStateError) {
    guard lock >= 0 else { throw TPMStateError(.inUse, "\(path): was released") }
    if let status = fault("fail-store") ?? fault("fail-store-\(name.rawValue)") {
      throw TPMStateError(status, "\(path): no store on purpose")
    }
    let (temporary, final) = ("\(path)/new", "\(path)/\(name.rawValue)")
    let descriptor = unsafe open(temporary, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0o600)
    guard descriptor >= 0 else { throw TPMStateError(.inputOutput, "\(path): errno \(errno)") }
    defer { close(descriptor) }
    let n = unsafe bytes.withUnsafeBytes { unsafe write(descriptor, $0.baseAddress, $0.count) }
    guard n == bytes.count, fsync(descriptor) == 0, unsafe rename(temporary, final) == 0 else {
      throw TPMStateError(.inputOutput, "\(path): errno \(errno)")
    }
    try syncDirectory()
  }

  func delete(_ name: TPMStateName) throws(TPMStateError) {
    if let status = fault("fail-delete") { throw TPMStateError(status, "\(path): no delete on purpose") }
    guard unsafe unlink("\(path)/\(name.rawValue)") == 0 || errno == ENOENT else {
      throw TPMStateError(.inputOutput, "\(path): errno \(errno)")
    }
    try syncDirectory()
  }

  private func syncDirectory() throws(TPMStateError) {
    let directory = unsafe open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC)
    defer { close(directory) }
    guard fsync(directory) == 0 else { throw TPMStateError(.inputOutput, "\(path): errno \(errno)") }
  }

  /// Leaves a file that says so.
  func poke() { close(unsafe open("\(path)/poked", O_WRONLY | O_CREAT | O_CLOEXEC, 0o600)) }

  private func exists(_ name: String) -> Bool { unsafe access("\(path)/\(name)", F_OK) == 0 }

  private func fault(_ name: String) -> Status? {
    let descriptor = unsafe open("\(path)/\(name)", O_RDONLY | O_CLOEXEC)
    guard descriptor >= 0 else { return nil }
    defer { close(descriptor) }
    var bytes = [UInt8](repeating: 0, count: 4)
    let n = unsafe read(descriptor, &bytes, bytes.count)
    let text = String(decoding: bytes.prefix(max(0, n)), as: UTF8.self)
    return Int32(text).flatMap(Status.init(rawValue:)) ?? .failed
  }

  /// A thread that says so when `pending` or `failed` comes or goes, as a watcher of keys would.
  private func watch() {
    let (path, descriptor) = (self.path, changes.write)
    var thread = pthread_t()
    let body = unsafe Unmanaged.passRetained(Watch(path: path, descriptor: descriptor))
    let created = unsafe pthread_create(
      &thread, nil,
      { argument in
        guard let argument = unsafe argument else { return nil }
        unsafe Unmanaged<Watch>.fromOpaque(argument).takeRetainedValue().run()
        return nil
      }, body.toOpaque())
    guard created == 0 else { fatalError("pthread_create") }
  }

  private final class Watch {
    let path: String
    let descriptor: Int32
    init(path: String, descriptor: Int32) {
      self.path = path
      self.descriptor = descriptor
    }

    func run() {
      var seen = (false, false)
      while true {
        let now = (
          unsafe access("\(path)/pending", F_OK) == 0, unsafe access("\(path)/failed", F_OK) == 0
        )
        if now != seen { _ = unsafe write(descriptor, [1], 1) }
        seen = now
        usleep(5000)
      }
    }
  }
}
