// libtpms' side of the contract: C functions that find the process's one TPM and hand over to it. libtpms keeps its
// state in global variables, so there is one TPM in a process, and one thread that calls it.
import CLibtpms
import Glibc
import Primitives

extension TPM {
  /// Registers the callbacks. libtpms copies the table.
  static func registerCallbacks() -> TPMResult {
    var table = libtpms_callbacks()
    table.sizeOfStruct = Int32(MemoryLayout<libtpms_callbacks>.size)
    table.tpm_nvram_init = { TPMResult.success.rawValue }
    unsafe table.tpm_nvram_loaddata = { data, length, number, name in
      guard let data = unsafe data, let length = unsafe length else { return TPMResult.fail.rawValue }
      return unsafe TPM.loadCallback(data, length, number, name).rawValue
    }
    unsafe table.tpm_nvram_storedata = { data, length, number, name in
      unsafe TPM.storeCallback(data, length, number, name).rawValue
    }
    unsafe table.tpm_nvram_deletename = { number, name, mustExist in
      unsafe TPM.deleteCallback(number, name, mustExist != 0).rawValue
    }
    table.tpm_io_init = { TPMResult.success.rawValue }
    unsafe table.tpm_io_getlocality = { locality, _ in
      guard let locality = unsafe locality else { return TPMResult.fail.rawValue }
      unsafe locality.pointee = UInt32(unsafe TPM.current?.locality ?? 0)
      return TPMResult.success.rawValue
    }
    // Nobody stands at a virtual machine's front panel.
    unsafe table.tpm_io_getphysicalpresence = { presence, _ in
      guard let presence = unsafe presence else { return TPMResult.fail.rawValue }
      unsafe presence.pointee = 0
      return TPMResult.success.rawValue
    }
    return unsafe TPMResult(rawValue: TPMLIB_RegisterCallbacks(&table))
  }

  /// Success always comes with bytes from malloc, which libtpms frees; success with NULL would make libtpms open a file
  /// of its own ("NVChip") in the working directory.
  private static func loadCallback(
    _ data: UnsafeMutablePointer<UnsafeMutablePointer<UInt8>?>, _ length: UnsafeMutablePointer<UInt32>,
    _ number: UInt32, _ name: UnsafePointer<CChar>?
  ) -> TPMResult {
    unsafe data.pointee = nil
    unsafe length.pointee = 0
    guard let tpm = unsafe current, let name = unsafe stateName(number, name) else { return .fail }
    return tpm.load(name) { bytes in
      guard let memory = unsafe malloc(bytes.count) else { return .size }
      unsafe bytes.withUnsafeBytes { source in
        if let from = source.baseAddress { unsafe memcpy(memory, from, source.count) }
      }
      unsafe data.pointee = memory.assumingMemoryBound(to: UInt8.self)
      unsafe length.pointee = UInt32(bytes.count)
      return .success
    }
  }

  private static func storeCallback(
    _ data: UnsafePointer<UInt8>?, _ length: UInt32, _ number: UInt32, _ name: UnsafePointer<CChar>?
  ) -> TPMResult {
    guard let tpm = unsafe current, let name = unsafe stateName(number, name), let data = unsafe data else {
      return .fail
    }
    return tpm.store(unsafe Span(_unsafeStart: data, count: Int(length)), as: name)
  }

  private static func deleteCallback(_ number: UInt32, _ name: UnsafePointer<CChar>?, _: Bool) -> TPMResult {
    guard let tpm = unsafe current, let name = unsafe stateName(number, name) else { return .fail }
    return tpm.delete(name)
  }

  /// A name that isn't known here is an error, never "there is none".
  private static func stateName(_ number: UInt32, _ name: UnsafePointer<CChar>?) -> TPMStateName? {
    guard number == 0, let name = unsafe name else { return nil }
    return TPMStateName(rawValue: unsafe String(cString: name))
  }
}
