// A process whose memory is scanned: it takes a store through its life with keys that the test knows, and stops at each
// step until it is told to go on. Before each stop it says what is in the arena, which nobody else can look into where
// the kernel has memfd_secret.
//
//     MemoryScanHelper IMAGE KEY     standard input: a passphrase, a recovery key, then a newline for each stop
import Audit
import BlobStore
import BlockIO
import Crypto
import Glibc
import Keyring
import Primitives
import ProgramIO
import SecureVolume
import VNVRAM

ProcessSetup.run()
do { try Life(CommandLine.arguments).run() } catch {
  print("failed: \(error)")
  exit(1)
}

struct Life: ~Copyable {
  private let image: String
  private let keyName: String
  private let input: InputFile
  private let audit = AuditLog(.none)
  private let passphrase: SecretBytes
  private let recoveryKey: SecretBytes

  init(_ arguments: [String]) throws {
    let input = InputFile(descriptor: 0, name: "standard input")
    let passphrase = try input.readSecretLine(limit: 1024)
    let text = try input.readSecretLine(limit: 1024)
    let recoveryKey = try RecoveryKey.parse(text)
    (image, keyName) = (arguments[1], arguments[2])
    self.input = input
    self.passphrase = passphrase
    self.recoveryKey = recoveryKey
  }

  borrowing func run() throws {
    try stop("begun")
    try nvram()
    try slots()
    try planted()
    try stop("ended")
  }

  private func stop(_ step: String) throws {
    print(step, SecretBytes.protection, SecretMemory.shared.bytesInUse, SecretMemory.shared.bytesNotZero)
    fflush(nil)
    _ = try input.readSecretLine(limit: 16)
  }

  /// Format, start, work, lock, start again, close.
  private borrowing func nvram() throws {
    let device = try FileDevice.create(path: image, size: ByteCount(8 << 20), replacing: false)
    let nvram = NVRAM(device, audit: audit)
    try nvram.register(entry: "state", capacity: ByteCount(65536))
    try nvram.format(keyNamed: keyName)
    try nvram.start(failOnEncryptedDrive: true)
    try Self.work(nvram)
    try stop("working")
    try nvram.lock()
    try stop("locked")
    nvram.poke()
    while nvram.state != .running { usleep(1000) }
    try Self.work(nvram)
    try stop("reopened")
    try nvram.close()
    try stop("closed")
  }

  /// Commits enough for several checkpoints, and reads. Here the content lies in the arena alone, and no longer than
  /// this.
  private static func work(_ nvram: NVRAM) throws {
    var content = SecretBytes(count: 9000)
    var found = SecretBytes(count: 9000)
    for round in 0..<60 {
      var bytes = content.mutableSpan
      // The scanner knows it (test_memory.py).
      for i in bytes.indices { bytes[i] = UInt8(truncatingIfNeeded: i * i + i / 8 + round) }
      try nvram.replaceContent("state", content.span)
      // What waits in the queue is a copy.
      try nvram.replaceContent("state", content.span) { _ in }
      try nvram.processRequests()
      let count = try nvram.readContent("state", at: ByteOffset(0), into: found.mutableSpan)
      guard count == content.count, found.equals(content) else { fatalError("read something else") }
    }
  }

  /// Slots of the other kinds, each used.
  private borrowing func slots() throws {
    let device = try FileDevice.open(path: image, access: .readWrite)
    let volume = try Unlocker(audit: audit).unlock(try SealedVolume(device))
    try volume.addSlot(
      KeyEncryptionKey(.passphrase, SecretBytes(copying: passphrase.span)), name: "words", cost: .default, created: 1)
    try volume.addSlot(KeyEncryptionKey(.recovery, SecretBytes(copying: recoveryKey.span)), name: "paper", created: 1)
    try stop("slots")
    try volume.close()
    device.close()
    try use(KeyEncryptionKey(.passphrase, SecretBytes(copying: passphrase.span)), "passphrase")
    try use(KeyEncryptionKey(.recovery, SecretBytes(copying: recoveryKey.span)), "recovery-key")
  }

  private borrowing func use(_ key: consuming KeyEncryptionKey, _ step: String) throws {
    let device = try FileDevice.open(path: image, access: .readWrite)
    let volume = try Unlocker(audit: audit).unlock(try SealedVolume(device), with: key)
    try stop(step)
    try volume.close()
    device.close()
  }

  /// The scanner must find a copy that lies about.
  private borrowing func planted() throws {
    guard let name = KeyName(keyName) else { fatalError("not a name") }
    let secret = try Keyring.read(try Keyring.find(name).serial, expecting: 32)
    var copy = secret.span.array
    try stop("planted")
    wipe(&copy)
  }
}
