import BlobStore
import Primitives

// The one lock, and the store that is lent with it given up.
extension NVRAM {
  /// One transition of the machine, and what follows from it. Only for the length of a transition is the lock held.
  func change<R: Sendable, E: Error>(_ transition: (inout Machine) throws(E) -> R) throws(E) -> R {
    threads.yield()
    let (result, wakes) = machine.withLock { (machine) -> (Result<R, E>, [Parker]) in
      let result: Result<R, E>
      do throws(E) { result = .success(try transition(&machine)) } catch { result = .failure(error) }
      return (result, machine.takeWakes())
    }
    for parker in wakes where !(ShellMutant.sleepingKeeper.isOn && parker === keeper) { parker.unpark() }
    return try result.get()
  }

  /// Lends the store for something other than serving the queue, in its turn.
  ///
  /// - Parameter parker: where the calling thread waits for it.
  func withStore<R, E: Error>(at parker: Parker? = nil, _ body: (Store) throws(E) -> R) throws(E) -> R {
    let parker = parker ?? Parker(threads)
    var claimed = change { $0.claim(parker, now: threads.now) }
    while claimed == nil {
      parker.park()
      claimed = change { $0.collect(parker, now: threads.now) }
    }
    guard let store = claimed else { preconditionFailure("it was waited for") }
    defer {
      let condition = store.takeCondition()
      change { $0.giveBack(store, condition) }
    }
    return try body(store)
  }

  /// Serves requests with a store that was lent for that.
  func serve(_ store: Store, _ batch: [Request]) {
    guard let core = store.core else { preconditionFailure("a store that isn't open serves nothing") }
    core.serve(batch)
    giveBack(store, served: batch.lazy.filter { $0.isWaitingWrite }.count) { $0.end(batch) }
  }

  /// Gives a store back that was served from, after what `end` does, and perhaps a step of upkeep.
  ///
  /// - Parameter count: how many writes that somebody waited for were served.
  func giveBack(_ store: Store, served count: Int, _ end: (inout Machine) -> Void) {
    let condition = store.takeCondition()
    let mustKeepUp = change { machine in
      end(&machine)
      if machine.noteServed(count, condition, now: threads.now) { return true }
      machine.giveBack(store, condition)
      return false
    }
    if mustKeepUp { keepUp(store, goesOn: false) }
  }

  /// A step of upkeep, after which the store is given back.
  ///
  /// - Parameter goesOn: whether the next step follows at once, if nobody wants the store.
  func keepUp(_ store: Store, goesOn: Bool) {
    let hasMore = store.core?.maintain() == true && goesOn
    let condition = store.takeCondition()
    change {
      $0.keptUp(condition, hasMore: hasMore, now: threads.now)
      $0.giveBack(store, condition)
    }
  }
}
