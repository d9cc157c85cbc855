import Audit
import BlobStore
import Crypto
import Glibc
import Keyring
import Primitives
import SecureVolume
import VNVRAM

/// An image that every schedule of one worker begins with, and the kernel key that it opens with.
final class PristineImage {
  let disk: ScheduleDisk
  /// Of no other process and no other worker.
  let keyName: String
  private let secret: [UInt8]
  private var serial: KeySerial?

  /// - Throws: what says that the machine can't have it.
  init(_ form: Plan.Form) throws {
    keyName = "schedule-\(getpid())-\(String(UInt64.random(in: 1 << 60 ... .max), radix: 36))"
    secret = (0..<32).map { _ in UInt8.random(in: 0...255) }
    let measuring = Self.nvram(ScheduleDisk(size: 0), form)
    disk = ScheduleDisk(size: Int(try measuring.requiredSize().value))
    try measuring.close()
    // Without threads of an NVRAM's own, which a fault could keep from ending.
    let nvram = Self.nvram(disk, form)
    if form == .plain { try nvram.formatPlain() } else { try nvram.format(key: key(), slotName: keyName) }
    try nvram.close()
    disk.reopen()
    if form == .plain {
      try Self.fill(PlainVolume(disk))
    } else {
      let volume = try SealedVolume(disk).unlock(with: key())
      try Self.fill(volume)
      try volume.close()
    }
    disk.keep()
    disk.reopen()
  }

  deinit { loseKey() }

  /// All entries hold what stands for 0.
  private static func fill(_ volume: any SectorVolume) throws {
    let blobs = try BlobStore(volume)
    for entry in 0..<Plan.entries {
      var content = Schedule.content(0, entry: entry)
      if entry == Plan.visited {
        try blobs.stageReplace(Schedule.name(entry)) { (_, visitor) throws(VisitorError) in
          try visitor.visit("content", &content, max: Plan.sizes[entry])
        }
      } else {
        try blobs.stageReplace(Schedule.name(entry), content.span)
      }
    }
    try blobs.commit()
  }

  private static func nvram(_ disk: ScheduleDisk, _ form: Plan.Form) -> NVRAM {
    var configuration = NVRAMConfiguration()
    configuration.form = form == .plain ? .plain : .encrypted
    configuration.findsKeys = false
    let nvram = NVRAM(disk, audit: AuditLog(.none), configuration: configuration)
    for entry in 0..<Plan.entries {
      do throws(NVRAMError) {
        if entry == Plan.visited {
          try nvram.register(entry: Schedule.name(entry)) { (_, visitor, _) throws(VisitorError) in
            var content = Schedule.content(0, entry: entry)
            try visitor.visit("content", &content, max: Plan.sizes[entry])
          }
        } else {
          try nvram.register(entry: Schedule.name(entry), capacity: ByteCount(Plan.sizes[entry]))
        }
      } catch { preconditionFailure("\(error)") }
    }
    return nvram
  }

  /// In bytes, as a raw entry.
  func capacity(_ entry: Int) -> Int { Plan.sizes[entry] + (entry == Plan.visited ? 4 : 0) }

  // MARK: The key

  func key() -> KeyEncryptionKey { KeyEncryptionKey(.keyring, copyOfSecret()) }

  private func copyOfSecret() -> SecretBytes {
    let secret = secret
    return SecretBytes(copying: secret.span)
  }

  /// Has the key be in the user keyring.
  func bringKey() {
    guard serial == nil, let name = KeyName(keyName) else { return }
    do { serial = try Keyring.add(name, payload: copyOfSecret(), to: .user, replacing: true) } catch {
      preconditionFailure("\(error)")
    }
  }

  /// Revokes it.
  func loseKey() {
    guard let serial else { return }
    try? Keyring.revoke(serial)
    try? Keyring.invalidate(serial)
    self.serial = nil
  }
}
