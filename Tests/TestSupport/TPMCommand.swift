/// TPM commands as bytes (TPM 2.0 Part 3), for what has to be quicker than a tool can be started.
public enum TPMCommand {
  /// The NV counter that the tests keep, and an index of 64 bytes.
  public static let counter: [UInt8] = [0x01, 0x50, 0, 0]
  public static let index: [UInt8] = [0x01, 0x50, 0, 1]
  public static let indexSize = 64

  private static let owner: [UInt8] = [0x40, 0, 0, 1]
  /// An empty password.
  private static let session: [UInt8] = [0, 0, 0, 9, 0x40, 0, 0, 9, 0, 0, 0, 0, 0]

  /// With a session: TPM_ST_SESSIONS, the size, the code, handles, the session, parameters.
  private static func make(_ code: UInt8, _ handles: [UInt8], _ parameters: [UInt8]) -> [UInt8] {
    let size = 10 + handles.count + session.count + parameters.count
    return [0x80, 2, 0, 0, UInt8(size >> 8), UInt8(size & 0xFF), 0, 0, 1, code] + handles + session + parameters
  }

  /// TPM2_NV_DefineSpace of a counter, and of ordinary bytes: OWNERWRITE, OWNERREAD, NO_DA.
  public static let defineCounter = make(
    0x2A, owner, [0, 0, 0, 14] + counter + [0, 0x0B, 0x02, 0x02, 0, 0x12, 0, 0, 0, 8])
  public static let defineIndex = make(
    0x2A, owner, [0, 0, 0, 14] + index + [0, 0x0B, 0x02, 0x02, 0, 2, 0, 0, 0, UInt8(indexSize)])
  public static let increment = make(0x34, owner + counter, [])
  public static let readCounter = make(0x4E, owner + counter, [0, 8, 0, 0])
  public static let readIndex = make(0x4E, owner + index, [0, UInt8(indexSize), 0, 0])
  public static let getRandom: [UInt8] = [0x80, 1, 0, 0, 0, 12, 0, 0, 1, 0x7B, 0, 8]
  public static let pcrRead: [UInt8] = [0x80, 1, 0, 0, 0, 20, 0, 0, 1, 0x7E, 0, 0, 0, 1, 0, 0x0B, 3, 1, 0, 0]

  public static func write(_ byte: UInt8) -> [UInt8] {
    make(0x37, owner + index, [0, UInt8(indexSize)] + [UInt8](repeating: byte, count: indexSize) + [0, 0])
  }

  /// A response's code; all ones where there is no response.
  public static func code(_ response: [UInt8]) -> UInt32 {
    guard response.count >= 10 else { return .max }
    return response[6..<10].reduce(0) { $0 << 8 | UInt32($1) }
  }

  /// What TPM2_NV_Read gave: behind the header, the parameters' size and the buffer's.
  public static func content(_ response: [UInt8], _ count: Int) throws -> [UInt8] {
    try TestFailure.unless(code(response) == 0 && response.count >= 16 + count, "\(response)")
    return Array(response[16..<16 + count])
  }
}

extension Socket {
  /// Sends a command and expects success.
  @discardableResult
  public func run(_ command: [UInt8]) throws -> [UInt8] {
    let response = ask(command)
    try TestFailure.unless(TPMCommand.code(response) == 0, "\(response)")
    return response
  }

  public func counter() throws -> UInt64 {
    try TPMCommand.content(run(TPMCommand.readCounter), 8).reduce(0) { $0 << 8 | UInt64($1) }
  }

  public func index() throws -> [UInt8] { try TPMCommand.content(run(TPMCommand.readIndex), TPMCommand.indexSize) }
}
