/// `--tpmstate`: where the TPM's state lies. swtpm's `dir=` and other backends come later.
public struct StateLocation: Sendable {
  /// The image's path.
  public let image: String

  private static let scheme = "vnvram://"

  /// Parses `backend-uri=vnvram://IMAGE`.
  public init(parsing text: String) throws(TPMError) {
    var list = try KeyValueList(text, option: "--tpmstate")
    guard let uri = try list.value("backend-uri") else {
      throw .usage("--tpmstate: backend-uri=vnvram://IMAGE is needed")
    }
    try list.finish()
    guard uri.hasPrefix(Self.scheme), uri.utf8.count > Self.scheme.utf8.count else {
      throw .usage("--tpmstate: \"\(uri)\" is not of the form vnvram://IMAGE")
    }
    image = String(uri.dropFirst(Self.scheme.count))
  }
}
