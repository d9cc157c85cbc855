import CLibcrypto
import Glibc
import Primitives
import SecureVolume

/// Sequential reading of a 64 MiB store, verified and decrypted, against libcrypto's AES-256-XTS alone, straight over
/// the same bytes in memory in units of 4 KiB; turn about.
func benchmarkRead(_ directory: String, _ table: inout Table) throws {
  let size = 64 << 20
  let made = try TestStore(directory, "read", capacity: UInt64(size - 65536))
  let volume = try made.open(.readOnly)
  var buffer = ByteBuffer(count: 1 << 20)
  let sectors = Int(volume.sectorCount)
  let perRead = buffer.count / 4096
  let raw = RawXTS(made.path, bytes: sectors * 4096)
  var (ours, cipher) = (Sample(), Sample())
  for round in 0...20 {
    let read = try timed {
      var sector = 0
      while sector < sectors {
        let count = min(perRead, sectors - sector)
        try volume.read(SectorIndex(sector), into: buffer.mutableSpan(0..<count * 4096))
        sector += count
      }
    }
    let alone = timed { raw.run() }
    // The first round warms the page cache.
    if round > 0 {
      ours.add(read)
      cipher.add(alone)
    }
  }
  let megabytes = Double(sectors * 4096) / 1e6
  func rate(_ sample: Sample) -> Double { megabytes / (sample.median / 1e6) }
  table.add(
    "sequential read of 64 MiB, verified, MB/s", "\(Int(rate(ours)))", "AES-256-XTS alone: \(Int(rate(cipher)))",
    rate(ours) / rate(cipher), "≥ 0.45")
}

/// AES-256-XTS with nothing around it, over bytes that are in memory.
@safe private final class RawXTS {
  private let cipher: OpaquePointer?
  private var source: [UInt8]
  private var target = [UInt8](repeating: 0, count: 1 << 20)

  /// Takes the last `bytes` of a file, a multiple of 4096.
  init(_ path: String, bytes: Int) {
    source = [UInt8](repeating: 0, count: bytes)
    let file = unsafe open(path, O_RDONLY | O_CLOEXEC)
    let end = lseek(file, 0, SEEK_END)
    let got = unsafe pread(file, &source, bytes, end - off_t(bytes))
    guard got == bytes else { fatalError("\(path) can't be read") }
    close(file)
    let key = (0..<64).map { UInt8($0) }
    unsafe cipher = EVP_CIPHER_CTX_new()
    unsafe EVP_DecryptInit_ex2(cipher, EVP_CIPHER_fetch(nil, "AES-256-XTS", nil), key, nil, nil)
  }

  func run() {
    var tweak = [UInt8](repeating: 0, count: 16)
    unsafe source.withUnsafeBufferPointer { source in
      unsafe target.withUnsafeMutableBufferPointer { target in
        guard let from = source.baseAddress, let to = target.baseAddress else { return }
        for place in stride(from: 0, to: source.count, by: 4096) {
          unsafe withUnsafeBytes(of: UInt64(place / 4096)) { unsafe tweak.replaceSubrange(0..<8, with: $0) }
          var length: Int32 = 0
          unsafe EVP_DecryptInit_ex2(cipher, nil, nil, tweak, nil)
          unsafe EVP_DecryptUpdate(cipher, to + place % (1 << 20), &length, from + place, 4096)
        }
      }
    }
  }
}
