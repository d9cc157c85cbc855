import ArgumentParser
import Crypto
import Keyring

/// `vnvram key generate`: 32 random bytes into a keyring. They are nowhere else.
struct KeyGenerateCommand: Subcommand {
  static let configuration = CommandConfiguration(
    commandName: "generate", abstract: "Put 32 random bytes into a keyring of the kernel.",
    discussion: """
      The key is in the kernel's memory alone and gone with the keyring: give an image a recovery key, too.

      EXAMPLE
        vnvram key generate web-1 --keyring user
      """)

  @Argument(help: ArgumentHelp("The key's name.", discussion: KeyNameArgument.help))
  var name: KeyNameArgument
  @OptionGroup var key: NewKeyOptions
  @OptionGroup var output: OutputOptions

  func perform() throws -> Answer {
    try key.add(name.name, try Random.secret(count: 32), verb: "generated")
  }
}
