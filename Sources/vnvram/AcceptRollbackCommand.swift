import Anchors
import ArgumentParser
import Audit
import Primitives
import ProgramIO
import SecureVolume

/// `vnvram accept-rollback`: an image counts as the newest because a person says so. The only way to an anchor besides
/// `format`.
struct AcceptRollbackCommand: Subcommand {
  static let configuration = CommandConfiguration(
    commandName: "accept-rollback", abstract: "Take an image for the newest that its anchor refuses.",
    discussion: """
      After a backup was put back on purpose, where an anchor was lost, or to give an existing image its first anchor. \
      What was committed later than the image is given up, and copies that have it are refused from then on. For a TPM \
      this means old counters, old NV content and a reset lockout: look why the image is old before you accept it. \
      Asks at the terminal, and is recorded.

      EXAMPLE
        vnvram accept-rollback web-1.img --anchor /var/lib/vnvram-anchors/
      """)

  @Argument(help: "The image.", completion: .file())
  var image: String
  @Flag(help: "Don't ask.")
  var yes = false
  @OptionGroup var key: KeyOptions
  @OptionGroup var anchor: AnchorOptions
  @OptionGroup var audit: AuditOptions
  @OptionGroup var output: OutputOptions

  func perform() throws -> Answer {
    guard let anchor = try self.anchor.make() else {
      throw Failure(.usage, "\(image): say which anchor is to accept it: --anchor")
    }
    if anchor is ExpectedGeneration {
      throw Failure(
        .usage, "\(image): \(anchor.name) remembers nothing; give the generation that the image has instead")
    }
    let unlock = try key.unlock()
    let refusal = try refusal(unlock, anchor)
    guard let refusal else {
      return Answer(
        text: ["\(image): its anchor \(Text.escaped(anchor.name)) accepts it as it is; nothing was changed"],
        fields: [("image", .string(image)), ("accepted", false)])
    }
    let reading = try OpenedImage(image, .readOnly, unlock: unlock, audit: { try audit.log() })
    let volume = try reading.encrypted(for: "accept")
    let found = volume.generation
    let uuid = volume.uuid
    let shown = volume.moment
    reading.release()
    try confirm(refusal, found)
    try audit.log().record(
      AuditRecord(
        .rollbackAccepted, store: image, uuid: uuid, access: .write, detail: "at \(found); \(refusal.message)"))
    let opened = try OpenedImage(
      image, .readWrite, unlock: unlock, anchor: .accepting(anchor, shown: shown), audit: { try audit.log() })
    let accepted = try opened.encrypted(for: "accept").generation
    try opened.close()
    return Answer(
      text: [
        "\(image): accepted at \(found), and now at \(accepted); its anchor is \(Text.escaped(anchor.name))"
      ],
      fields: [
        ("image", .string(image)), ("accepted", true), ("uuid", .string(uuid.description)),
        ("accepted_generation", .unsigned(found.value)), ("anchor", .string(anchor.name)),
      ], warnings: reading.warnings)
  }

  /// Why the anchor refuses the image; `nil` where it doesn't.
  private func refusal(_ unlock: borrowing Unlock, _ anchor: any FreshnessAnchor) throws -> Failure? {
    do {
      let opened = try OpenedImage(
        image, .readOnly, unlock: unlock, anchor: .following(anchor), audit: { try audit.log() })
      opened.release()
      return nil
    } catch {
      anchor.release()
      let failure = Failure(error)
      guard failure.status == .rolledBack else { throw error }
      return failure
    }
  }

  private func confirm(_ refusal: Failure, _ found: Generation) throws {
    guard !yes else { return }
    Program.complain("vnvram: \(refusal.message)")
    try Confirmation.ask(
      "Take \(Text.escaped(image)) as it is, at \(found), and give up whatever came later?",
      nothing: "\(image): nothing was changed", otherwise: "say --yes if you mean it")
  }
}
