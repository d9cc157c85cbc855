/// The control channel's commands (swtpm's tpm_ioctl.h), with what the server knows of each. Those that aren't here,
/// hashing, state blobs and SET_DATAFD among them, are answered as unknown.
enum ControlCommand: UInt32, CaseIterable {
  case getCapability = 0x1
  case initialize = 0x2
  case shutdown = 0x3
  case getTPMEstablished = 0x4
  case setLocality = 0x5
  case cancelTPMCommand = 0x9
  case storeVolatile = 0xA
  case resetTPMEstablished = 0xB
  case stop = 0xE
  case getConfig = 0xF
  case setBufferSize = 0x11
  case getInfo = 0x12

  /// How many bytes follow the command's number. More may: padding.
  var bodySize: Int {
    switch self {
    case .initialize, .setBufferSize: 4
    case .setLocality, .resetTPMEstablished: 1
    case .getInfo: 16
    default: 0
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
    case .cancelTPMCommand: 1 << 5
    case .storeVolatile: 1 << 6
    case .resetTPMEstablished: 1 << 7
    case .stop: 1 << 10
    case .getConfig: 1 << 11
    case .setBufferSize: 1 << 13
    case .getInfo: 1 << 14
    }
  }

  /// Says what is supported, and nothing more.
  static var capabilities: UInt64 { allCases.reduce(0) { $0 | $1.capability } }

  /// Needs a TPM that is powered on.
  var needsRunning: Bool {
    switch self {
    case .getTPMEstablished, .cancelTPMCommand, .storeVolatile, .resetTPMEstablished: true
    default: false
    }
  }
}
