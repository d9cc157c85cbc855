import Glibc
import Primitives

/// The marker beside the image of a folder of TPM state (`--tpmstate dir=`): an image was made here.
///
/// It outlasts the image: where that is gone and the marker is there, no new TPM is made. It holds no secret, and what
/// is in it is for people, but for the last line, which tells a copied folder from the one that it was copied from.
public struct StateMarker {
  /// The images' names in such a folder: a TPM 2.0's and a TPM 1.2's.
  public static let imageNames = ["tpm2-00.permall", "tpm-00.permall"]

  public let image: String
  /// `tpm2-00.made.permall` for `tpm2-00.permall`.
  public var path: String { image.hasSuffix(".permall") ? image.dropLast(8) + ".made.permall" : image + ".made" }
  /// - Throws: where that can't be told. What can't be seen may be there.
  public var isThere: Bool { get throws(BlockError) { try NewFile.isTaken(path) } }
  private var name: String { image.split(separator: "/").last.map(String.init) ?? image }
  /// Whether `--tpmstate dir=` would look for a TPM under the image's name.
  public var isWanted: Bool { Self.imageNames.contains(name) }

  public init(image: String) { self.image = image }

  private static let placeLabel = "Path: "
  /// More than a marker has. Bytes.
  private static let longest = 8192

  /// Where the image was when the marker was written: another place than now in a folder that was moved or copied. Nil
  /// where it doesn't say.
  public var formerImage: String? {
    let file = unsafe open(path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK | O_NOCTTY)
    guard file >= 0 else { return nil }
    defer { close(file) }
    var bytes = [UInt8](repeating: 0, count: Self.longest)
    let count = unsafe read(file, &bytes, bytes.count)
    guard count > 0 else { return nil }
    let lines = String(decoding: bytes[..<count], as: UTF8.self).split(separator: "\n")
    guard let line = lines.last, line.hasPrefix(Self.placeLabel + "/") else { return nil }
    return String(line.dropFirst(Self.placeLabel.count))
  }

  /// Writes it, whole or not at all. Durable on return.
  ///
  /// - Parameters:
  ///   - store: the image's UUID, where it is known.
  ///   - owner: whose it is to be, and its mode, in place of `mode`.
  ///   - replacing: take the place of the marker of an image that is gone.
  public func write(
    store: String?, mode: mode_t = 0o600, owner: stat? = nil, replacing: Bool = false
  ) throws(BlockError) {
    let which = store.map { ", store \($0)" } ?? ""
    let text = Array(
      """
      The state of a TPM was made here: \(name)\(which).
      Should that file be gone, vnvram-swtpm makes no new one: it would be another TPM, without the keys of the old one.
      Restore it from a backup; or, to begin with a new TPM, remove this file.
      \(Self.placeLabel)\(image)

      """.utf8)
    let file = try NewFile(at: path, size: ByteCount(UInt64(text.count)))
    if let owner { try file.inherit(from: owner) } else { try file.setMode(mode) }
    try file.device.write(text.span, at: ByteOffset(0))
    try file.device.sync()
    try file.place(replacing: replacing)
  }
}
