import BlobStore
import Primitives

/// `NAME=SIZE`: an entry and its capacity.
enum EntryArgument {
  /// - Throws: `.usage` where it isn't of that form; `.noSpace` where name or size are over a limit.
  static func parse(_ text: String) throws -> EntrySpecification {
    // A name may hold the sign itself; a size doesn't.
    guard let sign = text.utf8.lastIndex(of: UInt8(ascii: "=")) else {
      throw Failure(.usage, "\(Text.quoted(text)) is not of the form NAME=SIZE, as in permall=256K")
    }
    let name = try name(String(text[..<sign]))
    return EntrySpecification(
      name: name, capacity: try capacity(String(text[text.utf8.index(after: sign)...]), of: name))
  }

  /// A name that an entry may bear.
  static func name(_ text: String) throws -> EntryName {
    guard text.utf8.count <= EntryName.maximumSize else {
      throw Failure(
        .noSpace,
        "the entry's name \(Text.quoted(text)) has \(text.utf8.count) bytes, and at most \(EntryName.maximumSize) are "
          + "allowed")
    }
    do { return try EntryName(text) } catch {
      throw Failure(
        .usage,
        "\(Text.quoted(text)) can't be an entry's name: it has to have at least 1 byte and no control characters")
    }
  }

  static func capacity(_ text: String, of name: EntryName) throws -> ByteCount {
    guard let size = Size.parse(text) else {
      throw Failure(
        .usage, "\(Text.quoted(text)) is not a size for entry \"\(name)\": digits, and K, M or G if you like")
    }
    guard (1...EntrySpecification.maximumCapacity).contains(size) else {
      throw Failure(
        .noSpace,
        "entry \"\(name)\": \(size) bytes are not within the limits of 1 to \(EntrySpecification.maximumCapacity)")
    }
    return ByteCount(size)
  }
}
