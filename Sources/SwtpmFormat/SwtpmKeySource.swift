import Crypto
import Glibc
import Primitives
import ProgramIO

/// Where a key of swtpm's kind comes from: what `--key` and `--migration-key` say.
public struct SwtpmKeySource: Sendable, Equatable {
  public enum Place: Sendable, Equatable {
    case file(String)
    /// Read to its end, and closed; in the place of standard input there is nothing then. Neither 1 nor 2.
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
    let key = try key(from: try raw(try read()))
    try removeFile()
    return key
  }

  /// The key that swtpm has of what was given.
  public func key(from secret: borrowing Secret) throws(SwtpmKeyError) -> SwtpmKey {
    switch secret {
    case .key(let bytes): return SwtpmKey(bytes.copy())
    case .password(let password):
      guard case .password(let derivation) = kind else { preconditionFailure("a password has a derivation") }
      do { return try SwtpmKey(password: password, derivation, count: count) } catch {
        throw SwtpmKeyError(error.status, "\(name): \(error)")
      }
    }
  }

  /// What was given itself.
  public enum Secret: ~Copyable, Sendable {
    /// 16 or 32 bytes.
    case key(SecretBytes)
    /// At least one byte: all of its file.
    case password(SecretBytes)
  }

  /// Reads it, and derives nothing from a password. Throws as `load` does.
  public func loadSecret() throws(SwtpmKeyError) -> Secret {
    let secret = try raw(try read())
    try removeFile()
    return secret
  }

  private func read() throws(SwtpmKeyError) -> SecretBytes {
    do {
      switch place {
      case .file(let path): return try InputFile(path: path).readSecret(limit: Self.limit)
      case .descriptor(let number):
        defer { Self.leave(number) }
        return try InputFile(descriptor: number, name: name).readSecret(limit: Self.limit)
      }
    } catch { throw SwtpmKeyError(error.status, "\(error)") }
  }

  /// Were standard input left closed, the next file to be opened would take its number, and a daemon puts another in
  /// its place.
  private static func leave(_ number: Int32) {
    let nothing = number == 0 ? unsafe open("/dev/null", O_WRONLY | O_CLOEXEC) : -1
    guard nothing > 0 else {
      close(number)
      return
    }
    dup2(nothing, number)
    close(nothing)
  }

  private func removeFile() throws(SwtpmKeyError) {
    guard removesFile, case .file(let path) = place, unsafe unlink(path) != 0 else { return }
    throw SwtpmKeyError(.inputOutput, "\(path): can't be removed: \(unsafe String(cString: strerror(errno)))")
  }

  /// For messages.
  public var name: String {
    switch place {
    case .file(let path): path
    case .descriptor(let number): "descriptor \(number)"
    }
  }

  private func raw(_ content: consuming SecretBytes) throws(SwtpmKeyError) -> Secret {
    switch kind {
    case .binary:
      guard content.count == count else {
        throw SwtpmKeyError(.wrongKey, "\(name): has \(content.count) bytes; the key must have \(count)")
      }
      return .key(content)
    case .hexadecimal:
      guard let key = SwtpmKey.secret(hexadecimal: content, count: count) else {
        throw SwtpmKeyError(.wrongKey, "\(name): is not a key of \(2 * count) hexadecimal digits")
      }
      return .key(key)
    case .password:
      guard content.count > 0 else { throw SwtpmKeyError(.wrongKey, "\(name): has no password") }
      return .password(content)
    }
  }
}

/// A key that couldn't be had.
public struct SwtpmKeyError: StatusError, Equatable {
  public let status: Status
  public let description: String

  public init(_ status: Status, _ description: String) {
    self.status = status
    self.description = description
  }
}

extension SwtpmKeyError: UsageError {
  package static func usage(_ message: String) -> Self { SwtpmKeyError(.usage, message) }
}
