import Testing

@testable import VNVRAM

/// What waits to be told is bounded, and the newest state is always told.
struct OutboxTests {
  private static func trouble(_ text: String) -> NVRAMEvent {
    .trouble(NVRAMError(.audit, .auditFailed, store: "s", text))
  }

  private static let states: [NVRAMState] = [.verifying, .running, .locked(WantedKeys())]

  /// What is told, in order: events, and `nil` for a request.
  private func told(_ outbox: inout Outbox) -> [NVRAMEvent?] {
    var told: [NVRAMEvent?] = []
    while let item = outbox.popFirst() { told.append(item.event) }
    return told
  }

  private func isTrouble(_ event: NVRAMEvent?) -> Bool { if case .trouble? = event { true } else { false } }

  @Test("64 events wait at most, of more the oldest are left out, and requests never")
  func bound() {
    var outbox = Outbox()
    for number in 0..<300 {
      outbox.append(.state(Self.states[number % 3]), to: 1)
      outbox.append(Request(.barrier))
    }
    let told = told(&outbox)
    #expect(told.count { $0 == nil } == 300)
    #expect(told.compactMap { $0 } == (236..<300).map { .state(Self.states[$0 % 3]) })
  }

  @Test("troubles are left out before states are")
  func troubles() {
    var outbox = Outbox()
    outbox.append(.state(.running), to: 1)
    for number in 0..<300 { outbox.append(Self.trouble("\(number)"), to: 1) }
    var all = told(&outbox)
    #expect(all.count == 64 && all.first == .state(.running) && all.dropFirst().allSatisfy(isTrouble))
    if case .trouble(let newest)?? = all.last { #expect(newest.detail == "299") } else { Issue.record("no trouble") }

    for number in 0..<32 {
      outbox.append(Self.trouble("\(number)"), to: 1)
      outbox.append(.state(Self.states[number % 3]), to: 1)
    }
    for number in 32..<64 { outbox.append(.state(Self.states[number % 3]), to: 1) }
    all = told(&outbox)
    #expect(all == (0..<64).map { .state(Self.states[$0 % 3]) })
  }

  @Test("however many troubles come after it, the newest state is told")
  func newestState() {
    var outbox = Outbox()
    for number in 0..<100 { outbox.append(.state(number < 99 ? .verifying : .running), to: 1) }
    for number in 0..<200 { outbox.append(Self.trouble("\(number)"), to: 1) }
    let told = told(&outbox)
    #expect(told.count == 64)
    #expect(told.last { !isTrouble($0) } == .state(.running))
  }

  @Test("what was told makes room, and what was left out does not make more")
  func room() {
    var outbox = Outbox()
    for _ in 0..<100 { outbox.append(Self.trouble("a"), to: 1) }
    for _ in 0..<10 { #expect(outbox.popFirst() != nil) }
    for _ in 0..<10 { outbox.append(.state(.running), to: 1) }
    #expect(outbox.popFirst() != nil)
    let rest = told(&outbox)
    #expect(rest.count { isTrouble($0) } == 53 && rest.count == 63)
    for _ in 0..<100 { outbox.append(.state(.running), to: 1) }
    #expect(told(&outbox).count == 64)
  }

  @Test("a request that is taken back is not told, and what is around it is")
  func takenBack() {
    var outbox = Outbox()
    let requests = (0..<3).map { _ in Request(.barrier) }
    for request in requests {
      outbox.append(request)
      outbox.append(.state(.running), to: 1)
    }
    outbox.remove(requests[1])
    outbox.remove(requests[1])
    #expect(told(&outbox) == [nil, .state(.running), .state(.running), nil, .state(.running)])
  }
}
