import Foundation
import TestSupport
import Testing

/// A place whose image holds a TPM that has been in use, made without booting anything.
enum Seeded {
  static let byte = UInt8(ascii: "v")
  static let content = String(repeating: "v", count: TPMCommand.indexSize)

  static func place() throws -> Place {
    let place = try Place()
    let server = try TestServer(place)
    let client = try server.connect(.data)
    try client.run(TPMCommand.defineIndex)
    try client.run(TPMCommand.write(byte))
    try TestFailure.unless(server.end() == 0, "the server ended otherwise")
    return place
  }

  /// Reads in the guest what was written.
  static func read(_ machine: some Guest) throws -> String {
    try machine.expect("tpm2 nvread 0x1500001 -C o -s 64")
  }
}

extension VirtualMachine {
  static let unavailable: Comment = "no virtual machine can be booted here (qemu-system-x86, Tools/prepare-guest.sh)"
}
