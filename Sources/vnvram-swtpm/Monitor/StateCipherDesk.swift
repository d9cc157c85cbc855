import Primitives
import SwtpmFormat
import VTPM

/// Where a state is encrypted or decrypted under `--key`, as swtpm does it with what goes over the control channel. The
/// key stays here, in protected memory, for as long as there is a control channel.
///
/// Invariant: each use follows the record of one state that leaves or comes (`KeyDesk.record`), which is limited in
/// number, and a state that leaves is only sealed, one that comes only opened. So a worker that was taken over gets no
/// more of it than states that are on record.
final class StateCipherDesk {
  private let key: any SwtpmStateCipher
  /// What was recorded and not begun.
  private var permitted: TPMStateTransfer?
  private var job: Job?

  private enum Job: ~Copyable {
    case gathering(CipherRequest.Direction, SecretBytes, filled: Int)
    case handing(SecretPart, given: Int)
  }

  init(_ key: any SwtpmStateCipher) { self.key = key }

  /// A state is about to go or to come, and that is on record.
  func permit(_ transfer: TPMStateTransfer) {
    permitted = transfer
    job = nil
  }

  /// - Throws: for what makes no sense.
  func answer(_ request: CipherRequest) throws(LinkError) -> MonitorMessage {
    let current = job.take()
    switch request {
    case .begin(let direction, let size):
      guard permitted == (direction == .seal ? .exported : .imported), size <= UInt32(SwtpmContainer.maximumSize) else {
        throw LinkError("no state was to be encrypted or decrypted")
      }
      permitted = nil
      job = .gathering(direction, SecretBytes(count: Int(size)), filled: 0)
      return .done
    case .part(let part):
      guard case .gathering(let direction, var bytes, let filled) = consume current else { throw Self.outOfTurn }
      guard part.count <= bytes.count - filled else { throw Self.outOfTurn }
      part.copy(into: &bytes, at: filled)
      job = .gathering(direction, bytes, filled: filled + part.count)
      return .done
    case .finish(let mac, let vector):
      guard case .gathering(let direction, let bytes, let filled) = consume current, filled == bytes.count else {
        throw Self.outOfTurn
      }
      return finish(direction, bytes, mac, vector)
    case .take:
      guard case .handing(let bytes, let given) = consume current, given < bytes.count else { throw Self.outOfTurn }
      let end = min(given + CipherRequest.longestPart, bytes.count)
      let part = bytes.piece(given..<end)
      if end < bytes.count { job = .handing(bytes, given: end) }
      return .part(part)
    }
  }

  private static let outOfTurn = LinkError("a part of a state out of turn")

  private func finish(
    _ direction: CipherRequest.Direction, _ bytes: borrowing SecretBytes, _ mac: [UInt8], _ vector: [UInt8]
  ) -> MonitorMessage {
    do throws(SwtpmFormatError) {
      switch direction {
      case .seal:
        let sealed = try key.seal(bytes.span)
        job = .handing(SecretPart(SecretBytes(copying: sealed.ciphertext.span)), given: 0)
        return .ciphered(UInt32(sealed.ciphertext.count), mac: sealed.mac, vector: sealed.vector)
      case .open:
        let opened = try key.open(bytes.span, mac: mac.span, vector: vector.span, as: .state)
        let count = opened.count
        job = .handing(SecretPart(opened), given: 0)
        return .ciphered(UInt32(count), mac: [], vector: [])
      }
    } catch { return .failure(Failure(error)) }
  }
}
