/// SplitMix64 (Steele, Lea and Flood, "Fast splittable pseudorandom number generators", 2014): the same seed gives the
/// same numbers on every machine, so that a failure that is printed with its seed can be had again. Not for keys.
public struct SeededGenerator: RandomNumberGenerator, Sendable {
  private var state: UInt64

  public init(seed: UInt64) { state = seed }

  public mutating func next() -> UInt64 {
    state &+= 0x9E37_79B9_7F4A_7C15
    var z = state
    z = (z ^ (z >> 30)) &* 0xBF58_476D_1CE4_E5B9
    z = (z ^ (z >> 27)) &* 0x94D0_49BB_1331_11EB
    return z ^ (z >> 31)
  }

  /// `count` bytes, eight from each number.
  public mutating func bytes(_ count: Int) -> [UInt8] {
    var bytes: [UInt8] = []
    bytes.reserveCapacity(count)
    while bytes.count < count {
      let word = next()
      for i in 0..<min(8, count - bytes.count) { bytes.append(UInt8(truncatingIfNeeded: word >> (8 * UInt64(i)))) }
    }
    return bytes
  }
}

extension SeededGenerator {
  package mutating func below(_ count: Int) -> Int { Int.random(in: 0..<count, using: &self) }
  package mutating func chance(_ percent: Int) -> Bool { below(100) < percent }
  package mutating func pick<T>(_ choices: [T]) -> T { choices[below(choices.count)] }

  /// One of the choices, each as often as its weight says.
  package mutating func pick<T>(weighted choices: [(Int, T)]) -> T {
    var left = below(choices.reduce(0) { $0 + $1.0 })
    for (weight, choice) in choices {
      if left < weight { return choice }
      left -= weight
    }
    preconditionFailure("within the sum of the weights")
  }
}
