// Corpora: `vnvram-corpus seed TARGET VECTORS` prints what one begins with, `unpack FILE FOLDER` makes files of one for
// libFuzzer, `pack FOLDER` prints them as one again, `replay TARGET FOLDER` runs each file once, without libFuzzer.
import FuzzHarness
import Glibc

func fail(_ message: String) -> Never {
  Folder.complain("vnvram-corpus: \(message)\n")
  exit(1)
}

func target(_ name: String) -> FuzzTarget {
  guard let target = FuzzTarget(rawValue: name) else { fail("no target \(name)") }
  return target
}

let arguments = CommandLine.arguments.dropFirst()
switch (arguments.first, arguments.count) {
case ("targets", 1):
  for target in FuzzTarget.allCases { print(target.rawValue) }
case ("seed", 3):
  let folder = arguments[3]
  let vectors = Folder.files(folder).filter { $0.hasSuffix(".txt") }.map { file in
    (name: String(file.dropLast(4)), text: String(decoding: Folder.read("\(folder)/\(file)"), as: UTF8.self))
  }
  for seed in Seeds.seeds(of: target(arguments[2]), vectors: vectors) {
    print(CorpusFile.line(seed.name, seed.bytes), terminator: "")
  }
case ("unpack", 3):
  do {
    let corpus = try CorpusFile(parsing: String(decoding: Folder.read(arguments[2]), as: UTF8.self))
    for input in corpus.inputs { Folder.write("\(arguments[3])/\(input.name)", input.bytes) }
  } catch { fail("\(arguments[2]): \(error)") }
case ("pack", 2):
  for file in Folder.files(arguments[2]) {
    print(CorpusFile.line(file, Folder.read("\(arguments[2])/\(file)")), terminator: "")
  }
case ("replay", 3):
  let target = target(arguments[2])
  for file in Folder.files(arguments[3]) { target.run(Folder.read("\(arguments[3])/\(file)")) }
default:
  fail("usage: targets | seed TARGET VECTORS | unpack FILE FOLDER | pack FOLDER | replay TARGET FOLDER")
}
