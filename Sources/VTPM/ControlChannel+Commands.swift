import Primitives

// What each command of the control channel does. Results that swtpm has are swtpm's.
extension ControlChannel {
  /// Puts the response into `out`, or says what the client waits for.
  func execute(_ command: ControlCommand, _ message: Connection) -> Held? {
    if let refusal = wrongState(command) {
      refuse(refusal, command.name)
      return nil
    }
    switch command {
    case .getCapability: put(ControlCommand.capabilities(tpm.version))
    case .initialize:
      let flags = message.peek(UInt32.self, at: 4)
      guard let result = host.initialize(deletingVolatileState: flags & 1 != 0) else { return .initialize }
      put(result)
    case .shutdown:
      host.shutDown()
      return .shutdown
    case .stop:
      host.stop()
      put(.success)
    case .getTPMEstablished: getEstablished()
    case .resetTPMEstablished:
      let locality = message.peek(UInt8.self, at: 4)
      guard locality <= 4 else {
        refuse(command, .badLocality, "there are localities 0 to 4, and it names \(locality)")
        break
      }
      put(tpm.resetEstablished(locality: locality), of: command)
    case .setLocality: setLocality(message.peek(UInt8.self, at: 4))
    case .hashStart: put(tpm.startHash(), of: command)
    case .hashEnd: put(tpm.endHash(), of: command)
    case .cancelTPMCommand:
      // One thread runs commands and reads this channel, as in swtpm, so no command is under way, and there is nothing
      // to cancel.
      put(.success)
    case .storeVolatile: storeVolatile()
    case .getStateBlob:
      getStateBlob(
        message.peek(UInt32.self, at: 8), inClear: message.peek(UInt32.self, at: 4) & 1 != 0,
        offset: message.peek(UInt32.self, at: 12))
    case .getConfig:
      put(.success)
      put(UInt32((stateKey == nil ? 0 : 1) | (migrationKey == nil ? 0 : 2)))
    case .setDataDescriptor:
      if let refusal = host.setDataClient(message.takeDescriptor()) {
        refuse(refusal, command.name)
      } else {
        put(.success)
      }
    case .setBufferSize: setBufferSize(message.peek(UInt32.self, at: 4))
    case .getInfo:
      getInfo(flags: message.peek(UInt64.self, at: 4), offset: message.peek(UInt32.self, at: 12))
    case .lockStorage:
      guard let result = host.lockStorage(tries: message.peek(UInt32.self, at: 4)) else { return .lockStorage }
      put(result)
    case .hashData, .setStateBlob: preconditionFailure("they have data")
    }
    return nil
  }

  /// Nil where the TPM is on, or off, as the command needs it.
  func wrongState(_ command: ControlCommand) -> Refusal? {
    if tpm.isRunning {
      command.needsStopped ? Refusal(.badOrdinal, "the TPM is on: STOP comes first") : nil
    } else {
      command.needsRunning ? Refusal(.badOrdinal, "the TPM is off: INIT comes first") : nil
    }
  }

  private func setLocality(_ locality: UInt8) {
    let last: UInt8 = rejectsLocality4 ? 3 : 4
    guard locality <= last else {
      return refuse(.setLocality, .badLocality, "there are localities 0 to \(last), and it names \(locality)")
    }
    tpm.locality = locality
    put(.success)
  }

  private func getEstablished() {
    do throws(TPMError) {
      let bit = try tpm.isEstablished()
      put(.success)
      out += [bit ? 1 : 0, 0, 0, 0]
    } catch {
      say("\(error)")
      put(error.result)
      put(UInt32(0))
    }
  }

  private func storeVolatile() {
    do throws(TPMError) {
      try tpm.storeVolatileState()
      put(.success)
    } catch {
      say("\(error)")
      put(error.result)
    }
  }

  private func setBufferSize(_ wanted: UInt32) {
    guard wanted == 0 || !tpm.isRunning else {
      return refuse(.setBufferSize, .badOrdinal, "the TPM is on, and its buffer in use: STOP comes first")
    }
    let (size, minimum, maximum) = tpm.setBufferSize(wanted)
    put(.success)
    put(size)
    put(minimum)
    put(maximum)
  }

  /// As much of the text as goes into one response; the client asks for the rest.
  private static let infoSize = 3056

  private func getInfo(flags: UInt64, offset: UInt32) {
    guard let text = tpm.info(flags: UInt32(truncatingIfNeeded: flags)) else {
      return refuse(.getInfo, .fail, "libtpms says nothing of itself")
    }
    // The zero at the end alone is no part that can be asked for.
    guard Int(offset) < text.count - 1 else {
      return refuse(.getInfo, .badParameter, "the text has \(text.count - 1) bytes, and the offset is \(offset)")
    }
    let part = text[Int(offset)...].prefix(Self.infoSize)
    put(.success)
    put(UInt32(text.count))
    put(UInt32(part.count))
    out += part
  }
}
