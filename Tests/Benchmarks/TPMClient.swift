import Glibc

/// A client of a TPM server's data channel over a Unix socket. One for all servers, so that what it costs is the same.
final class TPMClient {
  private let descriptor: Int32
  private var response = [UInt8](repeating: 0, count: 4096)

  /// Nil where nobody listens there yet.
  init?(path: String) {
    descriptor = socket(AF_UNIX, Int32(SOCK_STREAM.rawValue) | Int32(SOCK_CLOEXEC.rawValue), 0)
    var address = sockaddr_un()
    address.sun_family = sa_family_t(AF_UNIX)
    unsafe withUnsafeMutableBytes(of: &address.sun_path) { unsafe $0.copyBytes(from: path.utf8) }
    let size = socklen_t(MemoryLayout<sockaddr_un>.size)
    let result = unsafe withUnsafePointer(to: &address) { pointer in
      unsafe pointer.withMemoryRebound(to: sockaddr.self, capacity: 1) { unsafe connect(descriptor, $0, size) }
    }
    guard result == 0 else {
      close(descriptor)
      return nil
    }
  }

  deinit { close(descriptor) }

  /// Sends a command and waits for its response; the response code.
  func run(_ command: [UInt8]) -> UInt32 {
    var count = -1
    if unsafe send(descriptor, command, command.count, Int32(MSG_NOSIGNAL)) == command.count {
      count = unsafe recv(descriptor, &response, response.count, 0)
    }
    guard count >= 10 else { fatalError("a TPM server hung up") }
    return response[6..<10].reduce(0) { $0 << 8 | UInt32($1) }
  }
}

/// Commands of a TPM 2.0 (TCG, TPM 2.0 Part 3), authorised by the owner's empty password.
enum TPMCommand {
  static let noSpace: UInt32 = 0x14B

  static func getRandom(_ count: Int) -> [UInt8] { [0x80, 0x01, 0, 0, 0, 12, 0, 0, 0x01, 0x7B] + u16(count) }

  /// An index that its owner reads and writes.
  static func define(_ index: UInt32, size: Int) -> [UInt8] {
    // nameAlg SHA-256; OWNERWRITE, AUTHWRITE, OWNERREAD, AUTHREAD, NO_DA; no policy.
    let publicArea = u32(index) + u16(0x000B) + u32(0x0206_0006) + u16(0) + u16(size)
    return authorised(0x12A, u32(owner), u16(0) + u16(publicArea.count) + publicArea)
  }

  static func write(_ index: UInt32, _ data: [UInt8], at offset: Int = 0) -> [UInt8] {
    authorised(0x137, u32(owner) + u32(index), u16(data.count) + data + u16(offset))
  }

  static func read(_ index: UInt32, count: Int) -> [UInt8] {
    authorised(0x14E, u32(owner) + u32(index), u16(count) + u16(0))
  }

  private static let owner: UInt32 = 0x4000_0001

  private static func authorised(_ code: UInt32, _ handles: [UInt8], _ parameters: [UInt8]) -> [UInt8] {
    // TPM_RS_PW, no nonce, no attributes, an empty password.
    let session = u32(0x4000_0009) + u16(0) + [0] + u16(0)
    let body = u32(code) + handles + u32(UInt32(session.count)) + session + parameters
    return [0x80, 0x02] + u32(UInt32(body.count + 6)) + body
  }

  private static func u16(_ value: Int) -> [UInt8] {
    [UInt8(truncatingIfNeeded: value >> 8), UInt8(truncatingIfNeeded: value)]
  }

  private static func u32(_ value: UInt32) -> [UInt8] { u16(Int(value >> 16)) + u16(Int(value & 0xFFFF)) }
}
