import Glibc
import Primitives
import Testing

@testable import Keyring

@Suite struct KeyNameTests {
  @Test(arguments: ["a", "vm-17", "größe", "7d0e4c0a-4c0e-4b1e-8a52-0a5a1f2a9a11", "a.b_c@d+e=f", "鍵"])
  func names(text: String) {
    let name = KeyName(text)
    #expect(name?.keyDescription == "vnvram:" + text)
    #expect(KeyName(keyDescription: "vnvram:" + text) == name)
  }

  @Test(arguments: [
    "", "a b", "a:b", "a/b", ".", "..", ".a", "-a", "a\n", "a\u{0}", "\u{1B}[2J", "a\u{202E}b", "a\u{A0}b",
  ])
  func notNames(text: String) { #expect(KeyName(text) == nil) }

  @Test func length() {
    #expect(KeyName(String(repeating: "a", count: 120)) != nil)
    #expect(KeyName(String(repeating: "a", count: 121)) == nil)
    #expect(KeyName(String(repeating: "ä", count: 61)) == nil)
    #expect(KeyName(keyDescription: "other:a") == nil)
  }

  /// A combining mark joins the colon before it into one character of Swift's; the fuzzer found that.
  @Test(arguments: ["\u{301}a", "\u{5C1}", "\u{20DD}-"]) func namesThatBeginWithAMark(text: String) {
    let name = KeyName(text)
    #expect(name != nil && KeyName(keyDescription: "vnvram:" + text) == name)
    #expect(KeyDescription(parsing: "user;0;0;3f010000;vnvram:" + text)?.name == name)
    let line = "3c7ef6a7 I--Q---     1 perm 3f010000  1000   100 user      vnvram:\(text): 32"
    #expect(ProcKeys(parsing: Substring(line))?.description.name == name)
  }

  /// Equal to Swift's strings, but not to the kernel.
  @Test func namesAreBytes() { #expect(KeyName("\u{E9}") != KeyName("e\u{301}")) }
}

@Suite struct KeyDescriptionTests {
  @Test func serials() {
    #expect(KeySerial("17")?.value == 17)
    for text in ["", "0", "-1", "+1", " 1", "1x", "2147483648", "99999999999999999999"] {
      #expect(KeySerial(text) == nil)
    }
  }

  @Test func descriptions() {
    let description = KeyDescription(parsing: "user;1000;-1;3f010000;vnvram:a;b")
    #expect(description?.type == "user" && description?.uid == 1000 && description?.gid == UInt32.max)
    #expect(description?.permissions == .standard)
    #expect(description?.text == "vnvram:a;b" && description?.name?.text == "a;b")
    #expect(KeyDescription(parsing: "keyring;0;0;3f010000;vnvram:a")?.name == nil)
    for line in ["", "user", "user;0;0;3f010000", "user;x;0;3f010000;a", "user;0;0;zz;a", "user;-2;0;0;a"] {
      #expect(KeyDescription(parsing: line) == nil)
    }
  }

  @Test func permissions() {
    #expect(KeyPermissions.standard.description == "alswrv-----v------------")
    #expect(!KeyPermissions.standard.isTooWide)
    #expect(!KeyPermissions([.possessor(.all), .user(.all), .group(.view), .other(.view)]).isTooWide)
    for right in [KeyPermissions.Rights.read, .write, .search, .link, .setAttributes] {
      #expect(KeyPermissions.group(right).isTooWide && KeyPermissions.other(right).isTooWide)
    }
  }

  /// Carriage return and line feed are one character to Swift, which is no line feed.
  @Test func keysOfOthersHideNothing() {
    let ours = "3c7ef6a7 I--Q---     1 perm 3f010000  1000   100 user      vnvram:a: 32\n"
    for name in ["x\r", "\u{301}", "x:\u{301}", "x \u{301}"] {
      let other = "16a36d53 I--Q---     1 perm 3f010000  1000   100 user      \(name): 4\n"
      #expect(ProcKeys.parse(ours + other + ours).compactMap { $0.description.name?.text } == ["a", "a"])
    }
    #expect(ProcKeys.parse("16a36d53 I--Q--- 1 perm 3f010000 0 0 user x: 4\r\n" + ours).count == 2)
    #expect(KeyDescription(parsing: "user;0;0;3f010000;\u{301}")?.text == "\u{301}")
  }

  @Test func procKeys() {
    let expired = ProcKeys(parsing: "3c7ef6a7 I--Q---     1 expd 3f010000  1000   100 user      vnvram:t2: 4")
    #expect(expired?.serial == 0x3c7e_f6a7 && expired?.timeout == "expd" && expired?.isRevoked == false)
    #expect(expired?.description.name?.text == "t2" && expired?.description.uid == 1000)
    let revoked = ProcKeys(parsing: "10fea9e4 IR-Q---     1 perm 01010000     0     0 user      vnvram:t1")
    #expect(revoked?.isRevoked == true && revoked?.timeout == nil && revoked?.description.name?.text == "t1")
    let keyring = ProcKeys(parsing: "22c31ec3 I--Q---     2 perm 1f3f0000     0 65534 keyring   _uid.0: empty")
    #expect(keyring?.description.type == "keyring" && keyring?.description.text == "_uid.0")
    #expect(ProcKeys(parsing: "22c31ec3 I--Q---") == nil)
    #expect(ProcKeys(parsing: "") == nil)
  }

  @Test func statuses() {
    let expected: [(Int32, KeyringError.Code, Status)] = [
      (ENOKEY, .missing, .keyMissing), (EKEYEXPIRED, .expired, .keyUnusable), (EKEYREVOKED, .revoked, .keyUnusable),
      (EACCES, .denied, .keyUnusable), (EDQUOT, .quota, .noSpace), (EPERM, .unavailable(errno: EPERM), .keyUnusable),
      (ENOMEM, .other(errno: ENOMEM), .failed),
    ]
    for (number, code, status) in expected {
      let error = KeyringError(errno: number, key: "vm-1", "reading it")
      #expect(error.code == code && error.status == status && error.description.hasPrefix("key vm-1: "))
    }
    #expect(KeyringError(.wrongSize(actual: 5), key: "a", "").status == .wrongKey)
  }
}
