import BlobStore
import Primitives

/// What a device gives to be called: it visits its fields, and reading, writing and sizing follow from that. It runs on
/// the thread that registers (`.format`), writes (`.write`) or reads (`.read`); for a read that has a completion, on
/// the NVRAM's thread that calls completions. It is called once for each request, and for several at the same time
/// where several threads make them: what it touches is its own affair to guard.
///
/// No lock is held meanwhile, so that it may call everything of the NVRAM, and block; see `NVRAM` for what then waits.
/// Where it throws, its request fails with `.fields`: nothing was written, or some fields may have been set.
public typealias NVRAMCallback =
  @Sendable (_ operation: NVRAMOperation, _ visitor: any Visitor, _ entry: EntryName) throws(VisitorError) -> Void

/// An entry that a device has registered. What changes of it is touched in the machine's transitions alone, with its lock.
package final class RegisteredEntry: @unchecked Sendable {
  let specification: EntrySpecification
  /// `nil` for an entry of raw bytes.
  let callback: NVRAMCallback?
  /// Requests that have not ended, completions among them, and callbacks that run.
  var uses = 0
  /// Where who deregisters it waits for those.
  var deregistering: Parker?

  package init(_ specification: EntrySpecification, _ callback: NVRAMCallback?) {
    self.specification = specification
    self.callback = callback
  }

  var name: EntryName { specification.name }
  var capacity: UInt64 { specification.capacity.value }
}
