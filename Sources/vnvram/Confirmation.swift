import ProgramIO

/// What a person must say at the terminal before something is given up.
enum Confirmation {
  /// Returns only after the word.
  ///
  /// - Parameters:
  ///   - question: without the end that says what to type.
  ///   - nothing: what follows from another answer, with the name that it is about.
  ///   - otherwise: what to do where there is no terminal.
  /// - Throws: `.refused`.
  static func ask(_ question: String, nothing: String, otherwise: String) throws {
    let answer: String
    do { answer = try Terminal.readAnswer("\(question) Type yes: ") } catch {
      throw Failure(.refused, "\(nothing): there is no terminal to ask at; \(otherwise)")
    }
    guard answer == "yes" else { throw Failure(.refused, nothing) }
  }
}
