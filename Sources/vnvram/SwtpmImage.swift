import Anchors
import Audit
import BlobStore
import BlockIO
import Glibc
import Keyring
import Primitives
import ProgramIO
import SecureVolume
import SwtpmFormat

/// The image that a TPM's state comes into.
struct SwtpmImage {
  struct Result {
    let uuid: String
    let wasMade: Bool
    let warnings: [String]
  }

  private let image: String
  private let version: SwtpmVersion
  private let states: [SwtpmState]
  private let json: Bool

  init(_ image: String, version: SwtpmVersion, states: [SwtpmState], json: Bool) {
    (self.image, self.version, self.states, self.json) = (image, version, states, json)
  }

  // MARK: A new one

  /// Makes it under no name; it gets its name when all of it is there and was read back.
  ///
  /// - Parameter source: where the states came from: its owner's it is to be, where this is root, and its place it may take.
  func make(
    key name: KeyName, recovery: consuming NewRecoveryKey?, from source: SwtpmSource, anchor: AnchorOptions,
    audit: AuditLog,
    detail: String
  ) throws -> Result {
    let anchor = try anchor.make()
    if let anchor, anchor is ExpectedGeneration {
      throw Failure(.usage, "\(image): a new image has generation 0; --anchor \(anchor.name) is for opening it")
    }
    let key = try NewKey.kernel(name, for: image, audit: audit)
    var layoutOptions = EntryOptions()
    layoutOptions.profile = version.profile
    layoutOptions.entry = []
    let layout = try layoutOptions.layout()
    guard let geometry = Geometry(holding: layout.size, blockSize: FileDevice.blockSize(ofNewFileAt: image)) else {
      throw Failure(.noSpace, "\(image): a TPM's state doesn't fit into an image")
    }
    let new = try NewFile(at: image, size: geometry.imageSize)
    if geteuid() == 0 {
      var mine = source.owner
      mine.st_mode = 0o600
      try new.inherit(from: mine)
    }
    let recovery = recovery
    switch recovery {
    case .some(let recovery):
      try audit.record(
        AuditRecord(
          .exported, store: image, key: SlotKind.recovery.label, kind: SlotKind.recovery.label, access: .write))
      try recovery.write()
    case .none: break
    }
    try audit.record(
      AuditRecord(.formatted, store: image, key: name.text, kind: SlotKind.keyring.label, access: .write))
    var progress = ProgressLine("formatting", total: geometry.volumeSize.value, json: json)
    var isUnmade = true
    defer {
      // Without its image an anchor would only be in the next one's way.
      let isThere = source.isInPlace ? new.device.hasName(image) : (try? NewFile.isTaken(image)) != false
      if isUnmade, !isThere { anchor?.withdraw() }
    }
    let uuid = try VolumeFormatter.format(
      new.device, geometry: geometry, key: key, name: name.text, created: WallClock.seconds,
      content: { sector, plaintext in
        layout.fillPlaintext(sector, sectorSize: geometry.blockSize, into: plaintext)
      }, progress: { progress.update($0 * UInt64(geometry.blockSize)) }, anchor: anchor)
    let volume = try SealedVolume(new.device).unlock(with: key, anchor: anchor)
    let store = try BlobStore(volume)
    try put(into: store)
    try audit.record(AuditRecord(.imported, store: image, uuid: uuid, access: .write, detail: detail))
    switch recovery {
    case .some(let recovery):
      try volume.addSlot(recovery.key(), name: SlotKind.recovery.label, created: WallClock.seconds)
    case .none: break
    }
    try volume.close()
    try check(new, key)
    if source.isInPlace {
      try source.makeWay { try new.place(replacing: true) }
    } else {
      try new.place(replacing: false)
    }
    isUnmade = false
    anchor?.release()
    return Result(uuid: uuid.description, wasMade: true, warnings: KeyWarning.tooWide(name).map { [$0] } ?? [])
  }

  /// Every sector, and what is in it, as it comes from the file.
  private func check(_ new: NewFile, _ key: borrowing KeyEncryptionKey) throws {
    let volume = try SealedVolume(ReadOnlyView(new.device)).unlock(with: key)
    _ = try VerifiedCopy.check(volume, of: image, json: json)
    try compare(try BlobStore(volume))
  }

  // MARK: One that is there

  /// Puts the state into its entries with one commit.
  func fill(_ options: OpenOptions, force: Bool, audit: AuditLog, detail: String) throws -> Result {
    let (uuid, warnings) = try options.change(image) { opened in
      try check(opened.store, force: force)
    } _: { opened, _ in
      let uuid = try opened.encrypted(for: "bring a TPM's state into").uuid
      try audit.record(AuditRecord(.imported, store: image, uuid: uuid, access: .write, detail: detail))
      try put(into: try opened.store)
      return uuid
    }
    return Result(uuid: uuid.description, wasMade: false, warnings: warnings)
  }

  private func check(_ store: BlobStore, force: Bool) throws {
    for kind in version.states {
      guard let entry = store.entry(try EntryName(kind.rawValue)) else {
        throw Failure(
          .notFound,
          "\(image): has no entry \"\(kind.rawValue)\" for the state of a \(version.label); `vnvram format --profile "
            + "\(version.rawValue)` makes one that has")
      }
      let needed = states.first { $0.kind == kind }?.content.count ?? 0
      guard entry.capacity.value >= UInt64(needed) else {
        throw Failure(
          .noSpace,
          "\(image): entry \"\(entry.name)\" has room for \(entry.capacity.value) bytes, and the state has \(needed); "
            + "`vnvram entry resize` gives it more room")
      }
      guard force || entry.size.value == 0 else {
        throw Failure(
          .refused,
          "\(image): has a TPM's state already: entry \"\(entry.name)\" has \(entry.size.value) bytes; say --force to "
            + "replace it, and it is lost")
      }
    }
  }

  // MARK: Content

  /// All of a TPM's entries in one commit, those empty that the source doesn't have; then read back.
  private func put(into store: BlobStore) throws {
    for kind in version.states {
      let name = try EntryName(kind.rawValue)
      if let state = states.first(where: { $0.kind == kind }) {
        try state.lend { try store.stageReplace(name, $0.span) }
      } else {
        try store.stageReplace(name, [UInt8]().span)
      }
    }
    try store.commit()
    try compare(store)
  }

  /// Whether it is what libtpms took.
  private func compare(_ store: BlobStore) throws {
    for state in states {
      var stored = SecretBytes(count: state.content.count)
      let name = try EntryName(state.name)
      guard store.entry(name)?.size.value == UInt64(stored.count),
        try store.read(name, into: stored.mutableSpan) == stored.count, stored.equals(state.content)
      else {
        throw Failure(.inputOutput, "\(image): \(state.name) doesn't come back as it was written; is the device sound?")
      }
    }
  }
}
