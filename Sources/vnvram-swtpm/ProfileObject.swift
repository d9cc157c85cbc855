import VTPM

/// A profile as it is written: one JSON object (RFC 8259) whose values are strings and whole numbers. Anything else
/// isn't one.
struct ProfileObject {
  enum Value: Equatable {
    case text(String)
    case number(Int)
  }

  private(set) var members: [String: Value] = [:]

  /// `{"Name":"NAME"}`.
  init(name: String) { members["Name"] = .text(name) }

  /// Nil where it isn't one, or where a name comes twice.
  init?(_ bytes: [UInt8]) {
    var reader = Reader(bytes: bytes)
    guard let members = reader.object(), reader.isAtEnd else { return nil }
    self.members = members
  }

  static func check(_ bytes: [UInt8], from place: String) throws(TPMError) {
    guard let object = ProfileObject(bytes) else {
      throw .usage(
        "\(OptionName.profile.rawValue): \(place): that is no profile, which is a JSON object with a \"Name\"")
    }
    try object.check()
  }

  /// Throws where it isn't the profile that there is: another name, or other content under its name.
  func check() throws(TPMError) {
    let option = OptionName.profile.rawValue
    guard case .text(let name) = members["Name"] else { throw .usage("\(option): the profile has no \"Name\"") }
    guard name == TPMProfile.name else {
      throw .usage(
        "\(option): \"\(name)\" can't be had: a TPM 2.0 here has the profile \"\(TPMProfile.name)\", as --print-profiles says; "
          + "others need libtpms 0.10")
    }
    let fixed: [String: Value] = [
      "StateFormatLevel": .number(TPMProfile.stateFormatLevel), "Commands": .text(TPMProfile.commands),
      "Algorithms": .text(TPMProfile.algorithms), "Attributes": .text(""),
    ]
    for (member, value) in members where member != "Name" && member != "Description" {
      guard fixed[member] == value else {
        throw .usage("\(option): the profile \"\(name)\" can't be changed, and this one has its own \"\(member)\"")
      }
    }
  }
}

/// Takes an object apart, from the front.
private struct Reader {
  let bytes: [UInt8]
  private var place = 0

  init(bytes: [UInt8]) { self.bytes = bytes }

  var isAtEnd: Bool {
    mutating get {
      skipSpace()
      return place == bytes.count
    }
  }

  mutating func object() -> [String: ProfileObject.Value]? {
    var members: [String: ProfileObject.Value] = [:]
    guard take("{") else { return nil }
    if take("}") { return members }
    repeat {
      guard let name = text(), take(":"), let value = value(), members.updateValue(value, forKey: name) == nil else {
        return nil
      }
    } while take(",")
    return take("}") ? members : nil
  }

  private mutating func value() -> ProfileObject.Value? {
    if let text = text() { return .text(text) }
    let digits = bytes[place...].prefix { (UInt8(ascii: "0")...UInt8(ascii: "9")).contains($0) }
    place += digits.count
    return Int(String(decoding: digits, as: UTF8.self)).map { .number($0) }
  }

  /// A string, of which escapes that profiles have no use for (\u) are not read.
  private mutating func text() -> String? {
    guard take("\"") else { return nil }
    var content: [UInt8] = []
    while place < bytes.count {
      let byte = bytes[place]
      place += 1
      switch byte {
      case UInt8(ascii: "\""): return String(validating: content, as: UTF8.self)
      case UInt8(ascii: "\\"):
        guard place < bytes.count, let plain = Self.escaped(bytes[place]) else { return nil }
        content.append(plain)
        place += 1
      case 0..<0x20: return nil
      default: content.append(byte)
      }
    }
    return nil
  }

  private static func escaped(_ byte: UInt8) -> UInt8? {
    switch byte {
    case UInt8(ascii: "\""), UInt8(ascii: "\\"), UInt8(ascii: "/"): byte
    case UInt8(ascii: "n"): 0x0A
    case UInt8(ascii: "r"): 0x0D
    case UInt8(ascii: "t"): 0x09
    default: nil
    }
  }

  private mutating func take(_ mark: Unicode.Scalar) -> Bool {
    skipSpace()
    guard place < bytes.count, bytes[place] == UInt8(ascii: mark) else { return false }
    place += 1
    return true
  }

  private mutating func skipSpace() {
    while place < bytes.count, [0x20, 0x09, 0x0A, 0x0D].contains(bytes[place]) { place += 1 }
  }
}
