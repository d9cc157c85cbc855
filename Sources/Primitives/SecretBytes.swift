import Glibc

/// A secret: never copied, kept in `SecretMemory`, wiped when it goes out of scope, lent as a span, compared in
/// constant time. It is not a `String`, not a `[UInt8]`, and says nothing of itself when printed.
@safe public struct SecretBytes: ~Copyable, Sendable {
  private nonisolated(unsafe) let base: UnsafeMutableRawPointer
  public let count: Int

  /// `count` zero bytes. Traps where there is no memory for them, as every allocation in Swift does: the arena is 64
  /// MiB, and how many secrets there are is up to the program, not to input.
  public init(count: Int) {
    precondition(count >= 0)
    guard let place = unsafe SecretMemory.shared.allocate(count) else { fatalError("out of memory for keys") }
    self.count = count
    unsafe base = place
  }

  /// `count` zero bytes in memory that is never swapped. Nil where there is none (RLIMIT_MEMLOCK), and beyond 4 MiB:
  /// for what a program can do without.
  public init?(neverSwapped count: Int) {
    precondition(count >= 0)
    guard let place = unsafe SecretMemory.shared.allocate(count, neverSwapped: true) else { return nil }
    self.count = count
    unsafe base = place
  }

  /// A copy of `source`, which its owner wipes.
  public init(copying source: Span<UInt8>) {
    self.init(count: source.count)
    var all = mutableSpan
    all.copy(from: source)
  }

  deinit { unsafe SecretMemory.shared.free(base) }

  /// One more of the same content, with an owner of its own.
  public borrowing func copy() -> SecretBytes { SecretBytes(copying: span) }

  public var span: Span<UInt8> {
    @_lifetime(borrow self)
    get {
      let span = unsafe Span<UInt8>(
        _unsafeStart: UnsafePointer(base.assumingMemoryBound(to: UInt8.self)), count: count)
      return unsafe _overrideLifetime(span, borrowing: self)
    }
  }

  public var mutableSpan: MutableSpan<UInt8> {
    @_lifetime(&self)
    mutating get {
      let span = unsafe MutableSpan<UInt8>(_unsafeStart: base.assumingMemoryBound(to: UInt8.self), count: count)
      return unsafe _overrideLifetime(span, mutating: &self)
    }
  }

  /// Shortens to the first `count` bytes, wiping the rest.
  public consuming func prefix(_ count: Int) -> SecretBytes {
    SecretBytes(copying: span.extracting(first: count))
  }

  /// Constant-time comparison.
  public borrowing func equals(_ other: borrowing SecretBytes) -> Bool {
    guard count == other.count else { return false }
    var difference: UInt8 = 0
    let (a, b) = (span, other.span)
    for i in 0..<count { difference |= a[i] ^ b[i] }
    return difference == 0
  }

  /// How this process protects its secrets: `memfd_secret`, `mlock` or `madvise`.
  public static var protection: String { SecretMemory.shared.protection.rawValue }
}

/// Wipes an ordinary array that held a secret on its way through an interface that knows only arrays.
public func wipe(_ bytes: inout [UInt8]) {
  unsafe bytes.withUnsafeMutableBytes { buffer in
    if let base = buffer.baseAddress { unsafe explicit_bzero(base, buffer.count) }
  }
  bytes = []
}
