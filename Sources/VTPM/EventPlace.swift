/// The places of what is waited for, in order. Control comes before data: a locality that was set holds for the command
/// that follows. Sockets to listen on come behind their clients: what one sent is read before it may lose its place.
enum EventPlace {
  static let signals = 0
  static let timer = 1
  static let readiness = 2
  static let controlClients = readiness + 1..<readiness + 1 + ControlChannel.maximumClients
  static let controlListener = controlClients.upperBound
  static let dataClients = controlListener + 1..<controlListener + 1 + DataChannel.maximumClients
  static let dataListener = dataClients.upperBound
  static let count = dataListener + 1
}
