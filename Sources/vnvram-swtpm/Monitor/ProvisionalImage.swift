import BlockIO
import Glibc

/// An image that was made for a state that is to come (`--migration incoming`), and its marker: both go again where none came.
///
/// What is empty is no TPM: where they couldn't be removed, a state may come later, and who starts without one has a new TPM, as in an
/// empty folder.
struct ProvisionalImage {
  private let files: [(path: String, identity: stat)]

  /// What lies there now.
  init(at image: String) {
    files = [image, StateMarker(image: image).path].compactMap { path in
      var status = stat()
      return unsafe lstat(path, &status) == 0 ? (path, status) : nil
    }
  }

  /// Removes what still is the same.
  func withdraw() {
    for (path, identity) in files {
      var status = stat()
      guard unsafe lstat(path, &status) == 0, status.st_dev == identity.st_dev, status.st_ino == identity.st_ino else {
        continue
      }
      _ = unsafe unlink(path)
    }
  }
}
