import BlobStore
import Primitives
import VNVRAM

/// An entry that is registered, as the test knows it. Touched by the thread whose turn it is.
final class Registration: @unchecked Sendable {
  let entry: Int
  /// How many of its callbacks run.
  var running = 0
  /// `deregister` has returned to one who isn't within anything.
  var isGone = false

  init(entry: Int) { self.entry = entry }
}

extension Schedule {
  /// What the entry is registered as, if nobody changes that just now.
  func quietRegistration(_ entry: Int) -> Registration? {
    registeringBegun[entry] == registeringEnded[entry] ? registrations[entry] : nil
  }

  func register(_ nvram: NVRAM, _ entry: Int) {
    let wasClosed = isClosed
    let registration = Registration(entry: entry)
    registeringBegun[entry] += 1
    defer { registeringEnded[entry] += 1 }
    let (called, deregistrations) = (ledger.tick(), facts.deregistering[entry].begun)
    let wasUncertain = facts.deregistering[entry].wereThere(since: called)
    defer {
      // Also where it was before.
      let isCertain = !wasUncertain && deregistrations == facts.deregistering[entry].begun && closesBegun == 0
      if isCertain, facts.registered[entry] == nil { facts.registered[entry] = ledger.tick() }
    }
    do throws(NVRAMError) {
      if entry == Plan.visited {
        try nvram.register(entry: Self.name(entry), callback: callback(registration))
      } else {
        try nvram.register(entry: Self.name(entry), capacity: ByteCount(Plan.sizes[entry]))
      }
      if wasClosed { fail("promise 5: register after close succeeds") }
      registrations[entry] = registration
    } catch {
      switch error.code {
      case .alreadyRegistered where !wasClosed: break
      case .closed where closesBegun > 0: break
      default: fail("register threw \(error)")
      }
    }
  }

  func deregister(_ nvram: NVRAM, _ entry: Int) {
    let called = ledger.tick()
    let registration = quietRegistration(entry)
    registeringBegun[entry] += 1
    let begun = registeringBegun[entry]
    facts.deregistering[entry].begun += 1
    facts.registered[entry] = nil
    if !isInside { quietCalls += 1 }
    defer {
      registeringEnded[entry] += 1
      facts.deregistering[entry].end(ledger.tick())
      if !isInside { quietCalls -= 1 }
    }
    do throws(NVRAMError) { try nvram.deregister(entry: Self.name(entry)) } catch {
      switch error.code {
      case .notRegistered: return
      case .closed where closesBegun > 0: return
      default: fail("deregister threw \(error)")
      }
    }
    tally.deregistrations += 1
    // Not waited for within anything; and with others at it, it can't be told which one was meant.
    guard !isInside, let registration, begun == registeringBegun[entry] else { return }
    if registration.running > 0 { fail("promise 4: deregister has returned, and the callback of e\(entry) runs") }
    if let left = ledger.untold(before: called, registration) {
      fail("promise 4: deregister has returned, and the completion of \(left.text) has not")
    }
    registration.isGone = true
  }

  private func callback(_ registration: Registration) -> NVRAMCallback {
    { [self] (operation, visitor, _) throws(VisitorError) in
      var content: [UInt8] = []
      guard operation != .format else {
        return try visitor.visit("content", &content, max: Plan.sizes[registration.entry])
      }
      if registration.isGone { fail("promise 4: a callback of e\(registration.entry) is called after deregister") }
      if isClosed { fail("promise 5: a callback is called after close") }
      let (own, value) = (thread, encoding[thread])
      registration.running += 1
      inCallbacks[own] += 1
      defer {
        registration.running -= 1
        inCallbacks[own] -= 1
      }
      threads.yield()
      if let action = takeCallbackAction() { perform(action) }
      if plan.callbackFailsOneIn > 0, value % UInt32(plan.callbackFailsOneIn) == 0 {
        throw VisitorError(.outOfRange, field: "content", "is one that the schedule's callback refuses")
      }
      if operation == .write { content = Self.content(value, entry: registration.entry) }
      try visitor.visit("content", &content, max: Plan.sizes[registration.entry])
      threads.yield()
      if operation == .read { decoded[own] = self.value(content, entry: registration.entry) }
    }
  }
}
