/// Stands between the control channel and the server, which can't be handed to it before it is whole.
final class ServerHost: ControlHost {
  weak var server: Server?

  func initialize(deletingVolatileState: Bool) -> TPMResult? { server?.initialize(deletingVolatileState) ?? nil }
  func stop() { server?.stop() }
  func shutDown() { server?.shutDown() }
  func lockStorage(tries: UInt32) -> TPMResult? { server?.lockStorage(Int(tries)) ?? nil }
  func setDataClient(_ descriptor: Int32) -> Refusal? {
    guard let server else { return Refusal(.fail, "the server ends") }
    return server.setDataClient(descriptor)
  }
  func didHandOut(_ name: TPMStateName) { server?.didHandOut(name) }
}
