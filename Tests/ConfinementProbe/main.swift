// A process that confines itself as a server does, and then tries something. For ConfinementTests.
//
//     ConfinementProbe ROLE kill|log|none USER|- DIRECTORY ATTEMPT [ARGUMENT]
//
// DIRECTORY is where files may be made. Prints "done", or the number of the error, where it still can.
//
//     ConfinementProbe ROLE harm USER|- with|without DIRECTORY [NAME]
//
// Every one of HarmfulCalls, or one, in a process each, with landlock as the kernel has it or as if there were none.
// Prints a line for each: its name, and "done", "killed", or the number of the error.
@_spi(Testing) import Confinement
import Glibc
import ProgramIO

ProcessSetup.run()
do {
  let arguments = CommandLine.arguments
  let roles: [String: Confinement.Role] = ["worker": .worker, "monitor": .monitor]
  guard arguments.count >= 5, let role = roles[arguments[1]] else { exit(2) }
  var confinement = Confinement(role)
  confinement.user = arguments[3] == "-" ? nil : try RunAs(arguments[3])
  let rest = arguments.dropFirst(5)
  if arguments[2] == "harm" {
    confinement.leavesOutLandlock = arguments[4] == "without"
    // As a server that asks for keys.
    confinement.mayRequestKeys = role != .worker
    guard let folder = rest.first else { exit(2) }
    exit(HarmfulCall.runAll(confinement, folder, only: rest.dropFirst().first) ? 0 : 1)
  }
  guard let action = SystemCallFilter.Action(rawValue: arguments[2]), let attempt = rest.first else { exit(2) }
  if let result = Preparation.run(attempt, arguments[4]) {
    print(result < 0 ? "error \(errno)" : "done")
    exit(0)
  }
  confinement.violations = action
  confinement.places.allow(.makeFiles, arguments[4])
  confinement.places.allow(.removeFiles, arguments[4])
  confinement.places.allow(.read, "/proc/self/status")
  try confinement.becomeUser()
  for lack in try confinement.apply() { print(lack) }
  let result = Attempt.run(attempt, rest.dropFirst().first ?? "")
  print(result < 0 ? "error \(errno)" : "done")
  fflush(nil)
} catch {
  print("not confined: \(error)")
  exit(1)
}
