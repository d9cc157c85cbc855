import BlobStore
import BlockIO
import Crypto
import Glibc
import Keyring
import Primitives
import SecureVolume

/// A store in a file of its own in a scratch directory, with a key made for it in the session keyring or the process's.
final class TestStore {
  let path: String
  let key: [UInt8]

  /// One entry, `content`, of this capacity.
  init(_ directory: String, _ name: String, capacity: UInt64, keyName: String = "bench") throws {
    path = directory + "/" + name
    var secret = ByteBuffer(count: 32)
    try Random.fill(secret.mutableSpan)
    key = secret.span.array
    let layout = try StreamLayout([EntrySpecification(name: "content", capacity: ByteCount(capacity))])
    guard let geometry = Geometry(holding: layout.size, blockSize: 4096) else {
      fatalError("too large")
    }
    let device = try FileDevice.create(path: path, size: geometry.imageSize, replacing: false)
    try VolumeFormatter.format(device, geometry: geometry, key: encryptionKey, name: keyName, created: 0) {
      (sector, out) throws(VolumeError) in layout.fillPlaintext(sector, sectorSize: 4096, into: out)
    }
    device.close()
  }

  deinit { _ = unsafe unlink(path) }

  var encryptionKey: KeyEncryptionKey { KeyEncryptionKey(.keyring, Self.secret(key)) }

  func open(_ access: FileDevice.Access = .readWrite) throws -> SecureVolume {
    let device = try FileDevice.open(path: path, access: access)
    let sealed = try SealedVolume(device)
    return try sealed.unlock(with: encryptionKey)
  }

  /// A copy in the memory that keys live in.
  static func secret(_ bytes: [UInt8]) -> SecretBytes { SecretBytes(copying: bytes.span) }
}
