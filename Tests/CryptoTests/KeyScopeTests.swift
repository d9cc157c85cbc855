import CLibcrypto
import Glibc
import Primitives
import Testing

@testable import Crypto

/// libcrypto's memory for keys. Other tests use the arena at the same time, so what is compared is not its total.
@Suite struct KeyScopeTests {
  /// In the tests' process nobody has used libcrypto before. Tests/MemoryScan looks at what it comes to.
  @Test func keysAreProtected() { #expect(CryptoLibrary.keepsKeysProtected) }

  private static func block(_ count: Int) -> UnsafeMutableRawPointer? { unsafe CRYPTO_malloc(count, nil, 0) }
  private static func free(_ block: UnsafeMutableRawPointer?) { unsafe CRYPTO_free(block, nil, 0) }

  @Test func onlyTheScopeIsProtected() throws {
    CryptoLibrary.prepare()
    let outside = try unsafe #require(Self.block(100))
    KeyScope.enter()
    KeyScope.enter()
    KeyScope.leave()
    let inside = try unsafe #require(Self.block(100))
    let large = try unsafe #require(Self.block(KeyScope.largestBlock + 1))
    KeyScope.leave()
    let after = try unsafe #require(Self.block(100))
    let arena = SecretMemory.shared
    let blocks = unsafe [outside, inside, large, after]
    let own = unsafe blocks.map { unsafe arena.contains($0) }
    #expect(own == [false, true, false, false])
    // In any scope.
    unsafe blocks.forEach { unsafe Self.free($0) }
  }

  @Test func aBlockStaysProtectedWhenItGrows() throws {
    CryptoLibrary.prepare()
    KeyScope.enter()
    let block = try unsafe #require(Self.block(10))
    KeyScope.leave()
    unsafe memset(block, 7, 10)
    let larger = try unsafe #require(CRYPTO_realloc(block, 5000, nil, 0))
    let (own, kept) = unsafe (
      SecretMemory.shared.contains(larger), UnsafeRawBufferPointer(start: larger, count: 10).allSatisfy { $0 == 7 }
    )
    #expect(own && kept)
    unsafe Self.free(larger)
  }

  @Test func contextsAreProtected() throws {
    let key = try Random.secret(count: 64)
    let cipher = try SectorCipher(key: key)
    let own = unsafe SecretMemory.shared.contains(UnsafeRawPointer(cipher.encryption.pointer))
    #expect(own)
  }

  /// More contexts than there is room for: an error, which is no trap, and all is well again when they are gone.
  @Test func withoutRoomThereIsAnError() async {
    await #expect(processExitsWith: .success) {
      let key = try Random.secret(count: 64)
      var ciphers: [Box] = []
      do {
        while true { ciphers.append(try Box(key)) }
      } catch let error as CryptoError {
        precondition(error == .outOfKeyMemory && ciphers.count > 1000)
      }
      ciphers = []
      _ = try Box(key)
    }
  }

  private final class Box {
    let cipher: SectorCipher
    init(_ key: borrowing SecretBytes) throws { cipher = try SectorCipher(key: key) }
  }
}
