import Anchors
import ArgumentParser
import Primitives
import SecureVolume
import Synchronization

/// What tells whether an image is the newest.
struct AnchorOptions: ParsableArguments {
  @Option(
    help: ArgumentHelp(
      "What remembers how far the image had come.",
      discussion:
        "FILE, or UUID.anchor in a directory; tpm:INDEX,FILE[,tcti=CONFIGURATION], a file with an NV counter of "
        + "this host's TPM; generation:N, the generation that the image must have reached; or none. By default "
        + "VNVRAM_ANCHOR.", valueName: "anchor"))
  var anchor: AnchorArgument?

  /// The anchor; `nil` where neither option nor environment names one.
  func make() throws -> (any FreshnessAnchor)? {
    try (anchor?.specification ?? AnchorSpecification.ofEnvironment())?.make()
  }
}

/// `AnchorSpecification` as an argument.
struct AnchorArgument: ExpressibleByArgument {
  let specification: AnchorSpecification

  init?(argument: String) {
    guard let specification = AnchorSpecification(argument) else { return nil }
    self.specification = specification
  }

  static var allValueStrings: [String] { [] }
}

/// The generation of the anchored image that this process has closed last: for callers who keep it themselves
/// (`generation:N`). Each command has one image, so there is no more than one.
enum ClosedGeneration {
  private static let value = Mutex<Generation?>(nil)

  static func set(_ generation: Generation) { value.withLock { $0 = generation } }
  static var fields: [(String, JSON)] {
    value.withLock { $0 }.map { [("generation", .unsigned($0.value))] } ?? []
  }
}
