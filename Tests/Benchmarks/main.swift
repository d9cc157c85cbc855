// What DESIGN §7 asks to be measured, in one run, as a table of ratios. Nothing here is asserted.
//
//     vnvram-bench DIRECTORY [PROCESS]      PROCESS: an idle vnvram-swtpm
import Glibc

guard CommandLine.arguments.count > 1 else {
  print("usage: vnvram-bench DIRECTORY [PROCESS]")
  exit(2)
}
let directory = CommandLine.arguments[1]
var table = Table()
do {
  try benchmarkCommit(directory, &table)
  try benchmarkAnchor(directory, &table)
  try benchmarkConcurrency(directory, &table)
  try benchmarkRead(directory, &table)
  try benchmarkOpen(directory, &table)
} catch {
  print("failed: \(error)")
  exit(1)
}
if let process = CommandLine.arguments.dropFirst(2).first.flatMap({ Int($0) }) {
  benchmarkServer(process: process, &table)
}
table.printAll()
