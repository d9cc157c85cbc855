/// Stands between the control channel and the server, which can't be handed to it before it is whole.
final class ServerHost: ControlHost {
  weak var server: Server?

  func initialize(deletingVolatileState: Bool) -> TPMResult? { server?.initialize(deletingVolatileState) ?? nil }
  func poke() { server?.poke() }
  func stop() { server?.stop() }
  func shutDown() { server?.shutDown() }
  func lockStorage(tries: UInt32) -> TPMResult? { server?.lockStorage(Int(tries)) ?? nil }
  func setDataClient(_ descriptor: Int32) -> TPMResult { server?.setDataClient(descriptor) ?? .fail }
  func didHandOut(_ name: TPMStateName) { server?.didHandOut(name) }
}
