import Foundation
import Testing

/// The faults of `Sources/SecureVolume/Mutant.swift` and `Sources/VNVRAM/ShellMutant.swift` are in no program that is
/// built without asking for them.
@Suite struct MutantTests {
  @Test(arguments: ["vnvram", "vnvram-swtpm", "vnvram-soak"])
  func programsHaveNoMutants(_ program: String) throws {
    let sources = URL(filePath: #filePath).appending(path: "../../../Sources").standardized
    let names = try ["SecureVolume/Mutant.swift", "VNVRAM/ShellMutant.swift"].flatMap { file in
      try String(contentsOf: sources.appending(path: file), encoding: .utf8).matches(of: /case \w+ = "([a-z-]+)"/).map {
        String($0.output.1)
      }
    }
    #expect(names.count == 16 + 10)
    // SwiftPM puts it beside the tests' own executable.
    let own = try FileManager.default.destinationOfSymbolicLink(atPath: "/proc/self/exe")
    let binary = try Data(contentsOf: URL(filePath: own).deletingLastPathComponent().appending(path: program))
    // What is in the module for sure is found in this way.
    #expect(binary.range(of: Data("takes no more writes since something failed".utf8)) != nil)
    for name in names { #expect(binary.range(of: Data(name.utf8)) == nil, "\(program) has \(name)") }
  }
}
