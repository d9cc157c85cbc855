import BlockIO
import Glibc
import Primitives
import SecureVolume

/// Opens and locks the image for the worker, which gets its descriptor and with that the lock.
final class ImageDesk {
  private let path: String
  /// Opened and not handed over yet.
  private var image: FileDevice?
  /// The same file for reading: opened with it, since later nothing may be opened by its name any more.
  private var reader: FileDevice?

  /// Set until the worker has it, where it was made for a state that is to come.
  private var provisional: ProvisionalImage?

  init(_ path: String) { self.path = path }

  /// How often it is tried at the start, 0.3 s each time: where a server was killed, its worker has the lock a moment
  /// longer.
  private static let tries = 3

  /// Opens and locks it at the start, if that wasn't done, and has all of its space allocated: a worker may not.
  ///
  /// - Parameter accept: looks at it.
  /// - Throws: `.noSpace` where there isn't all of its space.
  func openAtStart(_ accept: (FileDevice) throws -> Void) throws {
    for _ in 1..<Self.tries {
      do throws(BlockError) {
        try open()
        break
      } catch {
        guard error.code == .inUse else { throw error }
      }
    }
    try open()
    guard let image else { return }
    try accept(image)
    try allocate(image)
  }

  /// As much as the image says that it needs, which is bounded; what lies behind it is none of its.
  private func allocate(_ image: FileDevice) throws {
    guard let size = try? SealedVolume(image).geometry?.imageSize else { return }
    try image.allocate(size)
  }

  /// Opens and locks what was just made for a state that is to come, which nobody else gets until then.
  ///
  /// - Parameter isWithdrawn: it goes again where none comes.
  func openNew(isWithdrawn: Bool) throws(BlockError) {
    let new = ProvisionalImage(at: path)
    try open()
    if isWithdrawn { provisional = new }
  }

  /// Lets go of what wasn't handed over. An image that no state came to is removed before.
  func withdraw() {
    if let image { provisional?.withdraw(image) }
    provisional = nil
    image?.close()
    (image, reader) = (nil, nil)
  }

  /// Opens and locks it, if that wasn't done.
  func open() throws(BlockError) {
    guard image == nil else { return }
    let image = try FileDevice.open(path: path, access: .readWrite)
    reader = try image.reader()
    self.image = image
  }

  /// Hands it over: `send` gets the descriptor, of which only the receiver's copy is left then. Before that `begin`
  /// gets the same file for reading, without a lock.
  ///
  /// - Throws: `.noSpace` where there isn't all of its space; it is kept then.
  func handOver(
    _ begin: (FileDevice) -> Void, send: (DeviceHandover, Int32) throws(LinkError) -> Void
  ) throws {
    try open()
    guard let image, let reader else { preconditionFailure("it is open") }
    // Where it wasn't at the start.
    try allocate(image)
    begin(reader)
    let result = image.withDescriptor { descriptor in
      Result { () throws(LinkError) in try send(image.handover, descriptor) }
    }
    image.abandon()
    provisional = nil
    (self.image, self.reader) = (nil, nil)
    try result.get()
  }
}
