import ArgumentParser
import Audit
import BlobStore
import Primitives
import ProgramIO
import SwtpmFormat

/// `vnvram export-swtpm`: the state of a TPM goes back to where swtpm starts from.
struct ExportSwtpmCommand: Subcommand {
  static let configuration = CommandConfiguration(
    commandName: "export-swtpm", abstract: "Write a TPM's state where swtpm can start from it.",
    discussion: """
      The target is a directory, which is made where it isn't there, or with --single-file a file of swtpm's backend \
      file://. Nothing that is there is replaced but the image itself, where that has the place of swtpm's permanent state \
      (or of the single file): it is kept beside it then, its name with .vnvram at the end. Files appear whole, readable by their owner alone, the permanent state \
      last. Run by root, they get the owner of a directory that was there.

      The state is encrypted as swtpm does it, under --swtpm-key, which is weaker than the image, or with --unencrypted not \
      at all: then whoever reads the files has the TPM's secrets. The image stays as it is; let only one of the two be the \
      TPM from now on.

      EXAMPLE
        vnvram export-swtpm vm7.img /var/lib/swtpm/vm7 --swtpm-key file=vm7.key,mode=aes-256-cbc
      """)

  @Argument(help: "The image.", completion: .file())
  var image: String
  @Argument(help: "swtpm's directory, or with --single-file a new file.", completion: .directory)
  var target: String
  @Flag(help: "Write one file, for swtpm's --tpmstate backend-uri=file://FILE.")
  var singleFile = false
  @Option(help: ArgumentHelp("Encrypt with this key.", discussion: SwtpmKeyOptions.discussion, valueName: "key"))
  var swtpmKey: String?
  @Flag(help: "Write the TPM's secrets in clear.")
  var unencrypted = false
  @OptionGroup var opening: OpenOptions
  @OptionGroup var output: OutputOptions

  func validate() throws {
    guard unencrypted != (swtpmKey != nil) else {
      throw ValidationError(
        "Say how the state is to be written: --swtpm-key KEY, or --unencrypted for its secrets in clear.")
    }
  }

  func perform() throws -> Answer {
    let keySource = try SwtpmKeyOptions.parse(swtpmKey)
    let opened = try opening.open(image)
    let (version, states) = try read(try opened.store)
    let place = try SwtpmTarget(target, version: version, isSingleFile: singleFile, image: image)
    let key = try keySource?.load()
    var uuid: StoreUUID?
    if case .encrypted(let volume) = opened.volume { uuid = volume.uuid }
    let how = key.map { "encrypted under a key of \($0.count * 8) bits" } ?? "not encrypted"
    try opening.audit.log().record(
      AuditRecord(
        .exported, store: image, uuid: uuid, access: .read,
        detail: "\(SwtpmState.list(states)) of a \(version.label), into \(Path.absolute(target)), \(how)"))
    try place.write(states, key)
    var warnings = opened.warnings
    if key == nil { warnings.append("\(target): is not encrypted: whoever reads it has the TPM's secrets") }
    return Answer(
      text: ["\(Text.escaped(target)): \(SwtpmState.list(states)) of a \(version.label), \(how)"]
        + (place.kept.map { ["\(Text.escaped($0)): the image, kept"] } ?? []),
      fields: [
        ("image", .string(image)), ("target", .string(target)), ("tpm", .string(version.rawValue)),
        ("states", .array(states.map(\.json))), ("encrypted", .bool(key != nil)), ("single_file", .bool(singleFile)),
        ("files", .array(place.files.map { .string($0) })),
        ("kept", .array(place.kept.map { [.string($0)] } ?? [])),
      ], warnings: warnings)
  }

  /// What the image has of a TPM. A TPM 1.2's image has a third entry; its state has no magic number of a TPM 2.0.
  private func read(_ store: BlobStore) throws -> (SwtpmVersion, [SwtpmState]) {
    var states: [SwtpmState] = []
    for kind in SwtpmStateKind.allCases {
      let name = try EntryName(kind.rawValue)
      guard let size = store.entry(name)?.size.value, size > 0 else { continue }
      let most = SwtpmVersion.allCases.map { $0.maximumSize(kind) }.max() ?? 0
      guard size <= UInt64(most) else {
        throw Failure(.noSpace, "\(image): entry \"\(name)\" has \(size) bytes; a TPM's state has \(most) at most")
      }
      var content = SecretBytes(count: Int(size))
      try store.read(name, into: content.mutableSpan)
      states.append(SwtpmState(kind, content, wasEncrypted: true))
    }
    guard let permanent = states.first, permanent.kind == .permall else {
      throw Failure(.notFound, "\(image): holds no TPM's state: there is nothing in an entry \"permall\"")
    }
    let version = permanent.version
    return (version, states.filter { version.states.contains($0.kind) })
  }
}
