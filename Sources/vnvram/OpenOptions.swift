import ArgumentParser
import Audit
import BlockIO
import SecureVolume

/// How an image is opened, a plain one perhaps, and what tells whether it is the newest.
struct OpenOptions: ParsableArguments {
  @OptionGroup var key: KeyOptions

  @Flag(
    help: "Take an image that is not encrypted: nothing in it is authentic, and a write that is cut short can spoil it."
  )
  var plaintext = false

  @OptionGroup var anchor: AnchorOptions
  @OptionGroup var audit: AuditOptions

  func validate() throws {
    if plaintext, key.ways > 0 { throw ValidationError("--plaintext goes without a key.") }
    if plaintext, let named = anchor.anchor, named.specification != .none {
      throw ValidationError("--anchor goes without --plaintext: nothing tells whether a plain image is the newest.")
    }
  }

  /// A plain image has none, whatever the environment says.
  func anchorUse() throws -> AnchorUse? {
    plaintext ? nil : try anchor.make().map { .following($0) }
  }

  /// Opens an image for reading; nothing of it is changed.
  func open(_ image: String) throws -> OpenedImage {
    try OpenedImage(image, .readOnly, unlock: try unlock(), anchor: try anchorUse(), audit: { try audit.log() })
  }

  /// Opens an image for reading, or, where it is refused for what is wrong with it, as far as it verifies.
  ///
  /// - Returns: why it was refused, too; `nil` where it wasn't.
  func openDamaged(_ image: String) throws -> (OpenedImage, refusal: Failure?) {
    let unlock = try unlock()
    let device = try FileDevice.open(path: image, access: .readOnly)
    let anchor = try anchorUse()
    do {
      return (try OpenedImage(device, unlock: unlock, anchor: anchor, audit: { try audit.log() }), nil)
    } catch {
      let failure = Failure(error)
      guard !unlock.isPlain, failure.status == .notAuthentic || failure.status == .inputOutput else { throw error }
      do {
        return (try OpenedImage(device, for: .salvage, unlock: unlock, audit: { try audit.log() }), failure)
      } catch { throw failure }
    }
  }

  /// Changes an image.
  ///
  /// Opening for writing alone changes it (a new epoch begins), so `check` looks first whether all can go well, in the
  /// image opened for reading: what it refuses leaves no trace. It may take its time, too: nobody is locked out by it.
  ///
  /// - Returns: what `change` returns, and what is to be said of how the image was found.
  func change<C, R>(
    _ image: String, check: (OpenedImage) throws -> C, _ change: (OpenedImage, C) throws -> R
  ) throws -> (R, warnings: [String]) {
    let unlock = try unlock()
    let anchor = try anchorUse()
    let reading = try OpenedImage(image, .readOnly, unlock: unlock, anchor: anchor, audit: { try audit.log() })
    let warnings = reading.warnings
    let checked = try check(reading)
    reading.release()
    let opened = try OpenedImage(image, .readWrite, unlock: unlock, anchor: anchor, audit: { try audit.log() })
    let result: R
    do { result = try change(opened, checked) } catch {
      opened.abandon()
      throw error
    }
    try opened.close()
    return (result, warnings)
  }

  func unlock() throws -> Unlock {
    plaintext ? Unlock(isPlain: true, slot: nil, key: nil) : try key.unlock()
  }
}
