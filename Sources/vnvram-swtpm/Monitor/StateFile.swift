import BlockIO
import Glibc
import Primitives
import ProgramIO
import SecureVolume
import VNVRAM
import VTPM

/// The file or block device of `--tpmstate backend-uri=file://`, which is made an image on first use where the options
/// say so.
///
/// Invariants: a new image, and with it a new TPM, is made only in what is wholly blank, or isn't there, and in which
/// no image was made for a virtual machine before: a marker on the host says so (`HostMarkers`), and is there before
/// the first byte is written. Where making it was cut short, or swtpm_setup deleted what it had just made, the marker
/// isn't used yet, and it is made anew. Headers come last, so what was cut short is never an image.
final class StateFile: StatePlace {
  private let path: String
  private let mode: mode_t
  /// `--make-on-first-use`.
  private let makes: Bool
  /// Whether no virtual machine has this TPM yet.
  private let isSetup: Bool
  /// What is to be made an image: opened, locked, and marked.
  private var prepared: (device: FileDevice, marker: HostMarker)?
  /// By another user now, perhaps, who can't see markers.
  private var wasMade = false

  init(_ path: String, mode: mode_t, makes: Bool, isSetup: Bool) {
    (self.path, self.mode, self.makes, self.isSetup) = (path, mode, makes, isSetup)
  }

  // MARK: Looking

  /// On a single file swtpm takes none.
  func lock() -> SwtpmLock? { nil }

  func isVacant() throws -> Bool {
    guard makes else { return false }
    guard let device = DeviceIdentity.of(path) else {
      try refuseBelowDev()
      guard try !HostMarkers().of(path: path).contains(where: \.isUsed) else { throw lost("is gone") }
      return true
    }
    return try isVacant(try FileDevice.openUnlocked(path: path), device)
  }

  private func isVacant(_ file: FileDevice, _ device: String) throws -> Bool {
    let beginning = try ImageBeginning(file)
    guard [.empty, .zeros, .wipedImage].contains(beginning) else { return false }
    // In a folder of another user's it may lead to any blank file of the system.
    guard !file.isLinkedFile else {
      throw TPMStateError(
        .refused,
        "\(path): is a link to a file, and no image is made in what a link leads to but a device; name the file itself")
    }
    let markers = try HostMarkers().of(path: path, device: device)
    guard !markers.contains(where: \.isUsed) else {
      if beginning == .wipedImage { throw wiped }
      throw lost("has no image any more")
    }
    if !markers.isEmpty {
      if beginning == .wipedImage { return true }
      if try VolumeFormatter.mayBeCutShort(file) { return true }
    }
    return try Self.isBlank(file)
  }

  /// It would be in memory, in the place of a device that isn't there yet.
  private func refuseBelowDev() throws {
    let folder = Path.resolved(Path.folder(of: path)) ?? Path.folder(of: path)
    guard [Path.folded(path), folder + "/"].contains(where: { $0.hasPrefix("/dev/") }) else { return }
    throw TPMStateError(
      .inputOutput,
      "\(path): isn't there, and below /dev no file is made in a device's place; activate the volume, and try again")
  }

  private static func isBlank(_ file: FileDevice) throws(BlockError) -> Bool {
    var buffer = ByteBuffer(count: 1 << 16)
    var offset: UInt64 = 0
    while offset < file.size.value {
      let count = Int(min(UInt64(buffer.count), file.size.value - offset))
      try file.read(at: ByteOffset(offset), into: buffer.mutableSpan(0..<count))
      guard buffer.span(0..<count).isZero else { return false }
      offset += UInt64(count)
    }
    return true
  }

  private func lost(_ what: String) -> TPMStateError {
    TPMStateError(
      .inputOutput,
      "\(path): \(what), and this host made one in it before, for a virtual machine; restore it from a backup, or say `vnvram "
        + "marker forget \(path)` to begin with a new TPM")
  }

  private var wiped: TPMStateError {
    TPMStateError(
      .refused,
      "\(path): swtpm_setup has wiped the beginning of this image (--overwrite does that, and so does a run that fails), and its "
        + "all else is there: `printf nilmptws | dd of=\(path) conv=notrunc` brings that TPM back; for a new one make "
        + "all of it zeros, and say `vnvram marker forget \(path)`")
  }

  // MARK: Making

  func prepare(owner: (user: uid_t, group: gid_t)?) throws {
    if DeviceIdentity.of(path) == nil { try makeFile(owner) }
    let device = try FileDevice.open(path: path, access: .readWrite)
    let identity = DeviceIdentity.of(path) ?? ""
    guard try isVacant(device, identity) else {
      throw TPMStateError(.inUse, "\(path): was written to while an image was to be made in it; try again")
    }
    prepared = (device, try HostMarkers().make(path: path, device: identity, isUsed: false))
  }

  /// An empty file.
  private func makeFile(_ owner: (user: uid_t, group: gid_t)?) throws {
    try refuseBelowDev()
    let raw = unsafe open(path, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC | O_NOCTTY, 0o600)
    guard raw >= 0 else { throw FileError(errno: errno, file: path, "making it") }
    defer { close(raw) }
    if let owner, fchown(raw, owner.user, owner.group) != 0 {
      throw FileError(errno: errno, file: path, "giving it its owner")
    }
    guard fchmod(raw, mode) == 0 else { throw FileError(errno: errno, file: path, "setting its mode") }
    try FileDevice.syncDirectory(containing: path)
  }

  func makeImage(_ first: FirstImage) throws {
    guard let (device, marker) = prepared else { preconditionFailure("an image is prepared before it is made") }
    prepared = nil
    defer { device.close() }
    try first.make(.device(device)) { _ in if !isSetup { try marker.use() } }
    wasMade = true
  }

  // MARK: What is there

  func accept(_ device: FileDevice, _ log: Log) throws {
    try check(device)
    guard !wasMade else { return }
    // Only who makes images must have a place for markers. What another start marked is used from now on in either
    // case.
    guard makes || (try? HostMarkers()) != nil else { return }
    let identity = DeviceIdentity.of(path) ?? ""
    let markers = try HostMarkers().concerning(path: path, device: identity)
    if !isSetup { for marker in markers { try marker.use() } }
    if makes, markers.isEmpty { _ = try HostMarkers().make(path: path, device: identity, isUsed: true) }
  }

  func check() throws { try check(try FileDevice.openUnlocked(path: path)) }

  private func check(_ device: FileDevice) throws {
    let beginning = try ImageBeginning(device)
    if beginning == .image { return }
    if beginning == .wipedImage { throw wiped }
    if !makes, beginning == .empty || beginning == .zeros, try Self.isBlank(device) {
      throw TPMStateError(
        .notAnImage,
        "\(path): is blank; with --make-on-first-use it is made an image, and so by `vnvram format \(path) --key NAME --profile "
          + "tpm2` (or tpm1.2)")
    }
    let isMarked = makes ? try !HostMarkers().of(path: path, device: DeviceIdentity.of(path) ?? "").isEmpty : false
    let foreign = ForeignState(
      path: path, beginning: beginning,
      marked: isMarked ? "make it all zeros and say `vnvram marker forget \(path)` to begin with a new TPM" : nil,
      importing: FileDevice.isBlockDevice(path)
        ? "dd if=\(path) of=COPY; vnvram import-swtpm COPY IMAGE --key NAME; dd if=IMAGE of=\(path)"
        : "vnvram import-swtpm \(path) \(path) --key NAME")
    if let error = foreign.error { throw error }
  }

  /// swtpm_setup deletes a file that is there, and fails where it isn't.
  func prepareForSetup(hasKey: Bool) throws {
    let isThere = DeviceIdentity.of(path) != nil
    if isThere, try ImageBeginning(try FileDevice.openUnlocked(path: path)) == .image {
      return try Self.requireReplaceable(path, hasKey: hasKey)
    }
    guard hasKey else { throw TPMStateError.noKeyForSetup(path) }
    if !isThere { try makeFile(nil) }
  }
}
