import Crypto
import Primitives

@testable import SwtpmFormat

/// What comes from swtpm's storage and from who migrates: containers, plain, encrypted, and with MACs made to fit,
/// single files, keys as people write them, and the options that name them.
enum SwtpmTarget {
  private static let bytes32 = (0..<UInt8(32)).map { $0 &* 7 &+ 1 }

  /// A key that the target knows, of 16 bytes or 32.
  static func key(_ count: Int) -> SwtpmKey { SwtpmKey(SecretBytes(copying: bytes32.span.extracting(first: count))) }

  static func run(_ bytes: [UInt8]) {
    var input = FuzzInput(bytes)
    switch input.byte() % 8 {
    case 0: container(input.rest(), nil)
    case 1: container(input.rest(), key(16))
    case 2: container(input.rest(), key(32))
    case 3: sealed(&input)
    case 4: singleFile(input.rest())
    case 5: hexadecimal(&input)
    case 6: option(String(decoding: input.rest(), as: UTF8.self))
    default: made(&input)
    }
  }

  /// As a state directory's file and as a blob that migrates.
  private static func container(_ blob: [UInt8], _ key: SwtpmKey?) {
    if let state = opened(blob, key) {
      require(state.count <= blob.count, "more than there was")
      require((try? SwtpmContainer.isEncrypted(file: blob.span)) != nil, "no header, and still a state")
      check(state, key)
    }
    for isEncrypted in [false, true] {
      let found = try? SwtpmContainer.state(
        inMigrationBlob: blob.span, migrationKey: key, stateKey: key, isEncrypted: isEncrypted)
      if let state = found ?? nil { require(state.count <= blob.count, "more than there was") }
    }
  }

  private static func opened(_ blob: [UInt8], _ key: SwtpmKey?) -> [UInt8]? {
    do throws(SwtpmFormatError) {
      let state = try SwtpmContainer.state(inFile: blob.span, key: key)
      return state.span.array
    } catch {
      require(!error.description.isEmpty && error.status != .done, "\(error)")
      return nil
    }
  }

  /// What is made of a state is read as that state, with this key and with no other.
  private static func check(_ state: [UInt8], _ key: SwtpmKey?) {
    do {
      let file = try SwtpmContainer.file(of: state.span, key: key)
      require(opened(file, key) == state, "made and read, another state")
      let blob = try SwtpmContainer.migrationBlob(of: state.span, migrationKey: key)
      require(try SwtpmContainer.state(inMigrationBlob: blob.span, migrationKey: key) == state, "another state")
      if let key {
        require(opened(file, nil) == nil && opened(file, Self.key(48 - key.count)) == nil, "opened with another key")
      }
    } catch { fatalError("\(error)") }
    _ = SwtpmVersion(ofPermanentState: state.span)
  }

  /// A container under a key of ours, whose header and fields are then set: with a MAC that is right unless it is hit.
  private static func sealed(_ input: inout FuzzInput) {
    let flags = input.byte()
    let key = key(flags & 1 == 0 ? 16 : 32)
    let vectorSize = flags & 2 == 0 ? key.count : [0, 16, 32, 1][Int(input.byte() & 3)]
    let content = input.take(Int(input.byte()))
    let padded = content + [UInt8](repeating: 0, count: (16 - content.count % 16) % 16)
    let vector = [UInt8](repeating: 9, count: vectorSize)
    do {
      // Not padded as it must be, but for what the fuzzer puts at its end.
      var ciphertext = [UInt8](repeating: 0, count: padded.count)
      let first = Array((vector + [UInt8](repeating: 0, count: 16)).prefix(16))
      let secret = SecretBytes(copying: bytes32.span.extracting(first: key.count))
      try BlockChaining.run(.encrypt, padded.span, key: secret, vector: first.span, into: ciphertext.mutableSpan)
      let mac = try ForeignMAC.hmacSHA256(ciphertext.span, vector.span, key: secret)
      let isMigration = flags & 4 != 0
      let fields: [(UInt16, [UInt8])] = [
        (isMigration ? 5 : 2, ciphertext), (3, mac.array), (isMigration ? 7 : 6, vector),
      ]
      var blob: [UInt8] = [2, 1, 0, 10, 0, 0, 0, 0, 0, 0]
      var kind: UInt8 = isMigration ? 2 | 4 : 1
      if key.count == 32 { kind |= isMigration ? 0x10 : 8 }
      blob[5] = kind ^ (flags & 8 == 0 ? 0 : input.byte())
      for (tag, bytes) in fields {
        blob += [0, UInt8(tag)] + (0..<4).map { UInt8(truncatingIfNeeded: bytes.count >> (24 - 8 * $0)) } + bytes
      }
      blob[8] = UInt8(blob.count >> 8)
      blob[9] = UInt8(blob.count & 0xFF)
      for _ in 0..<(flags >> 6) {
        let place = input.u16() % blob.count
        blob[place] = UInt8(truncatingIfNeeded: input.variant(of: UInt64(blob[place])))
      }
      container(blob, key)
    } catch { fatalError("\(error)") }
  }

  private static func singleFile(_ file: [UInt8]) {
    guard let sections = try? SwtpmSingleFile.sections(of: file.span, fileSize: file.count) else { return }
    var containers: [(kind: SwtpmStateKind, bytes: [UInt8])] = []
    for (kind, range) in sections {
      require(range.lowerBound >= SwtpmSingleFile.headerSize && range.upperBound <= file.count, "\(range)")
      containers.append((kind, Array(file[range])))
    }
    let again = SwtpmSingleFile.file(of: containers)
    guard let found = try? SwtpmSingleFile.sections(of: again.span, fileSize: again.count) else {
      fatalError("a file that isn't read")
    }
    require(
      found.elementsEqual(containers) { $0.kind == $1.kind && Array(again[$0.range]) == $1.bytes }, "another content")
  }

  private static func hexadecimal(_ input: inout FuzzInput) {
    let flags = input.byte()
    let count = flags & 1 == 0 ? 16 : 32
    let text = input.rest()
    let secret = SecretBytes(copying: text.span)
    if flags & 0x82 == 0x82 { return password(secret, flags & 4 == 0 ? .pbkdf2 : .sha512, count) }
    guard let key = SwtpmKey(hexadecimal: secret, count: count) else { return }
    require(key.count == count, "a key of another size")
    // The same without what may stand around it.
    let digits = text.starts(with: [0x30, 0x78]) ? text.dropFirst(2) : text[...]
    let bare = Array(digits.prefix(2 * count))
    guard let same = SwtpmKey(hexadecimal: SecretBytes(copying: bare.span), count: count) else {
      fatalError("no key without what is around it")
    }
    do {
      let file = try SwtpmContainer.file(of: text.span, key: key)
      require(opened(file, same) == text, "another key")
    } catch { fatalError("\(error)") }
  }

  /// A password makes the same key each time, and a longer one another.
  private static func password(_ password: borrowing SecretBytes, _ derivation: SwtpmKey.Derivation, _ count: Int) {
    let text = password.span.array
    let longer = SecretBytes(copying: (text + [0x2E]).span)
    do {
      let keys = try (0..<2).map { _ in try SwtpmKey(password: password, derivation, count: count) }
      let file = try SwtpmContainer.file(of: text.span, key: keys[0])
      require(keys[0].count == count && opened(file, keys[1]) == text, "another key")
      require(opened(file, try SwtpmKey(password: longer, derivation, count: count)) == nil, "the same key")
    } catch { fatalError("\(error)") }
  }

  private static func option(_ text: String) {
    do throws(SwtpmKeyError) {
      let source = try SwtpmKeySource(option: "--key", value: text)
      require(source.count == 16 || source.count == 32, "\(source)")
      if case .file(let path) = source.place { require(!path.isEmpty && text.contains(path), "\(source)") }
    } catch { require(error.status == .usage && error.description.hasPrefix("--key: "), "\(error)") }
  }

  /// Any state, sealed and opened.
  private static func made(_ input: inout FuzzInput) {
    let kind = input.byte() % 3
    check(input.rest(), kind == 0 ? nil : key(kind == 1 ? 16 : 32))
  }
}
