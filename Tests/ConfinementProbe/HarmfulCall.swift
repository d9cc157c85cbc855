// One call that would harm, in a process of its own that is confined first.
import CSystem
@_spi(Testing) import Confinement
import Glibc
import HarmfulCalls

enum HarmfulCall {
  /// How the process ends that can't even try; no errno has this number.
  private static let notReady: Int32 = 255

  /// Prints a line for each call. False where one could not be tried.
  static func runAll(_ confinement: Confinement, _ folder: String, only name: String?) -> Bool {
    var areTried = true
    for index in 0..<harmful_count() {
      let label = unsafe String(cString: harmful_name(index))
      guard name == nil || name == label else { continue }
      let outcome = outcome(confinement, folder, index)
      if outcome == "not tried" { areTried = false }
      print(label, outcome)
    }
    return areTried
  }

  private static func outcome(_ confinement: Confinement, _ folder: String, _ index: Int) -> String {
    fflush(nil)
    let child = csystem_fork()
    guard child != 0 else { _exit(attempt(confinement, folder, index)) }
    var status: Int32 = 0
    guard child > 0, unsafe waitpid(child, &status, 0) == child else { return "not tried" }
    let signal = status & 0x7F
    guard signal == 0 else { return signal == SIGSYS ? "killed" : "signal \(signal)" }
    let code = status >> 8 & 0xFF
    return code == 0 ? "done" : code == notReady ? "not tried" : "error \(code)"
  }

  /// The call's errno; 0 where it was made.
  private static func attempt(_ confinement: Confinement, _ folder: String, _ index: Int) -> Int32 {
    var confinement = confinement
    do {
      try confinement.becomeUser()
      guard unsafe harmful_prepare(folder) == 0 else {
        print("preparing: error \(errno)")
        return notReady
      }
      confinement.worker = confinement.role == .monitor ? harmful_worker() : nil
      _ = try confinement.apply()
    } catch {
      print("not confined: \(error)")
      fflush(nil)
      return notReady
    }
    return harmful_run(index) < 0 ? errno : 0
  }
}
