import Audit
import BlockIO
import Primitives
import SecureVolume

/// The file whose place a backup takes with --force. Its lock is held as long as this is there, up to the renaming: so
/// nothing that is in use is replaced, and nobody opens what is about to go.
///
/// Only what is there for being replaced is: a file of zeros, an image of the same store, or, for a saved header, a
/// saved header of the same store. Which store it is nobody verifies; that suffices for refusing.
final class ReplacedFile {
  enum Kind {
    case image
    case header
  }

  private let lock: FileDevice?

  /// - Throws: `.inUse`; `.refused` for anything else than the above.
  init(_ path: String, by kind: Kind, of uuid: StoreUUID, force: Bool) throws {
    do { lock = force ? try FileDevice.open(path: path, access: .readWrite) : nil } catch {
      guard error.code == .notFound else { throw error }
      lock = nil
    }
    guard let lock, try !Self.isZero(lock) else { return }
    let what = kind == .image ? "image" : "saved header"
    let found: StoreUUID
    do {
      // For salvage: a saved header has no more than that, and neither has an image that was cut short.
      found = try SealedVolume(ReadOnlyView(lock), for: .salvage).uuid
    } catch {
      guard error.status == .notAnImage else { throw error }
      throw Failure(.refused, "\(path): is there, and is no \(what); name another file")
    }
    guard found == uuid else {
      throw Failure(
        .refused, "\(path): is there, and is another store's (\(found)); name another file",
        fields: [("uuid", .string(found.description))])
    }
    guard (lock.size.value == UInt64(HeaderOverlay.size)) == (kind == .header) else {
      throw Failure(.refused, "\(path): is there, and is no \(what); name another file")
    }
  }

  /// How far what is there had come; by its header alone where no key opens it. `nil` where nothing is there.
  ///
  /// - Throws: where the use of a key can't be recorded.
  func generation(_ unlock: borrowing Unlock, audit: () throws -> AuditLog) throws -> Generation? {
    guard let lock, try !Self.isZero(lock) else { return nil }
    let device = try FileDevice.openUnlocked(path: lock.name)
    do {
      return try OpenedImage(device, unlock: unlock, audit: audit).encrypted(for: "replace").generation
    } catch {
      guard Failure(error).status != .auditFailed else { throw error }
      return try SealedVolume(device, for: .salvage).generation
    }
  }

  private static func isZero(_ device: FileDevice) throws(BlockError) -> Bool {
    var buffer = ByteBuffer(count: 1 << 16)
    var offset: UInt64 = 0
    while offset < device.size.value {
      let count = Int(min(UInt64(buffer.count), device.size.value - offset))
      try device.read(at: ByteOffset(offset), into: buffer.mutableSpan(0..<count))
      guard buffer.span(0..<count).isZero else { return false }
      offset += UInt64(count)
    }
    return true
  }
}
