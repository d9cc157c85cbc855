// The server of VTPMTests, with the options of `vnvram-swtpm socket` and `--state DIRECTORY` for a store that can be
// made to fail.
import Glibc
import Primitives
import SwtpmFormat
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
    if option == "--tpm1.2" {
      options.version = .tpm12
      continue
    }
    let value = arguments.popFirst() ?? ""
    switch option {
    case "--state": state = value
    case "--server": options.data = try ChannelOptions(parsing: value, as: .server)
    case "--ctrl": options.control = try ChannelOptions(parsing: value, as: .ctrl)
    case "--flags": try options.parseFlags(value)
    case "--locality": try options.parseLocality(value)
    case "--migration": try options.parseMigration(value)
    case "--migration-key":
      let source = try SwtpmKeySource(parsing: value, option: option)
      do { options.migrationKey = try source.load() } catch { throw .key(option: option, error) }
    case "--key":
      let source = try SwtpmKeySource(parsing: value, option: option)
      do { options.stateKey = try source.load() } catch { throw .key(option: option, error) }
    case "--key-timeout": options.keyTimeout = Int(value)
    default: throw .usage("unknown option \(option)")
    }
  }
  Server.blockTerminationSignals()
  let store = DirectoryStore(path: state, version: options.version)
  if !options.isIncoming {
    do { try store.acquire() } catch { throw .state(operation: .load, name: .permall, error) }
  }
  let server = try Server(options: options, store: store, log: .standardError)
  exit(server.run().rawValue)
} catch {
  Log.standardError.line("\(error)")
  exit(error.status.rawValue)
}
