import CLibkeyutils
import Glibc
import Primitives
import Testing

@testable import Keyring

/// Against the kernel's own keyrings. One after another: the user's keyrings are shared by all tests.
@Suite(.serialized, .enabled(if: keyringsAreAvailable, "the kernel keyring is barred to this process"))
struct KeyringTests {
  @Test(arguments: KeyringScope.allCases) func addFindReadUnlink(scope: KeyringScope) throws {
    try onFreshThread {
      let name = try freshName()
      let serial = try Keyring.add(name, payload: secret(), to: scope)
      defer { _ = failure { () throws(KeyringError) in try Keyring.unlink(serial, from: scope) } }
      let found = try Keyring.find(name)
      #expect(found.serial == serial && found.scope == scope && !found.isTooWide)
      #expect(found.description?.name == name && found.description?.uid == getuid())
      #expect(found.description?.permissions == .standard)
      #expect(try content(serial) == [UInt8](repeating: 7, count: 32))
      #expect(Keyring.list().filter { $0.name == name }.map(\.scope) == [scope])
      try Keyring.unlink(serial, from: scope)
      #expect(failure { () throws(KeyringError) in try Keyring.find(name) } == .missing)
      #expect(failure { () throws(KeyringError) in try Keyring.unlink(serial, from: scope) } != nil)
    }
  }

  @Test func missing() throws {
    try onFreshThread {
      let name = try freshName()
      do throws(KeyringError) {
        _ = try Keyring.find(name)
        Issue.record("found a key that is not there")
      } catch {
        #expect(error.code == .missing && error.status == .keyMissing)
        #expect(error.description.contains(name.text) && error.description.contains("vnvram key load"))
      }
    }
  }

  @Test func expired() throws {
    try onFreshThread {
      let name = try freshName()
      let serial = try Keyring.add(name, payload: secret(), to: .session, timeout: 1)
      #expect(try Keyring.find(name).serial == serial)
      usleep(1_300_000)
      #expect(failure { () throws(KeyringError) in try Keyring.find(name) } == .expired)
      #expect(failure { () throws(KeyringError) in try Keyring.read(serial, expecting: 32) } == .expired)
      let listed = Keyring.list().filter { $0.name == name }
      #expect(listed.map(\.state) == [.expired] && listed.map(\.serial) == [serial])
      // An expired key doesn't stand in the way of a new one: the kernel revives it.
      #expect(try Keyring.add(name, payload: secret(), to: .session) == serial)
      #expect(try Keyring.find(name).serial == serial)
      #expect(Keyring.list().filter { $0.name == name }.map(\.timeLeft) == [nil])
    }
  }

  @Test func revoked() throws {
    try onFreshThread {
      let name = try freshName()
      let serial = try Keyring.add(name, payload: secret(), to: .session)
      try Keyring.revoke(serial)
      #expect(failure { () throws(KeyringError) in try Keyring.find(name) } == .revoked)
      #expect(failure { () throws(KeyringError) in try Keyring.read(serial, expecting: 32) } == .revoked)
      let listed = Keyring.list().filter { $0.name == name }
      #expect(listed.map(\.state) == [.revoked] && listed.map(\.serial) == [serial])
      let next = try Keyring.add(name, payload: secret(), to: .session)
      #expect(try Keyring.find(name).serial == next)
    }
  }

  @Test func denied() throws {
    try onFreshThread {
      // Without the right to search there is no possession, so no other right of a possessor counts.
      let unsearchable = try freshName()
      let first = try Keyring.add(
        unsearchable, payload: secret(), to: .session, permissions: [.possessor([.view, .read]), .user(.view)])
      #expect(failure { () throws(KeyringError) in try Keyring.find(unsearchable) } == .denied)
      #expect(failure { () throws(KeyringError) in try Keyring.read(first, expecting: 32) } == .denied)
      #expect(failure { () throws(KeyringError) in try Keyring.setTimeout(first, seconds: 9) } == .denied)
      #expect(Keyring.list().filter { $0.name == unsearchable }.map(\.state) == [.denied])

      // And who may search may read.
      let unreadable = try freshName()
      let second = try Keyring.add(
        unreadable, payload: secret(), to: .session, permissions: [.possessor([.view, .search])])
      #expect(try Keyring.find(unreadable).serial == second)
      #expect(try content(second)[0] == 7)

      let unviewable = try freshName()
      let third = try Keyring.add(unviewable, payload: secret(), to: .session, permissions: [.possessor([.search])])
      let found = try Keyring.find(unviewable)
      #expect(found.serial == third && found.description == nil)
      #expect(failure { () throws(KeyringError) in try Keyring.read(third, expecting: 32) } == .denied)
    }
  }

  @Test(arguments: [1, 16, 31, 33, 64, 4096]) func wrongSize(count: Int) throws {
    try onFreshThread {
      let serial = try Keyring.add(freshName(), payload: secret(count), to: .thread)
      let code = failure { () throws(KeyringError) in try Keyring.read(serial, expecting: 32) }
      #expect(code == .wrongSize(actual: count))
    }
  }

  /// Reading a keyring would give its keys' numbers, 32 bytes for eight of them.
  @Test func wrongType() throws {
    try onFreshThread {
      for _ in 0..<8 { try Keyring.add(freshName(), payload: secret(), to: .session) }
      let session = try #require(KeySerial(keyctl_get_keyring_ID(KEY_SPEC_SESSION_KEYRING, 0)))
      #expect(failure { () throws(KeyringError) in try Keyring.read(session, expecting: 32) } == .wrongType)
      let logon = unsafe add_key("logon", "vnvram:x", [UInt8](repeating: 1, count: 32), 32, KEY_SPEC_THREAD_KEYRING)
      let serial = try #require(KeySerial(logon))
      #expect(failure { () throws(KeyringError) in try Keyring.read(serial, expecting: 32) } == .wrongType)
    }
  }

  @Test func goodKeyWinsAndTheMostTellingErrorIsReported() throws {
    try onFreshThread {
      let name = try freshName()
      try Keyring.add(
        name, payload: secret(), to: .thread, permissions: [.possessor([.view, .setAttributes])])
      #expect(failure { () throws(KeyringError) in try Keyring.find(name) } == .denied)
      let revoked = try Keyring.add(name, payload: secret(), to: .session)
      try Keyring.revoke(revoked)
      #expect(failure { () throws(KeyringError) in try Keyring.find(name) } == .revoked)
      let good = try Keyring.add(name, payload: secret(), to: .user)
      defer { _ = failure { () throws(KeyringError) in try Keyring.unlink(good, from: .user) } }
      let found = try Keyring.find(name)
      #expect(found.serial == good && found.scope == .user)
      // Nobody tells the name of the key that can't be viewed.
      #expect(Set(Keyring.list().filter { $0.name == name }.map(\.serial)) == [revoked, good])
    }
  }

  @Test func addingTwice() throws {
    try onFreshThread {
      let name = try freshName()
      let serial = try Keyring.add(name, payload: secret(), to: .session)
      #expect(
        failure { () throws(KeyringError) in try Keyring.add(name, payload: secret(32, 8), to: .session) } == .exists)
      #expect(try content(serial)[0] == 7)
      #expect(try Keyring.add(name, payload: secret(32, 9), to: .session, replacing: true) == serial)
      #expect(try content(serial)[0] == 9)
      // One further in is hidden, not replaced.
      let hiding = try Keyring.add(name, payload: secret(), to: .thread)
      #expect(try Keyring.find(name).serial == hiding)
    }
  }

  /// A key that an operator put into the user keyring with the kernel's own permissions is read by a service whose
  /// session doesn't lead there: `keyctl_read` alone can't.
  @Test(arguments: [KeyringScope.user, .userSession, .persistent]) func possession(scope: KeyringScope) throws {
    try onFreshThread {
      let serial = try Keyring.add(freshName(), payload: secret(), to: scope)
      defer { _ = failure { () throws(KeyringError) in try Keyring.unlink(serial, from: scope) } }
      var buffer = [CChar](repeating: 0, count: 32)
      let plain = unsafe keyctl_read(serial.value, &buffer, 32)
      #expect(plain == -1 && errno == EACCES)
      #expect(try content(serial)[31] == 7)
      try Keyring.setTimeout(serial, seconds: 1000)
      try Keyring.revoke(serial)
    }
  }

  @Test func invalidated() throws {
    try onFreshThread {
      let name = try freshName()
      let serial = try Keyring.add(name, payload: secret(), to: .session)
      try Keyring.invalidate(serial)
      #expect(failure { () throws(KeyringError) in try Keyring.read(serial, expecting: 32) } == .missing)
      // "Revoked" until the kernel has swept it away.
      let code = failure { () throws(KeyringError) in try Keyring.find(name) }
      #expect(code == .revoked || code == .missing)
    }
  }

  /// No operation leaves a link behind, makes a process keyring, or shows a key to another thread or session.
  @Test func nothingLeaks() throws {
    let names = try onFreshThread {
      // Another test in this process may have made one, of which threads begun later have a part.
      let processKeyring = keyctl_get_keyring_ID(KEY_SPEC_PROCESS_KEYRING, 0)
      let names = [try freshName(), try freshName(), try freshName()]
      let held = try Keyring.add(names[0], payload: secret(), to: .user)
      #expect(try content(Keyring.find(names[0]).serial).count == 32)
      _ = Keyring.list()
      #expect(failure { () throws(KeyringError) in try Keyring.find(names[1]) } == .missing)
      #expect(Keyring.contents(KEY_SPEC_THREAD_KEYRING).isEmpty)
      #expect(Keyring.contents(KEY_SPEC_SESSION_KEYRING).isEmpty)
      #expect(keyctl_get_keyring_ID(KEY_SPEC_PROCESS_KEYRING, 0) == processKeyring)
      // Nested, so that the inner one must not undo the outer one's links.
      Possession.during { _ in
        let linked = Keyring.contents(KEY_SPEC_THREAD_KEYRING)
        Possession.during { _ in }
        #expect(Keyring.contents(KEY_SPEC_THREAD_KEYRING) == linked && linked.count >= 2)
      }
      #expect(Keyring.contents(KEY_SPEC_THREAD_KEYRING).isEmpty)
      try Keyring.unlink(held, from: .user)
      try Keyring.add(names[0], payload: secret(), to: .thread)
      let shared = try Keyring.add(names[1], payload: secret(), to: .process)
      try Keyring.add(names[2], payload: secret(), to: .session)
      let seen = try onFreshThread {
        names.map { name in failure { () throws(KeyringError) in try Keyring.find(name) } }
      }
      // A thread begun later has the process keyring too.
      #expect(seen == [.missing, nil, .missing])
      try Keyring.unlink(shared, from: .process)
      return names
    }
    for name in names {
      let code = try onFreshThread { failure { () throws(KeyringError) in try Keyring.find(name) } }
      #expect(code == .missing)
    }
  }

  @Test func list() throws {
    try onFreshThread {
      let (twice, nested, wide) = (try freshName(), try freshName(), try freshName())
      let first = try Keyring.add(twice, payload: secret(), to: .thread, timeout: 3000)
      #expect(keyctl_link(first.value, KEY_SPEC_SESSION_KEYRING) == 0)
      let inner = unsafe add_key("keyring", "inner", nil, 0, KEY_SPEC_SESSION_KEYRING)
      let second = try Keyring.add(nested, payload: secret(16), to: .thread)
      #expect(keyctl_link(second.value, inner) == 0)
      try Keyring.unlink(second, from: .thread)
      try Keyring.add(
        wide, payload: secret(), to: .session, permissions: [.possessor(.all), .user(.view), .other([.view, .read])])
      _ = unsafe add_key("user", "vnvram:not a name", [1], 1, KEY_SPEC_SESSION_KEYRING)
      _ = unsafe add_key("user", "elsewhere", [1], 1, KEY_SPEC_SESSION_KEYRING)
      let mine = Keyring.list().filter { [twice, nested, wide].contains($0.name) }
      #expect(mine.count == 3)
      #expect(mine.map(\.name) == mine.map(\.name).sorted())
      for key in mine {
        #expect(key.state == .usable && key.isTooWide == (key.name == wide) && key.uid == getuid())
        #expect(key.size == (key.name == nested ? 16 : 32))
        #expect(key.scope == (key.name == twice ? .thread : .session))
        #expect((key.timeLeft != nil) == (key.name == twice))
      }
      #expect(try Keyring.find(wide).isTooWide)
      #expect(try Keyring.find(nested).scope == .session)
    }
  }

  /// After logout the session keyring is revoked under what still runs: its keys are gone, the user's are not.
  @Test func revokedSessionKeyring() throws {
    try onFreshThread {
      let (name, user) = (try freshName(), try freshName())
      try Keyring.add(name, payload: secret(), to: .session)
      let serial = try Keyring.add(user, payload: secret(), to: .user)
      defer { _ = failure { () throws(KeyringError) in try Keyring.unlink(serial, from: .user) } }
      #expect(keyctl_revoke(keyctl_get_keyring_ID(KEY_SPEC_SESSION_KEYRING, 0)) == 0)
      #expect(failure { () throws(KeyringError) in try Keyring.find(name) } == .missing)
      #expect(try Keyring.find(user).serial == serial)
      #expect(try content(serial).count == 32)
    }
  }

  @Test(.enabled(if: !Keyring.hasSession, "the tests run in a session")) func outsideOfAnySession() throws {
    try onFreshThread(session: false) {
      let name = try freshName()
      #expect(
        failure { () throws(KeyringError) in try Keyring.add(name, payload: secret(), to: .session) } == .noSuchKeyring)
      let serial = try Keyring.add(name, payload: secret(), to: .user)
      defer { _ = failure { () throws(KeyringError) in try Keyring.unlink(serial, from: .user) } }
      #expect(try Keyring.find(name).scope == .user)
      #expect(Keyring.list().filter { $0.name == name }.map(\.scope) == [.user])
    }
  }
}
