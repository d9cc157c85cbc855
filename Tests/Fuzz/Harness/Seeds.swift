import Primitives

@testable import BlobStore
@testable import SecureVolume

/// What a corpus begins with: inputs made from real images, streams, transcripts of swtpm's protocol and lines of the
/// kernel's, so that a fuzzer needn't guess formats.
public enum Seeds {
  public typealias Seed = (name: String, bytes: [UInt8])

  /// `vectors` are files of Tests/Vectors/images, by name.
  public static func seeds(of target: FuzzTarget, vectors: [(name: String, text: String)]) -> [Seed] {
    switch target {
    case .image: vectors.compactMap { image($0.name, $0.text) } + moments
    case .sealed: sealed
    case .anchor: anchors
    case .stream: streams
    case .layout: layouts
    case .fields: fields
    case .control: control + controlStates
    case .data: data + dataPrefixes
    case .guest: guest
    case .keys: keys
    case .swtpm: swtpm
    }
  }

  private static func big(_ value: Int, _ count: Int) -> [UInt8] {
    (0..<count).map { UInt8(truncatingIfNeeded: value >> (8 * (count - 1 - $0))) }
  }

  private static func unhex(_ text: String) -> [UInt8] { CorpusFile.unhex(text.utf8.filter { $0 != 0x20 }) ?? [] }

  // MARK: Images

  /// A published vector as an input of `ImageTarget`'s own bytes (FORMAT §11).
  private static func image(_ name: String, _ text: String) -> Seed? {
    let lines = text.utf8.split(separator: 0x0A, omittingEmptySubsequences: false).map { Substring($0) }
    guard let empty = lines.firstIndex(of: ""), let key = lines.first(where: { $0.utf8.starts(with: "key: ".utf8) }),
      unhex(String(key.dropFirst(5))) == ImageTarget.vectorKey,
      let size = lines.first(where: { $0.utf8.starts(with: "size: ".utf8) }).flatMap({ Int($0.dropFirst(6)) }),
      size <= ImageTarget.largest
    else { return nil }
    var bytes = [ImageTarget.rawFlag] + big(size, 3)
    for line in lines[(empty + 1)...] {
      let parts = line.split(separator: " ")
      guard parts.count == 2, let offset = Int(parts[0], radix: 16), let data = CorpusFile.unhex(parts[1].utf8) else {
        continue
      }
      bytes += big(offset, 3) + [UInt8(data.count - 1)] + data
    }
    // The larger ones differ from these in what they hold more of; a corpus is to stay small.
    return bytes.count <= 2600 ? (name, bytes) : nil
  }

  /// Each store at some moments of its life; whole, and with parts of another moment in it.
  private static var moments: [Seed] {
    (0..<3).flatMap { store in
      (0..<UInt8(16)).flatMap { moment -> [Seed] in
        let head = [UInt8(store), moment &* 3]
        return [
          ("moment-\(store)-\(moment)", head + [0]),
          // The headers, the ring, or the tables of three images later.
          ("headers-\(store)-\(moment)", head + [0, 2, moment &* 3 + 3, 0, 31]),
          ("ring-\(store)-\(moment)", head + [0, 2, moment &* 3 + 3, 32, store == 2 ? 127 : 63]),
          ("tables-\(store)-\(moment)", head + [0, 2, moment &* 3 + 3, store == 2 ? 160 : 96, 63]),
          ("short-\(store)-\(moment)", head + [0, 5] + big(300_000, 3)),
        ]
      }
    }
  }

  private static var sealed: [Seed] {
    var seeds: [Seed] = []
    for store in 0..<UInt8(3) {
      for moment in stride(from: UInt8(0), to: 48, by: 4) {
        seeds.append(("moment-\(store)-\(moment)", [store, moment, 0, 0]))
        seeds.append(("failing-\(store)-\(moment)", [store, moment, 0, 2 | moment << 2]))
      }
    }
    // One more than it was, and zero, in every field of each structure, in both copies and in one.
    let structures = [
      (UInt8(0), "header", SealedTarget.header), (4, "record", SealedTarget.record), (6, "leaf", SealedTarget.leaf),
    ]
    for (operation, kind, fields) in structures {
      for field in fields.indices.map({ UInt8($0) }) {
        for (index, moment) in [UInt8(2), 9, 20].enumerated() {
          seeds.append(("\(kind)-\(field)-\(moment)", [0, moment, 0, 0, operation, UInt8(index), field, 0]))
        }
      }
    }
    for field in SealedTarget.slot.indices.map({ UInt8($0) }) {
      seeds.append(("slot-\(field)", [0, 6, 0, 0, 2, 2, 0, field, 0]))
      seeds.append(("slot-passphrase-\(field)", [0, 6, 0, 0, 2, 2, 0, 0, 13 + 3, 2, 2, 0, field, 14]))
    }
    for field in 0..<UInt8(5) { seeds.append(("entry-\(field)", [1, 3, 0, 0, 5, 0, 0, field, 0])) }
    for moment in [UInt8(0), 3, 12, 40] {
      seeds.append(("commit-\(moment)", [0, moment, 0, 0, 8, 3, 0, 1, 4]))
      seeds.append(("two-\(moment)", [1, moment, 0, 0, 8, 2, 1, 2, 8, 1, 3]))
      seeds.append(("table-\(moment)", [1, moment, 0, 0, 0, 2, 27, 0]))
      seeds.append(("stray-\(moment)", [0, moment, 0, 0, 9, 0, 60, 12, 0, 0, 9]))
    }
    for sectors in [UInt8(1), 8, 40] {
      for sizes in 0..<UInt8(3) {
        seeds.append(("geometry-\(sectors)-\(sizes)", [0, 0, 0, 0, 10, sizes, sectors]))
      }
    }
    seeds.append(("copies", [0, 5, 0, 0, 11, 0]))
    seeds.append(("copies-back", [0, 5, 0, 0, 11, 1]))
    seeds.append(("slots-copied", [0, 1, 0, 0, 3, 2, 0, 1, 3, 2, 0, 2]))
    seeds.append(("slots-copied-recovery", [0, 40, 0, 4, 3, 2, 1, 2]))
    return seeds
  }

  /// Every pair of a few moments, each way of opening, and every field of a record changed.
  private static var anchors: [Seed] {
    var seeds: [Seed] = []
    for flags in 0..<UInt8(128) { seeds.append(("flags-\(flags)", [flags % 3, 30, 20, flags])) }
    for image in [UInt8(0), 10, 20, 47] {
      for record in [UInt8(0), 20, 47] {
        for flags in [UInt8(0), 2, 6] {
          seeds.append(("moments-\(image)-\(record)-\(flags)", [0, image, record, flags]))
        }
      }
    }
    for offset in [UInt8(0), 8, 12, 16, 32, 39, 40, 48, 55, 56, 72, 80, 112, 223, 224] {
      for flags in [UInt8(0), 1, 2] {
        seeds.append(("record-\(offset)-\(flags)", [0, 30, 30, flags, 0, offset, 0x80]))
      }
    }
    seeds.append(("name", [0, 30, 20, 160]))
    return seeds
  }

  // MARK: Streams

  private static func stream(_ entries: [(String, Int, [UInt8])]) -> [UInt8] {
    let specifications = entries.map {
      EntrySpecification(name: EntryName(stringLiteral: $0.0), capacity: ByteCount($0.1))
    }
    guard let layout = try? StreamLayout(specifications) else { return [] }
    var bytes = [UInt8](repeating: 0, count: Int(layout.size.value))
    var window = bytes.mutableSpan
    layout.fill(from: 0, sizes: entries.map { UInt64($0.2.count) }, into: &window)
    for (place, entry) in zip(layout.places, entries) { window.copy(from: entry.2.span, at: Int(place.content)) }
    return bytes
  }

  private static var streams: [Seed] {
    func element(_ tag: UInt8, _ content: [UInt8]) -> [UInt8] { StreamTarget.element(tag, content) }
    let magic = element(0x0C, Array("qemu-nvram".utf8))
    func old(_ blob: [UInt8]) -> [UInt8] {
      element(0x30, magic + element(0x30, element(0x0C, Array("tpm".utf8)) + blob))
    }
    let size: [UInt8] = [4, 8, 0, 0, 0, 0, 0, 0, 0, 1]
    let made: [(String, [UInt8])] = [
      ("empty", stream([])), ("one", stream([("a", 5, [1, 2])])), ("two", stream([("a", 200, [1]), ("é", 1, [])])),
      ("padded", stream([("vars", 4096, [7, 8, 9])])),
      ("padded-twice", stream([("rtc", 60, []), ("tpm", 5000, [1]), ("vars", 4200, [])])),
      ("old-sequence", old(element(0x30, element(2, [1]) + element(4, [1, 2, 3])))), ("old-octets", old([4, 2, 1, 2])),
      ("old-empty", old([0x30, 0])), ("old-two-contents", old(element(0x30, size + [4, 1, 7] + [4, 1, 7]))),
      ("old-padding-alone", old(element(0x30, size + [0x80, 1, 0]))),
      ("padding-misplaced", old(element(0x30, size + [0x80, 1, 0] + [4, 1, 7]))),
      ("size-alone", old(element(0x30, size))),
      ("size-large", old(element(0x30, [4, 8, 0, 0, 0, 0, 0, 0, 0, 9, 4, 1, 7]))),
      ("duplicate", element(0x30, magic + [0x30, 5, 0x0C, 1, 0x61, 4, 0] + [0x30, 5, 0x0C, 1, 0x61, 4, 0])),
      ("name-empty", element(0x30, magic + [0x30, 4, 0x0C, 0, 4, 0])),
      ("name-control", element(0x30, magic + [0x30, 5, 0x0C, 1, 9, 4, 0])),
      (
        "name-long", element(0x30, magic + element(0x30, element(0x0C, [UInt8](repeating: 0x61, count: 121)) + [4, 0]))
      ),
      ("behind-blob", element(0x30, magic + [0x30, 7, 0x0C, 1, 0x61, 4, 0, 5, 0])),
      ("indefinite", [0x30, 0x80] + magic + [0, 0]), ("not-minimal", [0x30, 0x81, 12] + magic),
      ("long-tag", [0x3F, 0x81, 1]), ("huge", [0x30, 0x88, 0xFF] + [UInt8](repeating: 0, count: 7)),
      ("nine-lengths", [0x30, 0x89] + [UInt8](repeating: 1, count: 9)), ("leading-zero", [0x30, 0x82, 0, 12] + magic),
      ("longer", [0x30, 0x82, 0x40, 0] + magic),
      ("other-magic", element(0x30, element(0x0C, Array("qemu-nvran".utf8)))),
    ]
    return made.flatMap { name, bytes in
      [(name, [0] + bytes), ("\(name)-use", [7] + bytes)]
    }
  }

  private static var layouts: [Seed] {
    let head: [UInt8] = [0, 7] + big(1 << 20, 8) + [9]
    func entry(_ name: String, _ edge: UInt8, _ more: Int) -> [UInt8] {
      [UInt8(name.utf8.count)] + Array(name.utf8) + [edge] + big(more, 2) + [1]
    }
    return [
      ("one", head + entry("a", 1, 20)), ("page", head + entry("vars", 3, 0)),
      ("many", head + (0..<12).flatMap { entry("e\($0)", UInt8($0 & 7), $0 * 251) }),
      ("twice", head + entry("a", 1, 20) + entry("a", 1, 20)), ("none", head + entry("a", 0, 0)),
      ("largest", head + entry("a", 6, 8) + entry("b", 6, 9)), ("too-large", head + entry("a", 7, 0)),
      ("edge-64k", head + entry("a", 4, 100) + entry("b", 4, 130)), ("edge-16m", head + entry("a", 5, 1)),
    ] + (1..<UInt8(8)).map { ("blocks-\($0)", [$0] + head.dropFirst()) }
  }

  // MARK: Fields

  private static var fields: [Seed] {
    // Written by the one visitor, and then what was written for the other.
    let writing: [Seed] = [
      ("flag", [1, 0, 1]), ("number", [1, 1, 3, 7] + big(0x7FFF_FFFF, 8)), ("text", [1, 2, 9, 3, 0x61, 0xC3, 0xA9]),
      ("bytes", [1, 3, 1, 0, 4, 1, 2, 3, 4]),
      ("structure", [1, 4, 4, 0, 1, 4, 2, 20, 7, 0, 1, 200, 2, 0x61, 0x62, 1, 1]),
      ("extensible", [1, 5, 130, 0, 1, 0, 1, 44]), ("list", [1, 6, 5, 1, 1, 3, 9, 10, 11]),
      ("optionals", [1, 4, 3, 7, 0, 7, 1, 7, 7, 2, 5, 0, 1, 3, 1, 1, 0x61]),
      (
        "deep",
        [1] + [UInt8](repeating: 6, count: 1) + (0..<17).flatMap { _ in [5, 6] as [UInt8] } + [0]
          + [UInt8](repeating: 1, count: 20)
      ),
      ("deep-structures", [1] + (0..<18).flatMap { _ in [4, 1] as [UInt8] } + [0, 1]),
      ("integers", [1, 4, 8] + (0..<8).flatMap { [1, $0] as [UInt8] } + (0..<8).flatMap { _ in [7] + big(-129, 8) }),
      ("unsigned", [1, 4, 4] + (4..<8).flatMap { [1, $0] as [UInt8] } + (0..<4).flatMap { _ in [3] as [UInt8] }),
    ]
    let reading = writing.compactMap { seed in
      FieldsTarget.reading(seed.bytes).map { (name: "\(seed.name)-read", bytes: $0) }
    }
    let malformed: [Seed] = [
      ("flag-2", [0, 0, 1, 1, 2]), ("flag-long", [0, 0, 1, 2, 0, 0]), ("number-long", [0, 1, 0, 2, 2, 0, 1]),
      ("number-empty", [0, 1, 0, 2, 0]), ("number-large", [0, 1, 0, 2, 2, 1, 0]), ("text-bad", [0, 2, 9, 12, 1, 0xFF]),
      ("number-ten", [0, 1, 7, 2, 10, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0]), ("number-minus", [0, 1, 7, 2, 1, 0xFF]),
      ("text-long", [0, 2, 1, 12, 2, 0x61, 0x61]), ("more", [0, 0, 1, 1, 0, 5, 0]), ("absent", [0, 0]),
      ("unknown", [0, 4, 1, 0, 0x30, 5, 1, 1, 0, 5, 0]), ("unknown-skipped", [0, 4, 129, 0, 0x30, 5, 1, 1, 0, 5, 0]),
      ("unknown-nested", [0, 4, 129, 0, 0x30, 9, 1, 1, 0, 0x30, 4, 0x31, 2, 5, 0]),
      ("unknown-cut", [0, 4, 129, 0, 0x30, 5, 1, 1, 0, 5, 3]), ("unknown-bad", [0, 4, 129, 0, 0x30, 4, 1, 1, 0, 0x1F]),
      (
        "unknown-deep",
        [0, 4, 129, 0, 0x30, 0x2B, 1, 1, 0] + (0..<20).flatMap { [0x30, UInt8(38 - 2 * $0)] as [UInt8] }
      ),
      ("unknown-optional", [0, 4, 130, 7, 0, 0, 0x30, 8, 1, 1, 0, 0xA0, 3, 1, 1, 0]),
      ("optional-more", [0, 4, 1, 7, 0, 0x30, 7, 0xA0, 5, 1, 1, 0, 5, 0]),
      ("list-long", [0, 6, 1, 0, 0x30, 6, 1, 1, 0, 1, 1, 0]), ("longer", [0, 4, 1, 0, 0x30, 3, 1, 2, 0]),
      ("header-bad", [0, 0, 1, 0x80]),
    ]
    return writing + reading + malformed
  }

  // MARK: The server's channels

  /// Requests of swtpm's protocol, as VTPMTests and QEMU's start have them: all in one, and each alone.
  private static var control: [Seed] {
    let requests = [
      "00000004", "00000009", "0000000a", "0000000b 00", "0000000f", "00000011 00000000", "00000011 00000bb8",
      "00000012 0000000000000003 00001388 00000000", "00000012 0000010000000008 00000000 00000000", "00000099",
      "0000000e", "00000005 05", "00000005 01000000", "00000002 00000000", "0000000a", "0000000b 03", "0000000b 09",
      "00000011 00000000", "00000011 00000f80", "00000004", "00000009", "00000002 00000001", "00000001", "00000003",
      "00000012 0000000000000007 00000000 00000000", "00000002 00", "0000",
    ].map(unhex)
    let single = requests.enumerated().map { index, request in
      (name: "request-\(index)", bytes: [0, 1, UInt8(request.count)] + request)
    }
    let messages = requests.map { [1, UInt8($0.count)] + $0 }
    let initialize: [UInt8] = [1, 8] + unhex("00000002 00000000")
    let running = requests.enumerated().map { index, request in
      (name: "running-\(index)", bytes: [0] + initialize + [1, UInt8(request.count)] + request)
    }
    return single + running + [
      ("transcript", [0] + messages.flatMap { $0 }), ("connected", [1] + messages.flatMap { $0 }),
      ("held", [0, 7, 1, 0] + initialize + [0x10, 0x11, 4] + unhex("00000001") + [6, 0]),
      ("held-stop", [0, 7, 1, 0] + initialize + [0x10, 0x11, 4] + unhex("0000000e")),
      ("held-left", [0, 7, 1, 0] + initialize + [5, 6, 1]),
      ("late", [0, 1, 2, 0, 0, 4] + big(400, 2) + [4] + big(200, 2)),
      ("left", [0, 5, 0x10, 0x11, 4] + unhex("00000001")),
      ("failing", [0] + initialize + [7, 0, 3, 1, 4] + unhex("0000000a") + [1, 4] + unhex("0000000a")),
      ("failing-start", [0, 7, 0, 3] + initialize), ("deaf", [0] + (0..<40).flatMap { _ in messages[24] }),
      (
        "failing-deletion",
        [0] + initialize + [1, 4] + unhex("0000000a") + [7, 0, 3, 1, 8] + unhex("00000002 00000001")
      ),
    ]
  }

  private static var data: [Seed] {
    let commands: [(String, String)] = [
      ("startup", "8001 0000000c 00000144 0000"), ("shutdown", "8001 0000000c 00000145 0001"),
      ("family", "8001 00000016 0000017a 00000006 00000100 00000001"), ("random", "8001 0000000c 0000017b 0008"),
      ("probe", "8001 0000000a 00000181"), ("pcr-read", "8001 00000014 0000017e 00000001 000b 03 010000"),
      (
        "pcr-extend",
        "8002 00000041 00000182 00000000 00000009 40000009 0000 00 0000 00000001 000b "
          + "0000000000000000000000000000000000000000000000000000000000000001"
      ),
      ("nv-write", "8002 00000027 00000137 01800001 01800001 00000009 40000009 0000 00 0000 0004 01020304 0000"),
      ("nv-read", "8002 00000023 0000014e 01800001 01800001 00000009 40000009 0000 00 0000 0010 0000"),
      ("nv-public", "8001 0000000e 00000169 01800001"), ("too-short", "8001 00000009 00000144"),
      ("too-long", "8001 00001001 00000144"), ("bad-tag", "00c1 0000000c 00000099 0001"),
    ]
    let messages: [Seed] = commands.map { ($0.0, [0, UInt8(unhex($0.1).count)] + unhex($0.1)) }
    let all: [UInt8] = messages.dropLast(3).flatMap { $0.bytes }
    let (random, probe, write) = (messages[3].bytes, messages[4].bytes, messages[7].bytes)
    let made: [Seed] = [
      ("all", [0] + all), ("listening", [1, 0x15] + all), ("disconnecting", [3, 0x15] + random + [0x15] + random),
      ("held", [4, 4, 1] + probe + random + [4, 2] + random), ("held-left", [4, 4, 1] + random + [5]),
      ("held-refused", [4, 4, 1] + random + [4, 0] + random), ("cut", [0, 0, 5, 0x80, 1, 0, 0, 0, 5]),
      ("pieces", [0, 0, 5, 0x80, 1, 0, 0, 0, 0, 7, 12, 0, 0, 1, 0x7B, 0, 8]),
      ("failing", [0, 7, 3] + write + random), ("failing-start", [4, 7, 3, 4, 2] + random),
      ("locality", [0, 6, 3] + random), ("two", [0, 0, 24] + random.dropFirst(2) + random.dropFirst(2)),
    ]
    let on: [Seed] = messages.map { ($0.name, [0] + $0.bytes) }
    let off: [Seed] = messages.map { ("off-\($0.name)", [4] + $0.bytes) }
    return on + off + made
  }

  /// What a guest may send by QEMU, as operations of `GuestTarget`.
  private static var guest: [Seed] {
    let (random, probe) = (unhex("8001 0000000c 0000017b 0008"), unhex("8001 0000000a 00000181"))
    let reset = unhex("8002 0000001b 0000013d 00000014 00000009 40000009 0000 00 0000")
    let prefix = unhex("00000008 04 0000001b")
    let long = unhex("8001 00000f80 0000017b") + [UInt8](repeating: 0, count: 3958)
    func short(_ bytes: [UInt8]) -> [UInt8] { [0, UInt8(bytes.count)] + bytes }
    func whole(_ bytes: [UInt8]) -> [UInt8] { [1] + big(bytes.count, 2) + bytes }
    let late: [UInt8] = [6] + big(600, 2)
    return [
      ("random", [0] + short(random)), ("probe-off", [1] + short(probe)), ("reset", [0] + short(reset)),
      ("prefix", [0] + short(prefix + reset) + short(random)),
      ("kernel", [4] + short(unhex("8001 0000000b 20001000 02"))),
      ("prefix-buffer", [0] + whole(prefix + reset + [UInt8](repeating: 0, count: 3968 - 36)) + short(random)),
      ("two", [0] + short(random + random) + short(random)), ("more", [0] + short(random + [0]) + short(random)),
      ("less", [0] + short(Array(random.dropLast())) + late + short(random)), ("one", [0] + short([0x80]) + late),
      ("pieces", [0] + short(Array(random.prefix(5))) + short(Array(random.dropFirst(5)))),
      ("size-0", [0] + short(unhex("8001 00000000 0000017b"))),
      ("size-9", [0] + short(unhex("8001 00000009 0000017b"))),
      ("size-all", [0] + short(unhex("8001 ffffffff 0000017b"))), ("long", [0] + whole(long) + short(random)),
      ("longer", [0] + whole(long + [0]) + short(random)), ("small", [8] + whole(long) + short(random)),
      ("held", [1, 4, 1] + short(probe) + short(random) + short(random) + [4, 2] + short(random)),
      ("held-refused", [1, 4, 1] + short(random) + [4, 0]), ("locality", [0, 5, 3] + short(reset) + short(random)),
      (
        "failing",
        [0, 7, 3, 2, 1, 33] + unhex("01800001 01800001 00000009 40000009 0000 00 0000 0004 01020304 0000") + [24]
      ),
      ("made", [0, 2, 0, 2, 0, 8, 0x5C]), ("made-prefix", [0, 3, 0x42, 2, 0, 8, 0x5C, 0, 2, 0, 8, 0x5C]),
    ]
  }

  // MARK: Keys

  private static var keys: [Seed] {
    let lines: [(String, UInt8, String)] = [
      ("description", 0, "user;1000;-1;3f010000;vnvram:a;b"), ("keyring", 0, "keyring;0;0;3f1f0000;_ses"),
      ("nobody", 0, "user;-2;0;0;a"), ("wide", 0, "user;0;0;3f3f3f3f;vnvram:größe"),
      ("mark", 0, "user;0;0;3f010000;vnvram:\u{301}a"),
      ("proc", 1, "3c7ef6a7 I--Q---     1 expd 3f010000  1000   100 user      vnvram:t2: 4\n"),
      (
        "proc-two", 1,
        "03c1 IR-Q---     1 perm 1f3f0000     0 65534 keyring   _uid.0: empty\nx\n3c7ef6a7 I--Q--- 1 3m 3f010000 0 0 user vnvram:a\n"
      ),
      (
        "proc-return", 1,
        "16a36d53 I--Q--- 1 perm 3f010000 0 0 user x\r: 4\r\n3c7ef6a7 I--Q--- 1 3m 3f010000 0 0 user vnvram:a: 3\n"
      ),
      ("recovery", 2, "a721157b-73a1d22e-bbc9eb6f-9193b133-6275a45d-6a0221bd-9a96ce1e-d0863bff-49e1"),
      ("recovery-large", 2, "A721157B 73A1D22E\tBBC9EB6F9193b1336275a45d6a0221bd9a96ce1ed0863bff49E1\n"),
      ("recovery-slip", 2, "a721157b-73a1d22e-bbc9eb6f-9193b133-6275a45d-6a0221bd-9a96ce1e-d0863bff-49e2"),
      ("recovery-short", 2, "a721157b"), ("recovery-other", 2, "a721157g"),
      ("recovery-long", 2, String(repeating: "a", count: 70)),
      ("recovery-key", 3, "0123456789abcdef0123456789abcdef"), ("name", 4, "vm-17"), ("name-mark", 4, "\u{301}a"),
      ("name-ours", 4, "vnvram:größe"), ("name-space", 4, "a b"), ("name-long", 4, String(repeating: "a", count: 121)),
      ("name-dot", 4, ".a"), ("name-colon", 4, "a:b"),
      ("tcp", 7, "type=tcp,port=2321,bindaddr=127.0.0.1,disconnect"), ("tcp-bad", 7, "type=tcp,bindaddr=x,port=0"),
      ("tcp-no-port", 7, "type=tcp,bindaddr=::1"), ("tcp-only", 7, "type=tcp,port=1"),
      ("unix", 7, "type=unixio,path=/a,mode=0600,uid=0,gid=5"), ("unix-mode", 7, "type=unixio,path=/a,mode=01777"),
      ("unix-empty", 7, "type=unixio,path="), ("fd", 7, "type=tcp,fd=7"), ("clientfd", 7, "type=unixio,clientfd=5"),
      ("both", 7, "type=unixio,path=/a,fd=5"), ("type", 7, "type=x"), ("none", 7, "path=/a"),
      ("twice", 7, "type=tcp,type=tcp"),
      ("flags", 7, "not-need-init,startup-clear"), ("flags-two", 7, "startup-state,startup-none"),
      ("flags-old", 7, "startup-deactivated"), ("flags-value", 7, "not-need-init=1"),
      ("empty-item", 7, "type=tcp,,port=1"),
      ("no-value", 7, "type"), ("unknown", 7, "type=tcp,port=1,x=2"),
    ]
    let record: [UInt8] = [6, 0] + Format.recordMagic + [1, 0, 0, 0, 1, 0, 0, 0]
    let rest = [UInt8](repeating: 0, count: 184)
    var whole = record + rest
    whole[2 + 160] = 1
    return lines.map { ($0.0, [$0.1] + Array($0.2.utf8)) } + [
      ("slot", [5] + slot(kind: 1)), ("slot-passphrase", [5] + slot(kind: 3)), ("slot-recovery", [5] + slot(kind: 2)),
      ("slot-unknown", [5] + slot(kind: 4)), ("slot-empty", [5] + [UInt8](repeating: 0, count: Format.slotSize)),
      ("header", [5] + Format.headerMagic + [0, 0, 0, 2, 0, 0, 0, 1, 0, 0, 0, 0, 0x90, 0, 0, 16]),
      ("record", whole), ("record-type", [6, 0] + Format.recordMagic + [2, 0, 0, 0, 1, 0, 0, 0] + rest),
      ("record-cut", record),
    ]
  }

  private static func slot(kind: UInt8) -> [UInt8] {
    var slot = [UInt8](repeating: 0, count: Format.slotSize)
    (slot[0], slot[4], slot[8]) = (kind, 1, 1)
    if kind == 3 { (slot[12], slot[16], slot[20]) = (17, 8, 1) }
    for i in 32..<124 { slot[i] = UInt8(i) }
    slot[124] = 5
    slot.replaceSubrange(128..<133, with: Array("vm-17".utf8))
    return slot
  }
}
