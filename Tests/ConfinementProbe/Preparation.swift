// What a process does before it is confined, tried by one that isn't.
import CSystem
@_spi(Testing) import Confinement
import Glibc

enum Preparation {
  /// Negative, with errno, where it failed; nil for another attempt than these.
  static func run(_ attempt: String, _ folder: String) -> Int32? {
    switch attempt {
    case "close": close(folder) { (kept) throws(ConfinementError) in try InheritedDescriptors.closeAll(except: kept) }
    case "close one by one":
      close(folder) { (kept) throws(ConfinementError) in try InheritedDescriptors.closeOneByOne(except: kept) }
    case "parent": endsWithItsParent()
    case "another's child": anothersChild()
    default: nil
    }
  }

  /// Whether the descriptors that are kept are all that is left.
  private static func close(_ folder: String, _ closeAll: ([Int32]) throws(ConfinementError) -> Void) -> Int32 {
    let opened = (0..<10).map { _ in unsafe open(folder, O_RDONLY) }
    // In the order in which nobody gives them, and one that isn't open.
    let kept = [opened[7], opened[2], 1, opened[3], 900, 2]
    do { try closeAll(kept) } catch { return -1 }
    let isRight = (Int32(0)..<1024).allSatisfy { (fcntl($0, F_GETFD) >= 0) == (kept.contains($0) && $0 != 900) }
    errno = EBADF
    return isRight ? 0 : -1
  }

  /// Whether a process ends when the one that made it does.
  private static func endsWithItsParent() -> Int32 {
    var ends: [Int32] = [-1, -1]
    guard unsafe csystem_pipe(&ends) == 0 else { return -1 }
    let (reading, writing) = (ends[0], ends[1])
    let parent = csystem_fork()
    guard parent > 0 else { _exit(parent == 0 ? makeChild(writing) : 1) }
    Glibc.close(writing)
    var bytes = [UInt8](repeating: 0, count: 2)
    // One byte when it is ready; then the end, and not the second byte, since nobody is left who has the pipe open.
    guard unsafe read(reading, &bytes, 1) == 1 else { return -1 }
    errno = ECHILD
    return unsafe read(reading, &bytes, 1) == 0 ? 0 : -1
  }

  private static func makeChild(_ writing: Int32) -> Int32 {
    var ready: [Int32] = [-1, -1]
    guard unsafe csystem_pipe(&ready) == 0 else { return 1 }
    var byte: UInt8 = 1
    let child = csystem_fork()
    guard child == 0 else {
      // Its parent ends as soon as it is ready.
      return unsafe read(ready[0], &byte, 1) == 1 ? 0 : 1
    }
    var confinement = Confinement(.worker)
    confinement.parent = getppid()
    do { try confinement.becomeUser() } catch { return 1 }
    _ = unsafe write(writing, &byte, 1)
    _ = unsafe write(ready[1], &byte, 1)
    // Far more than it takes.
    sleep(60)
    _ = unsafe write(writing, &byte, 1)
    return 0
  }

  /// Refused: the parent has ended, and nothing tells of its end any more.
  private static func anothersChild() -> Int32 {
    var confinement = Confinement(.worker)
    confinement.parent = getpid()
    do { try confinement.becomeUser() } catch {
      errno = ESRCH
      return -1
    }
    return 0
  }
}
