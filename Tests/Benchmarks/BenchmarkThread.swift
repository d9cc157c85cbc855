import BlobStore
import BlockIO
import Crypto
import Glibc
import Primitives
import SecureVolume

/// A thread that runs a closure.
final class BenchmarkThread {
  private var thread = pthread_t()

  private final class Body {
    let run: @Sendable () -> Void
    init(_ run: @escaping @Sendable () -> Void) { self.run = run }
  }

  init(_ body: @escaping @Sendable () -> Void) {
    let argument = unsafe Unmanaged.passRetained(Body(body)).toOpaque()
    _ = unsafe pthread_create(
      &thread, nil,
      {
        if let argument = unsafe $0 { unsafe Unmanaged<Body>.fromOpaque(argument).takeRetainedValue().run() }
        return nil
      }, argument)
  }

  func join() { pthread_join(thread, nil) }
}

/// A store of several entries.
struct TestStoreWithEntries {
  let key: [UInt8]
  var encryptionKey: KeyEncryptionKey { KeyEncryptionKey(.keyring, TestStore.secret(key)) }

  init(_ path: String, _ entries: [EntrySpecification]) throws {
    var secret = ByteBuffer(count: 32)
    try Random.fill(secret.mutableSpan)
    key = secret.span.array
    let layout = try StreamLayout(entries)
    guard let geometry = Geometry(holding: layout.size, blockSize: 4096) else {
      fatalError("too large")
    }
    let device = try FileDevice.create(path: path, size: geometry.imageSize, replacing: false)
    let sealing = KeyEncryptionKey(.keyring, TestStore.secret(key))
    try VolumeFormatter.format(device, geometry: geometry, key: sealing, name: "bench", created: 0) {
      (sector, out) throws(VolumeError) in layout.fillPlaintext(sector, sectorSize: 4096, into: out)
    }
    device.close()
  }
}
