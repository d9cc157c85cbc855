import Primitives
import SwtpmFormat

/// `--key`, which the monitor has and uses for this process.
struct MonitoredStateKey: SwtpmStateCipher {
  let monitor: MonitorClient
  let count: Int

  func seal(_ plaintext: Span<UInt8>) throws(SwtpmFormatError) -> SwtpmSealed {
    let nothing: [UInt8] = []
    let sealed = try run(.seal, plaintext, nothing, nothing)
    return SwtpmSealed(ciphertext: sealed.bytes.span.array, mac: sealed.mac, vector: sealed.vector)
  }

  func open(
    _ ciphertext: Span<UInt8>, mac: Span<UInt8>, vector: Span<UInt8>, as use: SwtpmFormatError.KeyUse
  ) throws(SwtpmFormatError) -> SecretBytes {
    guard mac.count <= CipherRequest.longestField, vector.count <= CipherRequest.longestField else {
      throw .wrongKey(use)
    }
    return try run(.open, ciphertext, mac.array, vector.array).takeBytes()
  }

  private func run(
    _ direction: CipherRequest.Direction, _ input: Span<UInt8>, _ mac: [UInt8], _ vector: [UInt8]
  ) throws(SwtpmFormatError) -> SwtpmCiphered {
    do { return try monitor.cipher(direction, input, mac: mac, vector: vector) } catch {
      let failure = Failure(error)
      throw failure.status == .wrongKey ? .wrongKey(.state) : .keyUnavailable(failure.description)
    }
  }
}
