import Confinement
import Crypto
import Glibc
import Primitives
import ProgramIO
import VTPM

/// `vnvram-swtpm load-states tpm2|tpm1.2`: whether libtpms takes a TPM's states. `vnvram import-swtpm` starts it:
/// libtpms may misbehave on what was damaged, and so does it here in a confined process that nothing depends on, and
/// that is the very program which is to serve the states.
///
/// Standard input: for each state its type (1 permall, 2 volatilestate, 3 savestate) in a byte, its size in four,
/// big-endian, and its bytes. Standard output: one line, `nv N persistent N`.
enum LoadStates {
  static let name = "load-states"
  private static let types: [UInt8: TPMStateName] = [1: .permall, 2: .volatilestate, 3: .savestate]

  static func run(_ arguments: ArraySlice<String>) -> Status {
    do {
      let version: TPMVersion
      switch arguments {
      case ["tpm2"]: version = .tpm2
      case ["tpm1.2"]: version = .tpm12
      default: throw TPMError.usage("\(name) is for `vnvram import-swtpm`")
      }
      // Whatever a damaged state leads to, it ends.
      _ = alarm(60)
      CryptoLibrary.prepare()
      // As the server does.
      if FIPSMode.isOn { _ = FIPSMode.leave() }
      let input = try InputFile(path: "-")
      try confine()
      let trial = try StateTrial(version, states: try read(input, version))
      try OutputFile(path: "-").write("nv \(trial.indices) persistent \(trial.objects ?? 0)\n")
      return .done
    } catch let error as any StatusError {
      try? OutputFile(descriptor: 2, name: "standard error").write("\(error)\n")
      return error.status
    } catch { return .failed }
  }

  /// Nothing can be opened, made or reached any more; standard input and output are open already.
  private static func confine() throws {
    // In a user namespace there may be nobody else to be; landlock and the filter are what counts.
    if geteuid() == 0 { try? RunAs("nobody").become() }
    let confinement = Confinement(.worker)
    try confinement.becomeUser()
    _ = try confinement.apply()
  }

  private static func read(_ input: borrowing InputFile, _ version: TPMVersion) throws -> [TPMStateName: [UInt8]] {
    var states: [TPMStateName: [UInt8]] = [:]
    while true {
      var head = [UInt8](repeating: 0, count: 5)
      let count = try input.read(into: head.mutableSpan)
      if count == 0 { return states }
      let size = head.dropFirst().reduce(0) { $0 << 8 | Int($1) }
      guard count == 5, let name = types[head[0]], version.states.contains(name), size <= name.maximumSize(version),
        states[name] == nil
      else { throw TPMError.usage("standard input has no TPM's states") }
      var bytes = [UInt8](repeating: 0, count: size)
      guard try input.read(into: bytes.mutableSpan) == size else {
        throw TPMError.usage("standard input ends in the middle of a state")
      }
      states[name] = bytes
    }
  }
}
