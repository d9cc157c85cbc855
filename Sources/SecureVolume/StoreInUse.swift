import BlockIO
import Crypto
import Glibc
import Primitives

/// Reads a store that another process may be writing, without stopping it: its state as of one moment.
///
/// Why the leaves and the journal that are read are of one moment, where both header copies are the same before and
/// after (FORMAT §7, "Reading a store in use"): the leaf table that they name isn't written, and ring space from
/// `ringPosition` on isn't freed, before both copies say something else. So all records that were whole when their
/// place was read are whole in what was read. A record that was being appended doesn't verify, and the journal ends
/// before it: it was not acknowledged when its place was read. What lies behind such an end proves damage as it does
/// anywhere, once the place was read again.
///
/// Sectors are read after that, each verified against its leaf; one that doesn't was overwritten meanwhile, and is
/// looked up again in a newer state (`SecureVolume.copy`).
enum StoreInUse {
  /// How often the headers may change before reading is given up, and the pauses between, in microseconds.
  private static let attempts = 60
  private static let longestPause: UInt32 = 100_000

  /// Opens it for reading. Its sectors may change under it, so that reading one may fail: `SecureVolume.copy` copes.
  ///
  /// - Parameter judge: may refuse a pair of headers for more than it shows by itself.
  static func open(
    _ medium: Medium, _ keys: borrowing VolumeKeys,
    judge: (borrowing HeaderPair, HeaderPair.Choice) throws(VolumeError) -> Void = { _, _ in }
  ) throws(VolumeError) -> SecureVolume {
    var pauses = Pauses(store: medium.name)
    while true {
      if let volume = try attempt(medium, keys, judge) { return volume }
      try pauses.next()
    }
  }

  /// How long to wait for a moment in which the headers don't change.
  struct Pauses {
    let store: String
    private var count = 0
    private var pause: UInt32 = 500

    init(store: String) { self.store = store }

    /// - Throws: `.device(.inUse)` in the end.
    mutating func next() throws(VolumeError) {
      count += 1
      guard count < attempts else {
        throw VolumeError(
          .device(.inUse), store: store,
          "was changed by another process each of the \(attempts) times that it was read; try again when less is written"
        )
      }
      usleep(pause)
      pause = min(pause * 2, longestPause)
    }
  }

  /// One look: headers, leaves, journal, headers again. `nil` where the headers changed meanwhile.
  private static func attempt(
    _ medium: Medium, _ keys: borrowing VolumeKeys,
    _ judge: (borrowing HeaderPair, HeaderPair.Choice) throws(VolumeError) -> Void
  ) throws(VolumeError) -> SecureVolume? {
    let before = try HeaderPair(reading: medium)
    do throws(VolumeError) {
      var own = try keys.copy(store: medium.name)
      let choice = try before.choose(with: &own.structure)
      try judge(before, choice)
      let volume = try Recovery.read(medium: medium, keys: own, choice: choice, mode: .beside)
      return before.equals(try HeaderPair(reading: medium)) ? volume : nil
    } catch {
      // What doesn't fit together may be of two moments.
      guard case .notAuthentic = error.code, !before.equals(try HeaderPair(reading: medium)) else { throw error }
      return nil
    }
  }
}
