import Primitives

/// A TPM's states, loaded into libtpms to see whether it takes them, as one does before a state is moved or trusted.
/// The TPM works on a copy in memory; nothing is stored anywhere.
///
/// libtpms may misbehave on states that were damaged: this belongs into a process of its own.
public struct StateTrial: Sendable {
  /// How many NV indices there are.
  public let indices: Int
  /// How many persistent objects there are; nil for a TPM 1.2, whose owner-evicted keys no command lists by itself.
  public let objects: Int?

  /// Powers a TPM on from these states, sends it its startup, and asks what it holds.
  ///
  /// - Throws: `.state` with `.notAuthentic` where libtpms doesn't take them. Traps where there is a TPM in this process
  ///   already.
  public init(_ version: TPMVersion, states: [TPMStateName: [UInt8]]) throws(TPMError) {
    let store = MemoryStore(states)
    let tpm = try TPM(version, store: store, log: Log(descriptor: -1), hearsLibtpms: false)
    try self.init(tpm, store)
  }

  init(_ tpm: TPM, _ store: MemoryStore) throws(TPMError) {
    guard store.states[.permall] != nil else {
      throw .state(operation: .load, name: .permall, TPMStateError(.notFound, "there is none"))
    }
    do throws(TPMError) { try tpm.start() } catch {
      if case .libtpms(_, let result) = error { throw Self.refused("libtpms doesn't take it (\(result))") }
      throw error
    }
    defer { tpm.stop() }
    // A TPM that was suspended is started up already.
    let code = try tpm.startUp(.clear)
    guard code == 0 || code == (tpm.version == .tpm2 ? 0x100 : 0x26) else {
      throw Self.refused("a TPM with it answers its startup with 0x\(String(code, radix: 16))")
    }
    switch tpm.version {
    case .tpm2:
      indices = try Self.handles(tpm, from: 0x0100_0000)
      objects = try Self.handles(tpm, from: 0x8100_0000)
    case .tpm12:
      indices = try Self.nvList(tpm)
      objects = nil
    }
  }

  private static func refused(_ why: String) -> TPMError {
    .state(operation: .load, name: .permall, TPMStateError(.notAuthentic, why))
  }

  /// How many handles TPM2_GetCapability lists (TPM 2.0 Part 3, 30.2; TPM_CAP_HANDLES is 1).
  private static func handles(_ tpm: TPM, from first: UInt32) throws(TPMError) -> Int {
    var (count, next) = (0, first)
    while true {
      let answer = try ask(tpm, [0x80, 1, 0, 0, 0, 22, 0, 0, 1, 0x7A, 0, 0, 0, 1] + bytes(next) + bytes(64))
      // moreData, the capability, how many there are, and they.
      guard answer.count >= 19 else { throw refused("a TPM with it gives half a list of handles") }
      let listed = Int(answer.span.loadBigEndian(UInt32.self, at: 15))
      guard answer.count == 19 + 4 * listed else { throw refused("a TPM with it gives half a list of handles") }
      count += listed
      guard answer[10] != 0, listed > 0, count < 65536 else { return count }
      next = answer.span.loadBigEndian(UInt32.self, at: answer.count - 4) &+ 1
    }
  }

  /// How many indices TPM_GetCapability lists (TPM Main Part 3, 7.1; TPM_CAP_NV_LIST is 0x0D).
  private static func nvList(_ tpm: TPM) throws(TPMError) -> Int {
    let answer = try ask(tpm, [0, 0xC1, 0, 0, 0, 18, 0, 0, 0, 0x65, 0, 0, 0, 0x0D, 0, 0, 0, 0])
    guard answer.count >= 14 else { throw refused("a TPM with it gives no list of indices") }
    return Int(answer.span.loadBigEndian(UInt32.self, at: 10)) / 4
  }

  private static func bytes(_ value: UInt32) -> [UInt8] {
    (0..<4).map { UInt8(truncatingIfNeeded: value >> (24 - 8 * $0)) }
  }

  private static func ask(_ tpm: TPM, _ command: [UInt8]) throws(TPMError) -> [UInt8] {
    var (command, answer) = (command, [UInt8]())
    try tpm.process(command.mutableSpan) { answer = $0.array }
    let code = answer.count >= 10 ? answer.span.loadBigEndian(UInt32.self, at: 6) : UInt32.max
    guard code == 0 else { throw refused("a TPM with it answers with 0x\(String(code, radix: 16))") }
    return answer
  }

  /// States in memory, wiped as they go.
  final class MemoryStore: TPMStateStore {
    private(set) var states: [TPMStateName: [UInt8]]
    init(_ states: [TPMStateName: [UInt8]]) { self.states = states }
    deinit { for name in TPMStateName.allCases { drop(name) } }

    var readiness: TPMStateReadiness { .ready }
    var readinessDescriptor: Int32 { -1 }
    func acquire() {}
    func release() {}
    func load(_ name: TPMStateName) -> [UInt8]? { states[name].map { Array($0) } }
    func store(_ bytes: Span<UInt8>, as name: TPMStateName) {
      drop(name)
      states[name] = bytes.array
    }
    func delete(_ name: TPMStateName) { drop(name) }

    private func drop(_ name: TPMStateName) {
      guard var old = states.removeValue(forKey: name) else { return }
      wipe(&old)
    }
  }
}
