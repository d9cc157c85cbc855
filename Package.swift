// swift-tools-version: 6.2
// vnvram: an encrypted NVRAM store with key management. Arrows between modules point down only; DESIGN §2's picture
// is in README.md. `unsafe` appears in Primitives (memory), and in the modules that wrap a C library or a system call.
import PackageDescription

let strict: [SwiftSetting] = [
  .swiftLanguageMode(.v6),
  .strictMemorySafety(),
  .treatAllWarnings(as: .error),
  .enableExperimentalFeature("Lifetimes"),
]

func module(_ name: String, _ dependencies: [Target.Dependency]) -> Target {
  .target(name: name, dependencies: dependencies, swiftSettings: strict)
}

func tests(_ name: String, _ dependencies: [Target.Dependency], resources: [Resource] = []) -> Target {
  .testTarget(name: name, dependencies: dependencies, resources: resources, swiftSettings: strict)
}

let argumentParser: Target.Dependency = .product(name: "ArgumentParser", package: "swift-argument-parser")

let package = Package(
  name: "vnvram",
  products: [
    .library(name: "VNVRAM", targets: ["VNVRAM"]),
    .executable(name: "vnvram", targets: ["vnvram"]),
    .executable(name: "vnvram-swtpm", targets: ["vnvram-swtpm"]),
    // For Tests/Fuzz, which is a package of its own; no promise to anybody else.
    .library(name: "_VNVRAMModules", targets: ["VNVRAM", "VTPM", "SwtpmFormat"]),
  ],
  dependencies: [
    .package(url: "https://github.com/apple/swift-argument-parser", from: "1.8.2")
  ],
  targets: [
    .systemLibrary(name: "CLibcrypto", pkgConfig: "libcrypto", providers: [.apt(["libssl-dev"])]),
    .systemLibrary(name: "CLibkeyutils", pkgConfig: "libkeyutils", providers: [.apt(["libkeyutils-dev"])]),
    .systemLibrary(name: "CLibtpms", pkgConfig: "libtpms", providers: [.apt(["libtpms-dev"])]),
    .systemLibrary(name: "CLibseccomp", pkgConfig: "libseccomp", providers: [.apt(["libseccomp-dev"])]),
    .target(name: "CSystem"),
    module("Primitives", ["CSystem"]),
    module("Crypto", ["CLibcrypto", "CSystem", "Primitives"]),
    module("Keyring", ["CLibkeyutils", "CSystem", "Primitives"]),
    module("BlockIO", ["CSystem", "Primitives"]),
    module("Audit", ["ProgramIO", "CSystem", "Primitives"]),
    module("ProgramIO", ["CSystem", "Primitives"]),
    // Apart from ProgramIO, so that only who confines itself needs libseccomp.
    module("Confinement", ["CLibseccomp", "CSystem", "Primitives"]),
    module("SecureVolume", ["Crypto", "BlockIO", "Primitives"]),
    // tpm2-tss is loaded at run time, and only where a TPM is asked for; its headers are needed to build (libtss2-dev).
    .target(name: "CTSS"),
    module("Anchors", ["CTSS", "SecureVolume", "BlockIO", "Primitives"]),
    module("BlobStore", ["SecureVolume", "Primitives"]),
    module("VNVRAM", ["BlobStore", "SecureVolume", "Keyring", "Audit", "BlockIO", "Crypto", "CSystem", "Primitives"]),
    module("SwtpmFormat", ["Crypto", "ProgramIO", "Primitives"]),
    module("VTPM", ["SwtpmFormat", "Crypto", "ProgramIO", "CLibtpms", "CSystem", "Primitives"]),
    .executableTarget(
      name: "vnvram",
      dependencies: [
        "VNVRAM", "Anchors", "BlobStore", "SecureVolume", "SwtpmFormat", "Keyring", "Audit", "BlockIO", "Crypto",
        "ProgramIO", "CSystem", "Primitives", argumentParser,
      ],
      swiftSettings: strict),
    .executableTarget(
      name: "vnvram-swtpm",
      dependencies: [
        "VTPM", "SwtpmFormat", "VNVRAM", "Anchors", "SecureVolume", "BlobStore", "BlockIO", "Keyring", "Confinement",
        "Crypto", "Audit", "ProgramIO", "CSystem", "Primitives",
      ],
      swiftSettings: strict),

    .target(
      name: "StorageSimulation", dependencies: ["BlockIO", "Primitives"], path: "Tests/StorageSimulation",
      swiftSettings: strict),
    // Threads whose order a seed decides, and the NVRAM's calls explored with them.
    .target(
      name: "ScheduleExplorer",
      dependencies: [
        "VNVRAM", "BlobStore", "SecureVolume", "Keyring", "Audit", "BlockIO", "Crypto", "StorageSimulation",
        "Primitives",
      ],
      path: "Tests/ScheduleExplorer", swiftSettings: strict),
    // What tests share that start programs: children, kernel keys, sockets, folders of their own.
    .target(
      name: "TestSupport", dependencies: ["CLibkeyutils", "CSystem"],
      path: "Tests/TestSupport", swiftSettings: strict),
    .target(
      name: "ModelChecker",
      dependencies: [
        "VNVRAM", "Anchors", "BlobStore", "SecureVolume", "Crypto", "BlockIO", "StorageSimulation", "Primitives",
      ],
      path: "Tests/ModelChecker", swiftSettings: strict),
    .executableTarget(
      name: "vnvram-soak",
      dependencies: ["ModelChecker", "ScheduleExplorer", "VNVRAM", "SecureVolume", "Primitives", argumentParser],
      path: "Tests/Soak", exclude: ["mutants.sh"], swiftSettings: strict),
    .executableTarget(
      name: "vnvram-bench",
      dependencies: [
        "VNVRAM", "Anchors", "BlobStore", "SecureVolume", "Keyring", "Audit", "BlockIO", "Crypto", "CLibcrypto",
        "Primitives",
      ],
      path: "Tests/Benchmarks", exclude: ["guest-boot.sh", "peers.c", "run.sh"], swiftSettings: strict),
    tests("PrimitivesTests", ["Primitives"]),
    tests("CryptoTests", ["Crypto", "Primitives"]),
    tests("KeyringTests", ["Keyring", "CLibkeyutils", "Primitives"]),
    tests("BlockIOTests", ["BlockIO", "StorageSimulation", "TestSupport", "Primitives"]),
    tests("ModelCheckerTests", ["ModelChecker", "vnvram", "vnvram-swtpm", "vnvram-soak"]),
    tests("AuditTests", ["Audit", "Primitives"]),
    tests(
      "SecureVolumeTests", ["SecureVolume", "Crypto", "BlockIO", "StorageSimulation", "TestSupport", "Primitives"]),
    tests(
      "AnchorTests",
      ["Anchors", "SecureVolume", "Crypto", "BlockIO", "StorageSimulation", "TestSupport", "Primitives"]),
    tests(
      "FormatTests", ["Anchors", "BlobStore", "SecureVolume", "Crypto", "BlockIO", "StorageSimulation", "Primitives"]),
    tests("BlobStoreTests", ["BlobStore", "SecureVolume", "Crypto", "BlockIO", "StorageSimulation", "Primitives"]),
    tests(
      "VNVRAMTests",
      [
        "VNVRAM", "Anchors", "BlobStore", "SecureVolume", "Keyring", "Audit", "Crypto", "BlockIO", "StorageSimulation",
        "ScheduleExplorer", "TestSupport", "Primitives",
      ]),
    // A server of its own process for VTPMTests: libtpms is global to a process, and signals and exit statuses are too.
    .executableTarget(
      name: "VTPMTestServer", dependencies: ["VTPM", "SwtpmFormat", "CSystem", "Primitives"],
      path: "Tests/VTPMTestServer", swiftSettings: strict),
    tests("SwtpmFormatTests", ["SwtpmFormat", "Crypto", "TestSupport", "Primitives"]),
    tests("VTPMTests", ["VTPM", "SwtpmFormat", "BlobStore", "VTPMTestServer", "TestSupport", "CSystem", "Primitives"]),
    .testTarget(
      name: "CommandLineTests", dependencies: ["vnvram", "TestSupport", "CLibkeyutils", "CSystem", "Primitives"],
      exclude: ["Scripts"], swiftSettings: strict),
    // System calls that a taken-over process might make, for the probe.
    .target(name: "HarmfulCalls", path: "Tests/HarmfulCalls"),
    .executableTarget(
      name: "ConfinementProbe", dependencies: ["Confinement", "ProgramIO", "HarmfulCalls", "CSystem"],
      path: "Tests/ConfinementProbe", swiftSettings: strict),
    tests("ConfinementTests", ["Confinement", "ConfinementProbe", "TestSupport"]),
    // What Tests/MemoryScan looks into.
    .executableTarget(
      name: "MemoryScanHelper",
      dependencies: [
        "VNVRAM", "BlobStore", "SecureVolume", "Keyring", "Audit", "BlockIO", "Crypto", "ProgramIO", "Primitives",
      ],
      path: "Tests/MemoryScan/Helper", swiftSettings: strict),
    tests(
      "ServerTests",
      ["vnvram", "vnvram-swtpm", "VTPM", "SecureVolume", "BlockIO", "TestSupport", "CLibkeyutils", "Primitives"]),
    // The harness of the fuzzers (Tests/Fuzz is their package), run over their corpora.
    .testTarget(
      name: "FuzzTests",
      dependencies: [
        "VTPM", "SwtpmFormat", "BlobStore", "SecureVolume", "Keyring", "Crypto", "BlockIO", "Primitives",
      ],
      path: "Tests/Fuzz/Harness", swiftSettings: strict),
    .testTarget(
      name: "VirtualMachineTests", dependencies: ["vnvram", "vnvram-swtpm", "TestSupport"],
      exclude: ["Guest", "Libvirt", "libvirt.md"], swiftSettings: strict),
  ])

// `make tsan`: some test targets crash the compiler under the thread sanitizer, and a test bundle has all of them.
if let only = Context.environment["VNVRAM_TEST_TARGETS"]?.split(separator: ",").map(String.init) {
  package.targets.removeAll { $0.type == .test && !only.contains($0.name) }
}
