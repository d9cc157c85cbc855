import Glibc

/// A server's two channels, opened for another process that is to serve them: who makes the sockets also removes their
/// files in the end.
public final class ServerSockets {
  private var listeners: [ListeningSocket] = []
  /// To be handed over; -1 where there is no such channel. Closed by `handedOver`.
  public private(set) var data: Int32 = -1
  public private(set) var control: Int32 = -1
  private var connected: [Int32] = []

  /// Throws `.addressInUse` where somebody else listens there.
  public init(_ options: ServerOptions, log: Log) throws(TPMError) {
    data = try open(options.data)
    control = try open(options.control)
    for case .tcp(let address, _)? in [options.data?.place, options.control?.place]
    where !address.hasPrefix("127.") && address != "::1" {
      log.line("listening on \(address): the protocol has no authentication, whoever reaches it can use the TPM")
    }
  }

  private func open(_ options: ChannelOptions?) throws(TPMError) -> Int32 {
    guard let options else { return -1 }
    if case .connected(let descriptor) = options.place {
      connected.append(descriptor)
      return descriptor
    }
    guard let listener = try openChannel(options).0 else { return -1 }
    listeners.append(listener)
    return listener.descriptor
  }

  /// The other process has them: closes them here, so that they are closed once it is gone.
  public func handedOver() {
    for listener in listeners { listener.stopListening() }
    for descriptor in connected { close(descriptor) }
    connected = []
    (data, control) = (-1, -1)
  }

  /// Removes the Unix sockets' files.
  public func remove() {
    for listener in listeners { listener.remove() }
  }
}
