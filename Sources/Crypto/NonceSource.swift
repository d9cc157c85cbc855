// Write nonces, 64 at a time, so that a commit of many sectors costs few calls to the kernel.
import Primitives

/// Random 64-bit numbers from the kernel, each given out once.
///
/// What is in the pool survives a snapshot of the machine: fit for a sector's write nonce, where a repeated one costs
/// little, and for nothing that breaks when one repeats, such as a slot's GCM nonce (`Random`).
///
/// A child after fork would draw the parent's remaining numbers again: a source must not be used on both sides of a
/// fork. A store never is; its file lock stays with the process that opened it, and its keys' memory isn't inherited.
public struct NonceSource: ~Copyable, Sendable {
  static let poolCount = 512

  private var pool = ByteBuffer(count: NonceSource.poolCount)
  private var position = NonceSource.poolCount

  /// Draws nothing until the first number is asked for.
  public init() {}

  /// The next number. The bytes it came from are wiped.
  public mutating func next() throws(CryptoError) -> UInt64 {
    if position == Self.poolCount {
      try Random.fill(pool.mutableSpan)
      position = 0
    }
    let nonce = pool.span.load(UInt64.self, at: position)
    pool.wipe(position..<position + 8)
    position += 8
    return nonce
  }
}
