/// What happened to a key. The raw values are stable names: programs that read the log match on them.
public enum AuditEvent: String, Sendable, CaseIterable {
  /// A key is about to be looked for.
  case askedFor = "asked-for"
  /// It is there and is about to be used.
  case found
  case missing
  /// It is there and may not be read.
  case denied
  case expired
  case revoked
  /// It opens nothing in the store, or can't be a key at all.
  case wrong
  /// It gave up the store key.
  case unwrapped
  /// Its bytes were read, to be compared with those that were tried before, and for nothing else.
  case compared
  /// What was recorded last of this key happened again, `AuditRecord.count` times: see `RepeatedRecords`.
  case repeated
  /// A key was put into a keyring, or a slot into a store.
  case added
  case removed
  /// The image was opened with the store key.
  case started
  /// The store key was right, and the image was not opened: it isn't authentic, or is older than its anchor.
  case imageRefused = "image-refused"
  /// A running store dropped its keys.
  case locked
  /// The store key is in no process any more.
  case ended
  /// Key material left the process, for a person or a file to keep.
  case exported
  /// A store was made.
  case formatted
  /// Somebody took an image for the newest that its anchor had refused, or that had none.
  case rollbackAccepted = "rollback-accepted"
  /// A verified copy of a store was made, which the same keys open.
  case backedUp = "backed-up"
  /// An image of the store with another block size was made, which the same keys open.
  case converted
  /// A copy took a store's place.
  case restored
  /// A host forgot that an image was made in a file or device: a new TPM may be made there.
  case markerForgotten = "marker-forgotten"
  /// The state of a TPM came into a store from swtpm's storage.
  case imported
}
