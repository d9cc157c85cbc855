import Glibc

/// Paths that still mean the same when the process has gone to another folder.
public enum Path {
  /// From the root. Where the working directory is gone, a relative path stays as it is.
  public static func absolute(_ path: String) -> String {
    guard !path.hasPrefix("/"), let folder = unsafe getcwd(nil, 0) else { return path }
    defer { unsafe free(folder) }
    let base = unsafe String(cString: folder)
    return (base.hasSuffix("/") ? base : base + "/") + path
  }

  /// What the file lies in.
  public static func folder(of path: String) -> String {
    guard let slash = path.utf8.lastIndex(of: UInt8(ascii: "/")) else { return "." }
    return slash == path.startIndex ? "/" : String(path[..<slash])
  }
}
