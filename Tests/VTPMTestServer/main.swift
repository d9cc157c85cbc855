// The server of VTPMTests, with the options of `vnvram-swtpm socket` and `--state DIRECTORY` for a store that can be
// made to fail.
import Glibc
import Primitives
import VTPM

var options = ServerOptions()
var state = ""
do throws(TPMError) {
  var arguments = CommandLine.arguments.dropFirst()
  while let option = arguments.popFirst() {
    if option == "--terminate" {
      options.terminatesOnHangUp = true
      continue
    }
    let value = arguments.popFirst() ?? ""
    switch option {
    case "--state": state = value
    case "--server": options.data = try ChannelOptions(parsing: value, as: .server)
    case "--ctrl": options.control = try ChannelOptions(parsing: value, as: .ctrl)
    case "--flags": try options.parseFlags(value)
    case "--key-timeout": options.keyTimeout = Int(value)
    default: throw .usage("unknown option \(option)")
    }
  }
  Server.blockTerminationSignals()
  let server = try Server(options: options, store: DirectoryStore(path: state), log: .standardError)
  exit(server.run().rawValue)
} catch {
  Log.standardError.line("\(error)")
  exit(error.status.rawValue)
}
