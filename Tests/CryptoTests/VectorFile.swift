import Foundation
import Primitives
import Testing

@testable import Crypto

/// A file of published vectors: records of `NAME = value` lines, under `[section]` lines.
struct VectorFile {
  /// Values by name. A section line `[NAME = value]` counts for all records after it, `[NAME]` as the value of
  /// `section`.
  let records: [[String: String]]

  /// `first` is the name that begins a record.
  init(_ path: String, recordsBeginWith first: String) throws {
    let folder = #filePath.split(separator: "/").dropLast(2).joined(separator: "/")
    let text = try String(contentsOfFile: "/\(folder)/Vectors/\(path)", encoding: .utf8)
    var (records, section): ([[String: String]], [String: String]) = ([], [:])
    for line in text.split(whereSeparator: \.isNewline).map({ $0.trimmingCharacters(in: .whitespaces) }) {
      if line.isEmpty || line.hasPrefix("#") { continue }
      let isSection = line.hasPrefix("[")
      let pair = line.trimmingCharacters(in: ["[", "]"]).split(separator: "=", maxSplits: 1)
        .map { $0.trimmingCharacters(in: .whitespaces) }
      let (name, value) = (pair[0], pair.count > 1 ? pair[1] : "")
      if isSection {
        section[pair.count > 1 ? name : "section"] = pair.count > 1 ? value : name
        continue
      }
      if name == first { records.append(section) }
      try #require(!records.isEmpty)
      records[records.count - 1][name] = value
    }
    self.records = records
  }
}

extension [String: String] {
  func text(_ name: String) throws -> String { try #require(self[name], "no \(name)") }
  func number(_ name: String) throws -> Int { try #require(Int(try text(name)), "\(name) is no number") }
  func bytes(_ name: String) throws -> [UInt8] {
    try #require([UInt8](hex: try text(name)), "\(name) is not hexadecimal")
  }
  func secret(_ name: String) throws -> SecretBytes {
    let bytes = try bytes(name)
    return SecretBytes(copying: bytes.span)
  }
}

extension [UInt8] {
  init?(hex: String) {
    let digits = hex.compactMap(\.hexDigitValue)
    guard digits.count == hex.count, digits.count % 2 == 0 else { return nil }
    self = stride(from: 0, to: digits.count, by: 2).map { UInt8(digits[$0] << 4 | digits[$0 + 1]) }
  }
}

/// What each test of vectors prints: how many passed.
func report(_ what: String, passed: Int, skipped: Int = 0) {
  print("vectors: \(what): \(passed) passed" + (skipped > 0 ? ", \(skipped) skipped" : ""))
}

/// Bytes that differ from place to place.
func pattern(_ count: Int, _ seed: UInt8 = 1) -> [UInt8] {
  (0..<count).map { UInt8(truncatingIfNeeded: $0 &* 31 &+ $0 >> 8) ^ seed }
}

/// A key like none other in the test.
func key(_ count: Int, _ seed: UInt8 = 1) -> SecretBytes { SecretBytes(copying: pattern(count, seed).span) }
