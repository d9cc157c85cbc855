// Comparisons whose time says nothing of what they compare.
import CLibcrypto
import Primitives

/// Constant-time equality of tags and MACs, by CRYPTO_memcmp.
public enum ConstantTime {
  public static func equals(_ a: InlineBytes16, _ b: InlineBytes16) -> Bool {
    var (x, y) = (InlineArray<16, UInt8>(repeating: 0), InlineArray<16, UInt8>(repeating: 0))
    var span = x.mutableSpan
    a.store(in: &span, at: 0)
    span = y.mutableSpan
    b.store(in: &span, at: 0)
    return equals(x.span, y.span)
  }

  public static func equals(_ a: InlineBytes32, _ b: InlineBytes32) -> Bool {
    var (x, y) = (InlineArray<32, UInt8>(repeating: 0), InlineArray<32, UInt8>(repeating: 0))
    var span = x.mutableSpan
    a.store(in: &span, at: 0)
    span = y.mutableSpan
    b.store(in: &span, at: 0)
    return equals(x.span, y.span)
  }

  /// Whether both hold the same bytes. The lengths are not secret.
  public static func equals(_ a: Span<UInt8>, _ b: Span<UInt8>) -> Bool {
    guard a.count == b.count else { return false }
    return unsafe a.withUnsafeBufferPointer { a in
      unsafe b.withUnsafeBufferPointer { b in
        guard let x = a.baseAddress, let y = b.baseAddress else { return true }
        return unsafe CRYPTO_memcmp(x, y, a.count) == 0
      }
    }
  }
}
