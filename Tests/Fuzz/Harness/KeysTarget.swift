import Crypto
import Primitives

@testable import BlobStore
@testable import Keyring
@testable import SecureVolume
@testable import VTPM

/// Metadata of keys and slots, and the other short texts that come from outside: what the kernel says of keys, printed
/// recovery keys, names, slots and records by themselves, the options of sockets.
enum KeysTarget {
  static func run(_ bytes: [UInt8]) {
    var input = FuzzInput(bytes)
    switch input.byte() % 8 {
    case 0: description(String(decoding: input.rest(), as: UTF8.self))
    case 1: procKeys(String(decoding: input.rest(), as: UTF8.self))
    case 2: recoveryText(input.take(1024))
    case 3: recoveryKey(input.take(32))
    case 4: names(String(decoding: input.rest(), as: UTF8.self))
    case 5: slot(input.take(Format.slotSize))
    case 6: record(&input)
    default: options(String(decoding: input.rest(), as: UTF8.self))
    }
  }

  private static func permissions(_ permissions: KeyPermissions) {
    require(permissions.description.utf8.count == 24, "\(permissions)")
    let harmless = permissions.rawValue & ~0x3F3F_0101
    require(permissions.isTooWide == (harmless != 0), "\(permissions)")
  }

  private static func description(_ line: String) {
    guard let parsed = KeyDescription(parsing: line) else { return }
    permissions(parsed.permissions)
    let bits = String(parsed.permissions.rawValue, radix: 16)
    let again = "\(parsed.type);\(parsed.uid);\(parsed.gid);\(bits);\(parsed.text)"
    require(KeyDescription(parsing: again) == parsed, "read differently when it is written again")
    if let name = parsed.name {
      require(name.keyDescription.utf8.elementsEqual(parsed.text.utf8), "a name that isn't the key's")
    }
  }

  private static func procKeys(_ text: String) {
    // What the kernel says of this process's own keys goes through the same parser, once.
    _ = own
    for parsed in ProcKeys.parse(text) {
      permissions(parsed.description.permissions)
      require(parsed.timeout?.isEmpty != true && !parsed.description.type.isEmpty, "an empty field")
      if let name = parsed.description.name { require(!name.text.utf8.contains(0x3A), "\(name)") }
    }
  }

  private static let own = (ProcKeys.read().count, ProcKeys.persistentKeyringExists)

  private static func recoveryText(_ text: [UInt8]) {
    guard let key = try? RecoveryKey.parse(SecretBytes(copying: text.span)) else { return }
    do {
      let printed = try RecoveryKey.text(of: key)
      let digits = { (text: [UInt8]) in text.filter { ![0x2D, 0x20].contains($0) && $0 > 0x0D }.map { $0 | 0x20 } }
      require(digits(printed.span.array) == digits(text), "another key than was printed")
    } catch { fatalError("\(error)") }
  }

  private static func recoveryKey(_ bytes: [UInt8]) {
    let key = SecretBytes(copying: (bytes + [UInt8](repeating: 0, count: 32 - bytes.count)).span)
    do {
      let text = try RecoveryKey.text(of: key)
      require(text.count == RecoveryKey.textLength, "of another length")
      require(try RecoveryKey.parse(text).equals(key), "printed and read, another key")
    } catch { fatalError("a printed key isn't read: \(error)") }
  }

  private static func names(_ text: String) {
    if let name = KeyName(text) {
      require(KeyName(keyDescription: name.keyDescription) == name && name.description == text, "\(name)")
      require(Set([name]).contains(name) && !(name < name), "\(name)")
      require(KeySlot.isValid(name: text), "a key's name that is no slot's")
    }
    _ = KeyName(keyDescription: text)
    if let name = try? EntryName(text) {
      require(EntryName(Array(text.utf8)) == name && name.description == text, "\(name)")
      require(Set([name]).contains(name), "\(name)")
    }
    require(((try? EntryName(text)) != nil) == KeySlot.isValid(name: text), "one rule for names, twice")
    // The same text, wrongly encoded at its end.
    require(EntryName(Array(text.utf8) + [0xC0]) == nil, "not UTF-8, and still a name")
  }

  /// By itself, and as it lies in a header of which nothing else is right.
  private static func slot(_ bytes: [UInt8]) {
    let whole = bytes + [UInt8](repeating: 0, count: Format.slotSize - bytes.count)
    if let slot = KeySlot(parsing: whole.span) {
      var again = ByteBuffer(count: Format.slotSize)
      slot.encode(to: &again, at: 0)
      require(again.span.equals(whole), "a second encoding")
      require(KeySlot.isValid(name: slot.name) && (slot.cost != nil) == (slot.kind == .passphrase), "\(slot)")
      require(slot.cost?.isWithinLimits != false && !slot.kind.label.isEmpty, "\(slot)")
    }
    var header = ByteBuffer(count: Format.headerSize)
    header.copy(from: whole.span, at: 0)
    let copy = HeaderCopy(index: 0, bytes: header)
    _ = (copy.identityFlaw, copy.geometry, copy.uuid, copy.isClean, copy.generation)
  }

  private static func record(_ input: inout FuzzInput) {
    let geometry = StoreHistory.all[Int(input.byte()) % 3].geometry
    var bytes = ByteBuffer(count: geometry.recordHeadSize(Int(geometry.sectorCount)))
    bytes.copy(from: input.take(bytes.count).span)
    guard let record = JournalRecord(parsing: bytes.span, geometry: geometry) else { return }
    require(geometry.recordSize(record.count) > UInt64(record.headBytes), "a record without a payload")
    guard record.isWellFormed(bytes, geometry) else { return }
    var again = ByteBuffer(count: record.macOffset)
    record.encode(to: &again)
    for i in 0..<record.count {
      let (sector, leaf) = JournalRecord.entry(i, of: bytes)
      JournalRecord.storeEntry(i, sector, leaf, to: &again)
    }
    require(again.span.equals(bytes.span(0..<record.macOffset)), "a second encoding")
  }

  private static func options(_ text: String) {
    for role in [ChannelOptions.Role.server, .ctrl] {
      guard let options = try? ChannelOptions(parsing: text, as: role) else { continue }
      require(options.mode <= 0o777, "\(options)")
      if case .unix(let path) = options.place { require((1...107).contains(path.utf8.count), "\(options)") }
      require(role == .server || !options.disconnects, "\(options)")
      require(role == .ctrl || !options.terminates, "\(options)")
    }
    var options = ServerOptions()
    _ = try? options.parseFlags(text)
  }
}
