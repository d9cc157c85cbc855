import Glibc

/// Paths that still mean the same when the process has gone to another folder.
public enum Path {
  /// From the root. Where the working directory is gone, a relative path stays as it is.
  public static func absolute(_ path: String) -> String {
    absolute(path, in: path.hasPrefix("/") ? nil : workingFolder)
  }

  /// From the root, for a path in `folder`; as it is, where that isn't known.
  public static func absolute(_ path: String, in folder: String?) -> String {
    guard !path.isEmpty, !path.hasPrefix("/"), let folder else { return path }
    return (folder.hasSuffix("/") ? folder : folder + "/") + path
  }

  /// An absolute one without `//`, `/./` and `/../`, by its text alone: links are not looked at.
  public static func folded(_ path: String) -> String {
    guard path.hasPrefix("/") else { return path }
    var names: [Substring] = []
    for name in path.split(separator: "/") where name != "." {
      if name == ".." { _ = names.popLast() } else { names.append(name) }
    }
    return "/" + names.joined(separator: "/")
  }

  /// Where it really is, links followed. Nil where that isn't there.
  public static func resolved(_ path: String) -> String? {
    guard let resolved = unsafe realpath(path, nil) else { return nil }
    defer { unsafe free(resolved) }
    return unsafe String(cString: resolved)
  }

  /// Nil where it is gone.
  public static var workingFolder: String? {
    guard let folder = unsafe getcwd(nil, 0) else { return nil }
    defer { unsafe free(folder) }
    return unsafe String(cString: folder)
  }

  /// What the file lies in.
  public static func folder(of path: String) -> String {
    guard let slash = path.utf8.lastIndex(of: UInt8(ascii: "/")) else { return "." }
    return slash == path.startIndex ? "/" : String(path[..<slash])
  }
}
