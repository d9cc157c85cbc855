import Foundation
import TestSupport
import Testing

@testable import SwtpmFormat

/// The file of swtpm's backend `file://`, against Debian's swtpm and against everything that is none.
@Suite struct SwtpmSingleFileTests {
  private typealias Container = (kind: SwtpmStateKind, bytes: [UInt8])

  private func sections(_ file: [UInt8]) throws(SwtpmFormatError) -> [(kind: SwtpmStateKind, range: Range<Int>)] {
    try SwtpmSingleFile.sections(of: file.span, fileSize: file.count)
  }

  /// What swtpm made is read, and what is made of that is the same file, down to what is between the states.
  @Test func filesOfSwtpm() throws {
    let directory = try SwtpmDirectory()
    let storage = ["--tpmstate", "backend-uri=file://\(directory.file("single"))"]
    try #require(try directory.start(storage))
    let file = try directory.read("single")
    let found = try sections(file)
    #expect(found.map(\.kind) == [.permall])
    let container = Array(file[found[0].range])
    let state = try SwtpmContainer.state(inFile: container.span)
    let version = SwtpmVersion(ofPermanentState: state.span)
    #expect(version == .tpm2)
    #expect(SwtpmSingleFile.file(of: [(.permall, container)]) == file)
  }

  @Test func severalStates() throws {
    for sizes in [[1], [1024], [1025, 1], [3000, 70_000, 1024], [262_144, 65_536]] {
      let containers = zip(SwtpmStateKind.allCases, sizes).map { kind, size in
        Container(kind, (0..<size).map { UInt8(truncatingIfNeeded: $0 &* 7) })
      }
      let file = SwtpmSingleFile.file(of: containers)
      let found = try sections(file)
      #expect(found.map(\.kind) == containers.map(\.kind))
      #expect(found.map { Array(file[$0.range]) } == containers.map(\.bytes))
      #expect(file.count <= SwtpmSingleFile.maximumSize)
    }
  }

  @Test func filesThatAreNone() throws {
    let file = SwtpmSingleFile.file(of: [(.permall, [1, 2, 3]), (.volatilestate, [4])])
    for count in 0..<SwtpmSingleFile.headerSize {
      #expect(throws: SwtpmFormatError.self) { try sections(Array(file.prefix(count))) }
    }
    // A section beyond what is left of the file.
    #expect(throws: SwtpmFormatError.malformed("a section isn't within the file")) {
      try sections(Array(file.prefix(SwtpmSingleFile.headerSize + 2)))
    }
    func changed(_ offset: Int, _ bytes: UInt8...) -> [UInt8] {
      var copy = file
      copy.replaceSubrange(offset..<offset + bytes.count, with: bytes)
      return copy
    }
    #expect(throws: SwtpmFormatError.unknownVersion(2)) { try sections(changed(8, 2)) }
    #expect(throws: SwtpmFormatError.headerSize(193)) { try sections(changed(10, 193)) }
    for bad in [
      changed(0, 0),
      // Before the header's end, beyond the file, more than the section, more than any number, over another section, a
      // fourth state.
      changed(12, 191), changed(12, 0xFF, 0xFF, 0xFF, 0xFF), changed(16, 0, 0xFF), changed(16, 0xFF, 0xFF, 0xFF, 0xFF),
      changed(24, 192, 0, 0, 0), changed(48, 192, 0, 0, 0, 1, 0, 0, 0, 0, 4),
    ] { #expect(throws: SwtpmFormatError.self) { try sections(bad) } }
  }
}
