import Keyring
import Primitives
import SwtpmFormat
import VTPM

/// What `--key` and `--keyring-key` say, together with the state's path.
struct StateKeys {
  /// `--keyring-key`, in full.
  let onlyKey: String?
  /// `--key`, read.
  let given: StateKey?

  init(_ options: CommandLineOptions) throws(TPMError) {
    var name: String?
    if let pattern = options.keyringKey, let state = options.state {
      let text = try state.keyName(pattern, options.server.version)
      guard KeyName(text) != nil else {
        throw .usage(
          "--keyring-key: \"\(text)\" is no name of a key: 1 to \(KeyName.maximumCount) bytes without space, colon and slash"
        )
      }
      name = text
    }
    onlyKey = name
    do throws(SwtpmKeyError) {
      given = try options.key.map { (source) throws(SwtpmKeyError) in try StateKey(source) }
    } catch {
      throw .key(option: "--key", error)
    }
  }

  /// Says so at once where nothing could ever open the image.
  ///
  /// - Throws: `.keyUnusable` where no key was handed over and none of the kernel's can be used.
  func requireSource() throws(Failure) {
    guard given == nil else { return }
    do throws(KeyringError) { try Keyring.requireAccess() } catch {
      throw Failure(error.status, "\(error); hand the key over with --key")
    }
  }

  /// What an image is made with on first use.
  var first: FirstImage.Key? { given.map { .given($0) } ?? onlyKey.map { .kernel($0) } }
}
