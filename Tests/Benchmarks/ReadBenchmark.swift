import BlobStore
import CLibcrypto
import Crypto
import Glibc
import Primitives
import SecureVolume

/// Sequential reading of a 64 MiB store, verified and decrypted, against the same tag and cipher called straight through
/// libcrypto on as many bytes in memory; and against the cipher alone.
func benchmarkRead(_ directory: String, _ table: inout Table) throws {
  let size = 64 << 20
  let made = try TestStore(directory, "read", capacity: UInt64(size - 65536))
  let volume = try made.open(.readOnly)
  var buffer = ByteBuffer(count: 1 << 20)
  let sectors = Int(volume.sectorCount)
  let perRead = buffer.count / 4096
  let raw = RawLibcrypto(sectors: sectors)
  var (ours, both, cipher) = (Sample(), Sample(), Sample())
  for round in 0..<8 {
    let read = try timed {
      var sector = 0
      while sector < sectors {
        let count = min(perRead, sectors - sector)
        try volume.read(SectorIndex(sector), into: buffer.mutableSpan(0..<count * 4096))
        sector += count
      }
    }
    let direct = timed { raw.run(sectors: sectors, tagged: true) }
    let alone = timed { raw.run(sectors: sectors, tagged: false) }
    // The first round warms the page cache.
    if round > 0 {
      ours.add(read)
      both.add(direct)
      cipher.add(alone)
    }
  }
  let megabytes = Double(sectors * 4096) / 1e6
  func rate(_ sample: Sample) -> Double { megabytes / (sample.median / 1e6) }
  table.add(
    "sequential read of 64 MiB, MB/s", "\(Int(rate(ours)))", "CMAC + XTS in libcrypto: \(Int(rate(both)))",
    rate(ours) / rate(both), "≥ 0.9")
  table.add("", "", "XTS alone: \(Int(rate(cipher)))", rate(ours) / rate(cipher), "reported")
}

/// AES-256-CMAC and AES-256-XTS with nothing between, over as many bytes in memory as the store has.
@safe private final class RawLibcrypto {
  private let cipher: OpaquePointer?
  private let mac: OpaquePointer?
  private var source: [UInt8]
  private var target = [UInt8](repeating: 0, count: 1 << 20)

  init(sectors: Int) {
    source = (0..<sectors * 4096).map { UInt8(truncatingIfNeeded: $0 &* 31) }
    let key = (0..<64).map { UInt8($0) }
    unsafe cipher = EVP_CIPHER_CTX_new()
    unsafe mac = EVP_MAC_CTX_new(EVP_MAC_fetch(nil, "CMAC", nil))
    unsafe EVP_DecryptInit_ex2(cipher, EVP_CIPHER_fetch(nil, "AES-256-XTS", nil), key, nil, nil)
    let name = Array("AES-256-CBC".utf8CString)
    unsafe name.withUnsafeBufferPointer { text in
      let parameters = unsafe [
        OSSL_PARAM_construct_utf8_string("cipher", UnsafeMutablePointer(mutating: text.baseAddress), 0),
        OSSL_PARAM_construct_end(),
      ]
      unsafe EVP_MAC_init(mac, key, 32, parameters)
    }
  }

  func run(sectors: Int, tagged: Bool) {
    var tweak = [UInt8](repeating: 0, count: 16)
    var tag = [UInt8](repeating: 0, count: 16)
    unsafe source.withUnsafeMutableBufferPointer { source in
      unsafe target.withUnsafeMutableBufferPointer { target in
        guard let from = source.baseAddress, let to = target.baseAddress else { return }
        for sector in 0..<sectors {
          let place = sector * 4096
          let out = place & (1 << 20 - 1)
          if tagged {
            var length = 0
            unsafe EVP_MAC_init(mac, nil, 0, nil)
            unsafe EVP_MAC_update(mac, from, 32)
            unsafe EVP_MAC_update(mac, from + place, 4096)
            unsafe EVP_MAC_final(mac, &tag, &length, 16)
          }
          tweak[0] = UInt8(truncatingIfNeeded: sector)
          var length: Int32 = 0
          unsafe EVP_DecryptInit_ex2(cipher, nil, nil, tweak, nil)
          unsafe EVP_DecryptUpdate(cipher, to + out, &length, from + place, 4096)
        }
      }
    }
  }
}
