import CSystem

/// The lock that a vnvram process holds on its image.
public enum Lock {
  public static func take(_ descriptor: Int32, exclusively: Bool) -> Bool {
    (exclusively ? csystem_lock_exclusive(descriptor) : csystem_lock_shared(descriptor)) == 0
  }
}
