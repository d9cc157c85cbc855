import SecureVolume
import Testing

/// What a place of a TPM's state holds, as its first bytes tell.
@Suite struct ImageBeginningTests {
  private static let ours: [UInt8] = [0x89, 0x56, 0x4E, 0x56, 0x52, 0x41, 0x4D, 0x0A]
  private static let swtpms = Array("nilmptws".utf8)
  private static let rest = [UInt8](repeating: 7, count: 24)

  @Test(arguments: [
    ([], ImageBeginning.empty), ([0], .zeros), ([UInt8](repeating: 0, count: 32), .zeros),
    ([UInt8](repeating: 0, count: 8) + rest, .zeros), (ours + rest, .image), (ours, .image),
    // swtpm's single file, whatever its version; an image that begins so, with a version that swtpm refuses and whose
    // it is.
    (swtpms + [1, 0, 0xC0, 0] + rest, .swtpmFile), (swtpms + [2] + rest, .swtpmFile),
    (swtpms + [0xFF] + rest, .swtpmFile),
    (swtpms + [0xFF] + ours + rest, .image), (swtpms + [1] + ours + rest, .swtpmFile),
    (swtpms + [0xFF] + ours.dropLast(), .swtpmFile),
    // A container of a state directory, of either version.
    ([2, 1, 0, 10, 0, 0] + rest, .swtpmState), ([1, 1, 0, 10, 0, 0] + rest, .swtpmState),
    ([2, 2, 0, 10] + rest, .swtpmState),
    ([3, 1, 0, 10] + rest, .unknown), ([2, 3, 0, 10] + rest, .unknown), ([2, 1, 0, 11] + rest, .unknown),
    (swtpms, .unknown), (rest, .unknown), ([0, 0, 0, 0, 0, 0, 0, 1] + rest, .unknown),
    (ours.reversed() + rest, .unknown),
  ]) func told(bytes: [UInt8], beginning: ImageBeginning) {
    #expect(ImageBeginning(bytes.span) == beginning)
  }
}
