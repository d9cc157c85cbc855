// Keys that are numbers.
import Primitives
import SecureVolume
import StorageSimulation

/// The key of that number: 32 bytes that follow from it, of one of the three kinds.
func makeKey(_ number: Int) -> KeyEncryptionKey {
  var bytes = keyBytes(number)
  defer { wipe(&bytes) }
  return KeyEncryptionKey(keyKind(number), SecretBytes(copying: bytes.span))
}

func keyBytes(_ number: Int) -> [UInt8] {
  var generator = SeededGenerator(seed: UInt64(number) &* 0x2545_F491_4F6C_DD1D)
  return generator.bytes(32)
}

func keyKind(_ number: Int) -> SlotKind { number % 16 == 15 ? .passphrase : number % 4 == 3 ? .recovery : .keyring }
