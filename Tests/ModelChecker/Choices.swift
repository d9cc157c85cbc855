// Choosing with a seeded generator, and keys that are numbers.
import Primitives
import SecureVolume
import StorageSimulation

extension SeededGenerator {
  mutating func below(_ count: Int) -> Int { Int.random(in: 0..<count, using: &self) }
  mutating func chance(_ percent: Int) -> Bool { below(100) < percent }
  mutating func pick<T>(_ choices: [T]) -> T { choices[below(choices.count)] }

  /// One of the choices, each as often as its weight says.
  mutating func pick<T>(weighted choices: [(Int, T)]) -> T {
    var left = below(choices.reduce(0) { $0 + $1.0 })
    for (weight, choice) in choices {
      if left < weight { return choice }
      left -= weight
    }
    preconditionFailure("within the sum of the weights")
  }
}

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
