// Where secrets live: one mapping per process that is locked into memory, left out of core dumps, and, where the
// kernel has memfd_secret(2), not even mapped by the kernel. Handed out in cells; a page for every 32-byte key would
// soon exhaust RLIMIT_MEMLOCK.
import CSystem
import Glibc
import Synchronization

/// The arena behind `SecretBytes`. One per process.
@safe final class SecretMemory: Sendable {
  static let shared = SecretMemory()

  /// Bytes per cell, and how many cells there are: 256 KiB in all, far more than a process with hundreds of stores uses.
  static let cell = 64
  static let cells = 4096

  /// How the memory is protected, best first.
  enum Protection: String, Sendable {
    case secretMemory = "memfd_secret"
    case locked = "mlock"
    /// Neither was permitted (RLIMIT_MEMLOCK): excluded from dumps, but the kernel may swap it.
    case undumpable = "madvise"
  }

  let protection: Protection
  private nonisolated(unsafe) let base: UnsafeMutableRawPointer
  private let used = Mutex([Bool](repeating: false, count: SecretMemory.cells))

  private init() {
    let size = Self.cell * Self.cells
    if let mapped = unsafe Self.mapSecret(size) {
      (unsafe base, protection) = unsafe (mapped, .secretMemory)
      return
    }
    guard
      let mapped = unsafe mmap(nil, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0),
      unsafe mapped != MAP_FAILED
    else { fatalError("no memory for keys") }
    _ = unsafe madvise(mapped, size, 16 /* MADV_DONTDUMP */)
    _ = unsafe madvise(mapped, size, 18 /* MADV_WIPEONFORK: a child gets zeros, not keys */)
    let locked = unsafe mlock(mapped, size) == 0
    (unsafe base, protection) = unsafe (mapped, locked ? .locked : .undumpable)
  }

  private static func mapSecret(_ size: Int) -> UnsafeMutableRawPointer? {
    let descriptor = csystem_memfd_secret()
    guard descriptor >= 0 else { return nil }
    defer { close(descriptor) }
    guard ftruncate(descriptor, size) == 0 else { return nil }
    let mapped = unsafe mmap(nil, size, PROT_READ | PROT_WRITE, MAP_SHARED, descriptor, 0)
    guard let mapped = unsafe mapped, unsafe mapped != MAP_FAILED else { return nil }
    // A shared mapping would be inherited; a child has no business with its parent's keys.
    _ = unsafe madvise(mapped, size, 10 /* MADV_DONTFORK */)
    return unsafe mapped
  }

  /// First fit. Exhaustion traps: the number of secrets is bounded by the program, not by input.
  func allocate(_ count: Int) -> UnsafeMutableRawPointer {
    let need = max(1, (count + Self.cell - 1) / Self.cell)
    let first: Int? = used.withLock { used in
      var run = 0
      for i in 0..<Self.cells {
        run = used[i] ? 0 : run + 1
        if run == need {
          for j in (i - need + 1)...i { used[j] = true }
          return i - need + 1
        }
      }
      return nil
    }
    guard let first else { fatalError("out of memory for keys: \(Self.cells * Self.cell) bytes are in use") }
    return unsafe base + first * Self.cell
  }

  /// Wipes, then gives back.
  func free(_ pointer: UnsafeMutableRawPointer, _ count: Int) {
    unsafe explicit_bzero(pointer, count)
    let first = unsafe (pointer - base) / Self.cell
    let need = max(1, (count + Self.cell - 1) / Self.cell)
    used.withLock { used in for i in first..<(first + need) { used[i] = false } }
  }
}
