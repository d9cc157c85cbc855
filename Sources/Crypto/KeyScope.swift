// libcrypto's allocator. What it allocates for keys (contexts, key schedules, the working memory of derivations) comes
// from the arena that `SecretBytes` uses; everything else, and libtpms' use of libcrypto in the same process, from
// malloc.
//
// Invariants: whose memory a block is shows in its address, so a block may be freed or resized in any scope, on any
// thread; the arena's blocks are wiped when they are freed; a block of the arena stays there when it is resized.
import CLibcrypto
import CSystem
import Glibc
import Primitives
import Synchronization

/// A stretch of one thread's work in which libcrypto allocates from protected memory: everything that makes a context,
/// gives it a key, or derives one. Scopes nest. Left with `defer`, so that no error leaves one open.
///
/// Where the arena has no more room, libcrypto's call fails, and `.outOfKeyMemory` is thrown.
enum KeyScope {
  /// Larger blocks come from malloc: scrypt's work area, up to 1 GiB, which libcrypto wipes.
  static let largestBlock = 32 << 10

  static func enter() {
    // What libcrypto keeps of each thread it allocates at the thread's first call, for as long as that lives: that is
    // no key, and not for the arena.
    if csystem_thread_depth(0) == 0 { ERR_clear_error() }
    _ = csystem_thread_depth(1)
  }

  static func leave() { _ = csystem_thread_depth(-1) }

  /// Also wipes what the work has left on the stack and in registers: after rare work that sees a key itself.
  static func leaveAndWipe() {
    _ = csystem_thread_depth(-1)
    csystem_wipe_stack()
  }

  /// Whether libcrypto allocates as described from now on. It does unless somebody in this process has made it allocate
  /// something before; to be called once, before anything else of libcrypto.
  static func install() -> Bool {
    unsafe CRYPTO_set_mem_functions(
      { count, _, _ in unsafe KeyScope.allocate(count) },
      { block, count, _, _ in unsafe KeyScope.resize(block, count) },
      { block, _, _ in unsafe KeyScope.free(block) }) == 1
  }

  private static func allocate(_ count: Int) -> UnsafeMutableRawPointer? {
    // As libcrypto's own allocator does.
    guard count > 0 else { return nil }
    guard csystem_thread_depth(0) > 0, count <= largestBlock else { return unsafe malloc(count) }
    guard let block = unsafe SecretMemory.shared.allocate(count) else {
      isFull.store(true, ordering: .relaxed)
      return nil
    }
    return unsafe block
  }

  /// libcrypto needs memory to tell why it failed.
  private static let isFull = Atomic(false)

  /// Whether an allocation has failed since this was last asked.
  static func ranOut() -> Bool { isFull.exchange(false, ordering: .relaxed) }

  private static func resize(_ block: UnsafeMutableRawPointer?, _ count: Int) -> UnsafeMutableRawPointer? {
    guard let block = unsafe block else { return unsafe allocate(count) }
    guard count > 0 else {
      unsafe free(block)
      return nil
    }
    guard unsafe SecretMemory.owns(block) else { return unsafe realloc(block, count) }
    guard let new = unsafe SecretMemory.shared.allocate(count) else { return nil }
    unsafe memcpy(new, block, min(count, SecretMemory.shared.capacity(of: block)))
    unsafe SecretMemory.shared.free(block)
    return unsafe new
  }

  private static func free(_ block: UnsafeMutableRawPointer?) {
    guard let block = unsafe block else { return }
    if unsafe SecretMemory.owns(block) {
      unsafe SecretMemory.shared.free(block)
    } else {
      unsafe Glibc.free(block)
    }
  }
}

/// What a program has to say to libcrypto, and to ask of it, as a whole.
public enum CryptoLibrary {
  /// Has libcrypto read its configuration and fetch its algorithms, and no more: there is no memory for keys yet, and a
  /// child that is forked now goes on with what was read.
  public static func load() { _ = (Algorithms.keysAreProtected, makesSingleTags) }

  /// Makes libcrypto ready: it allocates keys' contexts from protected memory from now on, has read its configuration,
  /// has its algorithms and has seeded its generators. It happens by itself at first use; a program that uses libcrypto
  /// in other ways too (libtpms does) calls it before them, and one that confines itself before that.
  public static func prepare() {
    load()
    _ = try? Random.secret(count: 1)
    // The public generator is libtpms'.
    var byte: UInt8 = 0
    _ = unsafe RAND_bytes(&byte, 1)
  }

  /// Whether what libcrypto keeps of keys lies in protected memory. False where it had allocated something before this
  /// module was first used: keys are wiped all the same, but lie in ordinary memory while they are in use.
  public static var keepsKeysProtected: Bool { Algorithms.keysAreProtected }

  /// Algorithms that a store can't do without and that libcrypto doesn't hand out, for a message. Nil where it has them
  /// all.
  public static var lackOfAlgorithms: String? {
    let missing = Algorithms.missing
    guard !missing.isEmpty else { return nil }
    let why = FIPSMode.isOn ? "it is in FIPS mode, and no provider that is configured has them" : "is it configured so?"
    return "libcrypto hands out no \(missing.joined(separator: ", ")): \(why)"
  }

  /// What is missing in the protection of the memory for keys, for the log. Nil where the kernel keeps it from being
  /// swapped.
  public static var lackOfProtection: String? { SecretMemory.shared.lackOfProtection }
}
