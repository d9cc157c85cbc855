import BlockIO
import Primitives
import SecureVolume

extension SealedVolume {
  /// The sealed volume that is expected on a device, and what is there instead told apart.
  ///
  /// - Throws: `.unformatted`; `.volume(.notEncrypted)` for a plain image.
  public static func expected(on device: any BlockDevice) throws(NVRAMError) -> SealedVolume {
    do { return try SealedVolume(device) } catch  where error.code == .notAnImage {
      if (try? StoreCore(plain: device)) != nil {
        throw NVRAMError(
          .volume(.notEncrypted), .refused, store: device.name,
          "is not encrypted, and an encrypted store is expected; ask for a plain one by name to use it")
      }
      throw .unformatted(device.name)
    } catch { throw NVRAMError(error) }
  }
}

extension NVRAMError {
  /// Two header copies that say so, or an image that was another store when it was opened first.
  static func anotherStore(_ store: String) -> NVRAMError {
    NVRAMError(
      .volume(.notAuthentic(.headerPair)), .notAuthentic, store: store,
      "its header is another store's than it was; restore the image from a backup")
  }

  static func unformatted(_ store: String) -> NVRAMError {
    NVRAMError(
      .unformatted, .notAnImage, store: store,
      "holds no store; nothing was changed; name the right image, and if this was one, `vnvram header restore` or "
        + "`vnvram restore` may help")
  }
}
