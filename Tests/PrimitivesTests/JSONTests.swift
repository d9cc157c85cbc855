import Foundation
import Primitives
import Testing

@Suite struct JSONTests {
  @Test func values() {
    let value: JSON = ["a": 1, "b": [true, .null, "x"], "c": .unsigned(.max), "d": .integer(.min), "e": [:], "f": []]
    #expect(
      value.text
        == #"{"a":1,"b":[true,null,"x"],"c":18446744073709551615,"d":-9223372036854775808,"e":{},"f":[]}"#)
  }

  @Test func escapes() {
    #expect(JSON.string("\"\\\n\r\t").text == #""\"\\\n\r\t""#)
    #expect(JSON.string("\u{0}\u{1B}[2J\u{7F}\u{9B}").text == #""\u0000\u001b[2J\u007f\u009b""#)
    #expect(JSON.string("größe 鍵 😀").text == "\"größe 鍵 😀\"")
    #expect(JSON.object([("a\"b", 1)]).text == #"{"a\"b":1}"#)
  }

  /// Foundation's parser, which shares no code with this, reads back what every scalar below U+3000 became.
  @Test func anotherParserReadsIt() throws {
    let text = String(String.UnicodeScalarView((0..<0x3000).compactMap { Unicode.Scalar($0) }))
    let json = JSON.array([.string(text)]).text
    let parsed = try JSONSerialization.jsonObject(with: Data(json.utf8)) as? [String]
    #expect(parsed.map { Array($0[0].utf8) } == Array(text.utf8))
    #expect(!json.unicodeScalars.contains { $0.properties.generalCategory == .control })
  }
}
