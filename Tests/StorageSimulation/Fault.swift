import Primitives

/// A call of a disk, for faults: the n-th of its kind, counted from 1 since the disk was made.
public enum Call: Hashable, Sendable {
  case read(Int)
  case write(Int)
  case sync(Int)
  /// The n-th write or sync, whichever it is.
  case operation(Int)
}

/// What goes wrong with a call.
public enum Fault: Sendable {
  /// Reports an error. A write has no effect. A sync has lost what it was to make durable: unsynced blocks stay old,
  /// new or garbage until all of them is written and synced anew, while reads go on giving the new bytes, as caches do.
  case fails(errno: Int32)
  /// A short transfer: a write that reports an error after its first bytes were written as an ordinary unsynced write,
  /// or a read that reports one after it has given its first bytes.
  case failsAfter(bytes: Int, errno: Int32)
  /// A write that reports an error and may land all the same when power goes, until what it covers is written and
  /// synced anew. Reads give the old bytes.
  case failsLandsLater(errno: Int32)
  /// Acknowledged and never done. A sync that is lost leaves everything unsynced, for a later one to make durable.
  case lost
  /// A write that is acknowledged and lands somewhere else, durable with the next sync.
  case misdirected(to: ByteOffset)
}

/// A write or a sync as it was asked for, for printing where a test fails.
public struct Operation: Sendable, CustomStringConvertible {
  public enum Kind: String, Sendable {
    case write, sync
  }

  public let number: Int
  public let kind: Kind
  public let offset: ByteOffset
  public let count: Int
  /// What the simulation did to it, or "".
  public internal(set) var note = ""

  public var description: String {
    let what = kind == .sync ? "sync" : "write \(count) at \(offset.value)"
    return note.isEmpty ? "\(number): \(what)" : "\(number): \(what) (\(note))"
  }
}
