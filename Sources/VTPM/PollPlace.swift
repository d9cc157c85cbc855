/// The places in the array that is polled. Control comes before data: a locality that was set holds for the command
/// that follows.
enum PollPlace {
  static let signals = 0
  static let readiness = 1
  static let controlListener = 2
  static let controlClients = 3
  static let dataListener = controlClients + ControlChannel.maximumClients
  static let dataClient = dataListener + 1
  static let count = dataClient + 1
}
