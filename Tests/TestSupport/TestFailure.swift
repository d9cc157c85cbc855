/// What a test needed before it could begin and didn't get. Macros of Testing are for test targets alone.
public struct TestFailure: Error, CustomStringConvertible {
  public let description: String

  public init(_ description: String) { self.description = description }

  /// Throws where `condition` doesn't hold.
  public static func unless(_ condition: Bool, _ description: @autoclosure () -> String) throws {
    if !condition { throw TestFailure(description()) }
  }
}
