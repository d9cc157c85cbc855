import Foundation
import TestSupport
import Testing

/// What programs that manage virtual machines need of the server: that it takes swtpm's place under its name and with
/// its options.
enum Manager {
  static let unserved: Comment = "vnvram-swtpm doesn't have --print-capabilities yet"

  /// Whether it has the options by which they begin.
  static let isServed: Bool = {
    guard let place = try? Place() else { return false }
    return (try? place.run(["vnvram-swtpm", "socket", "--print-capabilities"]).status) == 0
  }()

  /// A folder where it is called swtpm, with vnvram beside it.
  static func programs(_ place: Place) throws -> String {
    let folder = place.path("programs")
    try FileManager.default.createDirectory(atPath: folder, withIntermediateDirectories: true)
    for (name, program) in [("swtpm", "vnvram-swtpm"), ("vnvram", "vnvram")] {
      try FileManager.default.createSymbolicLink(
        atPath: "\(folder)/\(name)", withDestinationPath: "\(Program.directory)/\(program)")
    }
    return folder
  }
}
