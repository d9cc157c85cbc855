import Foundation
import TestSupport
import Testing

/// An image that was made with blocks of 4 KiB lies where a power cut can tear 16 KiB at once: it is read and
/// converted, and not written (DESIGN P2).
@Suite(
  .serialized, .enabled(if: LargeBlockFileSystem.isPermittedLarge, "no XFS with blocks of 16 KiB on a loop device here")
)
struct LargerBlockTests {
  let place: Place
  let system: LargeBlockFileSystem

  init() throws {
    place = try Place(["--profile", "tpm2", "--entry", "note=100", "--block-size", "4096"])
    system = try LargeBlockFileSystem(sector: 16384, block: 16384)
  }

  private func put(_ text: String, in image: String) throws -> Place.Outcome {
    try place.run(["bash", "-c", "printf %s \"$1\" | vnvram put \"$2\" note", "put", text, image])
  }

  private func note(_ image: String) throws -> String { try place.run(["vnvram", "get", image, "note"]).text }

  private func blockSize(_ image: String) throws -> String {
    let info = try place.run(["vnvram", "info", image, "--json"])
    try TestFailure.unless(info.status == 0, info.text)
    return info.text.contains("\"block_size\":16384,") ? "16384" : info.text
  }

  @Test("what was copied there is not written, and names what helps") func refused() throws {
    let image = system.path + "/copy.img"
    try #require(try put("before", in: place.image).status == 0)
    try FileManager.default.copyItem(atPath: place.image, toPath: image)
    let before = try File.bytes(image)
    let refused = try [put("after", in: image), place.runServer(TestServer.startsByItself, on: image)]
    for outcome in refused {
      #expect(outcome.status == 15, "\(outcome.text)")
      #expect(outcome.text.contains("`vnvram convert IMAGE NEW --block-size 16384`"), "\(outcome.text)")
    }
    #expect(try note(image) == "before")
    #expect(try File.bytes(image) == before)
  }

  @Test("what was converted is written, by all") func converted() throws {
    let (old, new) = (system.path + "/old.img", system.path + "/new.img")
    try #require(try put("before", in: place.image).status == 0)
    try FileManager.default.copyItem(atPath: place.image, toPath: old)
    let before = try File.bytes(old)
    let conversion = try place.run(["vnvram", "convert", old, new, "--block-size", "16384"])
    try #require(conversion.status == 0, "\(conversion.text)")
    #expect(try File.bytes(old) == before)
    place.image = new
    #expect(try blockSize(new) == "16384")
    #expect(try place.wasClosedCleanly())
    #expect(try note(new) == "before")
    #expect(try put("after", in: new).status == 0)
    let server = try TestServer(place)
    let random = try server.tpm2("tpm2_getrandom", "--hex", "4")
    #expect(random.status == 0 && random.text.count == 8, "\(random.text)")
    #expect(server.end() == 0)
    #expect(try place.wasClosedCleanly())
    #expect(try note(new) == "after")
    #expect(try place.run(["vnvram", "check", new]).status == 0)
  }

  @Test("what is made there has its blocks") func made() throws {
    let image = system.path + "/made.img"
    let format = try place.run(["vnvram", "format", image, "--key", place.key.name, "--entry", "note=100"])
    try #require(format.status == 0, "\(format.text)")
    #expect(try blockSize(image) == "16384")
    #expect(try put("content", in: image).status == 0)
    #expect(try note(image) == "content")
  }
}
