import Primitives
import ProgramIO

/// A passphrase from a descriptor or a person.
enum Passphrase {
  static func read(descriptor: Int32?, prompt: String) throws -> SecretBytes {
    guard let descriptor else { return try Terminal.readPassphrase(prompt) }
    let input = InputFile(descriptor: descriptor, name: "descriptor \(descriptor)")
    let secret = try input.readSecretLine(limit: Terminal.passphraseLimit)
    guard secret.count > 0 else {
      throw Failure(.usage, "descriptor \(descriptor) gives no passphrase: its first line is empty")
    }
    return secret
  }

  /// For a new one: typed twice, since nobody sees what they type.
  static func readNew(descriptor: Int32?) throws -> SecretBytes {
    let secret = try read(descriptor: descriptor, prompt: "New passphrase: ")
    guard descriptor == nil else { return secret }
    let again = try Terminal.readPassphrase("The same again: ")
    guard secret.equals(again) else { throw Failure(.usage, "the two passphrases differ; nothing was changed") }
    return secret
  }
}
