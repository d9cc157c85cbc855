import Anchors
import BlockIO
import Crypto
import Primitives
import StorageSimulation
import Testing

@testable import SecureVolume

/// An opener for writing shows that the anchor can be written before it writes a header (FORMAT §12); and which record
/// counts.
struct ConfirmationTests {
  private static let place = 65536

  /// An image that was closed cleanly, and the bytes of records made with its key.
  private final class Store {
    let image = newDisk()
    let anchor = newAnchorDisk()
    private let volume: SecureVolume

    init(commits: Int = 2) throws {
      try format(image, anchor: FileAnchor(anchor))
      let written = try open(image, FileAnchor(anchor))
      for i in 0..<commits { try commit(written, UInt8(i + 1)) }
      try written.close()
      volume = try open(SimulatedDisk(copyOf: image.bytes, isWritable: false), nil)
    }

    /// A record of the image as it is, but for `change`.
    func record(_ change: (inout AnchorRecord) -> Void = { _ in }) throws -> [UInt8] {
      var record = AnchorRecord(of: volume.header, sequence: 1, counter: 0)
      change(&record)
      return try seal(record)
    }

    // Inlined it makes the compiler crash (Swift 6.3.1).
    @inline(never) private func seal(_ record: AnchorRecord) throws -> [UInt8] {
      let sealed = try record.sealed(digest: volume.digest, with: &volume.keys.structure)
      return sealed.span.array
    }

    var generation: UInt64 { volume.generation.value }
  }

  /// An anchor with these records in its places.
  private func anchor(_ records: [UInt8]...) -> SimulatedDisk {
    let disk = newAnchorDisk()
    for (i, record) in records.enumerated() { put(record, into: disk, i) }
    return disk
  }

  private func put(_ record: [UInt8], into disk: SimulatedDisk, _ index: Int) {
    disk.overwrite(ByteOffset(index * Self.place), with: record)
  }

  private func record(_ disk: SimulatedDisk, _ index: Int) -> [UInt8] {
    Array(disk.bytes[index * Self.place..<index * Self.place + AnchorRecord.size])
  }

  private func parsed(_ disk: SimulatedDisk, _ index: Int) -> AnchorRecord? {
    let bytes = record(disk, index)
    return AnchorRecord(parsing: bytes.span)
  }

  /// What the anchor had been given when the image's first write came.
  private func beforeTheImage(_ image: SimulatedDisk, _ anchor: SimulatedDisk) throws -> [Operation] {
    var count: Int?
    let before = anchor.log.count
    image.afterOperation = { _ in count = count ?? anchor.log.count }
    _ = try open(image, FileAnchor(anchor))
    image.afterOperation = nil
    return Array(anchor.log[before..<(try #require(count))])
  }

  @Test func inItsOwnPlaceBesideOneThatWouldDo() throws {
    let store = try Store()
    for newest in 0...1 {
      let older = try store.record { $0.sequence = 8 }
      let newer = try store.record { $0.sequence = 9 }
      let anchor = newAnchorDisk()
      put(newer, into: anchor, newest)
      put(older, into: anchor, 1 - newest)
      let operations = try beforeTheImage(disk(store.image.bytes), anchor)
      #expect(operations.map(\.kind) == [.write, .sync])
      #expect(operations[0].offset == ByteOffset(newest * Self.place))
      // That of the opening is in the other place by now.
      let found = [record(anchor, newest), record(anchor, 1 - newest)]
      #expect(found[0] == newer)
      #expect(found[1] != older)
    }
  }

  @Test func inTheOtherPlaceBesideOneThatWouldNotDo() throws {
    let store = try Store()
    let newer = try store.record { $0.sequence = 9 }
    let useless: [(String, [UInt8])] = [
      ("nothing", []), ("another store's", try Store().record { $0.sequence = 8 }),
      ("a later state", try store.record { ($0.sequence, $0.generation) = (8, Generation(1000)) }),
      ("another past", try store.record { ($0.sequence, $0.lineage) = (8, InlineBytes32()) }),
      ("with a counter", try store.record { ($0.sequence, $0.counter) = (8, 7) }),
    ]
    for (name, other) in useless {
      let (image, anchor) = (disk(store.image.bytes), anchor(other, newer))
      let operations = try beforeTheImage(image, anchor)
      #expect(operations.map(\.kind) == [.write, .sync] && operations[0].offset == ByteOffset(0), "\(name)")
      let found = try #require(parsed(anchor, 0))
      let opened = try #require(parsed(anchor, 1))
      #expect(found.sequence == 10 && opened.sequence == 11 && found.headerSequence < opened.headerSequence, "\(name)")
    }
  }

  /// Nothing of the image is written, however often that is tried.
  @Test func anAnchorThatCannotBeWritten() throws {
    let store = try Store()
    let (image, place) = (store.image.bytes, store.anchor.bytes)
    for errno in [5, 28, 30] as [Int32] {
      for fault in [Call.write(1), .sync(1)] {
        for _ in 0..<3 {
          let (image, place) = (disk(image), disk(place, name: "anchor"))
          place.inject(.fails(errno: errno), at: fault)
          let error = refusal(image, FileAnchor(place))
          let status: Status = errno == 28 ? .noSpace : .inputOutput
          #expect(error?.status == status && error?.isDurable == false, "\(String(describing: error))")
          #expect(image.writes == 0, "a header was written")
        }
      }
    }
    let readOnly = SimulatedDisk(copyOf: place, name: "anchor", isWritable: false)
    let writable = disk(image)
    #expect(refusal(writable, FileAnchor(readOnly)) != nil && writable.writes == 0)
  }

  @Test func readingWritesNothing() throws {
    let store = try Store()
    let reading = SimulatedDisk(copyOf: store.image.bytes, isWritable: false)
    let operations = store.anchor.operations
    #expect(try open(reading, FileAnchor(store.anchor)).opening.anchor?.verdict == .current)
    #expect(store.anchor.operations == operations)
  }

  // MARK: Which record counts

  @Test func recordsOfOneNumber() throws {
    let store = try Store()
    let one = try store.record { $0.sequence = 5 }
    #expect(refusal(disk(store.image.bytes), FileAnchor(anchor(one, one))) == nil)
    for other in [
      try store.record { ($0.sequence, $0.generation) = (5, Generation(0)) },
      try store.record { ($0.sequence, $0.headerSequence) = (5, 1) },
    ] {
      for place in [anchor(one, other), anchor(other, one)] {
        let image = disk(store.image.bytes)
        let error = refusal(image, FileAnchor(place))
        #expect(error?.code == .anchor(.notAuthentic) && image.writes == 0, "\(String(describing: error))")
      }
    }
  }

  /// Both records may have been somebody's newest: what is accepted is beyond both.
  @Test func acceptingBesideRecordsOfOneNumber() throws {
    let store = try Store()
    let place = anchor(
      try store.record { ($0.sequence, $0.generation) = (5, Generation(7)) },
      try store.record { ($0.sequence, $0.generation) = (5, Generation(1 << 40)) })
    let volume = try accept(store.image, FileAnchor(place))
    #expect(volume.generation.value == 1 << 40 + 1 << 20)
    try volume.close()
    #expect(refusal(store.image, FileAnchor(place)) == nil)
  }

  @Test func numbersThatAreNone() throws {
    let store = try Store()
    let limit = UInt64(1) << 63
    for (name, record) in [
      ("sequence 0", try store.record { $0.sequence = 0 }), ("sequence", try store.record { $0.sequence = limit }),
      ("header", try store.record { $0.headerSequence = limit }),
      ("generation", try store.record { $0.generation = Generation(limit) }),
      ("counter", try store.record { $0.counter = limit }),
    ] {
      #expect(refusal(disk(store.image.bytes), FileAnchor(anchor(record)))?.code == .anchor(.notAuthentic), "\(name)")
    }
    let counted = try store.record { $0.counter = 3 }
    #expect(refusal(disk(store.image.bytes), FileAnchor(anchor(counted)))?.code == .anchor(.refused))
  }

  /// The last numbers: nothing is written that the next opening would take for no record.
  @Test func theLastNumbers() throws {
    let store = try Store()
    let last = UInt64(1) << 63 - 1
    for before in 0...4 as ClosedRange<UInt64> {
      let (image, place) = (disk(store.image.bytes), anchor(try store.record { $0.sequence = last - before }))
      let operations = place.operations
      let error = refusal(image, FileAnchor(place))
      #expect(error?.status == (before < 3 ? .noSpace : nil), "\(before)")
      if error != nil { #expect(image.writes == 0 && place.operations == operations) }
      // It is closed, too, with what is left.
      if error == nil { #expect(refusal(image, FileAnchor(place)) != nil || before > 3) }
    }
    for (name, record) in [
      ("generation", try store.record { $0.generation = Generation(last) }),
      ("before the leap", try store.record { $0.generation = Generation(last - 1 << 20 + 1) }),
      ("sequence", try store.record { $0.sequence = last }),
    ] {
      let (image, place) = (disk(store.image.bytes), anchor(record))
      let operations = place.operations
      #expect(throws: VolumeError(.noSpace, store: "", "")) { try accept(image, FileAnchor(place)) }
      #expect(image.writes == 0 && place.operations == operations, "\(name)")
    }
    let place = anchor(try store.record { $0.generation = Generation(last - 1 << 20) })
    #expect(try accept(disk(store.image.bytes), FileAnchor(place)).generation.value == last)
  }

  @Test func longerAndShorterFiles() throws {
    let store = try Store()
    let bytes = store.anchor.bytes
    let noise = [UInt8](repeating: 0xA5, count: 70_000)
    #expect(refusal(disk(store.image.bytes), FileAnchor(disk(bytes + noise))) == nil)
    let short = disk(Array(bytes.dropLast()))
    #expect(refusal(disk(store.image.bytes), FileAnchor(short))?.code == .anchor(.notAuthentic))
  }
}
