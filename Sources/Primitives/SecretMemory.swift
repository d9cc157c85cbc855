// Where secrets live: memory that is locked, left out of core dumps, and, where the kernel has memfd_secret(2), not
// even mapped by the kernel. Handed out in cells; a page for every 32-byte key would soon exhaust RLIMIT_MEMLOCK.
//
// Invariants: an address is the arena's if and only if it lies in the reserved range, which is fixed when the process
// takes its first secret, so that who frees can tell without a lock; a cell that is not in use holds zeros.
import CSystem
import Glibc
import Synchronization

/// The arena behind `SecretBytes`, and behind what libcrypto allocates for keys (`Crypto`). One per process.
///
/// It begins with one chunk, enough for some fifty stores, and grows a chunk at a time up to `limit`.
@safe package final class SecretMemory: Sendable {
  package static let shared = SecretMemory()

  /// Bytes per cell.
  static let cell = 64
  /// Bytes by which the arena grows.
  static let chunk = 256 << 10
  /// Addresses that are reserved, in bytes. Without a chunk in their place they can't be accessed and cost nothing.
  package static let limit = 64 << 20

  /// How the memory is protected, best first.
  enum Protection: String, Sendable {
    case secretMemory = "memfd_secret"
    case locked = "mlock"
    /// Neither was permitted (RLIMIT_MEMLOCK): excluded from dumps, but the kernel may swap it.
    case undumpable = "madvise"
  }

  private struct Cells {
    /// For the first cell of each allocation, how many it has; zero for all others.
    var runs: [UInt16] = []
    /// No cell below this one is free. It is free itself, or the first of an allocation, or the end.
    var firstFree = 0
    /// The worst of all chunks'.
    var protection = Protection.secretMemory
    var used = 0
  }

  private nonisolated(unsafe) let base: UnsafeMutableRawPointer
  private let cells = Locked(Cells())
  /// Set in a child after fork, which doesn't inherit the memory.
  private static let isForked = Atomic(false)
  /// Set once there is an arena.
  private static let isMade = Atomic(false)

  private init() {
    // Anywhere: where keys lie is not to be told from where the program lies, nor from where they lie in another
    // process that was forked from this one.
    let wish = unsafe UnsafeMutableRawPointer(bitPattern: UInt.random(in: Self.addresses) << Self.addressShift)
    guard
      let reserved = unsafe mmap(wish, Self.limit, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0),
      unsafe reserved != MAP_FAILED
    else { fatalError("no addresses for keys") }
    unsafe base = reserved
    Self.isMade.store(true, ordering: .relaxed)
    _ = pthread_atfork(nil, nil) { SecretMemory.isForked.store(true, ordering: .relaxed) }
    cells.withLock { cells in
      guard grow(&cells, by: 1) else { fatalError("no memory for keys") }
    }
  }

  /// Where the arena may begin, in 2 MiB: between 1 and 112 TiB. A place that is taken the kernel replaces by another.
  private static let (addresses, addressShift) = (UInt(1 << 19)...UInt(112 << 19), 21)

  // MARK: What it says of itself

  var protection: Protection { cells.withLock { $0.protection } }

  /// Nil where the memory can't be swapped.
  package var lackOfProtection: String? {
    guard protection == .undumpable else { return nil }
    return "keys lie in memory that may be swapped: neither memfd_secret nor mlock was permitted; raise the limit on "
      + "locked memory (ulimit -l, LimitMEMLOCK=) to \(Self.chunk >> 10) KiB at least"
  }

  /// Bytes of the cells in use.
  package var bytesInUse: Int { cells.withLock { $0.used } * Self.cell }

  /// Bytes that aren't zero. Where nothing is in use there are none.
  package var bytesNotZero: Int {
    cells.withLock { cells in
      let size = cells.runs.count * Self.cell
      return unsafe UnsafeRawBufferPointer(start: base, count: size).count { $0 != 0 }
    }
  }

  /// Whether it is of this process's arena. There need not be one yet.
  package static func owns(_ pointer: UnsafeRawPointer) -> Bool {
    isMade.load(ordering: .relaxed) && (unsafe shared.contains(pointer))
  }

  package func contains(_ pointer: UnsafeRawPointer) -> Bool {
    let offset = unsafe UInt(bitPattern: pointer) &- UInt(bitPattern: base)
    return offset < UInt(Self.limit)
  }

  // MARK: Cells

  private static func need(_ count: Int) -> Int { max(1, (count + cell - 1) / cell) }

  /// First fit. The bytes are zero. Nil where the arena can't grow any more, or for more than 4 MiB; with
  /// `neverSwapped` also where the kernel may swap it.
  package func allocate(_ count: Int, neverSwapped: Bool = false) -> UnsafeMutableRawPointer? {
    let need = Self.need(count)
    guard need <= Int(UInt16.max) else { return nil }
    let first = cells.withLock { cells -> Int? in
      if neverSwapped, cells.protection == .undumpable { return nil }
      var found = find(need, cells)
      if found == nil, grow(&cells, by: need * Self.cell, neverSwapped: neverSwapped) { found = find(need, cells) }
      guard let first = found else { return nil }
      cells.runs[first] = UInt16(need)
      cells.used += need
      if first == cells.firstFree { cells.firstFree += need }
      return first
    }
    guard let first else { return nil }
    return unsafe base + first * Self.cell
  }

  private func find(_ need: Int, _ cells: borrowing Cells) -> Int? {
    var place = cells.firstFree
    var free = 0
    while place < cells.runs.count {
      let run = Int(cells.runs[place])
      free = run == 0 ? free + 1 : 0
      place += max(1, run)
      if free == need { return place - need }
    }
    return nil
  }

  /// How many bytes may be written to what `allocate` gave.
  package func capacity(of pointer: UnsafeMutableRawPointer) -> Int {
    let first = unsafe (pointer - base) / Self.cell
    return cells.withLock { Int($0.runs[first]) } * Self.cell
  }

  /// Wipes, then gives back what `allocate` gave. Traps for any other address in the arena.
  package func free(_ pointer: UnsafeMutableRawPointer) {
    // libcrypto frees what it has when a child calls exit(3).
    guard !Self.isForked.load(ordering: .relaxed) else { return }
    let offset = unsafe pointer - base
    let first = offset / Self.cell
    cells.withLock { cells in
      let run = Int(cells.runs[first])
      precondition(offset % Self.cell == 0 && run > 0, "not an allocation, or freed already")
      unsafe explicit_bzero(base + offset, run * Self.cell)
      cells.runs[first] = 0
      cells.used -= run
      cells.firstFree = min(cells.firstFree, first)
    }
  }

  // MARK: Chunks

  private func grow(_ cells: inout Cells, by count: Int, neverSwapped: Bool = false) -> Bool {
    let old = cells.runs.count * Self.cell
    let size = (count + Self.chunk - 1) / Self.chunk * Self.chunk
    guard size <= Self.limit - old,
      let protection = unsafe Self.map(size, at: base + old, neverSwapped: neverSwapped)
    else { return false }
    if protection.rank > cells.protection.rank { cells.protection = protection }
    cells.runs += [UInt16](repeating: 0, count: size / Self.cell)
    return true
  }

  /// Puts memory in a reserved place. It is mapped elsewhere and moved, since a mapping over another that fails may
  /// leave a hole, for other threads to map something in.
  private static func map(_ size: Int, at place: UnsafeMutableRawPointer, neverSwapped: Bool) -> Protection? {
    var protection = Protection.secretMemory
    if let secret = unsafe mapSecret(size) {
      if unsafe csystem_move_mapping(secret, size, place) == 0 { return protection }
      unsafe munmap(secret, size)
    }
    guard
      let mapped = unsafe mmap(nil, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0),
      unsafe mapped != MAP_FAILED
    else { return nil }
    _ = unsafe madvise(mapped, size, 16 /* MADV_DONTDUMP */)
    _ = unsafe madvise(mapped, size, 18 /* MADV_WIPEONFORK: a child gets zeros, not keys */)
    protection = unsafe mlock(mapped, size) == 0 ? .locked : .undumpable
    let isEnough = protection == .locked || !neverSwapped
    if isEnough, unsafe csystem_move_mapping(mapped, size, place) == 0 { return protection }
    unsafe munmap(mapped, size)
    return nil
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
}

extension SecretMemory.Protection {
  fileprivate var rank: Int {
    switch self {
    case .secretMemory: 0
    case .locked: 1
    case .undumpable: 2
    }
  }
}
