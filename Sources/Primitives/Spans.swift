// Copying and comparing spans, and little-endian integers in them. All indexes are checked.
import Glibc

extension MutableSpan<UInt8> {
  /// Copies all of `source` to `offset`.
  @_lifetime(self: copy self)
  public mutating func copy(from source: Span<UInt8>, at offset: Int = 0) {
    precondition(offset >= 0 && offset <= count && source.count <= count - offset)
    unsafe source.withUnsafeBufferPointer { from in
      unsafe self.withUnsafeMutableBufferPointer { to in
        guard let f = from.baseAddress, let t = to.baseAddress else { return }
        unsafe memcpy(t + offset, f, from.count)
      }
    }
  }

  @_lifetime(self: copy self)
  public mutating func fill(_ byte: UInt8) {
    unsafe self.withUnsafeMutableBufferPointer { to in
      if let t = to.baseAddress { unsafe memset(t, Int32(byte), to.count) }
    }
  }

  /// Writes `value`, little-endian, at `offset`.
  ///
  /// Inlinable, as `load` is, so that other modules' calls are specialised: as a generic call it took 0.9 µs.
  @inlinable @_lifetime(self: copy self)
  public mutating func store<T: FixedWidthInteger & UnsignedInteger & BitwiseCopyable>(_ value: T, at offset: Int) {
    let size = MemoryLayout<T>.size
    precondition(offset >= 0 && size <= count && offset <= count - size)
    unsafe self.withUnsafeMutableBytes { bytes in
      unsafe bytes.storeBytes(of: value.littleEndian, toByteOffset: offset, as: T.self)
    }
  }
}

extension Span<UInt8> {
  /// Reads a little-endian integer at `offset`.
  @inlinable
  public func load<T: FixedWidthInteger & UnsignedInteger & BitwiseCopyable>(_: T.Type, at offset: Int) -> T {
    let size = MemoryLayout<T>.size
    precondition(offset >= 0 && size <= count && offset <= count - size)
    return unsafe self.withUnsafeBytes { bytes in
      T(littleEndian: unsafe bytes.loadUnaligned(fromByteOffset: offset, as: T.self))
    }
  }

  /// Whether both hold the same bytes. Not in constant time: for public data only.
  public func equals(_ other: Span<UInt8>) -> Bool {
    guard count == other.count else { return false }
    return unsafe self.withUnsafeBufferPointer { a in
      unsafe other.withUnsafeBufferPointer { b in
        guard let x = a.baseAddress, let y = b.baseAddress else { return true }
        return unsafe memcmp(x, y, a.count) == 0
      }
    }
  }

  public func equals(_ other: [UInt8]) -> Bool { equals(other.span) }

  public var isZero: Bool {
    guard count > 0 else { return true }
    guard self[0] == 0 else { return false }
    // Each byte is as the one before it.
    return unsafe self.withUnsafeBufferPointer { bytes in
      guard let start = bytes.baseAddress else { return true }
      return unsafe memcmp(start, start + 1, bytes.count - 1) == 0
    }
  }

  /// A copy on the heap. For public data, and for an entry's content at the interface.
  public var array: [UInt8] {
    // The one empty array that all have in common would be written to, from any thread.
    guard count > 0 else { return [] }
    return unsafe [UInt8](unsafeUninitializedCapacity: count) { buffer, initialized in
      unsafe self.withUnsafeBufferPointer { source in
        if let from = source.baseAddress, let to = buffer.baseAddress { unsafe memcpy(to, from, source.count) }
      }
      initialized = count
    }
  }
}

extension Sequence<UInt8> {
  /// Lower-case hexadecimal digits. For public data only.
  public var hex: String {
    var text = ""
    for byte in self {
      let digits = String(byte, radix: 16)
      text += byte < 16 ? "0" + digits : digits
    }
    return text
  }
}
