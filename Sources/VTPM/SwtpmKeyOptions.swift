import SwtpmFormat

extension SwtpmKeySource {
  /// `SwtpmKeySource.init(option:value:)` with the server's errors.
  public init(parsing text: String, option: String) throws(TPMError) {
    do { self = try SwtpmKeySource(option: option, value: text) } catch { throw .usage(error.description) }
  }
}
