import BlobStore
import BlockIO
import Primitives
import SecureVolume
import Testing

@testable import VNVRAM

/// An entry that isn't as FORMAT §8 says, in a store that is authentic: reading it fails, and nothing else does.
struct DamagedEntryTests {
  @Test func readingFails() throws {
    let place = try TestPlace()
    let entries: [String: UInt64] = ["state": 5000, "vars": 10_000]
    try place.makeStore(entries)
    try place.bring("a", 1)
    do {
      let nvram = try place.nvram(entries)
      try nvram.start(failOnEncryptedDrive: true)
      for name in ["state", "vars"] { try nvram.replace(EntryName(name), content(7, count: 4500)) }
      try nvram.close()
    }
    try makeNotZero(place, beyond: "vars")

    let nvram = try place.nvram(entries)
    try nvram.start(failOnEncryptedDrive: true)
    let errors = [
      failure { try nvram.readContent("vars") },
      failure {
        var byte: [UInt8] = [0xEE]
        defer { #expect(byte == [0xEE]) }
        _ = try nvram.readContent("vars", at: ByteOffset(0), into: byte.mutableSpan)
      },
      failure { try nvram.writeContent("vars", at: ByteOffset(4500), [1].span) },
    ]
    for error in errors {
      #expect(error?.status == .notAuthentic)
      #expect(error?.detail.contains("entry \"vars\"") == true, "\(error?.detail ?? "nothing")")
    }
    #expect(try nvram.readContent("state") == content(7, count: 4500))
    try nvram.replace("state", content(8))
    #expect(try nvram.readContent("state") == content(8))
    #expect(!nvram.hadFatalError)
    try nvram.close()
  }

  /// Writes a byte behind an entry's content, by a commit of the volume's.
  private func makeNotZero(_ place: TestPlace, beyond name: EntryName) throws {
    let device = try FileDevice.open(path: place.image, access: .readWrite)
    defer { device.close() }
    let volume = try SealedVolume(device).unlock(with: TestPlace.key(1))
    let entry = try #require(try BlobStore(volume).entry(name))
    let offset = Int(entry.offset.value + entry.size.value)
    var changes = SectorChanges(sectorSize: volume.sectorSize)
    let sector = SectorIndex(offset / volume.sectorSize)
    let new = changes.append(sector)
    try volume.read(sector, into: changes.mutablePlaintext(new))
    var plaintext = changes.mutablePlaintext(new)
    plaintext[offset % volume.sectorSize] = 1
    try volume.commit(changes)
    try volume.close()
  }
}
