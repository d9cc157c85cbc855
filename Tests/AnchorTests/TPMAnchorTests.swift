import BlockIO
import Foundation
import Primitives
import SecureVolume
import StorageSimulation
import Testing

@testable import Anchors

/// An anchor file that a TPM's counter protects, with a TPM in a process of its own.
@Suite(.serialized) struct TPMAnchorTests {
  private let tpm: HostTPM
  private let image = newDisk()
  private static let index: UInt32 = 0x0180_0100

  init() throws {
    tpm = try HostTPM()
    try tpm.define()
    // The connection goes with the object.
    try format(image, anchor: anchor())
  }

  private func anchor(_ file: String = "anchor") throws(AnchorError) -> TPMCounterAnchor {
    try TPMCounterAnchor(index: Self.index, file: tpm.path(file), tcti: tpm.tcti)
  }

  private func use(_ image: SimulatedDisk, _ stamp: UInt8) throws {
    let volume = try open(image, anchor())
    try commit(volume, stamp)
    try volume.close()
  }

  private func refusal(_ image: SimulatedDisk) throws -> VolumeError? { AnchorTests.refusal(image, try anchor()) }

  private func file() throws -> Data { try Data(contentsOf: URL(fileURLWithPath: tpm.path("anchor"))) }
  private func setBack(_ bytes: Data) throws { try bytes.write(to: URL(fileURLWithPath: tpm.path("anchor"))) }

  /// One more at formatting, at each opening and at each clean close; commits and reading don't move it.
  @Test func theCounterMoves() throws {
    let start = try tpm.value()
    try use(image, 1)
    #expect(try tpm.value() == start + 2)
    let moving = try anchor()
    let isUpToDate = try commitOften(moving)
    moving.release()
    #expect(isUpToDate)
    #expect(try tpm.value() == start + 4)
    let reading = SimulatedDisk(copyOf: image.bytes, isWritable: false)
    #expect(try open(reading, anchor()).opening.anchor?.verdict == .current)
    #expect(try tpm.value() == start + 4)
  }

  /// Whether the file follows each commit.
  private func commitOften(_ anchor: TPMCounterAnchor) throws -> Bool {
    let volume = try open(image, anchor)
    volume.commitsPerAnchor = 1
    for i in 1...20 {
      try commit(volume, UInt8(i))
      while try volume.maintain() {}
    }
    let isUpToDate = volume.anchoredGeneration == volume.generation
    try volume.close()
    return isUpToDate
  }

  @Test func olderImages() throws {
    let older = image.bytes
    try use(image, 1)
    #expect(try refusal(disk(older))?.code == .rolledBack)
    #expect(try refusal(image) == nil)
  }

  /// The image and its anchor file, both set back: what a file alone can't notice.
  @Test func imageAndFileSetBackTogether() throws {
    let (olderImage, olderFile) = (image.bytes, try file())
    try use(image, 1)
    let newerFile = try file()
    try setBack(olderFile)
    let error = try refusal(disk(olderImage))
    #expect(error?.code == .anchor(.rolledBack) && error?.status == .rolledBack)
    #expect(try refusal(disk(image.bytes))?.code == .anchor(.rolledBack))
    // The newer record lost, so that the older one counts: no power cut leaves that behind an increment.
    for lost in 0...1 {
      var one = newerFile
      one.replaceSubrange(lost * 65536..<lost * 65536 + 256, with: Data(count: 256))
      try setBack(one)
      let error = try refusal(SimulatedDisk(copyOf: image.bytes, isWritable: false))
      #expect(error == nil || error?.code == .anchor(.rolledBack))
    }
    try setBack(newerFile)
    #expect(try refusal(image) == nil)
  }

  /// The power goes between the record and the increment, at opening and at closing; and again while catching up.
  @Test func aCrashBeforeTheIncrement() throws {
    let crash = AnchorError(.device(.failed), anchor: "", "the power went")
    for atClosing in [false, true] {
      let before = try tpm.value()
      var increments = 0
      let dying = try anchor()
      dying.beforeIncrement = { () throws(AnchorError) in
        increments += 1
        if increments == (atClosing ? 2 : 1) { throw crash }
      }
      #expect(throws: VolumeError(.anchor(.device(.failed)), store: "", "")) {
        let volume = try open(image, dying)
        try commit(volume, 7)
        try volume.close()
      }
      dying.release()
      withExtendedLifetime(dying) {}
      try reopenAfterCrash(before + (atClosing ? 1 : 0))
    }
  }

  private func reopenAfterCrash(_ expected: UInt64) throws {
    // Reading takes the record that is one ahead as it is.
    #expect(try open(SimulatedDisk(copyOf: image.bytes, isWritable: false), anchor()).isWritable == false)
    do {
      let dyingAgain = try anchor()
      dyingAgain.beforeIncrement = { () throws(AnchorError) in
        throw AnchorError(.device(.failed), anchor: "", "the power went again")
      }
      #expect(AnchorTests.refusal(image, dyingAgain)?.code == .anchor(.device(.failed)))
      dyingAgain.release()
    }
    try use(image, 8)
    // Caught up, opened, closed.
    #expect(try tpm.value() >= expected + 3)
    #expect(try stamp(open(SimulatedDisk(copyOf: image.bytes, isWritable: false), anchor())) == 8)
  }

  @Test func otherCounters() throws {
    try use(image, 1)
    // Someone increments it: refused, not believed.
    try tpm.tpm2("tpm2_nvincrement", "0x01800100")
    #expect(try refusal(image)?.code == .anchor(.rolledBack))
    // Undefined: missing. Defined anew: it begins above what it was, and the file is behind.
    try tpm.tpm2("tpm2_nvundefine", "0x01800100", "-C", "o")
    #expect(throws: AnchorError(.missing, anchor: "", "")) { try anchor() }
    try tpm.define()
    #expect(try refusal(image)?.code == .anchor(.missing))
    try tpm.tpm2("tpm2_nvincrement", "0x01800100")
    #expect(try refusal(image)?.code == .anchor(.rolledBack))
    // No counter, and one that may not be used.
    try tpm.define("0x01800101", attributes: "authread|authwrite|no_da")
    #expect(throws: AnchorError(.refused, anchor: "", "")) {
      try TPMCounterAnchor(index: 0x0180_0101, file: tpm.path("anchor"), tcti: tpm.tcti)
    }
    try tpm.define("0x01800102", attributes: "ownerread|ownerwrite|nt=counter")
    #expect(throws: AnchorError(.refused, anchor: "", "")) {
      try TPMCounterAnchor(index: 0x0180_0102, file: tpm.path("anchor"), tcti: tpm.tcti)
    }
    #expect(throws: AnchorError(.device(.inputOutput), anchor: "", "")) {
      try TPMCounterAnchor(index: Self.index, file: tpm.path("anchor"), tcti: "swtpm:path=\(tpm.path("nobody"))")
    }
  }

  /// A TPM that was cleared has no counter; another TPM has another value. Accepting makes the anchor anew.
  @Test func aClearedTPM() throws {
    try use(image, 1)
    try tpm.tpm2("tpm2_clear", "-c", "p")
    #expect(throws: AnchorError(.missing, anchor: "", "")) { try anchor() }
    let other = try HostTPM()
    try other.define()
    try other.tpm2("tpm2_nvincrement", "0x01800100")
    let elsewhere = { () throws(AnchorError) in
      try TPMCounterAnchor(index: Self.index, file: self.tpm.path("anchor"), tcti: other.tcti)
    }
    #expect(AnchorTests.refusal(image, try elsewhere())?.code == .anchor(.notAuthentic))
    let accepting = try elsewhere()
    try accept(image, accepting).close()
    accepting.release()
    #expect(AnchorTests.refusal(image, try elsewhere()) == nil)
  }

  /// The file is no anchor by itself, and a file anchor's record is none with a counter.
  @Test func theCounterIsNotLeftOut() throws {
    #expect(AnchorTests.refusal(image, FileAnchor(path: tpm.path("anchor")))?.code == .anchor(.refused))
    let plain = newDisk()
    let file = FileAnchor(path: tpm.path("plain"))
    try format(plain, anchor: file)
    file.release()
    #expect(AnchorTests.refusal(plain, try anchor("plain"))?.code == .anchor(.rolledBack))
  }

  /// A name would have to be looked up, which a confined server can't do. Nothing is connected to.
  @Test(arguments: [
    "swtpm", "swtpm:", "swtpm:port=2321", "swtpm:host=localhost,port=2321", "mssim:host=tpm.example", "mssim:host=",
    "libtss2-tcti-mssim.so.0:host=x", "/usr/lib/libtss2-tcti-swtpm.so:port=1", "swtpm:host=1.2.3", "swtpm:host=::1%lo",
  ]) func hostsWithoutAnAddress(tcti: String) throws {
    let error = #expect(throws: AnchorError.self) {
      _ = try TPMCounterAnchor(index: Self.index, file: tpm.path("anchor"), tcti: tcti)
    }
    #expect(error?.code == .refused && error?.detail.contains("host=127.0.0.1") == true, "\(String(describing: error))")
  }

  /// They are tried, and nobody listens there.
  @Test(arguments: [
    "swtpm:host=127.0.0.1,port=1", "mssim:host=::1,port=1", "swtpm:path=/nowhere", "mssim:path=/nowhere",
  ])
  func hostsWithAnAddress(tcti: String) throws {
    let error = #expect(throws: AnchorError.self) {
      _ = try TPMCounterAnchor(index: Self.index, file: tpm.path("anchor"), tcti: tcti)
    }
    #expect(error?.code == .device(.inputOutput), "\(String(describing: error))")
  }
}
