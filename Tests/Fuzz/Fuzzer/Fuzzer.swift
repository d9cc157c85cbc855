// libFuzzer around one target: `vnvram-fuzz --target=NAME`, and behind it libFuzzer's own options and corpora.
import CLibFuzzer
import FuzzHarness
import Glibc

/// libFuzzer's callback is a C function without a context, so the target is the process's.
nonisolated(unsafe) private var target = FuzzTarget.image

@main struct Fuzzer {
  static func main() {
    let prefix = "--target="
    // libFuzzer overlooks options with two hyphens, also when it starts itself anew to minimise an input.
    guard let name = CommandLine.arguments.first(where: { $0.hasPrefix(prefix) })?.dropFirst(prefix.count),
      let found = FuzzTarget(rawValue: String(name))
    else {
      print(
        "usage: vnvram-fuzz --target=\(FuzzTarget.allCases.map(\.rawValue).joined(separator: "|")) [OPTION…] [CORPUS…]")
      exit(2)
    }
    found.prepare()
    unsafe target = found
    var count = CommandLine.argc
    var arguments: UnsafeMutablePointer<UnsafeMutablePointer<CChar>?>? = unsafe CommandLine.unsafeArgv
    exit(
      unsafe LLVMFuzzerRunDriver(&count, &arguments) { data, size in
        unsafe target.run(Array(UnsafeBufferPointer(start: data, count: size)))
        return 0
      })
  }
}
