import ArgumentParser
import Keyring
import Primitives
import ProgramIO

/// `vnvram key load`: 32 bytes from a file or standard input into a keyring.
struct KeyLoadCommand: Subcommand {
  static let configuration = CommandConfiguration(
    commandName: "load", abstract: "Put a key from a file or standard input into a keyring of the kernel.",
    discussion: """
      The file holds the key itself, exactly 32 bytes.

      EXAMPLE
        vnvram key load web-1 --file /run/credentials/web-1.key --keyring user --timeout 3600
      """)

  @Argument(help: ArgumentHelp("The key's name.", discussion: KeyNameArgument.help))
  var name: KeyNameArgument
  @Option(help: ArgumentHelp("The file that holds it; - for standard input.", valueName: "file"))
  var file: String
  @OptionGroup var key: NewKeyOptions
  @OptionGroup var output: OutputOptions

  func perform() throws -> Answer {
    let input = try InputFile(path: file)
    // One more than is right, so that a longer file shows.
    var secret = SecretBytes(count: 33)
    let count = try input.read(into: secret.mutableSpan)
    guard count == 32 else {
      let has = count > 32 ? "more than 32 bytes" : "\(count) bytes"
      throw Failure(.wrongKey, "\(input.name): has \(has), and a key has exactly 32; it is not the right file")
    }
    secret = secret.prefix(32)
    return try key.add(name.name, secret, verb: "loaded")
  }
}
