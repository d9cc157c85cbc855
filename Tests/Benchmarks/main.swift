// What a commit, an image and a server cost beside others, in one run, as tables with ratios. Nothing here is asserted.
//
//     vnvram-bench DIRECTORY PROGRAMS [store|server]      PROGRAMS: the folder of vnvram and vnvram-swtpm
import Glibc

let arguments = CommandLine.arguments.dropFirst()
let part = arguments.dropFirst(2).first
guard (2...3).contains(arguments.count), [nil, "store", "server"].contains(part) else {
  print("usage: vnvram-bench DIRECTORY PROGRAMS [store|server]")
  exit(2)
}
let (directory, programs) = (CommandLine.arguments[1], CommandLine.arguments[2])
var table = Table()
do {
  if part != "server" {
    try benchmarkCommit(directory).printAll()
    try benchmarkAnchor(directory, &table)
    try benchmarkConcurrency(directory, &table)
    try benchmarkNVRAM(directory, &table)
    try benchmarkRead(directory, &table)
    try benchmarkOpen(directory, &table)
    try benchmarkImages(directory, programs: programs).printAll()
  }
  if part != "store" { ServerBenchmark(directory, programs: programs).run(&table) }
} catch {
  print("failed: \(error)")
  exit(1)
}
table.printAll()
