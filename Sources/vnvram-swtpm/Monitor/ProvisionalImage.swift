import BlockIO
import Glibc

/// An image that was made for a state that is to come (`--migration incoming`), and its marker: both go again where
/// none came.
///
/// Invariant: nothing is removed but what this server has made, and nobody has used. The image is locked from its
/// making on; what happened in the moment before is told by the time it was written.
///
/// What is empty is no TPM: where they couldn't be removed, a state may come later, and who starts without one has a
/// new TPM, as in an empty folder.
struct ProvisionalImage {
  private let image: String
  private let made: stat?
  private let marker: stat?

  /// What lies there now.
  init(at image: String) {
    self.image = image
    (made, marker) = (Self.look(image), Self.look(StateMarker(image: image).path))
  }

  private static func look(_ path: String) -> stat? {
    var status = stat()
    return unsafe lstat(path, &status) == 0 ? status : nil
  }

  /// Removes what still is the same.
  ///
  /// - Parameter device: the image, open and locked.
  func withdraw(_ device: FileDevice) {
    guard device.hasName(image), let made, let found = Self.look(image), Self.isSame(made, found),
      made.st_mtim.tv_sec == found.st_mtim.tv_sec, made.st_mtim.tv_nsec == found.st_mtim.tv_nsec
    else { return }
    // The marker first: alone it would say that a TPM is lost.
    let path = StateMarker(image: image).path
    if let marker, let found = Self.look(path), Self.isSame(marker, found) { _ = unsafe unlink(path) }
    _ = unsafe unlink(image)
  }

  private static func isSame(_ one: stat, _ other: stat) -> Bool {
    one.st_dev == other.st_dev && one.st_ino == other.st_ino
  }
}
