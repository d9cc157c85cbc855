import CLibtpms
import Glibc
import Primitives

// The TPM's states: what libtpms loads and stores through its callbacks, and what the control channel fetches and sets.
extension TPM {
  /// The size of the checksum that ends a volatile state. libtpms overlooks a shorter one and would start without it.
  static let minimumStateSize = 20

  // MARK: - Called from libtpms

  /// Lends the state's bytes to `deliver` and wipes them; `.retry` where the store knows that there are none.
  func load(_ name: TPMStateName, deliver: (Span<UInt8>) -> TPMResult) -> TPMResult {
    do throws(TPMStateError) {
      guard var bytes = try states.load(name) else {
        guard !given.contains(name) else {
          throw TPMStateError(.failed, "the state was there a moment ago and is gone")
        }
        return .retry
      }
      defer { wipe(&bytes) }
      guard (Self.minimumStateSize...name.maximumSize(version)).contains(bytes.count) else {
        throw TPMStateError(
          .notAuthentic,
          "the state has \(bytes.count) bytes; it must have \(Self.minimumStateSize) to \(name.maximumSize(version))")
      }
      given.insert(name)
      return deliver(bytes.span)
    } catch {
      return note(.state(operation: .load, name: name, error))
    }
  }

  func store(_ bytes: Span<UInt8>, as name: TPMStateName) -> TPMResult {
    // Once something failed, what the store holds is the truth; libtpms' copy in memory is ahead of it, or is nothing.
    if let failure { return failure.result }
    do throws(TPMStateError) {
      guard bytes.count <= name.maximumSize(version) else {
        throw TPMStateError(
          .noSpace, "\(bytes.count) bytes, more than the \(name.maximumSize(version)) that a state may have")
      }
      try states.store(bytes, as: name)
      given.insert(name)
      return .success
    } catch {
      if isRunning, name == .permall, error.isForWantOfAKey {
        withhold(bytes)
        return .success
      }
      return note(.state(operation: .store, name: name, error))
    }
  }

  func delete(_ name: TPMStateName) -> TPMResult {
    if let failure { return failure.result }
    do throws(TPMStateError) {
      try states.delete(name)
      given.remove(name)
      return .success
    } catch {
      return note(.state(operation: .delete, name: name, error))
    }
  }

  /// Logs the first failure since the start and keeps it. A start reports its own.
  func note(_ error: TPMError) -> TPMResult {
    if failure == nil {
      failure = error
      if isRunning { log.line("\(error); the TPM is in failure mode until it is started anew") }
    }
    return error.result
  }

  // MARK: - For the control channel

  /// Stores the volatile state, for a suspend. Durable on return.
  public func storeVolatileState() throws(TPMError) {
    var bytes = try collectVolatileState()
    defer { wipe(&bytes) }
    do throws(TPMStateError) { try states.store(bytes.span, as: .volatilestate) } catch {
      // A locked store is no failed one: nothing is lost, and it can be asked again.
      let error = TPMError.state(operation: .store, name: .volatilestate, error)
      if !error.isForWantOfAKey { _ = note(error) }
      throw error
    }
    given.insert(.volatilestate)
    noteSuspended()
  }

  private func collectVolatileState() throws(TPMError) -> [UInt8] {
    precondition(isRunning)
    if let failure { throw failure }
    // The two states belong together.
    guard storeWithheld() else {
      throw failure ?? .state(operation: .store, name: .permall, TPMStateError(.keyMissing, "the store is locked"))
    }
    var bytes: UnsafeMutablePointer<UInt8>?
    var length: UInt32 = 0
    let result = unsafe TPMResult(rawValue: TPMLIB_VolatileAll_Store(&bytes, &length))
    guard result == .success, let bytes = unsafe bytes else {
      throw .libtpms(operation: "collecting the volatile state", result)
    }
    defer {
      unsafe explicit_bzero(bytes, Int(length))
      unsafe free(bytes)
    }
    return unsafe Array(UnsafeBufferPointer(start: bytes, count: Int(length)))
  }

  /// Has the store record what is about to happen.
  func record(_ transfer: TPMStateTransfer, of name: TPMStateName, isEncrypted: Bool) throws(TPMError) {
    do throws(TPMStateError) { try states.record(transfer, of: name, isEncrypted: isEncrypted) } catch {
      throw .state(operation: transfer == .exported ? .handOut : .take, name: name, error)
    }
  }

  /// A state's bytes, to be wiped by the caller, or nil where there is none. What is stored, or of the volatile state
  /// what is the case now; a stored volatile state is deleted then, since the TPM goes on from what was handed out.
  /// Traps where the TPM is off.
  func state(_ name: TPMStateName) throws(TPMError) -> [UInt8]? {
    precondition(isRunning)
    if let failure { throw failure }
    if name == .volatilestate {
      let bytes = try collectVolatileState()
      try deleteStored(name)
      noteSuspended()
      return bytes
    }
    guard version.states.contains(name) else { return nil }
    do throws(TPMStateError) {
      guard storeWithheld() else { throw TPMStateError(.keyMissing, "the store is locked") }
      return try states.load(name)
    } catch { throw .state(operation: .load, name: name, error) }
  }

  /// Without a write where there is none.
  private func deleteStored(_ name: TPMStateName) throws(TPMError) {
    do throws(TPMStateError) {
      guard var stored = try states.load(name) else { return }
      wipe(&stored)
      try states.delete(name)
      given.remove(name)
    } catch { throw .state(operation: .delete, name: name, error) }
  }

  /// Gives libtpms a state for the next start, which takes it in place of the stored one and stores it. Nil for a
  /// volatile or saved state: the next start has none, whatever is stored. The volatile state is checked against the
  /// permanent one that was given before. After a failure nothing is given any more. Traps where the TPM is on.
  ///
  /// Nil for the permanent state takes back all that was given, so that the next start is from what is stored. libtpms
  /// would manufacture a new TPM then, over the one in the store.
  func setState(_ name: TPMStateName, _ bytes: [UInt8]?) -> TPMResult {
    precondition(!isRunning)
    let type: TPMLIB_StateType =
      switch name {
      case .permall: TPMLIB_STATE_PERMANENT
      case .volatilestate: TPMLIB_STATE_VOLATILE
      case .savestate: TPMLIB_STATE_SAVE_STATE
      }
    guard let bytes else {
      if name == .permall { return forgetGivenStates() }
      return TPMResult(rawValue: TPMLIB_SetState(type, nil, 0))
    }
    guard (Self.minimumStateSize...name.maximumSize(version)).contains(bytes.count) else {
      _ = forgetGivenStates()
      return .badParameter
    }
    // It asks the store for the permanent state where none was given, and that must not count as this start's failure.
    defer {
      failure = nil
      given = []
    }
    let result = unsafe bytes.withUnsafeBufferPointer { bytes in
      unsafe TPMResult(rawValue: TPMLIB_SetState(type, bytes.baseAddress, UInt32(bytes.count)))
    }
    if result == .success, name == .savestate { givenSavestate = bytes }
    return result
  }

  /// libtpms drops what it was given when another version is chosen.
  private func forgetGivenStates() -> TPMResult {
    givenSavestate = nil
    let other = version == .tpm2 ? TPMVersion.tpm12 : .tpm2
    for version in [other, version] {
      let result = TPMResult(rawValue: TPMLIB_ChooseTPMVersion(version.libtpms))
      guard result == .success else { return result }
    }
    return .success
  }
}

extension TPMError {
  var isForWantOfAKey: Bool {
    if case .state(_, _, let error) = self { error.isForWantOfAKey } else { false }
  }
}
