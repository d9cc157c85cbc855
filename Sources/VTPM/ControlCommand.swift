/// The control channel's commands (swtpm's tpm_ioctl.h), with what the server knows of each. Those that aren't here are
/// answered as unknown.
enum ControlCommand: UInt32, CaseIterable {
  case getCapability = 0x1
  case initialize = 0x2
  case shutdown = 0x3
  case getTPMEstablished = 0x4
  case setLocality = 0x5
  case hashStart = 0x6
  case hashData = 0x7
  case hashEnd = 0x8
  case cancelTPMCommand = 0x9
  case storeVolatile = 0xA
  case resetTPMEstablished = 0xB
  case getStateBlob = 0xC
  case setStateBlob = 0xD
  case stop = 0xE
  case getConfig = 0xF
  case setDataDescriptor = 0x10
  case setBufferSize = 0x11
  case getInfo = 0x12
  case lockStorage = 0x13

  /// For the log, as tpm_ioctl.h has it.
  var name: String {
    switch self {
    case .getCapability: "GET_CAPABILITY"
    case .initialize: "INIT"
    case .shutdown: "SHUTDOWN"
    case .getTPMEstablished: "GET_TPMESTABLISHED"
    case .setLocality: "SET_LOCALITY"
    case .hashStart: "HASH_START"
    case .hashData: "HASH_DATA"
    case .hashEnd: "HASH_END"
    case .cancelTPMCommand: "CANCEL_TPM_CMD"
    case .storeVolatile: "STORE_VOLATILE"
    case .resetTPMEstablished: "RESET_TPMESTABLISHED"
    case .getStateBlob: "GET_STATEBLOB"
    case .setStateBlob: "SET_STATEBLOB"
    case .stop: "STOP"
    case .getConfig: "GET_CONFIG"
    case .setDataDescriptor: "SET_DATAFD"
    case .setBufferSize: "SET_BUFFERSIZE"
    case .getInfo: "GET_INFO"
    case .lockStorage: "LOCK_STORAGE"
    }
  }

  /// How many bytes follow the command's number, up to data of a length of their own. More may: padding.
  var bodySize: Int {
    switch self {
    case .initialize, .setBufferSize, .hashData, .lockStorage: 4
    case .setLocality, .resetTPMEstablished: 1
    case .getStateBlob, .setStateBlob: 12
    case .getInfo: 16
    default: 0
    }
  }

  /// Where in the body the length of the data stands that follow it, if any do.
  var lengthOffset: Int? {
    switch self {
    case .hashData: 0
    case .setStateBlob: 8
    default: nil
    }
  }

  /// The bit that GET_CAPABILITY sets for it; its own and INIT's family are told apart nowhere.
  private var capability: UInt64 {
    switch self {
    case .getCapability: 0
    case .initialize: 1 << 0
    case .shutdown: 1 << 1
    case .getTPMEstablished: 1 << 2
    case .setLocality: 1 << 3
    case .hashStart, .hashData, .hashEnd: 1 << 4
    case .cancelTPMCommand: 1 << 5
    case .storeVolatile: 1 << 6
    case .resetTPMEstablished: 1 << 7
    case .getStateBlob: 1 << 8
    case .setStateBlob: 1 << 9
    case .stop: 1 << 10
    case .getConfig: 1 << 11
    case .setDataDescriptor: 1 << 12
    case .setBufferSize: 1 << 13
    case .getInfo: 1 << 14
    case .lockStorage: 1 << 16
    }
  }

  /// The data channel takes a prefix with a locality before a command: TPM 2.0 only.
  private static let sendCommandHeader: UInt64 = 1 << 15

  static func capabilities(_ version: TPMVersion) -> UInt64 {
    allCases.reduce(version == .tpm2 ? sendCommandHeader : 0) { $0 | $1.capability }
  }

  /// Needs a TPM that is powered on.
  var needsRunning: Bool {
    switch self {
    case .getTPMEstablished, .cancelTPMCommand, .storeVolatile, .resetTPMEstablished, .hashStart, .hashData, .hashEnd,
      .getStateBlob:
      true
    default: false
    }
  }

  /// May be answered later.
  var mayBeHeld: Bool { self == .initialize || self == .lockStorage }

  /// What a machine's own client sends, and hardly another one.
  var isMachines: Bool { self == .initialize || self == .setDataDescriptor }

  /// Needs a TPM that is powered off.
  var needsStopped: Bool { self == .setStateBlob }
}
