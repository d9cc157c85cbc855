import ArgumentParser
import ProgramIO

/// Descriptors on the command line.
enum DescriptorArgument {
  /// Refuses what the program wasn't started with: the number would soon be that of a file that the program opens
  /// itself, and a key would go into the image. To be called from `validate`, when nothing has been opened.
  static func check(_ descriptors: Int32?...) throws {
    for case .some(let descriptor) in descriptors where !ProcessSetup.isOpen(descriptor) {
      throw ValidationError("Descriptor \(descriptor) is not open; open it for the command, as in 3< FILE or 3> FILE.")
    }
  }
}
