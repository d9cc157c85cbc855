import Glibc
import Primitives

/// The terminal that a person sits at.
public enum Terminal {
  /// The longest passphrase, in bytes.
  public static let passphraseLimit = 1024

  public static func isTerminal(_ descriptor: Int32) -> Bool { isatty(descriptor) == 1 }

  /// Asks for a passphrase at the controlling terminal, without echo, whatever standard input and output are.
  ///
  /// - Throws: ENXIO or its like where there is no terminal; ENODATA where an end of file was typed.
  public static func readPassphrase(_ prompt: String) throws(FileError) -> SecretBytes {
    let name = "terminal"
    let descriptor = unsafe open("/dev/tty", O_RDWR | O_CLOEXEC | O_NOCTTY)
    guard descriptor >= 0 else {
      throw FileError(
        errno, file: name, detail: "there is none to ask at; give the passphrase with --passphrase-fd")
    }
    defer { close(descriptor) }
    var before = termios()
    guard unsafe tcgetattr(descriptor, &before) == 0 else { throw FileError(errno: errno, file: name, "asking it") }
    var silent = before
    // Byte by byte and without signals from the keyboard: an interrupt must not leave the shell without echo.
    silent.c_lflag &= ~tcflag_t(ECHO | ICANON | ISIG)
    guard unsafe tcsetattr(descriptor, TCSAFLUSH, &silent) == 0 else {
      throw FileError(errno: errno, file: name, "turning its echo off")
    }
    defer { _ = unsafe tcsetattr(descriptor, TCSAFLUSH, &before) }
    let terminal = OutputFile(descriptor: descriptor, name: name)
    try terminal.write(prompt)
    let secret = try readLine(InputFile(descriptor: descriptor, name: name))
    try terminal.write("\n")
    return secret
  }

  /// Asks a question at the controlling terminal; the answer is shown as it is typed.
  ///
  /// - Throws: as `readPassphrase`.
  public static func readAnswer(_ prompt: String) throws(FileError) -> String {
    let name = "terminal"
    let descriptor = unsafe open("/dev/tty", O_RDWR | O_CLOEXEC | O_NOCTTY)
    guard descriptor >= 0 else { throw FileError(errno, file: name, detail: "there is none to ask at") }
    defer { close(descriptor) }
    try OutputFile(descriptor: descriptor, name: name).write(prompt)
    let line = try InputFile(descriptor: descriptor, name: name).readSecretLine(limit: passphraseLimit)
    return String(decoding: line.span.array, as: UTF8.self)
  }

  /// A line with the editing that people expect: backspace, Control-U, Control-C, Control-D.
  private static func readLine(_ terminal: borrowing InputFile) throws(FileError) -> SecretBytes {
    var line = SecretBytes(count: passphraseLimit)
    var key = SecretBytes(count: 1)
    var count = 0
    while try terminal.read(into: key.mutableSpan) == 1 {
      switch key.span[0] {
      case 0x0A, 0x0D: return line.prefix(count)
      case 0x03: throw FileError(EINTR, file: terminal.name, detail: "interrupted")
      case 0x04 where count == 0: throw FileError(ENODATA, file: terminal.name, detail: "no passphrase was typed")
      case 0x15: count = 0
      case 0x08, 0x7F:
        // All bytes of the last character.
        while count > 0, line.span[count - 1] & 0xC0 == 0x80 { count -= 1 }
        count = max(0, count - 1)
      case let byte:
        guard count < passphraseLimit else {
          throw FileError(E2BIG, file: terminal.name, detail: "a passphrase has at most \(passphraseLimit) bytes")
        }
        var all = line.mutableSpan
        all[count] = byte
        count += 1
      }
    }
    throw FileError(ENODATA, file: terminal.name, detail: "it was closed before a passphrase was typed")
  }
}
