import Primitives
import SwtpmFormat

// GET_STATEBLOB, and the two commands with data of any length: SET_STATEBLOB and HASH_DATA.
extension ControlChannel {
  /// Data that are still coming.
  final class Transfer {
    enum Purpose {
      case hash
      /// `isEncrypted`: the sender says that the state is under swtpm's state key.
      case blob(TPMStateName, isEncrypted: Bool)
      /// Read and thrown away, so that what follows is read as what it is.
      case refused(TPMResult)
    }

    fileprivate var purpose: Purpose
    fileprivate var remaining: Int
    /// Of a blob: what came. Wiped in the end.
    fileprivate var bytes: [UInt8] = []

    fileprivate init(_ purpose: Purpose, _ length: Int) {
      self.purpose = purpose
      remaining = length
    }

    deinit { wipe(&bytes) }
  }

  // MARK: - Handing out

  /// The whole rest of the blob from `offset` on, in one response; under the state key where there is one and the
  /// client doesn't ask for the state in clear. Where it is encrypted there is no offset: each request encrypts anew,
  /// and parts of two don't fit together.
  func getStateBlob(_ type: UInt32, inClear: Bool, offset: UInt32) {
    let stateKey = inClear ? nil : self.stateKey
    let isEncrypted = migrationKey != nil || stateKey != nil
    guard !isEncrypted || offset == 0 else {
      return refuseBlob(.badParameter, "under a key a state is handed out whole, and not from an offset")
    }
    guard let name = TPMStateName(blobType: type) else {
      return refuseBlob(.badParameter, "there is no state of type \(type)")
    }
    do {
      try tpm.record(.exported, of: name, isEncrypted: isEncrypted)
      guard var state = try tpm.state(name) else {
        host.didHandOut(name)
        return putBlob(.retry)
      }
      defer { wipe(&state) }
      var blob = try SwtpmContainer.migrationBlob(of: state.span, stateKey: stateKey, migrationKey: migrationKey)
      defer { wipe(&blob) }
      let start = min(Int(offset), blob.count)
      out.reserveCapacity(16 + blob.count - start)
      putBlob(.success, blob.count - start, isUnderStateKey: stateKey != nil)
      for i in start..<blob.count { out.append(blob[i]) }
      host.didHandOut(name)
    } catch let error as TPMError {
      say("\(error)")
      putBlob(error.result)
    } catch {
      say("the \(name.rawValue) that was to be handed out: \(error)")
      putBlob(.fail)
    }
  }

  private func refuseBlob(_ result: TPMResult, _ reason: String) {
    note(Refusal(result, reason), ControlCommand.getStateBlob.name)
    putBlob(result)
  }

  /// Result, flags (2: under the state key), total length and length.
  private func putBlob(_ result: TPMResult, _ count: Int = 0, isUnderStateKey: Bool = false) {
    put(result)
    put(UInt32(isUnderStateKey ? 2 : 0))
    put(UInt32(count))
    put(UInt32(count))
  }

  // MARK: - Taking

  /// What becomes of the data that follow a command's fixed part.
  func transfer(_ command: ControlCommand, _ message: Connection, length: Int) -> Transfer {
    if let refusal = wrongState(command) { return refused(refusal, command, length) }
    if command == .hashData { return Transfer(.hash, length) }
    let flags = message.peek(UInt32.self, at: 4)
    let type = message.peek(UInt32.self, at: 8)
    guard let name = TPMStateName(blobType: type), tpm.version.states.contains(name) || length == 0 else {
      return refused(Refusal(.badParameter, "this TPM has no state of type \(type)"), command, length)
    }
    guard length <= SwtpmContainer.maximumSize else {
      let reason = "a state may have \(SwtpmContainer.maximumSize) bytes, and this one has \(length)"
      return refused(Refusal(.badParameter, reason), command, length)
    }
    let transfer = Transfer(.blob(name, isEncrypted: flags & 2 != 0), length)
    // At once, so that nothing of it is left behind where the array would have grown.
    transfer.bytes.reserveCapacity(length)
    return transfer
  }

  private func refused(_ refusal: Refusal, _ command: ControlCommand, _ length: Int) -> Transfer {
    note(refusal, command.name)
    return Transfer(.refused(refusal.result), length)
  }

  /// Takes what came. True where it is complete and `out` has the response.
  func advance(_ transfer: Transfer, _ connection: Connection) -> Bool {
    // In between the TPM may have been powered on, when its key came, or off, where another client asked for it.
    refuseWhereNotAllowed(transfer)
    let count = min(transfer.remaining, connection.count)
    if count > 0 {
      connection.consume(count) { piece in
        switch transfer.purpose {
        case .hash:
          let result = tpm.addHashData(piece.span)
          if result != .success {
            note(Refusal(result, "libtpms says so"), ControlCommand.hashData.name)
            transfer.purpose = .refused(result)
          }
        case .blob:
          for i in 0..<piece.count { transfer.bytes.append(piece[i]) }
        case .refused: break
        }
      }
      transfer.remaining -= count
    }
    guard transfer.remaining == 0 else { return false }
    switch transfer.purpose {
    case .hash: put(.success)
    case .refused(let result): put(result)
    case .blob(let name, let isEncrypted):
      let blob = transfer.bytes
      put(setState(name, blob.span, isEncrypted))
    }
    return true
  }

  private func refuseWhereNotAllowed(_ transfer: Transfer) {
    let command: ControlCommand
    switch transfer.purpose {
    case .hash: command = .hashData
    case .blob: command = .setStateBlob
    case .refused: return
    }
    guard let refusal = wrongState(command) else { return }
    note(refusal, command.name)
    transfer.purpose = .refused(refusal.result)
  }

  private func setState(_ name: TPMStateName, _ blob: Span<UInt8>, _ isEncrypted: Bool) -> TPMResult {
    do throws(TPMError) {
      try tpm.record(
        .imported, of: name, isEncrypted: isEncrypted || SwtpmContainer.isEncrypted(migrationBlob: blob))
    } catch {
      say("\(error)")
      return error.result
    }
    do {
      guard
        var state = try SwtpmContainer.state(
          inMigrationBlob: blob, migrationKey: migrationKey, stateKey: stateKey, isEncrypted: isEncrypted)
      else { return noted(tpm.setState(name, nil), name) }
      defer { wipe(&state) }
      return noted(tpm.setState(name, state), name)
    } catch {
      say("the \(name.rawValue) that was to be set: \(error)")
      return error.result
    }
  }
}

extension ControlChannel {
  private func noted(_ result: TPMResult, _ name: TPMStateName) -> TPMResult {
    if result != .success { say("libtpms doesn't take the \(name.rawValue): \(result)") }
    return result
  }
}

extension SwtpmFormatError {
  /// As swtpm answers.
  var result: TPMResult {
    switch self {
    case .malformed: .badParameter
    case .unknownVersion, .unkeyedHash: .badVersion
    case .headerSize: .badDataSize
    case .missing, .keyUnavailable, .crypto: .fail
    case .keyMissing: .keyNotFound
    case .keySize: .badKeyProperty
    case .wrongKey: .decryptError
    }
  }
}
