import Primitives
import SecureVolume
import TestSupport
import Testing

@testable import vnvram

/// The printed form of recovery keys (FORMAT §3).
struct RecoveryKeyTests {
  private func print(_ bytes: [UInt8]) throws -> [UInt8] {
    let key = SecretBytes(copying: bytes.span)
    let text = try RecoveryKey.text(of: key)
    return text.span.array
  }

  private func read(_ text: [UInt8]) throws -> [UInt8] {
    let printed = SecretBytes(copying: text.span)
    let key = try RecoveryKeyInput.parse(printed)
    return key.span.array
  }

  @Test("printed and read") func roundTrip() throws {
    var bytes = [UInt8](repeating: 0, count: 32)
    for i in bytes.indices { bytes[i] = UInt8(i * 7 & 0xFF) }
    let printed = try print(bytes)
    let text = String(decoding: printed, as: UTF8.self)
    // The last group was computed with sha256sum.
    #expect(text == "00070e15-1c232a31-383f464d-545b6269-70777e85-8c939aa1-a8afb6bd-c4cbd2d9-c6a9")
    for form in [text, text.uppercased(), "  " + text.replacing("-", with: " \t-")] {
      #expect(try read(Array(form.utf8)) == bytes)
    }
  }

  @Test("any slip of one digit is noticed") func slips() throws {
    let bytes = [UInt8](repeating: 0xA5, count: 32)
    let printed = try print(bytes)
    var missed = 0
    for i in printed.indices where printed[i] != 0x2D {
      var wrong = printed
      wrong[i] = wrong[i] == 0x30 ? 0x31 : 0x30
      if (try? read(wrong)) != nil { missed += 1 }
    }
    #expect(missed == 0)
  }

  @Test("too short, too long, and what is no digit", arguments: ["", "00", String(repeating: "0", count: 69), "xyz"])
  func malformed(_ text: String) {
    #expect(throws: Failure.self) { try read(Array(text.utf8)) }
  }

  @Test("sizes on the command line") func sizes() {
    #expect(Size.parse("0") == 0)
    #expect(Size.parse("12") == 12)
    #expect(Size.parse("4K") == 4096)
    #expect(Size.parse("3M") == 3 << 20)
    #expect(Size.parse("2G") == 2 << 30)
    #expect(Size.parse("18446744073709551615") == UInt64.max)
    for text in ["", "K", "-1", "+1", "1k", "1 K", "0x10", "18446744073709551616", "18446744073709551615K", "１"] {
      #expect(Size.parse(text) == nil)
    }
  }
}
