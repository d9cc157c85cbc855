import Primitives

// Entries whose content is a device's fields in DER: the 2013 design's callback, once for reading, writing and sizing.
extension BlobStore {
  /// Has `fields` set from an entry's committed content.
  ///
  /// - Parameter limit: the most bytes of content to take memory for.
  /// - Throws: `.noSuchEntry`; `.tooLarge` above `limit`; `.fields` where the content isn't what `fields` describes (an
  ///   entry never written has no bytes, which is no field).
  public func read(
    _ name: EntryName, limit: Int = 1 << 24, fields: NVRAMFields
  ) throws(BlobStoreError) {
    let size = directory.sizes[try index(of: name)]
    guard size <= UInt64(max(0, limit)) else {
      throw BlobStoreError(
        .tooLarge, store: self.name, entry: name, "entry \"\(name)\" has \(size) bytes, and \(limit) are the limit here"
      )
    }
    var content = ByteBuffer(count: Int(size))
    try read(name, into: content.mutableSpan)
    let visitor = DERInputVisitor(content, count: Int(size))
    do {
      try fields(.read, visitor)
      try visitor.finish()
    } catch { throw fieldsError(error, of: name) }
  }

  /// Stages the replacement of an entry's content by what `fields` visits.
  ///
  /// - Throws: `.noSuchEntry`; `.fields` where a value is above its maximum or all are more than the capacity; what the
  ///   volume throws. Nothing is staged then.
  public func stageReplace(_ name: EntryName, fields: NVRAMFields) throws(BlobStoreError) {
    let capacity = directory.layout.places[try index(of: name)].capacity
    let visitor = DEROutputVisitor(limit: Int(capacity))
    do { try fields(.write, visitor) } catch { throw fieldsError(error, of: name) }
    try visitor.withContent { (content) throws(BlobStoreError) in try stageReplace(name, content) }
  }

  private func fieldsError(_ error: VisitorError, of name: EntryName) -> BlobStoreError {
    BlobStoreError(.fields(error), store: self.name, entry: name, "entry \"\(name)\": \(error)")
  }
}
