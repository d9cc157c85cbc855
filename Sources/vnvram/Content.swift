import BlobStore
import Primitives
import ProgramIO

/// New content for an entry, on its way from a file or a pipe.
///
/// A regular file is read when it is staged. Anything else is read at once, up to the entry's capacity, so that what is
/// too large shows before an image is touched, and no image stays locked while somebody types. What it held is wiped.
final class Content {
  private let input: InputFile
  private let total: UInt64?
  private let json: Bool
  /// What has been read, for input of unknown size.
  private var held = ByteBuffer(count: 0)
  private var heldCount = 0

  /// Opens a file; `-` is standard input.
  init(path: String, json: Bool) throws {
    input = try InputFile(path: path)
    total = input.remaining
    self.json = json
  }

  /// In bytes; `nil` for a pipe.
  var size: UInt64? { total }

  /// Reads what has to be read first.
  ///
  /// - Throws: `.noSpace` where it is larger than the entry's capacity.
  func prepare(for entry: EntrySpecification, of image: String) throws {
    if let total {
      if total > entry.capacity.value { throw tooLarge("has \(total) bytes", entry, image) }
      return
    }
    var progress = ProgressLine("reading", total: nil, json: json)
    held = ByteBuffer(count: 65536)
    while true {
      let got = try input.read(into: held.mutableSpan(heldCount..<held.count))
      heldCount += got
      if UInt64(heldCount) > entry.capacity.value { throw tooLarge("has more", entry, image) }
      if heldCount < held.count { return }
      var larger = ByteBuffer(count: held.count * 2)
      larger.copy(from: held)
      held = larger
      progress.update(UInt64(heldCount))
    }
  }

  /// Stages it as all of an entry's content; returns its size. Memory is taken for all of it.
  func stage(as name: EntryName, in store: BlobStore) throws -> UInt64 {
    guard let total else {
      var content = ByteBuffer(count: 0)
      swap(&content, &held)
      try store.stageReplace(name, content.span(0..<heldCount))
      return UInt64(heldCount)
    }
    var progress = ProgressLine(name.text, total: total, json: json)
    try store.stageReplace(name, [UInt8]().span)
    var window = ByteBuffer(count: 1 << 18)
    var offset: UInt64 = 0
    while true {
      let count = try input.read(into: window.mutableSpan)
      try store.stage(name, at: ByteOffset(offset), window.span(0..<count))
      offset += UInt64(count)
      progress.update(offset)
      if count < window.count { return offset }
    }
  }

  private func tooLarge(_ what: String, _ entry: EntrySpecification, _ image: String) -> Failure {
    Failure(
      .noSpace,
      "\(image): entry \"\(entry.name)\" has room for \(entry.capacity.value) bytes, and \(input.name) \(what); nothing was "
        + "changed; `vnvram entry resize` gives it more room",
      fields: [("capacity", .unsigned(entry.capacity.value))])
  }
}
