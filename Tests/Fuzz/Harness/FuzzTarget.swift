/// What is fuzzed. Each target takes any bytes, and traps where something doesn't hold that must.
public enum FuzzTarget: String, CaseIterable, Sendable {
  /// Header, journal and tree, without valid MACs.
  case image
  /// The same, with valid MACs.
  case sealed
  /// An image beside an anchor.
  case anchor
  /// The DER stream, as a store's and as an import.
  case stream
  /// Layouts of streams and images.
  case layout
  /// Visitors.
  case fields
  /// The control channel.
  case control
  /// The data channel of clients that connect.
  case data
  /// The data channel that came by SET_DATAFD.
  case guest
  /// Key and slot metadata, names, options.
  case keys
  /// swtpm's containers, single files and keys.
  case swtpm

  /// Makes what every input begins with, which takes longer than an input may: real stores, and a TPM.
  public func prepare() {
    switch self {
    case .image, .sealed, .anchor, .keys: _ = StoreHistory.all
    case .control, .data, .guest: _ = unsafe FuzzTPM.shared
    case .stream, .layout, .fields, .swtpm: break
    }
  }

  public func run(_ bytes: [UInt8]) {
    switch self {
    case .image: ImageTarget.run(bytes)
    case .sealed: SealedTarget.run(bytes)
    case .anchor: AnchorTarget.run(bytes)
    case .stream: StreamTarget.run(bytes)
    case .layout: LayoutTarget.run(bytes)
    case .fields: FieldsTarget.run(bytes)
    case .control: ControlTarget.run(bytes)
    case .data: DataTarget.run(bytes)
    case .guest: GuestTarget.run(bytes)
    case .keys: KeysTarget.run(bytes)
    case .swtpm: SwtpmTarget.run(bytes)
    }
  }
}
