import Anchors
import Audit
import Confinement
import SwtpmFormat
import VNVRAM
import VTPM

/// What the command line and the options file say. swtpm's options keep their names and forms; those that swtpm doesn't
/// have are marked as ours in the help. ArgumentParser has no options with an optional value and takes a megabyte of
/// memory in a process that there is one of per VM.
///
/// Nothing is opened, made, or read here but the options file: what is wrong with the words shows before anything is
/// done.
struct CommandLineOptions {
  enum Request {
    case help
    case version
    case printCapabilities(TPMVersion)
    case printInfo(TPMVersion, flags: UInt32)
    case printProfiles(TPMVersion)
    case printStates(CommandLineOptions)
    case serve(CommandLineOptions)
  }

  static let version = "0.1.0"

  var state: StateLocation?
  var server = ServerOptions()
  /// `--key`: not loaded yet.
  var key: SwtpmKeySource?
  /// `--keyring-key`: the name of a kernel key.
  var keyringKey: String?
  /// `--migration-key`: not loaded yet.
  var migrationKey: SwtpmKeySource?
  /// `--profile`: not read yet.
  var profile: ProfileOption?
  var failOnEncryptedDrive = true
  /// Whether a key that is in no keyring is asked for, through /sbin/request-key.
  var asksForKeys = true
  /// Whether a blank file or device of `backend-uri=file://` is made an image.
  var makesOnFirstUse = false
  var keyLossPolicy = NVRAMConfiguration.KeyLossPolicy.lock
  var audit: AuditDestination?
  /// Where it says that uses of keys must be recorded; nil for nowhere.
  private var auditRequiredBy: String?
  /// What a file of options doesn't let the command line change.
  private var fixed: [OptionName: (value: String, place: String)] = [:]
  var anchor: AnchorSpecification?
  var violations = SystemCallFilter.Action.kill
  /// Who to go on as.
  var user: String?
  var isDaemon = false
  var pid: PIDFile?
  var log = LogOptions()

  /// The image's path.
  var image: String { state?.image(for: server.version) ?? "" }

  /// Where the image may be one that the server makes, or swtpm's state may lie in its place; nil for an image that is
  /// named.
  var place: (any StatePlace)? {
    switch state?.place {
    case .directory: StateFolder(image: image, mode: state?.mode ?? 0o600, version: server.version)
    case .file: StateFile(image, mode: state?.mode ?? 0o600, makes: makesOnFirstUse, isSetup: isSetup)
    case .image, nil: nil
    }
  }

  /// Whether the image is `--tpmstate dir=`'s.
  var isInFolder: Bool { if case .directory = state?.place { true } else { false } }

  /// Whether this is swtpm_setup's server, of a TPM that no virtual machine has yet: its only client has both channels,
  /// the server writes a PID file, and is told when to end. A manager may hand over both channels, too, and its server
  /// is a virtual machine's.
  var isSetup: Bool {
    guard case .connected? = server.data?.place, let control = server.control, case .connected = control.place,
      server.startsByItself, pid != nil
    else { return false }
    let isMoved = server.isIncoming || server.releasesLockOutgoing
    return !isMoved && !control.terminates && !server.terminatesOnHangUp
  }

  /// - Parameter passed: sockets that a service manager made.
  static func parse(_ arguments: [String], passed: [PassedSocket] = []) throws -> Request {
    if let first = arguments.first, let option = OptionName(rawValue: first) ?? letter(first) {
      if option == .help { return .help }
      if option == .version { return .version }
    }
    guard arguments.first == SwtpmInterface.served else { throw SwtpmInterface.refusal(arguments.first) }
    let given = try ArgumentReader.read(arguments.dropFirst())
    let names = Set(given.map(\.name))
    // As in swtpm.
    let version: TPMVersion = names.contains(.tpm2) ? .tpm2 : .tpm12
    if names.contains(.help) { return .help }
    if names.contains(.version) { return .version }
    if names.contains(.printCapabilities) { return .printCapabilities(version) }
    if names.contains(.printProfiles) { return .printProfiles(version) }
    if let flags = given.last(where: { $0.name == .printInfo })?.value {
      return .printInfo(version, flags: try infoFlags(flags))
    }
    var options = CommandLineOptions()
    options.server.version = version
    for file in try OptionsFile.all() { try options.take(file) }
    try options.take(given)
    if options.auditRequiredBy != nil { _ = try options.auditDestination(nil) }
    guard options.state != nil else {
      throw TPMError.usage(
        "--tpmstate is needed: dir=FOLDER, or backend-uri= with file://PATH or vnvram://IMAGE (the environment's TPM_PATH is not asked)"
      )
    }
    if names.contains(.printStates) { return .printStates(options) }
    try options.server.take(passed)
    guard options.server.data != nil || options.server.control != nil else {
      throw TPMError.usage(
        "nobody could reach the TPM: give --server, --ctrl or both (the environment's TPM_PORT is not asked)")
    }
    try options.server.validate()
    return .serve(options)
  }

  private static func letter(_ word: String) -> OptionName? {
    word.count == 2 && word.hasPrefix("-") ? word.last.flatMap { OptionName(letter: $0) } : nil
  }

  /// A number as in C: decimal, or hexadecimal with 0x, or octal with 0.
  private static func infoFlags(_ text: String) throws(TPMError) -> UInt32 {
    let flags =
      text.hasPrefix("0x") || text.hasPrefix("0X")
      ? UInt32(text.dropFirst(2), radix: 16)
      : text.hasPrefix("0") ? UInt32(text, radix: 8) : UInt32(text)
    guard let flags else { throw .usage("--print-info is a number: 1, 2, 4, 8, 0x10, 0x20, 0x40, 0x80, or their sum") }
    return flags
  }

  // MARK: - What is given

  /// Where uses of keys are recorded. With `--require-audit` somewhere.
  ///
  /// - Parameters:
  ///   - log: is told that they are not.
  ///   - user: who is to write them, where that is another one.
  func auditDestination(_ log: Log?, for user: RunAs? = nil) throws -> AuditDestination {
    let destination = try audit ?? AuditDestination.standard(for: user.flatMap { $0.user == 0 ? nil : $0.name })
    guard destination == .none else { return destination }
    let words = audit == nil ? "\(AuditDestination.variable)=none" : "\(OptionName.audit.rawValue) none"
    if let place = auditRequiredBy {
      throw OptionsFileError(
        "\(place): \(OptionName.requireAudit.rawValue): uses of keys must be recorded, and \(words) would have none")
    }
    log?.line("uses of keys are not recorded, as \(words) says")
    return destination
  }

  /// The command line's word is the last one: it is taken after the file, where that doesn't say `always`.
  private mutating func take(_ file: OptionsFile) throws {
    for line in file.lines {
      let value = line.value ?? "yes"
      try refuse(line.name, value, in: file.place(line))
      do throws(TPMError) { try take(line.name, value) } catch { throw TPMError.usage("\(file.place(line)): \(error)") }
      if line.name == .requireAudit { auditRequiredBy = file.place(line) }
      if line.isFixed { fixed[line.name] = (value, file.place(line)) }
    }
  }

  /// Throws where a file has fixed the option to another value.
  private func refuse(_ name: OptionName, _ value: String, in place: String = "the command line")
    throws(OptionsFileError)
  {
    guard let line = fixed[name], line.value != value else { return }
    throw OptionsFileError(
      "\(line.place): \(name.rawValue) is always \"\(line.value)\", and \(place) can't change that")
  }

  private mutating func take(_ given: [ArgumentReader.Given]) throws {
    let names = given.map(\.name)
    // A key that is handed over takes the place of one that the file names; of two on the command line none is meant.
    if names.contains(.key) {
      guard !names.contains(.keyringKey) else { throw TPMError.usage("--key and --keyring-key don't go together") }
      if let line = fixed[.keyringKey] {
        throw OptionsFileError(
          "\(line.place): \(OptionName.keyringKey.rawValue) is always \"\(line.value)\", and --key can't take its place"
        )
      }
      keyringKey = nil
    }
    for (name, value) in given {
      try refuse(name, value ?? "yes")
      switch name {
      case .requireAudit: auditRequiredBy = auditRequiredBy ?? "the command line"
      case .terminate: server.terminatesOnHangUp = true
      case .daemon: isDaemon = true
      case .failOnEncryptedDrive, .upcall, .makeOnFirstUse: try take(name, value ?? "yes")
      default: if let value { try take(name, value) }
      }
    }
  }

  private mutating func take(_ name: OptionName, _ value: String) throws(TPMError) {
    switch name {
    case .tpmstate: state = try StateLocation(parsing: value)
    case .key: key = try SwtpmKeySource(parsing: value, option: name.rawValue)
    case .server: server.data = try ChannelOptions(parsing: value, as: .server)
    case .port: server.data = try ChannelOptions(parsing: "type=tcp,port=\(value),disconnect", as: .server)
    case .fd: server.data = try ChannelOptions(parsing: "fd=\(value)", as: .server)
    case .ctrl: server.control = try ChannelOptions(parsing: value, as: .ctrl)
    case .flags: try server.parseFlags(value)
    case .locality: try server.parseLocality(value)
    case .migration: try server.parseMigration(value)
    case .migrationKey: migrationKey = try SwtpmKeySource(parsing: value, option: name.rawValue)
    case .profile: profile = try ProfileOption(parsing: value)
    case .pid: pid = try PIDFile(parsing: value)
    case .log: log = try LogOptions(parsing: value)
    case .seccomp: violations = try Self.action(value)
    case .runas: user = value
    default: try takeOurs(name, value)
    }
  }

  private mutating func takeOurs(_ name: OptionName, _ value: String) throws(TPMError) {
    switch name {
    case .keyringKey:
      guard !value.isEmpty else { throw .usage("--keyring-key is the name of a kernel key") }
      keyringKey = value
    case .failOnEncryptedDrive:
      guard value == "yes" || value == "no" else { throw .usage("--fail-on-encrypted-drive is yes or no") }
      failOnEncryptedDrive = value == "yes"
    case .makeOnFirstUse:
      guard value == "yes" || value == "no" else { throw .usage("--make-on-first-use is yes or no") }
      makesOnFirstUse = value == "yes"
    case .upcall:
      guard value == "yes" || value == "no" else { throw .usage("--upcall is yes or no") }
      asksForKeys = value == "yes"
    case .keyTimeout:
      guard let seconds = Int(value), (1...31_536_000).contains(seconds) else {
        throw .usage("--key-timeout is a number of seconds from 1 to 31536000")
      }
      server.keyTimeout = seconds
    case .onKeyLoss:
      guard value == "lock" || value == "keep" else { throw .usage("--on-key-loss is lock or keep") }
      keyLossPolicy = value == "lock" ? .lock : .keep
    case .audit: audit = AuditDestination(value)
    case .anchor:
      guard let specification = AnchorSpecification(value) else {
        throw .usage("--anchor is \(AnchorSpecification.syntax)")
      }
      anchor = specification
    default: break
    }
  }

  /// `action=kill`, `log` or `none`, as swtpm has it.
  private static func action(_ text: String) throws(TPMError) -> SystemCallFilter.Action {
    guard text.hasPrefix("action="), let action = SystemCallFilter.Action(rawValue: String(text.dropFirst(7))) else {
      throw .usage("--seccomp is action=kill, action=log or action=none")
    }
    return action
  }
}
