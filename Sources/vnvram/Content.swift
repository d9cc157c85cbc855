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
  private var held = PieceBuffer(pieceSize: 65536)
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
    while true {
      let got = try input.read(into: held.mutableSpan(held.append()))
      heldCount += got
      if UInt64(heldCount) > entry.capacity.value { throw tooLarge("has more", entry, image) }
      if got < held.pieceSize { return }
      progress.update(UInt64(heldCount))
    }
  }

  /// Stages it as all of an entry's content; returns its size. Memory is taken for what differs from what is there.
  func stage(as name: EntryName, in store: BlobStore) throws -> UInt64 {
    var progress = ProgressLine(name.text, total: total, json: json)
    var done: UInt64 = 0
    return try store.stageReplace(name) { (piece) throws in
      let count = total == nil ? takeHeld(from: Int(done), into: piece) : try input.read(into: piece)
      done += UInt64(count)
      progress.update(done)
      return count
    }.value
  }

  /// Fills as much of `destination` as there is from byte `start` of what was read.
  private func takeHeld(from start: Int, into destination: consuming MutableSpan<UInt8>) -> Int {
    let count = min(destination.count, heldCount - start)
    var done = 0
    while done < count {
      let (piece, skipped) = (start + done).quotientAndRemainder(dividingBy: held.pieceSize)
      let part = min(count - done, held.pieceSize - skipped)
      destination.copy(from: held.span(piece).extracting(skipped..<skipped + part), at: done)
      done += part
    }
    return count
  }

  private func tooLarge(_ what: String, _ entry: EntrySpecification, _ image: String) -> Failure {
    Failure(
      .noSpace,
      "\(image): entry \"\(entry.name)\" has room for \(entry.capacity.value) bytes, and \(input.name) \(what); "
        + "nothing was changed; `vnvram entry resize` gives it more room",
      fields: [("capacity", .unsigned(entry.capacity.value))])
  }
}
