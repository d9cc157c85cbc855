import Audit
import Foundation
import Primitives
import Testing

/// Runs of equal records.
struct RepeatedRecordsTests {
  private let path = NSTemporaryDirectory() + "/vnvram-repeated-\(UInt64.random(in: .min ... .max))"

  private func records(_ longest: Duration = .seconds(600)) -> RepeatedRecords {
    RepeatedRecords(AuditLog(.file(path)), longest: longest)
  }

  /// Event, key and count of each line; the file is gone after it.
  private func lines() throws -> [String] {
    defer { try? FileManager.default.removeItem(atPath: path) }
    return try String(contentsOfFile: path, encoding: .utf8).split(separator: "\n").map { line in
      let object = try #require(try JSONSerialization.jsonObject(with: Data(line.utf8)) as? [String: Any])
      let count = (object["count"] as? Int).map { "\($0)" }
      return [object["event"] as? String, object["key"] as? String, count].compactMap { $0 }.joined(separator: " ")
    }
  }

  private static let missing = [AuditRecord(.askedFor, key: "a"), AuditRecord(.missing, key: "a", status: .keyMissing)]
  private static let denied = [AuditRecord(.askedFor, key: "a"), AuditRecord(.denied, key: "a", status: .keyUnusable)]

  @Test func aRunIsWrittenOnceAndThenCounted() throws {
    let records = records()
    #expect(try records.record(Self.missing, of: "a"))
    for _ in 0..<199 { #expect(try !records.record(Self.missing, of: "a")) }
    #expect(try records.record(Self.denied, of: "a"))
    try records.endAll()
    #expect(try lines() == ["asked-for a", "missing a", "repeated a 199", "asked-for a", "denied a"])
  }

  @Test func topicsAreApart() throws {
    let records = records()
    let other = [AuditRecord(.missing, key: "b")]
    for _ in 0..<3 {
      try records.record(Self.missing, of: "a")
      try records.record(other, of: "b")
    }
    try records.end("b")
    #expect(try records.record(other, of: "b"), "a run that was ended begins anew")
    try records.endAll()
    #expect(try lines() == ["asked-for a", "missing a", "missing b", "repeated b 2", "missing b", "repeated a 2"])
  }

  /// Another serial number is another key.
  @Test func whatDiffersInAnythingIsWritten() throws {
    let records = records()
    for serial in [1, 2, 2] as [Int32] { try records.record([AuditRecord(.wrong, key: "a", serial: serial)], of: "a") }
    try records.endAll()
    #expect(try lines() == ["wrong a", "wrong a", "repeated a 1"])
  }

  @Test func aLongRunIsWrittenNowAndThen() throws {
    let records = records(.zero)
    for _ in 0..<3 { try records.record(Self.missing, of: "a") }
    #expect(try lines() == ["asked-for a", "missing a", "repeated a 1", "repeated a 1"])
  }

  @Test func whatIsCountedIsWrittenInTheEnd() throws {
    var records: RepeatedRecords? = records()
    for _ in 0..<3 { try records?.record(Self.missing, of: "a") }
    records = nil
    #expect(try lines() == ["asked-for a", "missing a", "repeated a 2"])
  }

  @Test func manyTopicsAreNotRemembered() throws {
    let records = records()
    for number in 0..<1000 {
      for _ in 0..<2 { try records.record([AuditRecord(.missing, key: "\(number)")], of: "\(number)") }
    }
    try records.endAll()
    #expect(try lines().count == 2000)
  }

  /// What begins a run must be on disk; what could not be written begins none.
  @Test func whatCannotBeWrittenIsAnError() throws {
    let records = RepeatedRecords(AuditLog(.file("/dev/full")))
    for _ in 0..<2 { #expect(throws: AuditError.self) { try records.record(Self.missing, of: "a") } }
  }
}
