import Foundation
import TestSupport

/// The channels of the test server, and bytes written as hexadecimal digits.
extension Socket {
  enum Channel {
    case data
    case control
  }

  convenience init(_ server: TestServer, _ channel: Channel) throws {
    switch server.transport {
    case .unix: try self.init(path: channel == .data ? server.dataPath : server.controlPath)
    case .tcp: try self.init(port: channel == .data ? server.port : server.port + 1)
    }
  }

  func ask(_ hex: String) -> String { ask(bytes(hex)).hex }
}

/// The bytes that hexadecimal digits say; spaces are for the reader.
func bytes(_ hex: String) -> [UInt8] {
  let digits = hex.filter { $0 != " " }.compactMap(\.hexDigitValue)
  return stride(from: 0, to: digits.count - 1, by: 2).map { UInt8(digits[$0] << 4 | digits[$0 + 1]) }
}

extension [UInt8] {
  /// Big-endian, of 4 bytes.
  func integer(at offset: Int) -> UInt32 { self[offset..<offset + 4].reduce(0) { $0 << 8 | UInt32($1) } }

  var hex: String { map { String(format: "%02x", $0) }.joined() }
}
