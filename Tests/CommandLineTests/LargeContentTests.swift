import Foundation
import TestSupport
import Testing

/// Contents of several windows of the program's own reading (256 KiB). Release builds once crashed from the second
/// window on.
struct LargeContentTests {
  @Test func fileAndPipe() throws {
    let workspace = try Workspace()
    try workspace.makeImage("a.img", "--entry", "one=1M")
    let content = (0..<600_001).map { UInt8(truncatingIfNeeded: $0 &* 31 &+ $0 >> 8) }
    try File.write(content, to: workspace.path("content"))
    let put = try workspace.run("put", "a.img", "one", "content")
    try #require(put.status == 0, "\(put.errorText)")
    #expect(try workspace.run("get", "a.img", "one").output == content)
    try File.write(content.reversed(), to: workspace.path("content"))
    let piped = try workspace.shell("cat content | vnvram put a.img one -")
    try #require(piped.status == 0, "\(piped.text)")
    #expect(try workspace.run("get", "a.img", "one").output == content.reversed())
  }
}
