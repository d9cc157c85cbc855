import Primitives

@testable import VTPM

/// The process's one TPM, libtpms itself, over states in memory. Each input begins with the same ones: those of a TPM
/// that was started once and has an NV index. One input runs at a time, on one thread.
final class FuzzTPM {
  nonisolated(unsafe) static let shared = FuzzTPM()

  /// States in memory; fails when told to.
  final class Store: TPMStateStore {
    var states: [TPMStateName: [UInt8]] = [:]
    var fails = false
    var readiness: TPMStateReadiness { .ready }
    var readinessDescriptor: Int32 { -1 }

    func acquire() {}
    func release() {}
    private func check() throws(TPMStateError) {
      if fails { throw TPMStateError(.inputOutput, "injected") }
    }
    func load(_ name: TPMStateName) throws(TPMStateError) -> [UInt8]? {
      try check()
      return states[name]
    }
    func store(_ bytes: Span<UInt8>, as name: TPMStateName) throws(TPMStateError) {
      try check()
      states[name] = bytes.array
    }
    func delete(_ name: TPMStateName) throws(TPMStateError) {
      try check()
      states[name] = nil
    }
  }

  /// TPM2_NV_DefineSpace of 16 bytes at 0x01800001, readable and writable by its (empty) password.
  private static let defineSpace: [UInt8] = [
    0x80, 0x02, 0, 0, 0, 0x2D, 0, 0, 0x01, 0x2A, 0x40, 0, 0, 0x01, 0, 0, 0, 9, 0x40, 0, 0, 9, 0, 0, 0, 0, 0, 0, 0, 0,
    14,
    0x01, 0x80, 0, 1, 0, 0x0B, 0, 0x04, 0, 0x04, 0, 0, 0, 16,
  ]

  let store = Store()
  let tpm: TPM
  private var fresh: [TPMStateName: [UInt8]] = [:]

  private init() {
    do {
      tpm = try TPM(store: store, log: Log(descriptor: -1))
      try tpm.start()
      require(try tpm.startUp(.clear) == 0, "TPM2_Startup")
      require(try process(Self.defineSpace) == 0, "TPM2_NV_DefineSpace")
      tpm.stop()
      fresh = store.states
    } catch { fatalError("libtpms: \(error)") }
  }

  private func process(_ command: [UInt8]) throws -> UInt32 {
    var command = command
    var code: UInt32 = 0
    try tpm.process(command.mutableSpan) { code = $0.loadBigEndian(UInt32.self, at: 6) }
    return code
  }

  /// As it was when the process began: off, with the first states.
  func reset() {
    tpm.stop()
    tpm.locality = 0
    store.states = fresh
    store.fails = false
  }

  /// Powers it on and starts it up.
  func start() {
    do {
      try tpm.start()
      _ = try tpm.startUp(.clear)
    } catch { require(store.fails, "starting the TPM: \(error)") }
  }

  /// Commands in which libtpms makes keys: TPM2_CreatePrimary, TPM2_Create, TPM2_CreateLoaded. An RSA key takes it
  /// longer than an input may take here, and none of that is this project's code.
  static func makesKeys(_ bytes: ArraySlice<UInt8>) -> Bool {
    var word: UInt32 = 0xFFFF_FFFF
    for byte in bytes {
      word = word << 8 | UInt32(byte)
      if [0x131, 0x153, 0x191].contains(word) { return true }
    }
    return false
  }
}
