import Keyring

/// What is to be said of a key's permissions.
enum KeyWarning {
  /// Where the key's group or everyone has rights to it; `nil` where not, or where it isn't there.
  static func tooWide(_ name: KeyName) -> String? {
    guard let found = try? Keyring.find(name), found.isTooWide, let description = found.description else { return nil }
    return tooWide(name, found.serial, description.permissions)
  }

  static func tooWide(_ name: KeyName, _ serial: KeySerial, _ permissions: KeyPermissions) -> String {
    "key \(name): its group or everyone has rights to it (\(permissions)); take them away with "
      + "`keyctl setperm \(serial) 0x3f010000`"
  }
}
