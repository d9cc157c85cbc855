// swift-tools-version: 6.2 The fuzzers, in a package of their own: what they are built with (libFuzzer, the address
// sanitizer, coverage) is no business of the programs. `make fuzz` builds and runs them; Tests/README.md says more. The
// harness is also a test target of the package above, which runs the checked-in corpora once.
import PackageDescription

let strict: [SwiftSetting] = [
  .swiftLanguageMode(.v6),
  .strictMemorySafety(),
  .treatAllWarnings(as: .error),
  .enableExperimentalFeature("Lifetimes"),
]

let package = Package(
  name: "vnvram-fuzz",
  dependencies: [.package(name: "vnvram", path: "../..")],
  targets: [
    .systemLibrary(name: "CLibFuzzer"),
    .target(
      name: "FuzzHarness", dependencies: [.product(name: "_VNVRAMModules", package: "vnvram")], path: "Harness",
      exclude: ["CorpusTests.swift"], swiftSettings: strict),
    .executableTarget(
      name: "vnvram-fuzz", dependencies: ["FuzzHarness", "CLibFuzzer"], path: "Fuzzer", swiftSettings: strict),
    .executableTarget(name: "vnvram-corpus", dependencies: ["FuzzHarness"], path: "Corpus", swiftSettings: strict),
  ])
