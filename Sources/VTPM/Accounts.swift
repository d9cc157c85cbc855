import Glibc
import SwtpmFormat

/// Users and groups by name, as an option may name the owner of a socket's file.
enum Accounts {
  static func user(_ name: String) -> uid_t? {
    unsafe look { buffer, size in
      var entry = unsafe passwd()
      var found: UnsafeMutablePointer<passwd>?
      guard unsafe getpwnam_r(name, &entry, buffer, size, &found) == 0, unsafe found != nil else { return nil }
      return unsafe entry.pw_uid
    }
  }

  static func group(_ name: String) -> gid_t? {
    unsafe look { buffer, size in
      var entry = unsafe Glibc.group()
      var found: UnsafeMutablePointer<Glibc.group>?
      guard unsafe getgrnam_r(name, &entry, buffer, size, &found) == 0, unsafe found != nil else { return nil }
      return unsafe entry.gr_gid
    }
  }

  /// Lends memory for an entry of the database.
  private static func look(_ body: (UnsafeMutablePointer<CChar>, Int) -> UInt32?) -> UInt32? {
    unsafe withUnsafeTemporaryAllocation(of: CChar.self, capacity: 1 << 16) { buffer in
      unsafe buffer.baseAddress.flatMap { unsafe body($0, buffer.count) }
    }
  }
}

extension KeyValueList {
  /// The value of `key` as the number of a user or group, or as its name.
  mutating func identifier(_ key: String, _ look: (String) -> UInt32?) throws(Failure) -> UInt32? {
    guard let text = try value(key) else { return nil }
    guard let number = UInt32(text) ?? look(text), number != UInt32.max else {
      throw .usage("\(option): \(key)=\(text) is neither a number nor a name that is known here")
    }
    return number
  }
}
