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
  /// `--key` as swtpm has it, for states that go over the control channel; nil where there is none.
  let cipher: SwtpmKey?

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
      guard let source = options.key else {
        (given, cipher) = (nil, nil)
        return
      }
      let secret = try source.loadSecret()
      cipher = options.server.control == nil ? nil : try source.key(from: secret)
      given = try StateKey(secret, source)
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
