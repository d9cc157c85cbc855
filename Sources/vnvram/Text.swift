/// Text for people: what comes from outside can't steer a terminal, and columns line up.
enum Text {
  /// Control characters, and those that change the direction of text, as `\u{…}`.
  static func escaped(_ text: String) -> String {
    guard text.unicodeScalars.contains(where: mustBeEscaped) else { return text }
    var out = ""
    for scalar in text.unicodeScalars {
      if mustBeEscaped(scalar) {
        out += "\\u{\(String(scalar.value, radix: 16))}"
      } else {
        out.unicodeScalars.append(scalar)
      }
    }
    return out
  }

  private static func mustBeEscaped(_ scalar: Unicode.Scalar) -> Bool {
    switch scalar.properties.generalCategory {
    case .control, .format, .lineSeparator, .paragraphSeparator: true
    default: false
    }
  }

  /// At most `count` characters, with an ellipsis where something was left out.
  static func shortened(_ text: String, to count: Int) -> String {
    text.count <= count ? text : text.prefix(count) + "…"
  }

  /// `name` in quotation marks, escaped and shortened, for messages.
  static func quoted(_ name: String) -> String { "\"\(escaped(shortened(name, to: 120)))\"" }

  /// `1 entry`, `2 entries`.
  static func count(_ number: Int, _ one: String, _ many: String) -> String { "\(number) \(number == 1 ? one : many)" }

  /// Rows in columns two blanks apart. Columns of numbers are set to the right.
  static func table(_ rows: [[String]], right: Set<Int> = []) -> [String] {
    let cells = rows.map { $0.map(escaped) }
    let columns = cells.map(\.count).max() ?? 0
    let widths = (0..<columns).map { column in cells.map { column < $0.count ? $0[column].count : 0 }.max() ?? 0 }
    return cells.map { row in
      var line = ""
      for (column, cell) in row.enumerated() {
        let blanks = String(repeating: " ", count: widths[column] - cell.count)
        let isLast = column == row.count - 1
        line += right.contains(column) ? blanks + cell : isLast ? cell : cell + blanks
        if !isLast { line += "  " }
      }
      return line
    }
  }
}
