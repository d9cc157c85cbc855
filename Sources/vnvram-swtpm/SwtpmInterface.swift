import Glibc
import VTPM

/// The interfaces of swtpm, its first argument: `socket`, which is served here, and those that make a TPM a device of
/// this host.
///
/// Who calls `swtpm chardev` where this program has swtpm's name (`make install-as-swtpm`) gets swtpm itself, which
/// lies beside it under the name that dpkg-divert gave it. It is looked for there alone: whoever may write there may
/// replace this program, too.
enum SwtpmInterface {
  static let served = "socket"
  private static let others = ["chardev", "cuse"]
  /// As in Tools/as-swtpm.sh.
  private static let divertedName = "swtpm.distrib"

  /// Becomes swtpm's own program for an interface that isn't served here. Returns where it is none, this program isn't
  /// called swtpm, or there is no such program.
  static func runDivertedProgram(_ words: [String]) {
    guard isCalledSwtpm(words.first), words.count > 1, others.contains(words[1]), let path = divertedProgram else {
      return
    }
    // By its own name, so that it can't be this one once more.
    let strings = unsafe ([path] + words.dropFirst()).map { unsafe strdup($0) } + [nil]
    _ = unsafe execv(path, strings)
    unsafe strings.forEach { unsafe free($0) }
  }

  /// Why the first argument isn't taken.
  static func refusal(_ word: String?) -> TPMError {
    guard let word else { return .usage("the first argument is \"\(served)\"; see vnvram-swtpm --help") }
    guard others.contains(word) else {
      return .usage("the first argument is \"\(served)\", and not \"\(word)\"; see vnvram-swtpm --help")
    }
    let aside =
      isCalledSwtpm(CommandLine.arguments.first) ? ", and \(divertedProgram ?? divertedName) can't be run" : ""
    return .usage(
      "\(word): vnvram-swtpm makes no TPM device of this host\(aside); it serves the interface \"\(served)\": TCP, Unix sockets, "
        + "or descriptors, for virtual machines and tpm2-tools; a device (--vtpm-proxy) needs swtpm itself")
  }

  private static func isCalledSwtpm(_ program: String?) -> Bool { program?.split(separator: "/").last == "swtpm" }

  private static var divertedProgram: String? {
    unsafe withUnsafeTemporaryAllocation(of: CChar.self, capacity: 4096) { buffer in
      guard let base = buffer.baseAddress else { return nil }
      let count = unsafe readlink("/proc/self/exe", base, buffer.count)
      guard count > 0, count < buffer.count else { return nil }
      let own = unsafe String(decoding: buffer.prefix(count).map { UInt8(bitPattern: $0) }, as: UTF8.self)
      return own.lastIndex(of: "/").map { "\(own[...$0])\(divertedName)" }
    }
  }
}
