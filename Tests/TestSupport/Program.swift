import Foundation

/// The programs under test: SwiftPM puts them beside the tests' own executable.
public enum Program {
  public static let directory: String = {
    let own = (try? FileManager.default.destinationOfSymbolicLink(atPath: "/proc/self/exe")) ?? CommandLine.arguments[0]
    var directory = URL(fileURLWithPath: own).deletingLastPathComponent()
    // Some runners load the tests from elsewhere; the package's own build directory is the other place.
    if !FileManager.default.isExecutableFile(atPath: directory.path + "/vnvram") {
      directory =
        URL(fileURLWithPath: #filePath).deletingLastPathComponent()
        .appendingPathComponent("../../.build/debug").standardized
    }
    return directory.path
  }()
}
