/// Opens the place that an option names: a socket to listen on, a client that is there already, or neither where the
/// option wasn't given.
func openChannel(_ options: ChannelOptions?) throws(TPMError) -> (ListeningSocket?, Connection?) {
  guard let options else { return (nil, nil) }
  switch options.place {
  case .tcp(let address, let port):
    return (try ListeningSocket(bindAddress: address, port: port), nil)
  case .unix(let path):
    return (
      try ListeningSocket(path: path, mode: options.mode, user: options.user, group: options.group), nil
    )
  case .listening(let descriptor): return (try ListeningSocket(adopting: descriptor), nil)
  case .opened(let descriptor): return (try ListeningSocket(opened: descriptor), nil)
  case .connected(let descriptor): return (nil, Connection(adopting: descriptor))
  }
}
