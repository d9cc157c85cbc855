import Crypto
import Primitives

/// Tells the anchor records that the holder of a store's key made for that store (FORMAT §12), for a process that keeps
/// the anchor and not the store. Has the structure key, and no other, until it goes.
public final class AnchorVerifier {
  public let uuid: StoreUUID
  private let digest: InlineBytes32
  private var structure: StructureMAC

  init(uuid: StoreUUID, digest: InlineBytes32, keys: consuming VolumeKeys) {
    self.uuid = uuid
    self.digest = digest
    structure = keys.takeStructure()
  }

  /// The record, or nil for what isn't one of this store.
  ///
  /// - Throws: `.crypto` where libcrypto failed.
  public func record(_ bytes: [UInt8]) throws(VolumeError) -> AnchorRecord? {
    do { return try AnchorRecord.verified(bytes, uuid: uuid, digest: digest, with: &structure) } catch {
      throw VolumeError(error, store: uuid.description)
    }
  }

  /// The newest of them; nil where none is this store's.
  public func newest(of records: [[UInt8]]) throws(VolumeError) -> NewestRecord? {
    do { return try AnchorRecord.newest(of: records, uuid: uuid, digest: digest, with: &structure) } catch {
      throw VolumeError(error, store: uuid.description)
    }
  }
}
