/// A client that has a place in a channel.
protocol PlacedClient: AnyObject {
  var connection: Connection { get }
  /// When something last came from it.
  var lastUse: Int { get }
  /// Nothing that it asked for is under way, and it may be hung up on where another one needs the place.
  var maySpareItsPlace: Bool { get }
  init(_ connection: Connection, _ now: Int)
}

/// A channel's clients: a socket to listen on, where there is one, and a small number of places for who comes.
///
/// Nobody keeps the others out, and nobody waits in silence. Where all places are taken a newcomer waits in the
/// socket's queue. A client that nothing came from for 10 s makes room for it; where there is none, and no place
/// becomes free for 10 s, all who wait are hung up on.
final class ClientPlaces<Client: PlacedClient> {
  private let channel: String
  private let listener: ListeningSocket?
  private let log: Log
  private var clients: [Client?]
  /// Since when somebody waits for a place; nil where the socket is to be looked at.
  private var waitingSince: Int?

  init(_ channel: String, _ listener: ListeningSocket?, _ first: Client?, count: Int, log: Log) {
    self.channel = channel
    self.listener = listener
    self.log = log
    clients = [Client?](repeating: nil, count: count)
    clients[0] = first
  }

  subscript(_ place: Int) -> Client? { clients[place] }
  var indices: Range<Int> { clients.indices }
  var isListening: Bool { listener != nil }
  var isEmpty: Bool { clients.allSatisfy { $0 == nil } }
  func contains(where predicate: (Client) -> Bool) -> Bool { clients.contains { $0.map(predicate) ?? false } }

  private var vacancy: Int? { clients.firstIndex { $0 == nil } }

  // MARK: - Coming

  /// Has `set` report who comes, but where one that waits is known of.
  func waitForClients(at place: Int, in set: EventSet) {
    listener?.wait(for: waitingSince == nil ? .input : nil, at: place, in: set)
  }

  /// Gives a place to who came, or lets it wait for one.
  func acceptClient(_ now: Int) {
    guard let listener else { return }
    guard vacancy != nil || makeRoom(now) else {
      waitingSince = waitingSince ?? now
      return
    }
    guard let place = vacancy, let connection = listener.accept() else { return }
    clients[place] = Client(connection, now)
  }

  /// Puts a client that didn't come by the socket into a place; there must be one.
  func adopt(_ client: Client) {
    guard let place = vacancy else { preconditionFailure("no place") }
    clients[place] = client
  }

  /// Hangs up on the client that has been idle the longest, if one has been for long.
  private func makeRoom(_ now: Int) -> Bool {
    let idle = clients.indices.filter { clients[$0].map { isIdle($0, now) } ?? false }
    guard let place = idle.min(by: { clients[$0]?.lastUse ?? 0 < clients[$1]?.lastUse ?? 0 }) else { return false }
    log.line("\(channel) channel: hanging up on an idle client, since another one waits for a place")
    free(place)
    return true
  }

  private func isIdle(_ client: Client, _ now: Int) -> Bool {
    client.maySpareItsPlace && client.lastUse + ChannelLimits.patience <= now
  }

  // MARK: - Waiting

  /// The nearest time at which `expire` has something to do.
  var deadline: Int? {
    guard let since = waitingSince else { return nil }
    return clients.reduce(since + ChannelLimits.patience) { deadline, client in
      guard let client, client.maySpareItsPlace else { return deadline }
      return min(deadline, client.lastUse + ChannelLimits.patience)
    }
  }

  /// Finds a place for who waits, or turns them away.
  func expire(_ now: Int) {
    guard let since = waitingSince, !makeRoom(now), since + ChannelLimits.patience <= now else { return }
    waitingSince = nil
    var more: [Connection] = []
    while more.count < ChannelLimits.queue, let one = listener?.accept() { more.append(one) }
    if more.isEmpty { return }
    log.line("\(channel) channel: \(clients.count) clients are busy: hanging up on \(more.count) more")
  }

  // MARK: - Going

  /// Hangs up.
  func free(_ place: Int) {
    clients[place] = nil
    waitingSince = nil
  }

  /// Stops listening.
  func stopListening() { listener?.remove() }
}

/// How many clients, and for how long. Times are in milliseconds.
enum ChannelLimits {
  /// How long a client may do nothing while another one waits for its place, and how long that one waits.
  static let patience = 10_000
  /// How many who wait are hung up on at once.
  static let queue = 16
}
