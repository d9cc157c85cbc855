import Foundation
import Primitives
import SwtpmFormat
import TestSupport
import Testing

@testable import VTPM

@Suite struct OptionsTests {
  @Test(arguments: [
    ("type=tcp,port=2321", ChannelOptions.Role.server, ChannelOptions.Place.tcp(bindAddress: "127.0.0.1", port: 2321)),
    ("port=1,type=tcp,bindaddr=::1", .ctrl, .tcp(bindAddress: "::1", port: 1)),
    ("type=unixio,path=/run/a b", .ctrl, .unix(path: "/run/a b")),
    ("type=unixio,path=/a=b,mode=0666", .ctrl, .unix(path: "/a=b")),
    ("type=tcp,fd=7", .server, .connected(7)),
    ("type=unixio,fd=7", .ctrl, .listening(7)),
    ("type=unixio,clientfd=5", .ctrl, .connected(5)),
    ("fd=7", .server, .connected(7)), ("fd=2", .server, .connected(2)),
    ("port=5", .server, .tcp(bindAddress: "127.0.0.1", port: 5)),
    ("type=tcp,port=1,bindaddr=::1,ifname=nothing", .ctrl, .tcp(bindAddress: "::1", port: 1)),
    ("type=tcp,port=1,bindaddr=fe80::1,ifname=lo", .ctrl, .tcp(bindAddress: "fe80::1%lo", port: 1)),
  ]) func goodChannels(text: String, role: ChannelOptions.Role, place: ChannelOptions.Place) throws {
    #expect(try ChannelOptions(parsing: text, as: role).place == place)
  }

  @Test func socketFileOptions() throws {
    let given = try ChannelOptions(parsing: "type=unixio,path=/s,mode=0660,uid=3,gid=4", as: .ctrl)
    #expect(given.mode == 0o660)
    #expect(given.user == 3)
    #expect(given.group == 4)
    let silent = try ChannelOptions(parsing: "type=unixio,path=/s", as: .ctrl)
    #expect(silent.mode == 0o600)
    #expect(silent.user == nil)
    #expect(!silent.disconnects)
    #expect(try ChannelOptions(parsing: "type=tcp,port=9,disconnect", as: .server).disconnects)
    #expect(try !ChannelOptions(parsing: "type=tcp,port=9,disconnect=false", as: .server).disconnects)
    #expect(try ChannelOptions(parsing: "type=tcp,port=9,terminate", as: .ctrl).terminates)
    #expect(!silent.terminates)
    let named = try ChannelOptions(parsing: "type=unixio,path=/s,uid=root,gid=root", as: .server)
    #expect(named.user == 0 && named.group == 0)
  }

  /// A data channel of one client that is there already ends the server with it.
  @Test func whenItEnds() throws {
    var options = ServerOptions()
    options.data = try ChannelOptions(parsing: "type=tcp,port=9", as: .server)
    #expect(!options.endsWithDataClient)
    options.terminatesOnHangUp = true
    #expect(options.endsWithDataClient)
    options.terminatesOnHangUp = false
    options.data = try ChannelOptions(parsing: "fd=9", as: .server)
    #expect(options.endsWithDataClient)
  }

  @Test(arguments: [
    "", "type", "type=", "type=udp,port=1", "type=tcp", "type=unixio", "port=1", "type=tcp,port=0",
    "type=tcp,port=65536", "type=tcp,port=-1", "type=tcp,port=1x", "type=tcp,port", "type=tcp,port=1,port=2",
    "type=tcp,port=1,path=/x", "type=tcp,port=1,fd=3", "type=tcp,bindaddr=::1,fd=3", "type=unixio,path=",
    "type=unixio,path=/x,mode=8", "type=unixio,path=/x,mode=01000", "type=unixio,path=/x,mode=-1",
    "type=unixio,path=/x,uid=no such user", "type=tcp,fd=x", "type=unixio,clientfd=-1",
    "type=tcp,port=1,terminate=maybe",
    "type=tcp,port=1,bindaddr=fe80::1,ifname=no-such-one", "type=unixio,path=/x,uid=4294967295",
    "type=unixio,path=/x,,",
    "type=unixio,path=/x,colour=red", "type=tcp,fd=-1", "type=tcp,fd=2147483648", "type=tcp,port=1,mode=0600",
    "type=unixio,path=/x,disconnect", "type=unixio,path=/\(String(repeating: "x", count: 107))",
    String(repeating: "x", count: 5000),
  ]) func badChannels(text: String) {
    let error = #expect(throws: TPMError.self) { try ChannelOptions(parsing: text, as: .ctrl) }
    #expect(error?.status == .usage)
  }

  @Test func clientDescriptorsAreControlsOnly() {
    #expect(throws: TPMError.self) { try ChannelOptions(parsing: "type=unixio,clientfd=5", as: .server) }
  }

  @Test(arguments: [
    ("not-need-init", true, TPM.Startup.none), ("startup-clear", true, .clear), ("startup-state", true, .state),
    ("startup-none", false, .none), ("not-need-init,startup-none", true, .none),
    ("startup-clear,not-need-init", true, .clear), ("startup-deactivated", true, .deactivated),
  ]) func goodFlags(text: String, startsByItself: Bool, startup: TPM.Startup) throws {
    var options = ServerOptions()
    try options.parseFlags(text)
    #expect(options.startsByItself == startsByItself)
    #expect(options.startup == startup)
  }

  @Test(arguments: ["", "x", "startup-clear,startup-state", "not-need-init=on", "startup-clear,"])
  func badFlags(text: String) {
    var options = ServerOptions()
    let error = #expect(throws: TPMError.self) { try options.parseFlags(text) }
    #expect(error?.status == .usage)
  }

  @Test func otherFlags() throws {
    var options = ServerOptions()
    #expect(options.concludesForGuest)
    try options.parseFlags("not-need-init,disable-auto-shutdown")
    #expect(!options.concludesForGuest && options.startsByItself)
    try options.parseLocality("reject-locality-4,allow-set-locality")
    #expect(options.rejectsLocality4 && options.allowsSetLocality)
    try options.parseMigration("release-lock-outgoing,incoming")
    #expect(options.releasesLockOutgoing && options.isIncoming)
    for text in ["", "x", "incoming=maybe"] {
      #expect(throws: TPMError.self) { try options.parseMigration(text) }
      #expect(throws: TPMError.self) { try options.parseLocality(text) }
    }
  }

  /// What no option shows by itself.
  @Test func whatDoesNotGoTogether() throws {
    var options = ServerOptions()
    #expect(throws: TPMError.self) { try options.validate() }
    options.control = ChannelOptions(.unix(path: "/x"))
    try options.validate()
    options.startup = .deactivated
    #expect(throws: TPMError.self) { try options.validate() }
    options.version = .tpm12
    try options.validate()
    (options.startsByItself, options.isIncoming) = (true, true)
    #expect(throws: TPMError.self) { try options.validate() }
  }

  @Test(arguments: [
    ("file=/k", SwtpmKeySource(.file("/k"), .hexadecimal, count: 16)),
    ("file=/k,format=hex,mode=aes-cbc", SwtpmKeySource(.file("/k"), .hexadecimal, count: 16)),
    ("mode=aes-128-cbc,fd=7,format=binary", SwtpmKeySource(.descriptor(7), .binary, count: 16)),
    ("fd=7,format=binary,mode=aes-256-cbc", SwtpmKeySource(.descriptor(7), .binary, count: 32)),
    ("pwdfile=/a=b,mode=aes-256-cbc", SwtpmKeySource(.file("/a=b"), .password(.pbkdf2), count: 32)),
    ("pwdfd=0,kdf=sha512,remove=false", SwtpmKeySource(.descriptor(0), .password(.sha512), count: 16)),
    ("pwdfile=/k,kdf=pbkdf2", SwtpmKeySource(.file("/k"), .password(.pbkdf2), count: 16)),
  ]) func goodKeys(text: String, source: SwtpmKeySource) throws {
    #expect(try SwtpmKeySource(parsing: text, option: "--migration-key") == source)
  }

  @Test(arguments: [
    ("backend-uri=vnvram:///a/b.img", StateLocation.Place.image("/a/b.img"), "/a/b.img", "/a/b.img", mode_t(0o600)),
    // Managers give it with any place, and what newer swtpm's do for a state holds anyhow.
    ("backend-uri=vnvram:///a,mode=0640", .image("/a"), "/a", "/a", 0o640),
    (
      "backend-uri=file:///dev/pve/vm-1-disk-0,mode=0600", .file("/dev/pve/vm-1-disk-0"), "/dev/pve/vm-1-disk-0",
      "/dev/pve/vm-1-disk-0", 0o600
    ),
    ("backend-uri=file:///a,lock,fsync,backup", .file("/a"), "/a", "/a", 0o600),
    (
      "backend-uri=dir:///a,lock=true,fsync=true,backup=true", .directory("/a"), "/a/tpm2-00.permall",
      "/a/tpm-00.permall", 0o600
    ),
    ("dir=/a,fsync=false,backup=false", .directory("/a"), "/a/tpm2-00.permall", "/a/tpm-00.permall", 0o600),
    ("dir=/a", .directory("/a"), "/a/tpm2-00.permall", "/a/tpm-00.permall", 0o600),
    ("dir=/a/,mode=0640,lock", .directory("/a/"), "/a/tpm2-00.permall", "/a/tpm-00.permall", 0o640),
    ("lock,backend-uri=dir:///a=b,mode=600", .directory("/a=b"), "/a=b/tpm2-00.permall", "/a=b/tpm-00.permall", 0o600),
  ]) func goodStates(text: String, place: StateLocation.Place, tpm2: String, tpm12: String, mode: mode_t) throws {
    let location = try StateLocation(parsing: text)
    #expect(location.place == place)
    #expect(location.image(for: .tpm2) == tpm2 && location.image(for: .tpm12) == tpm12)
    #expect(location.mode == mode)
  }

  /// Relative paths hold from the folder the program was started in.
  @Test func relativeStates() throws {
    let base = FileManager.default.currentDirectoryPath
    for (text, path) in [
      ("dir=a", "a/tpm2-00.permall"), ("backend-uri=dir://.", "./tpm2-00.permall"), ("backend-uri=vnvram://b", "b"),
    ] {
      #expect(try StateLocation(parsing: text).image(for: .tpm2) == "\(base)/\(path)")
    }
  }

  @Test(arguments: [
    "", "dir", "dir=", "lock", "mode=0600", "dir=/a,dir=/b", "dir=/a,backend-uri=dir:///a", "dir=/a,mode=8",
    "dir=/a,mode=01000", "dir=/a,mode=0400", "dir=/a,mode=-1", "dir=/a,lock=maybe", "dir=/a,lock=false",
    "dir=/a,backup=maybe", "dir=/a,colour=red", "backend-uri=file:///a,lock=false",
    "backend-uri=", "backend-uri=/a", "backend-uri=vnvram://", "backend-uri=dir://", "backend-uri=file://",
    "backend-uri=vnvram:///a,mode=8",
  ]) func badStates(text: String) {
    let error = #expect(throws: TPMError.self) { try StateLocation(parsing: text) }
    #expect(error?.status == .usage)
  }

  private static let uuid = "01234567-89AB-cdef-0123-456789abcdef"

  @Test(arguments: [
    ("dir=/a/web-1", "vm-%n", "vm-web-1"), ("dir=/a/web-1/", "%n%%%n", "web-1%web-1"), ("dir=/a/b/.", "%n", "b"),
    ("dir=/x/\(uuid)/tpm2", "%u-%n", "\(uuid.lowercased())-tpm2"),
    ("backend-uri=file:///dev/pve/vm-100-disk-1", "%n", "vm-100-disk-1"),
    ("backend-uri=vnvram:///a/b.img", "%n", "b.img"),
  ]) func keyNames(state: String, pattern: String, name: String) throws {
    #expect(try StateLocation(parsing: state).keyName(pattern, .tpm2) == name)
  }

  @Test(arguments: [("dir=/", "%n"), ("dir=/a/..", "%n"), ("dir=/a", "%u"), ("dir=/a", "%"), ("dir=/a", "%x")])
  func noKeyNames(state: String, pattern: String) throws {
    let location = try StateLocation(parsing: state)
    let error = #expect(throws: TPMError.self) { try location.keyName(pattern, .tpm2) }
    #expect(error?.status == .usage)
  }

  @Test func keysToBeRemoved() throws {
    for text in ["file=/k,remove", "file=/k,remove=true"] {
      #expect(try SwtpmKeySource(parsing: text, option: "--key").removesFile)
    }
  }

  @Test(arguments: [
    "", "mode=aes-cbc", "file=", "file", "file=/k,fd=3", "file=/k,pwdfile=/p", "fd=-1", "fd=x", "file=/k,mode=aes",
    "file=/k,format=base64", "pwdfile=/k,format=hex", "file=/k,kdf=pbkdf2", "pwdfile=/k,kdf=scrypt",
    "file=/k,remove=yes", "file=/k,colour=red", "file=/k,file=/l",
  ]) func badKeys(text: String) {
    let error = #expect(throws: TPMError.self) { try SwtpmKeySource(parsing: text, option: "--migration-key") }
    #expect(error?.status == .usage)
  }

  @Test func statesHaveTheirNames() {
    #expect(TPMStateName.allCases.map(\.rawValue) == ["permall", "volatilestate", "savestate"])
    #expect(TPMStateName.permall.maximumSize(.tpm2) == 262_144)
    #expect(TPMStateName.volatilestate.maximumSize(.tpm2) == 65_536)
  }

  /// No failure of a store may read as "there is none".
  @Test(arguments: Status.allCases) func errorsAreNeverRetry(status: Status) {
    for operation in [TPMError.StateOperation.load, .store, .delete] {
      let error = TPMError.state(operation: operation, name: .permall, TPMStateError(status, "x"))
      #expect(error.result != .retry)
      #expect(error.result != .success)
      #expect(error.status == status)
    }
  }
}
