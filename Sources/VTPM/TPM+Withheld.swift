import Glibc
import Primitives

// A store that is locked while the TPM runs: its key was revoked, or expired.
//
// libtpms must not hear of it, since a failed store puts it into failure mode for good. So commands that may store are
// answered here, with TPM_RC_NV_UNAVAILABLE, and libtpms never sees them. That code (TPM 2.0 Part 2, 6.6.3: "the
// command may require writing of NV and NV is not current accessible") is a warning that says just what is the case,
// and that nothing happened:
//
// - TPM_RC_FAILURE would say that the TPM is broken, and firmware that hears it stops measuring.
// - TPM_RC_RETRY is for moments: Linux (tpm_transmit) sends the command again after 20, 40, 80 … ms while it holds the
//   TPM for everybody, 2.5 s in all, complains of a "retry loop", and passes the code on then; tpm2-tss, too, sends it
//   again by itself. A key that is gone is gone for minutes.
// - TPM_RC_NV_UNAVAILABLE is passed on at once by both; programs may try again, and it works when the key is back.
//
// Commands that keep nothing in NV run on, so that a guest goes on measuring: with a gap in the measurements, it
// couldn't be attested again until it is booted anew.
//
// libtpms now and then stores something on its own behalf (its clock, once in more than an hour). And the store may
// lock between the question and the command. What it hands over then is withheld: kept until the store takes it, before
// any other command runs. A response that promises nothing durable is sent; of any other command the guest hears that
// NV is unavailable. Should the store take it later, the command has happened after all, as it may have when the power
// goes in the middle of one.
extension TPM {
  /// Whether a command may run while the store can't take anything. One that follows a TPM2_Shutdown may not: libtpms
  /// first has to take back what that one stored.
  func mayRunWithoutStore(_ code: UInt32) -> Bool {
    !isBroken && conclusion != .concluded && Self.needsNoStore(code, version)
  }

  /// Commands that keep nothing in NV and use no secret whose failures are counted, by their codes. Those of TPM 2.0
  /// are what Linux's driver, its resource manager and its integrity measurements use, and what asks.
  static func needsNoStore(_ code: UInt32, _ version: TPMVersion) -> Bool {
    switch version {
    case .tpm2: withoutStore.contains(code)
    // TPM_Extend, TPM_PcrRead, TPM_GetRandom, TPM_GetCapability.
    case .tpm12: [0x14, 0x15, 0x46, 0x65].contains(code)
    }
  }

  private static let withoutStore: Set<UInt32> = [
    0x13C,  // PCR_Event
    0x143,  // SelfTest
    0x146,  // StirRandom
    0x161,  // ContextLoad
    0x162,  // ContextSave
    0x165,  // FlushContext
    0x169,  // NV_ReadPublic
    0x173,  // ReadPublic
    0x176,  // StartAuthSession
    0x178,  // ECC_Parameters
    0x17A,  // GetCapability
    0x17B,  // GetRandom
    0x17C,  // GetTestResult
    0x17D,  // Hash
    0x17E,  // PCR_Read
    0x181,  // ReadClock
    0x182,  // PCR_Extend
    0x18A,  // TestParms
  ]

  /// Keeps a permanent state that the locked store refused.
  func withhold(_ bytes: Span<UInt8>) {
    dropWithheld()
    var copy = [UInt8](repeating: 0, count: bytes.count)
    var out = copy.mutableSpan
    out.copy(from: bytes)
    withheld = copy
    withheldInCommand = true
  }

  /// Has the store take what was withheld. True where nothing is withheld any more, and the store takes more.
  func storeWithheld() -> Bool {
    guard states.isReady else { return false }
    guard let bytes = withheld else { return true }
    do throws(TPMStateError) {
      try states.store(bytes.span, as: .permall)
      dropWithheld()
      return true
    } catch {
      if error.isForWantOfAKey { return false }
      // libtpms believes that it was stored.
      isBroken = true
      _ = note(.state(operation: .store, name: .permall, error))
      return false
    }
  }

  func dropWithheld() {
    if var bytes = withheld {
      withheld = nil
      wipe(&bytes)
    }
  }
}

extension TPMStateError {
  /// A key is missing, wrong or unusable, which may change; or what was to wait for one didn't.
  var isForWantOfAKey: Bool { [.keyMissing, .keyUnusable, .wrongKey, .timedOut].contains(status) }
}
