import Primitives
import TestSupport
import Testing

@testable import VTPM

/// The guards between libtpms and the store, each alone: through a whole server one hides the other. libtpms itself is
/// chosen and registered with, but never started in this process.
@Suite(.serialized) struct TPMTests {
  /// Answers what it is told to, and counts what it is asked.
  private final class ScriptedStore: TPMStateStore {
    var answers: [Result<[UInt8]?, TPMStateError>] = []
    var storeError: TPMStateError?
    var stored = 0
    var readiness: TPMStateReadiness { .ready }
    var readinessDescriptor: Int32 { -1 }

    func load(_: TPMStateName) throws(TPMStateError) -> [UInt8]? { try answers.removeFirst().get() }

    func store(_: Span<UInt8>, as _: TPMStateName) throws(TPMStateError) {
      stored += 1
      if let storeError { throw storeError }
    }

    func delete(_: TPMStateName) throws(TPMStateError) {}
    func acquire() {}
    func release() {}
  }

  private let store = ScriptedStore()
  private let bytes = [UInt8](repeating: 7, count: 100)

  private func makeTPM() throws -> TPM { try TPM(store: store, log: Log(descriptor: -1)) }

  /// What libtpms would be told of a load, and whether it would be given bytes.
  private func load(_ tpm: TPM) -> (result: TPMResult, given: Int?) {
    var given: Int?
    let result = tpm.load(.permall) { bytes in
      given = bytes.count
      return .success
    }
    return (result, given)
  }

  @Test func aLoad() throws {
    let tpm = try makeTPM()
    store.answers = [.success(nil), .success(bytes)]
    #expect(load(tpm) == (.retry, nil))
    #expect(load(tpm) == (.success, 100))
  }

  @Test(arguments: Status.allCases) func aFailedLoadIsNeverNone(status: Status) throws {
    let tpm = try makeTPM()
    store.answers = [.failure(TPMStateError(status, "no")), .success(nil)]
    let (result, given) = load(tpm)
    #expect(result != .retry && result != .success)
    #expect(given == nil)
    // Nor is anything stored over what couldn't be read.
    #expect(tpm.store(bytes.span, as: .permall) != .success)
    #expect(tpm.delete(.permall) != .success)
    #expect(store.stored == 0)
  }

  @Test func aStateThatVanishesIsAnError() throws {
    let tpm = try makeTPM()
    store.answers = [.success(bytes), .success(nil)]
    #expect(load(tpm).result == .success)
    #expect(load(tpm) == (.fail, nil))
    #expect(tpm.store(bytes.span, as: .permall) != .success)
  }

  @Test(arguments: [0, 1, 19, 262_145]) func sizesThatCannotBe(size: Int) throws {
    let tpm = try makeTPM()
    store.answers = [.success([UInt8](repeating: 0, count: size))]
    #expect(load(tpm) == (.fail, nil))
  }

  @Test func afterAFailedStoreNothingIsStored() throws {
    let tpm = try makeTPM()
    #expect(tpm.store(bytes.span, as: .permall) == .success)
    store.storeError = TPMStateError(.noSpace, "no")
    #expect(tpm.store(bytes.span, as: .permall) == .noSpace)
    store.storeError = nil
    #expect(tpm.store(bytes.span, as: .permall) == .noSpace)
    #expect(store.stored == 2)
  }

  @Test func tooLargeAStateIsNotStored() throws {
    let tpm = try makeTPM()
    let large = [UInt8](repeating: 0, count: 262_145)
    #expect(tpm.store(large.span, as: .permall) == .noSpace)
    #expect(store.stored == 0)
  }
}
