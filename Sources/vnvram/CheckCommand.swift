import ArgumentParser
import BlobStore
import BlockIO
import Primitives
import SecureVolume

/// `vnvram check`: verifies every byte of an image that has a meaning, looks at those that have none, and names what is
/// wrong and where.
struct CheckCommand: Subcommand {
  static let configuration = CommandConfiguration(
    commandName: "check", abstract: "Verify every byte of an image; name what is wrong, and where.",
    discussion: """
      Changes nothing. Where something is damaged or can't be read, it goes on to name everything else that is; where the \
      image doesn't open any more, it tells what still verifies. Exit status 6: damaged; 11: parts can't be read, and the \
      rest is whole.

      It warns of what is no damage and should not be there: content of the image that lies unencrypted in space that \
      means nothing, slots there, bytes there that are not zero, and permissions that are too wide. With --json these are \
      the objects of "notices"; "code" is plaintext-left-over, stale-wrap, not-zero, old-ciphertext, unreadable, \
      permissions or key-permissions.

      EXAMPLE
        vnvram check web-1.img
      """)

  @Argument(help: "The image.", completion: .file())
  var image: String
  @OptionGroup var opening: OpenOptions
  @OptionGroup var output: OutputOptions

  func perform() throws -> Answer {
    let (opened, refusal) = try opening.openDamaged(image)
    guard case .encrypted(let volume) = opened.volume else { return try checkPlain(opened) }
    let search = try LeftOverSearch(contentSize: opened.volumeSize)
    if let frame = try? opened.store.frame { frame.forEach { search.add(needle: $0) } }
    let size = UInt64(volume.sectorSize)
    let findings: [VolumeFinding]
    do {
      var progress = ProgressLine("checking", total: volume.sectorCount * size, json: output.json)
      findings = try volume.check(for: search) { progress.update($0 * size) }
    }
    var progress = ProgressLine("checking unused space", total: nil, json: output.json)
    let unused = try volume.checkUnusedSpace(for: search) { progress.update($0) }

    var report = CheckReport(image: image, findings: findings, notices: unused.map(CheckReport.Notice.init))
    report.notices += permissions(opened)
    report.sectors = volume.sectorCount
    report.refusal = refusal
    if refusal == nil, !findings.contains(where: { $0.severity != .notice }) {
      try opened.store.check()
      report.entries = try opened.store.entries.count
    }
    var answer = report.answer
    answer.warnings = opened.closingWarnings + answer.warnings
    return answer
  }

  private func checkPlain(_ opened: OpenedImage) throws -> Answer {
    try opened.store.check()
    var report = CheckReport(image: image, findings: [], notices: permissions(opened))
    report.entries = try opened.store.entries.count
    var answer = report.answer
    answer.warnings = opened.warnings + answer.warnings
    return answer
  }

  private func permissions(_ opened: OpenedImage) -> [CheckReport.Notice] {
    var notices: [CheckReport.Notice] = []
    let wide = (opened.device as? FileDevice)?.wideMode ?? 0
    if wide != 0 {
      let mode = String(wide, radix: 8)
      notices.append(
        CheckReport.Notice(
          code: "permissions", offset: nil, count: nil,
          detail: "others than its owner have rights to it (0\(mode)); take them away with `chmod go= \(image)`"))
    }
    notices += opened.keyWarnings.map {
      CheckReport.Notice(code: "key-permissions", offset: nil, count: nil, detail: $0, isOfImage: false)
    }
    return notices
  }
}
