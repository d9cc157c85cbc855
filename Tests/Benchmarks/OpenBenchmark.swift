import Audit
import BlobStore
import BlockIO
import Glibc
import Keyring
import Primitives
import SecureVolume
import VNVRAM

/// From nothing to a store that serves, with the key found in the keyring, and how that grows with the store.
func benchmarkOpen(_ directory: String, _ table: inout Table) throws {
  for (mebibytes, asked) in [(1, "≤ 3 ms"), (16, "reported"), (256, "reported")] {
    let keyName = "vnvram-bench-\(getpid())-\(mebibytes)"
    let made = try TestStore(
      directory, "open\(mebibytes)", capacity: UInt64(mebibytes << 20) - 65536, keyName: keyName)
    guard let name = KeyName(keyName) else { fatalError("a name of letters and digits") }
    let serial = try Keyring.add(
      name, payload: TestStore.secret(made.key), to: .process)
    defer { try? Keyring.revoke(serial) }
    let unlocker = Unlocker(audit: AuditLog(.file(directory + "/audit.jsonl")))
    var sample = Sample()
    for round in 0..<(mebibytes > 100 ? 20 : 200) {
      let start = now()
      let sealed = try SealedVolume(FileDevice.open(path: made.path, access: .readWrite))
      let volume = try unlocker.unlock(sealed)
      _ = try BlobStore(volume)
      if round > 2 { sample.add(now() - start) }
      try volume.close()
    }
    table.add(
      "open for writing, key from the keyring, \(mebibytes) MiB, ms", Table.number(sample.median / 1000), "", nil, asked
    )
  }
}
