import Primitives

/// Opaque bytes at places, and the one promise that matters: what was written before `sync` returned is durable.
public protocol BlockDevice: AnyObject {
  /// For messages: the path.
  var name: String { get }
  /// The size now, in bytes.
  var size: ByteCount { get }
  /// The unit in bytes that a power cut may leave old, new or garbage as a whole: a power of two, 4096 to 65536.
  var blockSize: Int { get }
  /// What people should know of `blockSize`: where it doesn't hold all that a power cut can do. Each is a sentence
  /// without the name, as in errors. Known once the device is open.
  var blockNotices: [String] { get }
  var isWritable: Bool { get }
  /// Whether another process may write to it while it is read here: it was opened without a lock.
  var mayChange: Bool { get }

  /// Fills all of `destination`. Reading past the end throws `.truncated`.
  func read(at offset: ByteOffset, into destination: consuming MutableSpan<UInt8>) throws(BlockError)

  /// Writes all of `source`; not durable until `sync` returns. Writing past the end throws `.noSpace`.
  func write(_ source: Span<UInt8>, at offset: ByteOffset) throws(BlockError)

  /// Makes everything written durable. After an error nothing is known of what was written since the last success,
  /// whatever a later `sync` says (Linux marks pages clean that it could not write).
  func sync() throws(BlockError)

  /// Reads what the device has rather than what this host's cache shows, as far as that can be had: for noticing
  /// another host's writes, never for recovery. A cache need not be dropped because one asks for it. As `read`
  /// otherwise.
  func readPastCache(at offset: ByteOffset, into destination: consuming MutableSpan<UInt8>) throws(BlockError)

  /// Allocates all space of the first `length` bytes, so that writing in place never runs out. Content and size stay,
  /// also after an error; the allocation is durable with the next `sync`.
  ///
  /// - Throws: `.noSpace` where there is none.
  func allocate(_ length: ByteCount) throws(BlockError)

  /// Gives the device back, and its lock with it. Reading and writing fail from then on; closing again does nothing.
  /// A device that is let go without it closes by itself.
  func close()
}

extension BlockDevice {
  public var blockNotices: [String] { [] }
  public var mayChange: Bool { false }
  public func readPastCache(at offset: ByteOffset, into destination: consuming MutableSpan<UInt8>) throws(BlockError) {
    try read(at: offset, into: destination)
  }
  public func allocate(_ length: ByteCount) throws(BlockError) {}
  public func close() {}
}
