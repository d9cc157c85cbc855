import Crypto
import Glibc
import Primitives
import ProgramIO

/// Where a key of swtpm's kind comes from: what `--key` and `--migration-key` say.
public struct SwtpmKeySource: Sendable, Equatable {
  public enum Place: Sendable, Equatable {
    case file(String)
    /// Read to its end, and closed.
    case descriptor(Int32)
  }

  public enum Kind: Sendable, Equatable {
    case hexadecimal
    case binary
    case password(SwtpmKey.Derivation)
  }

  public var place: Place
  public var kind: Kind
  /// 16 or 32 bytes.
  public var count: Int
  /// The file is removed once it was read. (Not overwritten: what that would reach is up to the file system.)
  public var removesFile = false

  public init(_ place: Place, _ kind: Kind, count: Int) {
    precondition(count == 16 || count == 32)
    self.place = place
    self.kind = kind
    self.count = count
  }

  /// No password file is longer.
  private static let limit = 4096

  /// Reads it. Throws where it can't be read, and where it is no such key; messages name the place and never what is
  /// in it.
  public func load() throws(SwtpmKeyError) -> SwtpmKey {
    let content: SecretBytes
    do {
      switch place {
      case .file(let path): content = try InputFile(path: path).readSecret(limit: Self.limit)
      case .descriptor(let number):
        defer { close(number) }
        content = try InputFile(descriptor: number, name: name).readSecret(limit: Self.limit)
      }
    } catch { throw SwtpmKeyError(error.status, "\(error)") }
    let key = try make(content)
    if removesFile, case .file(let path) = place, unsafe unlink(path) != 0 {
      throw SwtpmKeyError(.inputOutput, "\(path): can't be removed: \(unsafe String(cString: strerror(errno)))")
    }
    return key
  }

  private var name: String {
    switch place {
    case .file(let path): path
    case .descriptor(let number): "descriptor \(number)"
    }
  }

  private func make(_ content: consuming SecretBytes) throws(SwtpmKeyError) -> SwtpmKey {
    switch kind {
    case .binary:
      guard content.count == count else {
        throw SwtpmKeyError(.wrongKey, "\(name): has \(content.count) bytes; the key must have \(count)")
      }
      return SwtpmKey(content)
    case .hexadecimal:
      guard let key = SwtpmKey(hexadecimal: content, count: count) else {
        throw SwtpmKeyError(.wrongKey, "\(name): is not a key of \(2 * count) hexadecimal digits")
      }
      return key
    case .password(let derivation):
      guard content.count > 0 else { throw SwtpmKeyError(.wrongKey, "\(name): has no password") }
      do { return try SwtpmKey(password: content, derivation, count: count) } catch {
        throw SwtpmKeyError(error.status, "\(name): \(error)")
      }
    }
  }
}

/// A key that couldn't be had.
public struct SwtpmKeyError: StatusError, Equatable {
  public let status: Status
  public let description: String

  init(_ status: Status, _ description: String) {
    self.status = status
    self.description = description
  }
}
