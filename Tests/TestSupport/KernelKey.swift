import CLibkeyutils
import Foundation

/// The kernel key of one test, in the session keyring of all children.
public final class KernelKey: Sendable {
  public let name: String
  public let content: [UInt8]

  /// - Parameter name: one that no other test has; random where none is given.
  public init(_ name: String? = nil) {
    self.name = name ?? "server-\(UUID().uuidString.prefix(8).lowercased())"
    content = Self.random()
  }

  deinit { remove() }

  private static func random() -> [UInt8] { (0..<32).map { _ in UInt8.random(in: 0...255) } }

  /// Puts it there: the content that the image was formatted with.
  public func load() { put(content) }

  /// Puts another one of the same name there.
  public func loadWrong() { put(Self.random()) }

  /// And one of another size.
  public func loadShort() { put(Array(content.dropLast())) }

  private func put(_ bytes: [UInt8]) {
    let description = "vnvram:\(name)"
    let serial = SessionThread.shared.run {
      unsafe add_key("user", description, bytes, bytes.count, KEY_SPEC_SESSION_KEYRING)
    }
    precondition(serial > 0, "the kernel takes a key")
  }

  /// On the session's thread, with the key's serial number. Nothing where it isn't there.
  private func with(_ body: @escaping @Sendable (key_serial_t) -> Void) {
    let description = "vnvram:\(name)"
    SessionThread.shared.run {
      let serial = unsafe keyctl_search(KEY_SPEC_SESSION_KEYRING, "user", description, 0)
      if serial > 0 { body(key_serial_t(serial)) }
    }
  }

  public func remove() { with { _ = keyctl_unlink($0, KEY_SPEC_SESSION_KEYRING) } }

  /// Takes it out of the session's keyring, while another one has it that no child comes to.
  public func withdraw() {
    with { serial in
      _ = keyctl_link(serial, KEY_SPEC_THREAD_KEYRING)
      _ = keyctl_unlink(serial, KEY_SPEC_SESSION_KEYRING)
    }
  }

  public func invalidate() { with { _ = keyctl_invalidate($0) } }

  /// Takes all permissions away. It can't be found by its name any more, and what `body` does is done without it; then
  /// it is unlinked, since nobody can give the permissions back.
  public func forbidding<R>(_ body: () throws -> R) rethrows -> R {
    let serial = serial()
    SessionThread.shared.run { _ = keyctl_setperm(serial, 0) }
    defer { SessionThread.shared.run { _ = keyctl_unlink(serial, KEY_SPEC_SESSION_KEYRING) } }
    return try body()
  }

  /// Takes from who possesses it all but viewing it, for as long as `body` takes.
  public func forbiddingToRead<R>(_ body: () throws -> R) rethrows -> R {
    let serial = serial()
    // The owner may give the permissions back.
    SessionThread.shared.run { _ = keyctl_setperm(serial, 0x0121_0000) }
    defer { SessionThread.shared.run { _ = keyctl_setperm(serial, 0x3F01_0000) } }
    return try body()
  }

  private func serial() -> key_serial_t {
    let description = "vnvram:\(name)"
    return SessionThread.shared.run {
      key_serial_t(unsafe keyctl_search(KEY_SPEC_SESSION_KEYRING, "user", description, 0))
    }
  }

  public func revoke() { with { _ = keyctl_revoke($0) } }

  /// Lets it expire, and waits until it has.
  public func expire() {
    with { serial in
      _ = keyctl_set_timeout(serial, 1)
      while keyctl_read(serial, nil, 0) >= 0 { usleep(20_000) }
    }
  }
}
