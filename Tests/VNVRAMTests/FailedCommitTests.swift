import Audit
import BlockIO
import Foundation
import Keyring
import Primitives
import StorageSimulation
import Testing

@testable import VNVRAM

/// After a commit that failed no key is kept, and nothing hangs.
struct FailedCommitTests {
  private let place: TestPlace

  init() throws {
    place = try TestPlace()
    try place.makeStore(["state": 4096])
  }

  /// Who makes the commit that fails.
  enum Maker: CaseIterable {
    /// A thread that finds the store free.
    case caller
    /// The keeper, for what nobody waits for.
    case keeper
    /// Threads that wait for one another.
    case writers

    func write(_ nvram: NVRAM) {
      switch self {
      case .caller: while failure({ try nvram.replace("state", content(1)) }) == nil {}
      case .keeper:
        let isFailed = Latch()
        while failure({ try nvram.submit("state", content(1)) { if $0.error != nil { isFailed.open() } } }) == nil {
          try? nvram.processRequests()
        }
        isFailed.wait()
      case .writers:
        let writers = (0..<4).map { _ in
          Running { while failure({ try nvram.replace("state", content(1)) }) == nil {} }
        }
        for writer in writers { _ = writer.ends() }
      }
    }
  }

  /// The open store, once it is here.
  private func core(_ nvram: NVRAM) -> StoreCore? {
    var store: Store?
    _ = eventually {
      store = nvram.machine.withLock { if case .here(let store) = $0.custody { store } else { nil } }
      return store != nil
    }
    return store?.core
  }

  @Test(
    "a failed commit lets go of the store and its keys, and a lost key and lock don't hang", arguments: Maker.allCases)
  func noKeyIsKept(_ maker: Maker) throws {
    let serial = try place.bring("a", 1)
    let disk = SharedDisk(SimulatedDisk(copyOf: Array(try place.bytes())))
    var configuration = NVRAMConfiguration()
    configuration.keyCheckInterval = .milliseconds(2)
    let nvram = NVRAM(disk, audit: AuditLog(.none), configuration: configuration)
    try nvram.register(entry: "state", capacity: ByteCount(4096))
    try nvram.start(failOnEncryptedDrive: true)
    weak let open = core(nvram)
    weak let volume = open?.volume
    try #require(open != nil && volume != nil)
    disk.withDisk { disk in for number in 1...8 { disk.inject(.fails(errno: EIO), at: .sync(disk.syncs + number)) } }
    let writing = Running { maker.write(nvram) }
    try #require(writing.ends())
    #expect(nvram.hadFatalError)
    #expect(core(nvram) == nil)
    // Nobody else has it: the keys go with the last reference.
    #expect(eventually { open == nil && volume == nil })

    try Keyring.revoke(serial)
    let locking = Running {
      for _ in 0..<20 {
        try nvram.lock()
        usleep(1000)
      }
      nvram.poke()
    }
    #expect(locking.ends())
    #expect(failure { try locking.wait() } == nil)
    #expect(nvram.hadFatalError && core(nvram) == nil)
    #expect(failure { try nvram.readContent("state") as [UInt8] }?.code == .failedEarlier)
    #expect(failure { try nvram.unlock(with: TestPlace.key(1)) }?.code == .started)
    #expect(nvram.closes())
  }
}
