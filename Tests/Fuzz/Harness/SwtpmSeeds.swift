import Primitives

@testable import SwtpmFormat

// What the corpora of `swtpm` begins with, and messages with states for that of `control`.
extension Seeds {
  /// The head of what Debian's swtpm 0.7.1 wrote for a fresh TPM 2.0 and a TPM 1.2, with libtpms' magic number.
  private static let states: [(String, [UInt8])] = [
    ("tpm2", [0, 3, 0xAB, 0x36, 0x47, 0x23, 0, 3, 0, 3] + (0..<50).map { UInt8($0) }),
    ("tpm12", [0, 1, 0, 0x22] + [UInt8](repeating: 0, count: 40)), ("empty", []),
  ]

  private static func container(_ state: [UInt8], _ count: Int, isMigration: Bool = false) -> [UInt8] {
    let key = count == 0 ? nil : SwtpmTarget.key(count)
    do {
      return isMigration
        ? try SwtpmContainer.migrationBlob(of: state.span, migrationKey: key)
        : try SwtpmContainer.file(of: state.span, key: key)
    } catch { fatalError("\(error)") }
  }

  static var swtpm: [Seed] {
    var seeds: [Seed] = []
    for (name, state) in states {
      for (kind, count) in [(UInt8(0), 0), (1, 16), (2, 32)] {
        seeds.append(("file-\(name)-\(count)", [kind] + container(state, count)))
        seeds.append(("blob-\(name)-\(count)", [kind] + container(state, count, isMigration: true)))
        seeds.append(("other-key-\(name)-\(count)", [2 - kind / 2] + container(state, count)))
        seeds.append(("made-\(name)-\(count)", [7, kind] + state))
      }
      let files: [(kind: SwtpmStateKind, bytes: [UInt8])] = [
        (.permall, container(state, 0)), (.volatilestate, container(state, 16)), (.savestate, [1]),
      ]
      for count in 0...3 {
        seeds.append(("single-\(name)-\(count)", [4] + SwtpmSingleFile.file(of: Array(files.prefix(count)))))
      }
    }
    // Both keys, each kind of vector, a padding that is right and one that isn't, and headers that are hit.
    let paddings: [[UInt8]] = [
      [UInt8](repeating: 16, count: 16), [UInt8](repeating: 32, count: 32),
      [1, 2, 3] + [UInt8](repeating: 13, count: 13),
      [UInt8](repeating: 0, count: 16), [UInt8](repeating: 33, count: 48), [7] + [UInt8](repeating: 2, count: 15), [],
    ]
    for (index, padding) in paddings.enumerated() {
      for flags in [UInt8(0), 1, 4, 5] {
        let content = [UInt8(padding.count)] + padding
        seeds.append(("sealed-\(index)-\(flags)", [3, flags] + content))
        for vector in UInt8(0)..<4 where index < 2 {
          seeds.append(("vector-\(index)-\(flags)-\(vector)", [3, flags | 2, vector] + content))
        }
        seeds.append(("flags-\(index)-\(flags)", [3, flags | 8] + content + [1 << (flags & 3)]))
        seeds.append(("hit-\(index)-\(flags)", [3, flags | 64] + content + [0, UInt8(index), 0]))
      }
    }
    let digits = "0123456789abcdefFEDCBA9876543210"
    let keys: [(String, UInt8, String)] = [
      ("hex", 0, digits), ("hex-256", 1, digits + digits), ("hex-0x", 0, "0x\(digits)\n"), ("hex-short", 0, "0x01"),
      ("hex-blanks", 0, "\(digits) \t\r\n"), ("hex-long", 0, digits + "00"), ("hex-none", 0, "g" + digits),
    ]
    for (name, count, text) in keys { seeds.append((name, [5, count] + Array(text.utf8))) }
    for flags in UInt8(0)..<8 where flags & 2 == 2 {
      seeds.append(("password-\(flags)", [5, 0x80 | flags] + Array("correct horse\n".utf8)))
    }
    let options = [
      "file=/k", "file=/k,format=binary,mode=aes-256-cbc,remove", "fd=7,format=hex,mode=aes-cbc,remove=true",
      "pwdfile=/p,kdf=sha512", "pwdfd=9,kdf=pbkdf2,mode=aes-128-cbc,remove=false", "pwdfd=9,kdf=md5", "fd=-1", "fd=x",
      "file=", "file=/k,fd=7", "mode=aes-cbc", "file=/k,mode=x", "file=/k,format=x", "file=/k,remove=x",
      "file=/k,kdf=x",
      "file=/k,file=/l", "file", "file=/k,,fd=1", "", "file=/k,format", "file=\0",
    ]
    for (index, text) in options.enumerated() { seeds.append(("option-\(index)", [6] + Array(text.utf8))) }
    seeds.append(("option-long", [6] + [UInt8](repeating: 0x61, count: 4097)))
    var header = SwtpmSingleFile.file(of: [(.permall, [1, 2])])
    seeds.append(("single-version", [4] + header.enumerated().map { $0 == 8 ? 2 : $1 }))
    seeds.append(("single-size", [4] + header.enumerated().map { $0 == 10 ? 193 : $1 }))
    seeds.append(("single-magic", [4] + header.dropFirst()))
    seeds.append(("single-cut", [4] + header.prefix(191)))
    header.replaceSubrange(24..<36, with: header[12..<24])
    seeds.append(("single-twice", [4] + header))
    header[48] = 1
    seeds.append(("single-fourth", [4] + header.enumerated().map { (48..<60).contains($0) ? header[$0 - 36] : $1 }))
    seeds.append(("single-outside", [4] + header.enumerated().map { $0 == 14 ? 0x7F : $1 }))
    return seeds
  }

  /// Commands with TCG's prefix, and those that set the locality.
  static var dataPrefixes: [Seed] {
    let random: [UInt8] = [0x80, 1, 0, 0, 0, 12, 0, 0, 1, 0x7B, 0, 8]
    let probe: [UInt8] = [0x80, 1, 0, 0, 0, 10, 0, 0, 1, 0x81]
    func message(_ bytes: [UInt8]) -> [UInt8] { [0, UInt8(bytes.count)] + bytes }
    func prefixed(_ locality: UInt8, _ bytes: [UInt8], size: Int? = nil) -> [UInt8] {
      message([0, 0, 0, 8, locality, 0, 0, 0, UInt8(size ?? bytes.count)] + bytes)
    }
    var seeds: [Seed] = []
    for locality in UInt8(0)...5 {
      for flags in [UInt8(0), 8, 16, 24] {
        let set: [UInt8] = [0x80, 1, 0, 0, 0, 11, 0x20, 0, 0x10, 0, locality]
        seeds.append(("locality-\(flags)-\(locality)", [flags] + message(set) + message(random)))
        if flags < 16 { seeds.append(("prefix-\(flags)-\(locality)", [flags] + prefixed(locality, random))) }
      }
    }
    return seeds + [
      ("prefix-probe", [4] + prefixed(0, probe)), ("prefix-held", [4, 4, 1] + prefixed(1, random) + [4, 2]),
      ("prefix-size", [0] + prefixed(0, random, size: 11)), ("prefix-refused", [4, 4, 0] + prefixed(0, random)),
      ("prefix-twice", [0] + prefixed(3, random) + message(random) + prefixed(0, probe)),
      ("prefix-cut", [0, 0, 12, 0, 0, 0, 8, 0, 0, 0, 0, 12, 0x80, 1, 0] + message([0, 0, 12, 0, 0, 1, 0x7B, 0, 8])),
      ("locality-short", [16] + message([0x80, 1, 0, 0, 0, 10, 0x20, 0, 0x10, 0])),
    ]
  }

  /// The commands of newer protocols that carry states and descriptors: each alone and after INIT.
  static var controlStates: [Seed] {
    let stop: [UInt8] = [0, 0, 0, 0x0E]
    let initialize: [UInt8] = [0, 0, 0, 2, 0, 0, 0, 0]
    func message(_ bytes: [UInt8]) -> [UInt8] { [1, UInt8(bytes.count)] + bytes }
    func long(_ bytes: [UInt8]) -> [UInt8] { [3, 0x80, UInt8(bytes.count >> 8), UInt8(bytes.count & 0xFF)] + bytes }
    func get(_ type: UInt8, _ offset: UInt8 = 0) -> [UInt8] {
      [0, 0, 0, 0x0C, 0, 0, 0, 1, 0, 0, 0, type, 0, 0, 0, offset]
    }
    func set(_ type: UInt8, _ blob: [UInt8], flags: UInt8 = 0) -> [UInt8] {
      [0, 0, 0, 0x0D, 0, 0, 0, flags, 0, 0, 0, type, 0, 0, UInt8(blob.count >> 8), UInt8(blob.count & 0xFF)] + blob
    }
    var seeds: [Seed] = []
    for type in UInt8(1)...4 {
      seeds.append(("get-\(type)", [0] + message(initialize) + message(get(type)) + message(get(type, 200))))
      seeds.append(("get-key-\(type)", [2] + message(initialize) + message(get(type))))
      seeds.append(("get-off-\(type)", [0] + message(get(type))))
      for count in [0, 16, 32] {
        let blob = container(states[0].1, count, isMigration: true)
        seeds.append(("set-\(type)-\(count)", [2] + message(stop) + long(set(type, blob)) + message(initialize)))
      }
      let nothing = set(type, [])
      seeds.append(
        ("set-none-\(type)", [0] + message(initialize) + message(stop) + message(nothing) + message(initialize)))
    }
    let blob = container(states[0].1, 0, isMigration: true)
    seeds += [
      ("set-running", [0] + message(initialize) + long(set(1, blob))),
      ("set-flags", [2] + long(set(1, blob, flags: 2))),
      ("set-pieces", [0] + message(Array(set(1, blob).prefix(40))) + message(Array(set(1, blob).dropFirst(40)))),
      ("set-cut", [0] + message(Array(set(1, blob).prefix(30))) + [4, 2, 200] + message(stop)),
      ("set-huge", [0] + message([0, 0, 0, 0x0D, 0, 0, 0, 0, 0, 0, 0, 1, 0, 5, 0, 0])),
      ("set-malformed", [0] + long(set(1, [1] + blob)) + message(initialize)),
      ("config", [2] + message([0, 0, 0, 0x0F])), ("buffer", [0] + message([0, 0, 0, 0x11, 0, 0, 0x0F, 0x80])),
      ("descriptor", [0, 15, 4, 0, 0, 0, 0x10]), ("descriptors", [0, 15, 4, 0, 0, 0, 0x10, 15, 4, 0, 0, 0, 0x10]),
      ("descriptor-late", [0] + message([0, 0]) + [15, 2, 0, 0x10]),
      ("no-descriptor", [0] + message([0, 0, 0, 0x10])),
      ("lock", [0] + message([0, 0, 0, 0x13, 0, 0, 0, 5])),
      ("lock-late", [0, 7, 1, 0] + message([0, 0, 0, 0x13, 0, 0, 0, 0])),
      ("info", [0] + message([0, 0, 0, 0x12, 0, 0, 0, 0, 0, 0, 0, 7, 0, 0, 0, 9, 0, 0, 0, 0])),
    ]
    return seeds
  }
}
