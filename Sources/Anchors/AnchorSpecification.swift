import Glibc
import Primitives
import SecureVolume

/// An anchor as people name it, in an option or in the environment.
///
///     FILE or DIRECTORY                     a file, or UUID.anchor in a directory
///     tpm:INDEX,FILE[,tcti=CONFIGURATION]   a file and an NV counter of the host's TPM
///     generation:N                          nothing but a number that the image must have reached
///     none                                  no anchor, where the environment names one
public enum AnchorSpecification: Equatable, Sendable {
  case file(String)
  case tpm(index: UInt32, file: String, tcti: String)
  case generation(Generation)
  case none

  /// The environment's word for the anchor, where an option says nothing.
  public static let variable = "VNVRAM_ANCHOR"

  /// For messages about what can't be understood.
  public static let syntax = "FILE, tpm:INDEX,FILE[,tcti=CONFIGURATION], generation:N, or none"

  /// The file, or the directory with files, that it needs; it must be there when the store is opened.
  public var file: String? {
    switch self {
    case .file(let path), .tpm(_, let path, _): path
    case .generation, .none: nil
    }
  }

  /// The same with its file's path made absolute, for who goes to another folder.
  public func absolute(_ make: (String) -> String) -> AnchorSpecification {
    switch self {
    case .file(let path): .file(make(path))
    case .tpm(let index, let path, let tcti): .tpm(index: index, file: make(path), tcti: tcti)
    case .generation, .none: self
    }
  }

  /// Whether its TPM is no device, and tpm2-tss may connect to it anew for each command.
  public var isReachedBySockets: Bool {
    if case .tpm(_, _, let tcti) = self { !tcti.hasPrefix("device") } else { false }
  }

  public init?(_ text: String) {
    guard !text.isEmpty, !text.utf8.contains(0) else { return nil }
    if text == "none" {
      self = .none
    } else if text.hasPrefix("generation:") {
      guard let number = UInt64(text.dropFirst(11)), number < 1 << 63 else { return nil }
      self = .generation(Generation(number))
    } else if text.hasPrefix("tpm:") {
      guard let parsed = Self.parseTPM(text.dropFirst(4)) else { return nil }
      self = parsed
    } else {
      self = .file(text)
    }
  }

  private static func parseTPM(_ text: Substring) -> AnchorSpecification? {
    let parts = text.split(separator: ",", maxSplits: 1, omittingEmptySubsequences: false)
    guard parts.count == 2 else { return nil }
    let digits = parts[0].hasPrefix("0x") ? parts[0].dropFirst(2) : parts[0]
    // TPM 2.0 Library, part 2: NV indexes are the handles 0x01000000 to 0x01FFFFFF.
    guard let index = UInt32(digits, radix: 16), index >> 24 == 1 else { return nil }
    // A configuration may have commas, and so comes last.
    let rest = parts[1]
    var (file, tcti) = (rest, Substring(TPMCounterAnchor.defaultTCTI))
    if let mark = firstRange(of: ",tcti=", in: rest) {
      file = rest[..<mark.lowerBound]
      tcti = rest[mark.upperBound...]
    }
    guard !file.isEmpty, !tcti.isEmpty else { return nil }
    return .tpm(index: index, file: String(file), tcti: String(tcti))
  }

  private static func firstRange(of word: String, in text: Substring) -> Range<Substring.Index>? {
    var start = text.startIndex
    while start < text.endIndex {
      let rest = text[start...]
      if rest.hasPrefix(word) { return start..<text.index(start, offsetBy: word.count) }
      start = text.index(after: start)
    }
    return nil
  }

  /// What the environment says; `nil` where it says nothing, or in a set-user-ID program.
  ///
  /// - Throws: `.refused` where it can't be understood: an anchor is never left out by accident.
  public static func ofEnvironment() throws(AnchorError) -> AnchorSpecification? {
    guard getuid() == geteuid(), getgid() == getegid(), let value = unsafe getenv(variable) else { return nil }
    // Set and empty is a mistake, as in a unit file whose variable has no value.
    let text = unsafe String(cString: value)
    guard let specification = AnchorSpecification(text) else {
      throw AnchorError(.refused, anchor: variable, "is no anchor: it is \(syntax)")
    }
    return specification
  }

  /// The anchor; `nil` for `none`. A TPM is connected to, and stays so; files are opened when they are needed.
  ///
  /// - Throws: as `TPMCounterAnchor` does.
  public func make() throws(AnchorError) -> (any FreshnessAnchor)? {
    switch self {
    case .file(let path): FileAnchor(path: path)
    case .tpm(let index, let file, let tcti): try TPMCounterAnchor(index: index, file: file, tcti: tcti)
    case .generation(let least): ExpectedGeneration(least)
    case .none: nil
    }
  }
}
