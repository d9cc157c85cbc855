import Primitives
import StorageSimulation
import Testing

@testable import BlobStore

/// A device as the documentation has it, with every type of field.
private struct Device: Equatable {
  struct Register: Equatable {
    var algorithm: UInt16 = 0
    var digest: [UInt8] = []
  }

  var isEnabled = false
  var tries: UInt32 = 0
  var numbers = (i8: Int8(0), i16: Int16(0), i32: Int32(0), i64: Int64(0), u8: UInt8(0), u64: UInt64(0))
  var owner = ""
  var registers: [Register] = []
  var lockout: UInt64?
  var nickname: String?

  static func == (a: Device, b: Device) -> Bool {
    a.isEnabled == b.isEnabled && a.tries == b.tries && a.numbers == b.numbers && a.owner == b.owner
      && a.registers == b.registers && a.lockout == b.lockout && a.nickname == b.nickname
  }

  mutating func fields(_ operation: NVRAMOperation, _ v: any Visitor) throws(VisitorError) {
    try v.structure("device", extensible: true) { () throws(VisitorError) in
      try v.visit("enabled", &isEnabled)
      try v.visit("tries", &tries)
      try v.structure("numbers") { () throws(VisitorError) in
        try v.visit("i8", &numbers.i8)
        try v.visit("i16", &numbers.i16)
        try v.visit("i32", &numbers.i32)
        try v.visit("i64", &numbers.i64)
        try v.visit("u8", &numbers.u8)
        try v.visit("u64", &numbers.u64)
      }
      try v.visit("owner", &owner, max: 64)
      try v.list("registers", &registers, max: 24, new: Register()) { (register) throws(VisitorError) in
        try v.structure("register") { () throws(VisitorError) in
          try v.visit("algorithm", &register.algorithm)
          try v.visit("digest", &register.digest, max: 64)
        }
      }
      try v.optional("lockout", &lockout, new: 0) { (until) throws(VisitorError) in try v.visit("until", &until) }
      try v.optional("nickname", &nickname, new: "") { (text) throws(VisitorError) in
        try v.visit("text", &text, max: 10)
      }
    }
  }

  var encoded: [UInt8] {
    get throws {
      var copy = self
      let visitor = DEROutputVisitor(limit: 1 << 16)
      try copy.fields(.write, visitor)
      return visitor.withContent { $0.array }
    }
  }

  init() {}

  init(_ bytes: [UInt8]) throws {
    let visitor = DERInputVisitor(bytes)
    try fields(.read, visitor)
    try visitor.finish()
  }

  static func random(_ random: inout SeededGenerator) -> Device {
    var device = Device()
    device.isEnabled = Bool.random(using: &random)
    // Numbers of every length.
    func number() -> UInt64 {
      UInt64.random(in: 0...UInt64.max, using: &random) >> UInt64.random(in: 0..<64, using: &random)
    }
    device.tries = UInt32(truncatingIfNeeded: number())
    device.numbers = (
      Int8(truncatingIfNeeded: number()), Int16(truncatingIfNeeded: number()), Int32(truncatingIfNeeded: number()),
      Bool.random(using: &random) ? Int64(truncatingIfNeeded: number()) : .min, UInt8(truncatingIfNeeded: number()),
      number()
    )
    device.owner = String(repeating: "ß", count: Int.random(in: 0...32, using: &random))
    device.registers = (0..<Int.random(in: 0...24, using: &random)).map { _ in
      let count = Int.random(in: 0...64, using: &random)
      return Register(algorithm: UInt16(truncatingIfNeeded: number()), digest: random.bytes(count))
    }
    if Bool.random(using: &random) { device.lockout = number() }
    if Bool.random(using: &random) { device.nickname = "nick" }
    return device
  }
}

extension DERInputVisitor {
  fileprivate convenience init(_ bytes: [UInt8]) { self.init(bytes.span) }
}

/// The code of the error that `body` throws.
private func code(_ body: () throws -> Void) -> VisitorError.Code? {
  do {
    try body()
    return nil
  } catch { return (error as? VisitorError)?.code }
}

/// Reads one value.
private func read<I: FixedWidthInteger>(_ bytes: [UInt8], as: I.Type) throws -> I {
  var value: I = 0
  let visitor = DERInputVisitor(bytes)
  try visitor.visit("n", &value)
  try visitor.finish()
  return value
}

struct VisitorTests {
  @Test func roundTrips() throws {
    var random = SeededGenerator(seed: 2)
    var device = Device()
    let maximum = try SizingVisitor.maximumSize { (operation, v) throws(VisitorError) in
      try device.fields(operation, v)
    }
    for _ in 0..<200 {
      let device = Device.random(&random)
      let bytes = try device.encoded
      let again = try Device(bytes)
      #expect(again == device)
      #expect(try again.encoded == bytes)
      #expect(bytes.count <= Int(maximum.value))
    }
  }

  /// The exact bytes, so that the encoding is what the documentation says and stays it.
  @Test func encoding() throws {
    var device = Device()
    device.isEnabled = true
    device.tries = 0x8000_0000
    device.numbers = (-128, -129, 128, .min, 255, .max)
    device.owner = "é"
    device.registers = [Device.Register(algorithm: 11, digest: [1, 2])]
    device.nickname = "x"
    let numbers =
      der(2, [0x80]) + der(2, [0xFF, 0x7F]) + der(2, [0, 0x80]) + der(2, [0x80, 0, 0, 0, 0, 0, 0, 0])
      + der(2, [0, 0xFF])
      + der(2, [0] + [UInt8](repeating: 0xFF, count: 8))
    let expected = der(
      0x30,
      der(1, [0xFF]) + der(2, [0, 0x80, 0, 0, 0]) + der(0x30, numbers) + der(0x0C, [0xC3, 0xA9])
        + der(0x30, der(0x30, der(2, [11]) + der(4, [1, 2]))) + der(0xA1, der(0x0C, [0x78])))
    #expect(try device.encoded == expected)
  }

  /// The maximum is reached.
  @Test func sizing() throws {
    var device = Device()
    device.tries = .max
    device.numbers = (.min, .min, .min, .min, .max, .max)
    device.owner = String(repeating: "a", count: 64)
    device.registers = [Device.Register](
      repeating: Device.Register(algorithm: .max, digest: [UInt8](repeating: 1, count: 64)), count: 24)
    device.lockout = .max
    device.nickname = "0123456789"
    let bytes = try device.encoded
    var empty = Device()
    let maximum = try SizingVisitor.maximumSize { (operation, v) throws(VisitorError) in
      #expect(operation == .format)
      try empty.fields(operation, v)
    }
    #expect(Int(maximum.value) == bytes.count)
    #expect(empty == Device())
    #expect(
      code {
        _ = try SizingVisitor.maximumSize { (_, v) throws(VisitorError) in
          var bytes: [UInt8] = []
          try v.visit("huge", &bytes, max: .max)
        }
      } == nil)
  }

  @Test func integers() throws {
    #expect(try read([2, 1, 0x7F], as: Int8.self) == 127)
    #expect(try read([2, 1, 0x80], as: Int8.self) == -128)
    #expect(try read([2, 9, 0, 255, 255, 255, 255, 255, 255, 255, 255], as: UInt64.self) == .max)
    #expect(try read([2, 8, 0x80, 0, 0, 0, 0, 0, 0, 0], as: Int64.self) == .min)
    for (bytes, expected) in [
      ([2, 0], .malformed), ([2, 2, 0, 0x7F], .malformed), ([2, 2, 0xFF, 0x80], .malformed), ([2, 1], .malformed),
      ([2, 2, 0, 0x80], .outOfRange), ([2, 2, 0xFF, 0x7F], .outOfRange), ([4, 1, 1], .wrongType), ([], .wrongType),
      ([2, 0x81, 1, 1], .malformed), ([2, 9, 1, 0, 0, 0, 0, 0, 0, 0, 0], .outOfRange),
      ([2, 10, 0, 128, 0, 0, 0, 0, 0, 0, 0, 0], .outOfRange), ([2, 1, 1, 0], .malformed),
    ] as [([UInt8], VisitorError.Code)] {
      #expect(code { _ = try read(bytes, as: Int8.self) } == expected, "\(bytes)")
    }
    #expect(code { _ = try read([2, 1, 0xFF], as: UInt64.self) } == .outOfRange)
    #expect(code { _ = try read([2, 9, 0, 128, 0, 0, 0, 0, 0, 0, 0], as: Int64.self) } == .outOfRange)
    #expect(code { _ = try read([2, 9, 1, 0, 0, 0, 0, 0, 0, 0, 0], as: UInt64.self) } == .outOfRange)
    #expect(code { _ = try read([2, 9, 0x80, 0, 0, 0, 0, 0, 0, 0, 0], as: Int64.self) } == .outOfRange)
    for value in -70000...70000 where value % 7 == 0 || abs(value) < 300 {
      var number = value
      let visitor = DEROutputVisitor(limit: 20)
      try visitor.visit("n", &number)
      let bytes = visitor.withContent { $0.array }
      #expect(try read(bytes, as: Int.self) == value)
      #expect((try? read(bytes, as: UInt16.self)) == UInt16(exactly: value))
    }
  }

  @Test func textAndBytes() {
    func string(_ bytes: [UInt8]) -> VisitorError.Code? {
      code {
        var text = ""
        try DERInputVisitor(bytes).visit("s", &text, max: 3)
      }
    }
    #expect(string([0x0C, 3, 0x61, 0x61, 0x61]) == nil)
    #expect(string([0x0C, 4, 0x61, 0x61, 0x61, 0x61]) == .tooLong)
    #expect(string([0x0C, 2, 0xC0, 0x80]) == .malformed)
    #expect(string([0x0C, 0x84, 0x7F, 0xFF, 0xFF, 0xFF]) == .malformed)
    #expect(string([0x04, 1, 0x61]) == .wrongType)
    #expect(
      code {
        var text = "four"
        try DEROutputVisitor(limit: 100).visit("s", &text, max: 3)
      } == .tooLong)
    #expect(
      code {
        var bytes = [UInt8](repeating: 0, count: 100)
        try DEROutputVisitor(limit: 101).visit("b", &bytes, max: 100)
      } == .noRoom)
    #expect(
      code {
        var flag = false
        try DERInputVisitor([1, 1, 1]).visit("b", &flag)
      } == .malformed)
  }

  @Test func lists() {
    func list(_ bytes: [UInt8]) -> VisitorError.Code? {
      code {
        var values: [UInt8] = []
        try DERInputVisitor(bytes).list("l", &values, max: 2, new: 0) { (value) throws(VisitorError) in
          // A structure that is empty in the input must not loop for ever.
          try DERInputVisitor([2, 1, 1]).visit("other", &value)
        }
      }
    }
    #expect(list(der(0x30, [])) == nil)
    func numbers(_ bytes: [UInt8]) -> VisitorError.Code? {
      code {
        var values: [UInt8] = []
        let visitor = DERInputVisitor(bytes)
        try visitor.list("l", &values, max: 2, new: 0) { (value) throws(VisitorError) in try visitor.visit("n", &value)
        }
      }
    }
    #expect(numbers(der(0x30, [2, 1, 1, 2, 1, 2])) == nil)
    #expect(numbers(der(0x30, [2, 1, 1, 2, 1, 2, 2, 1, 3])) == .tooLong)
    #expect(numbers(der(0x30, [2, 1, 1, 4, 0])) == .wrongType)
    #expect(numbers(der(0x30, [2, 1, 1, 2, 3, 0])) == .malformed)
  }

  // MARK: Versions

  private func newer(_ more: [UInt8]) throws -> [UInt8] {
    let bytes = try Device().encoded
    let header = try DERHeader(bytes.span, at: 0)
    return der(0x30, Array(bytes[header.size...]) + more)
  }

  @Test func unknownFields() throws {
    #expect(try Device(newer(der(0x04, [1]) + der(0xA2, der(2, [1])) + der(0x30, der(0x30, [])))) == Device())
    for (more, expected) in [
      ([4, 2, 1], .malformed), ([4, 0x81, 1, 1], .malformed), ([0x30, 2, 4, 1], .malformed),
      ([0x30, 0x80, 0, 0], .malformed),
      ([0x1F, 1, 0], .malformed), (der(0xA1, der(0x0C, [])) + der(0xA0, der(2, [1])), .malformed),
      (der(0xA0, der(2, [1])) + der(0xA0, der(2, [1])), .malformed), (der(0xA0, der(2, [1]) + der(2, [1])), .malformed),
    ] as [([UInt8], VisitorError.Code)] {
      #expect(code { _ = try Device(newer(more)) } == expected, "\(more)")
    }
    var deep = der(4, [])
    for _ in 0..<20 { deep = der(0x30, deep) }
    #expect(code { _ = try Device(newer(deep)) } == .tooDeep)
    // A structure that isn't extensible.
    var device = Device()
    let error = code {
      let visitor = DERInputVisitor(der(0x30, [2, 1, 1, 2, 1, 2]))
      try visitor.structure("s") { () throws(VisitorError) in try visitor.visit("tries", &device.tries) }
    }
    #expect(error == .unknownField)
  }

  @Test func depthOfADescription() {
    func nest(_ v: any Visitor, _ depth: Int) throws(VisitorError) {
      try v.structure("s") { () throws(VisitorError) in if depth > 1 { try nest(v, depth - 1) } }
    }
    #expect(code { try nest(SizingVisitor(), 16) } == nil)
    #expect(code { try nest(SizingVisitor(), 17) } == .tooDeep)
    #expect(code { try nest(DEROutputVisitor(limit: 100), 17) } == .tooDeep)
  }

  /// Every byte changed: refused, or the one encoding of what was read. (The device is extensible, so that bytes of
  /// unknown fields would go; here none can come about but by shortening what is known.)
  @Test func everyByteChanged() throws {
    var random = SeededGenerator(seed: 4)
    var read = 0
    for _ in 0..<6 {
      let good = try Device.random(&random).encoded
      for offset in good.indices {
        for change in [0x01, 0x20, 0x80, 0xFF] as [UInt8] {
          var bytes = good
          bytes[offset] ^= change
          guard let device = try? Device(bytes) else { continue }
          read += 1
          let again = try device.encoded
          #expect(again == bytes || again.count < bytes.count, "byte \(offset) ^ \(change)")
        }
      }
    }
    #expect(read > 0)
  }

  @Test func pathInErrors() throws {
    var device = Device()
    let bytes = der(0x30, der(1, [0]) + der(2, [1]) + der(0x30, der(2, [1, 0])))
    let visitor = DERInputVisitor(bytes)
    let error = #expect(throws: VisitorError.self) { try device.fields(.read, visitor) }
    #expect(error?.field == "device.numbers.i8")
    #expect(error?.code == .outOfRange)
  }

  // MARK: In a store

  @Test func throughTheStore() throws {
    var random = SeededGenerator(seed: 6)
    var device = Device.random(&random)
    let capacity = try SizingVisitor.maximumSize { (operation, v) throws(VisitorError) in
      try device.fields(operation, v)
    }
    let (store, _) = try makeStore(
      [Item(name: "device", capacity: Int(capacity.value)), Item(name: "small", capacity: 5)], volumeSize: 1 << 16)
    try store.stageReplace("device") { (operation, v) throws(VisitorError) in try device.fields(operation, v) }
    try store.commit()
    var again = Device()
    try store.read("device") { (operation, v) throws(VisitorError) in try again.fields(operation, v) }
    #expect(again == device)
    let noRoom = thrown {
      try store.stageReplace("small") { (operation, v) throws(VisitorError) in try device.fields(operation, v) }
    }
    #expect(noRoom?.status == .noSpace)
    let empty = thrown {
      try store.read("small") { (operation, v) throws(VisitorError) in try again.fields(operation, v) }
    }
    #expect(empty?.status == .notAuthentic)
  }
}
