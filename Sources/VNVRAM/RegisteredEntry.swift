import BlobStore
import Primitives

/// What a device gives to be called: it visits its fields, and reading, writing and sizing follow from that. It may be
/// called on any thread, one call at a time for each request; what it touches is its own affair to guard.
public typealias NVRAMCallback =
  @Sendable (_ operation: NVRAMOperation, _ visitor: any Visitor, _ entry: EntryName) throws(VisitorError) -> Void

/// An entry that a device has registered. Guarded by the NVRAM's lock, but for what is constant.
package final class RegisteredEntry {
  let specification: EntrySpecification
  /// `nil` for an entry of raw bytes.
  let callback: NVRAMCallback?
  /// Requests that were accepted and have not ended, completions among them.
  var outstanding = 0

  package init(_ specification: EntrySpecification, _ callback: NVRAMCallback?) {
    self.specification = specification
    self.callback = callback
  }

  var name: EntryName { specification.name }
  var capacity: UInt64 { specification.capacity.value }
}
