import BlockIO
import Glibc
import Primitives
import SecureVolume

/// A file on the host that remembers how far a store had come (FORMAT §12).
///
/// Two places for a record, far enough apart that no power cut spoils both; a new record goes where the older one is.
/// The file has its size from the beginning and is written in place: advancing it allocates nothing, needs no right in
/// its directory, and costs one write and one sync. It is locked against other processes for as long as it is open, so
/// that two copies of an image are never in use with one anchor.
///
/// It protects against whoever can change the image and not this file. See `TPMCounterAnchor` for where that is one and
/// the same.
public final class FileAnchor: FreshnessAnchor {
  /// Bytes of an anchor file.
  public static let size = ByteCount(2 * placeSize)
  /// From one record's place to the next: the largest unit of a power cut (FORMAT §1).
  private static let placeSize = 65536

  /// What was asked for: a file, or a directory that has one for each store.
  private let path: String?
  private var device: (any BlockDevice)?
  /// The places as they were recalled.
  private var recalled: [[UInt8]] = []
  /// The place of the newest authentic record, which no other one is to overwrite.
  private var current: Int?
  public private(set) var name: String
  /// With a counter, `TPMCounterAnchor` believes its records; without, they are not to be believed alone.
  private let goesWithCounter: Bool
  /// `establish` made the file, and it wasn't released since.
  private var isMadeHere = false

  /// - Parameter path: the file; or a directory, and then the file is `UUID.anchor` in it.
  public convenience init(path: String) { self.init(path: path, goesWithCounter: false) }

  init(path: String, goesWithCounter: Bool) {
    self.path = path
    name = path
    self.goesWithCounter = goesWithCounter
  }

  /// An anchor on a device of its own, at least `size` bytes large.
  public init(_ device: any BlockDevice) {
    path = nil
    name = device.name
    self.device = device
    goesWithCounter = false
  }

  // MARK: FreshnessAnchor

  public func prepare(for store: StoreUUID, forWriting: Bool) { _ = try? open(store, forWriting: forWriting) }

  public func recall(_ store: StoreUUID, forWriting: Bool) throws(AnchorError) -> AnchorMemory {
    let device = try open(store, forWriting: forWriting)
    current = nil
    guard device.size >= Self.size else {
      throw AnchorError(
        .notAuthentic, anchor: name,
        "has \(device.size), and an anchor has \(Self.size): it is cut short, or no anchor; restore it, or accept the image "
          + "as it is with `vnvram accept-rollback`")
    }
    do throws(BlockError) { recalled = [try read(device, 0), try read(device, 1)] } catch {
      throw AnchorError(error, anchor: name)
    }
    return .records(recalled)
  }

  private func read(_ device: any BlockDevice, _ index: Int) throws(BlockError) -> [UInt8] {
    var record = ByteBuffer(count: AnchorRecord.size)
    try device.read(at: ByteOffset(index * Self.placeSize), into: record.mutableSpan)
    return record.span.array
  }

  public func adopt(_ record: AnchorRecord, at index: Int, forWriting: Bool) throws(AnchorError) {
    guard goesWithCounter || record.counter == 0 else {
      throw AnchorError(
        .refused, anchor: name, "goes with a TPM's counter, which is not to be left out; name both: tpm:INDEX,\(name)")
    }
    current = index
  }

  public func establish(for store: StoreUUID, keeping index: Int?, replacing: Bool) throws(AnchorError) {
    do throws(AnchorError) {
      let device = try open(store, forWriting: true)
      if replacing {
        try requireOwn(device, store)
      } else if try !isBlank(device) {
        throw taken
      }
      if let file = device as? FileDevice { try grow(file) }
    } catch {
      guard error.code == .missing else { throw error }
      do { device = try FileDevice.create(path: place(store), size: Self.size, replacing: false) } catch {
        throw AnchorError(error, anchor: name)
      }
      isMadeHere = true
    }
    current = index ?? newestOf(store)
  }

  /// The place of the newest of this store's records, though none of them can be told to be authentic: the other one is
  /// written over first. (After `vnvram convert` none verifies any more.)
  private func newestOf(_ store: StoreUUID) -> Int? {
    guard let device else { return nil }
    let records = (0..<2).map { (try? read(device, $0)).flatMap { AnchorRecord(parsing: $0.span) } }
    return (0..<2).filter { records[$0]?.uuid == store }.max {
      (records[$0]?.sequence ?? 0) < (records[$1]?.sequence ?? 0)
    }
  }

  public func mayEstablish(for store: StoreUUID) throws(AnchorError) {
    do throws(AnchorError) { try requireOwn(try open(store, forWriting: true), store) } catch {
      guard error.code == .missing else { throw error }
    }
  }

  /// Only a blank file, or one that can be told to be this store's, is written over: whatever else lies there may be
  /// another store's anchor, an image, a key.
  private func requireOwn(_ device: any BlockDevice, _ store: StoreUUID) throws(AnchorError) {
    if try isBlank(device) { return }
    guard device.size == Self.size || path == nil && device.size > Self.size else { throw taken }
    do throws(BlockError) {
      for index in 0..<2 {
        let record = try read(device, index)
        if AnchorRecord(parsing: record.span)?.uuid == store { return }
      }
    } catch { throw AnchorError(error, anchor: name) }
    throw taken
  }

  private var taken: AnchorError {
    AnchorError(
      .exists, anchor: name,
      "exists, and can't be told to be an anchor of this store, so it isn't written over; name another file, or move it out "
        + "of the way; remove it if there is no image of its store, since making one was cut short")
  }

  private func isBlank(_ device: any BlockDevice) throws(AnchorError) -> Bool {
    guard device.size >= Self.size else { return device.size == .zero }
    do throws(BlockError) {
      let places = [try read(device, 0), try read(device, 1)]
      return places.allSatisfy { $0.allSatisfy { $0 == 0 } }
    } catch { throw AnchorError(error, anchor: name) }
  }

  private func grow(_ file: FileDevice) throws(AnchorError) {
    do { try file.grow(to: Self.size) } catch { throw AnchorError(error, anchor: name) }
  }

  public func store(_ sealed: borrowing ByteBuffer, _ moment: AnchorMoment) throws(AnchorError) {
    // After a failure the same place again: only the other one is known to be whole.
    try write(sealed.span, at: current == 0 ? 1 : 0)
  }

  public func confirm() throws(AnchorError) {
    guard let current else { throw AnchorError(.refused, anchor: name, "has no record that was adopted") }
    let record = recalled[current]
    try write(record.span, at: current)
  }

  /// Writes a record into a place, which is the newest one's from then on; durable on return.
  private func write(_ record: Span<UInt8>, at index: Int) throws(AnchorError) {
    precondition(record.count == AnchorRecord.size)
    guard let device else { throw AnchorError(.refused, anchor: name, "is not open") }
    guard hasItsName(device) else {
      throw AnchorError(
        .missing, anchor: name,
        "was removed or replaced while it was in use; put it back as it was, or accept the image with "
          + "`vnvram accept-rollback` once it is closed")
    }
    do throws(BlockError) {
      try device.write(record, at: ByteOffset(index * Self.placeSize))
      try device.sync()
    } catch { throw AnchorError(error, anchor: name) }
    current = index
  }

  public func withdraw() {
    if isMadeHere, let device, hasItsName(device) { _ = unsafe unlink(device.name) }
    release()
  }

  public func release() {
    guard path != nil else { return }
    isMadeHere = false
    device?.close()
    device = nil
    current = nil
  }

  // MARK: The file

  private func open(_ store: StoreUUID, forWriting: Bool) throws(AnchorError) -> any BlockDevice {
    let place = place(store)
    if let device, device.name == place || path == nil {
      if !forWriting || device.isWritable { return device }
      device.close()
      self.device = nil
    }
    name = place
    try checkOwner(place)
    do {
      let opened = try FileDevice.open(path: place, access: forWriting ? .readWrite : .readOnly)
      device = opened
      return opened
    } catch { throw error.code == .notFound ? missing : AnchorError(error, anchor: place) }
  }

  /// Whether the file that is open is still the one of that name: what is written to another is lost.
  private func hasItsName(_ device: any BlockDevice) -> Bool {
    guard let file = device as? FileDevice else { return true }
    return file.hasItsName
  }

  private func place(_ store: StoreUUID) -> String {
    guard let path else { return name }
    var status = stat()
    let isDirectory = unsafe stat(path, &status) == 0 && status.st_mode & S_IFMT == S_IFDIR
    guard isDirectory || path.hasSuffix("/") else { return path }
    return (path.hasSuffix("/") ? path : path + "/") + "\(store).anchor"
  }

  private var missing: AnchorError {
    AnchorError(
      .missing, anchor: name,
      "is missing, and without it nobody can tell whether the image is the newest; restore the anchor, or accept the image "
        + "as it is with `vnvram accept-rollback`")
  }

  /// What others may change remembers nothing. Images may lie behind symbolic links; there is no reason for an anchor
  /// to.
  private func checkOwner(_ place: String) throws(AnchorError) {
    var status = stat()
    guard unsafe lstat(place, &status) == 0 else {
      guard errno == ENOENT || errno == ENOTDIR else {
        throw AnchorError(BlockError(errno: errno, device: place, "looking at it"), anchor: place)
      }
      throw missing
    }
    do { try FileDistrust.check(file: status) } catch {
      let reason =
        switch error {
        case .symbolicLink, .noRegularFile: "is no regular file; name the file itself"
        case .foreignOwner(let user): "belongs to user \(user), who could set it back; change its owner"
        case .writableByOthers: "may be written by others than its owner; take that away (chmod 600)"
        }
      throw AnchorError(.refused, anchor: place, reason)
    }
  }
}

extension AnchorError {
  init(_ error: BlockError, anchor: String) {
    self.init(.device(error.status), anchor: anchor, error.detail)
  }
}
