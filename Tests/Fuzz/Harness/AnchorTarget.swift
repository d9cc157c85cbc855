import BlockIO
import Crypto
import Primitives

@testable import SecureVolume

/// Anchors: records of one moment of a store's life beside an image of another, changed, with or without a valid MAC.
/// No image older than what an authentic record says is opened, unless it is accepted; and then it is the newest.
enum AnchorTarget {
  /// `u8 store, u8 the image's moment, u8 the record's moment, u8 flags, (u8 offset, u8 value)…`. Flags: 1 the MAC
  /// isn't made to fit, 2 for writing, 4 accepting, 8 a generation for a record, 16 nothing remembered, 32 by the
  /// slot's name, 64 two records, 128 another name.
  static func run(_ bytes: [UInt8]) {
    var input = FuzzInput(bytes)
    let history = StoreHistory.all[Int(input.byte()) % StoreHistory.all.count]
    let image = history.images[Int(input.byte()) % history.images.count]
    let remembered = history.images[Int(input.byte()) % history.images.count]
    let flags = input.byte()
    do {
      let seal = try Seal(history, remembered)
      let records = try seal.records(&input, fitting: flags & 1 == 0, count: flags & 64 == 0 ? 1 : 2)
      let anchor = MemoryAnchor(.records(flags & 16 == 0 ? records : []))
      if flags & 8 != 0 { anchor.memory = .generation(Generation(input.variant(of: seal.generation))) }
      anchor.isMissing = flags & 24 == 16
      let least = anchor.isMissing ? .max : try seal.newest(anchor.memory)
      open(image, anchor, flags, least: least)
    } catch { fatalError("libcrypto: \(error)") }
  }

  private static func open(_ image: [UInt8], _ anchor: MemoryAnchor, _ flags: UInt8, least: UInt64) {
    let accepts = flags & 4 != 0
    let device = MemoryDevice(image, isWritable: flags & 2 != 0)
    let name = flags & 32 == 0 ? nil : flags & 128 == 0 ? "fuzz" : "other"
    do throws(VolumeError) {
      let sealed = try SealedVolume(device)
      let volume =
        accepts
        ? try sealed.unlock(with: StoreHistory.openingKey(), slotName: name, accepting: anchor)
        : try sealed.unlock(with: StoreHistory.openingKey(), slotName: name, anchor: anchor)
      require(accepts || volume.generation.value >= least, "\(volume.generation), and the anchor says \(least)")
      require(name != "other", "opened by a slot that isn't there")
      guard device.isWritable else { return }
      let generation = volume.generation
      try volume.close()
      let again = try SealedVolume(MemoryDevice(device.bytes)).unlock(with: StoreHistory.openingKey(), anchor: anchor)
      require(again.generation == generation, "another generation after closing")
    } catch { require(!isOwnFault(error), "\(error)") }
  }

  private static func isOwnFault(_ error: VolumeError) -> Bool { error.code == .cryptography }

  /// What the store's key makes of records.
  private final class Seal {
    private let digest: InlineBytes32
    private let header: Header
    private var keys: VolumeKeys
    var generation: UInt64 { header.generation.value }

    init(_ history: StoreHistory, _ image: [UInt8]) throws(CryptoError) {
      var bytes = ByteBuffer(count: Format.headerSize)
      bytes.copy(from: image.span.extracting(0..<Format.headerSize))
      let copy = HeaderCopy(index: 0, bytes: bytes)
      let storeKey = history.storeKey
      var keys = try VolumeKeys(storeKey: SecretBytes(copying: storeKey.span), uuid: copy.uuid)
      guard case .valid(let header) = try copy.verified(with: &keys.structure) else { fatalError("no header") }
      digest = try Header.geometryDigest(uuid: header.uuid, geometry: header.geometry)
      self.header = header
      self.keys = keys
    }

    func records(_ input: inout FuzzInput, fitting: Bool, count: Int) throws(CryptoError) -> [[UInt8]] {
      var records: [[UInt8]] = []
      for sequence in 1...UInt64(count) {
        let record = AnchorRecord(of: header, sequence: sequence, counter: 0)
        let sealed = try record.sealed(digest: digest, with: &keys.structure)
        records.append(sealed.span.array)
      }
      while !input.isAtEnd {
        let which = Int(input.byte()) % count
        records[which][Int(input.byte())] = input.byte()
      }
      guard fitting else { return records }
      for which in 0..<count {
        let covered = Array(records[which][..<Format.anchorMACOffset])
        try keys.structure.startInput(.anchor)
        try keys.structure.update(digest)
        try keys.structure.update(covered.span)
        let mac = try keys.structure.finish()
        records[which] = covered + mac.array
      }
      return records
    }

    /// The highest generation that is authentically remembered; more than any where nothing is.
    func newest(_ memory: AnchorMemory) throws(CryptoError) -> UInt64 {
      switch memory {
      case .generation(let generation): return generation.value
      case .records(let records):
        var newest: (sequence: UInt64, generation: UInt64)?
        for bytes in records {
          guard
            let record = try AnchorRecord.verified(bytes, uuid: header.uuid, digest: digest, with: &keys.structure)
          else { continue }
          let again = try record.sealed(digest: digest, with: &keys.structure)
          require(again.span.equals(bytes), "a second encoding of a record")
          if record.sequence > newest?.sequence ?? 0 { newest = (record.sequence, record.generation.value) }
        }
        return newest?.generation ?? (records.isEmpty ? .max : 0)
      }
    }
  }

  /// An anchor in memory.
  private final class MemoryAnchor: FreshnessAnchor {
    var memory: AnchorMemory
    var isMissing = false
    let name = "anchor"

    init(_ memory: AnchorMemory) { self.memory = memory }

    func recall(_ store: StoreUUID, forWriting: Bool) throws(AnchorError) -> AnchorMemory {
      if isMissing { throw AnchorError(.missing, anchor: name, "is not there") }
      return memory
    }

    func confirm() throws(AnchorError) {}

    func establish(for store: StoreUUID, keeping index: Int?, replacing: Bool) throws(AnchorError) {
      isMissing = false
    }

    func store(_ sealed: borrowing ByteBuffer, _ moment: AnchorMoment) throws(AnchorError) {
      memory = .records([sealed.span.array])
    }
  }
}
