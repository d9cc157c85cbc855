import Glibc

/// What time it is.
public enum WallClock {
  /// Seconds since 1970, UTC.
  public static var seconds: UInt64 { UInt64(max(0, time(nil))) }

  /// `2026-01-31 23:59:59 UTC`.
  public static func text(_ seconds: UInt64) -> String {
    guard var moment = time_t(exactly: seconds) else { return "\(seconds)" }
    var parts = unsafe tm()
    guard unsafe gmtime_r(&moment, &parts) != nil else { return "\(seconds)" }
    let digits = { (value: Int32) in value < 10 ? "0\(value)" : "\(value)" }
    return unsafe "\(parts.tm_year + 1900)-\(digits(parts.tm_mon + 1))-\(digits(parts.tm_mday)) "
      + "\(digits(parts.tm_hour)):\(digits(parts.tm_min)):\(digits(parts.tm_sec)) UTC"
  }

  /// Seconds of a clock that nobody sets, for progress.
  public static var monotonic: Double {
    var now = timespec()
    unsafe clock_gettime(CLOCK_MONOTONIC, &now)
    return Double(now.tv_sec) + Double(now.tv_nsec) / 1e9
  }
}
