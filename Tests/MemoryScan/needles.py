"""What is searched for: a store's keys, and the forms that libcrypto and the derivations give them in memory.

From FORMAT.md's key schedule (the independent reader's code), FIPS 197 (AES' key expansion), SP 800-38B (CMAC's subkeys
and chaining values) and FIPS 180-4 (SHA-256's state under HMAC's padded key). Nothing is taken from the Swift program.
"""

import hmac
import struct
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent / "IndependentReader"))

from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes  # noqa: E402

import vnvram_format as f  # noqa: E402
import vnvram_reader as reader  # noqa: E402
from vnvram_header import Credential  # noqa: E402
from vnvram_image import Volume  # noqa: E402

# FIPS 197: the S-box, from inverses in GF(2^8).


def times(a, b):
    product = 0
    while b:
        if b & 1:
            product ^= a
        a = (a << 1) ^ (0x11B if a & 0x80 else 0)
        b >>= 1
    return product


def make_sbox():
    box = []
    for value in range(256):
        inverse = next((x for x in range(256) if times(value, x) == 1), 0)
        rotated = inverse
        result = 0x63
        for _ in range(5):
            result ^= rotated
            rotated = (rotated << 1 | rotated >> 7) & 0xFF
        box.append(result)
    return box


SBOX = make_sbox()


def expand(key):
    """The 15 round keys of AES-256."""
    words = [key[at : at + 4] for at in range(0, 32, 4)]
    constant = 1
    for i in range(8, 60):
        word = words[-1]
        if i % 8 == 0:
            word = bytes(SBOX[b] for b in word[1:] + word[:1])
            word = bytes([word[0] ^ constant]) + word[1:]
            constant = times(constant, 2)
        elif i % 8 == 4:
            word = bytes(SBOX[b] for b in word)
        words.append(bytes(a ^ b for a, b in zip(words[-8], word)))
    return [b"".join(words[at : at + 4]) for at in range(0, 60, 4)]


def inverse_mix(round_key):
    """InvMixColumns: how the round keys of the equivalent inverse cipher are kept."""
    out = bytearray()
    for at in range(0, 16, 4):
        column = round_key[at : at + 4]
        for row in range(4):
            factors = [(0x0E, 0x0B, 0x0D, 0x09)[(i - row) % 4] for i in range(4)]
            value = 0
            for factor, byte in zip(factors, column):
                value ^= times(factor, byte)
            out.append(value)
    return bytes(out)


def aes(name, key):
    """A key for AES, and round keys of both its schedules."""
    rounds = expand(key)
    yield name, key
    yield f"{name}: round keys 2 and 3", rounds[2] + rounds[3]
    yield f"{name}: round key 14", rounds[14]
    yield f"{name}: round key 13, inverse", inverse_mix(rounds[13])
    yield f"{name}: round key 7, inverse", inverse_mix(rounds[7])


def subkeys(name, key):
    """CMAC's K1 and K2."""
    encryptor = Cipher(algorithms.AES(key), modes.ECB()).encryptor()
    value = int.from_bytes(encryptor.update(bytes(16)), "big")
    for number in (1, 2):
        value = (value << 1) ^ (0x87 if value >> 127 else 0)
        value &= (1 << 128) - 1
        yield f"{name}: K{number}", value.to_bytes(16, "big")


def exclusive_or(a, b):
    return bytes(x ^ y for x, y in zip(a, b))


def chaining_values(name, key, message):
    """CMAC's states within a message of whole blocks, and what is encrypted next: who has one forges tags with it.

    They are those of CBC under a zero vector, but for the last block, into which a subkey goes.
    """
    chain = Cipher(algorithms.AES(key), modes.CBC(bytes(16))).encryptor().update(message)
    count = len(message) // 16
    for done in sorted({1, 2, count // 2, count - 1}):
        state, block = chain[16 * done - 16 : 16 * done], message[16 * done : 16 * done + 16]
        yield f"{name}: after block {done}", state
        yield f"{name}: before block {done + 1}", exclusive_or(state, block)
    (_, subkey), _ = subkeys(name, key)
    yield f"{name}: before the end", exclusive_or(exclusive_or(state, block), subkey)


def primes():
    found = []
    candidate = 2
    while len(found) < 64:
        if all(candidate % p for p in found):
            found.append(candidate)
        candidate += 1
    return found


def root_bits(value, degree):
    """The first 32 bits of the fraction of a root."""
    scaled = value << (32 * degree)
    low, high = 0, 1 << 40
    while low < high:
        middle = (low + high + 1) // 2
        if middle**degree <= scaled:
            low = middle
        else:
            high = middle - 1
    return low & 0xFFFFFFFF


ROUND = [root_bits(p, 3) for p in primes()]
START = [root_bits(p, 2) for p in primes()[:8]]


def compress(block):
    """SHA-256's state after one block."""

    def rotate(x, n):
        return (x >> n | x << (32 - n)) & 0xFFFFFFFF

    w = list(struct.unpack(">16I", block))
    for i in range(16, 64):
        s0 = rotate(w[i - 15], 7) ^ rotate(w[i - 15], 18) ^ w[i - 15] >> 3
        s1 = rotate(w[i - 2], 17) ^ rotate(w[i - 2], 19) ^ w[i - 2] >> 10
        w.append((w[i - 16] + s0 + w[i - 7] + s1) & 0xFFFFFFFF)
    a, b, c, d, e, g, h, j = START
    for i in range(64):
        s1 = rotate(e, 6) ^ rotate(e, 11) ^ rotate(e, 25)
        t1 = (j + s1 + ((e & g) ^ (~e & h)) + ROUND[i] + w[i]) & 0xFFFFFFFF
        s0 = rotate(a, 2) ^ rotate(a, 13) ^ rotate(a, 22)
        t2 = (s0 + ((a & b) ^ (a & c) ^ (b & c))) & 0xFFFFFFFF
        a, b, c, d, e, g, h, j = (t1 + t2) & 0xFFFFFFFF, a, b, c, (d + t1) & 0xFFFFFFFF, e, g, h
    return [(x + y) & 0xFFFFFFFF for x, y in zip(START, (a, b, c, d, e, g, h, j))]


def swapped(data):
    """As 32-bit words of the other byte order: how SHA-256 holds what it is given and what it gives."""
    return b"".join(data[at : at + 4][::-1] for at in range(0, len(data), 4))


def hmac_key(name, key):
    """A key for HMAC-SHA-256, padded, and the states that follow from it."""
    yield from plain(name, key)
    for pad, byte in (("inner", 0x36), ("outer", 0x5C)):
        padded = bytes(b ^ byte for b in key.ljust(64, b"\0"))
        yield f"{name}: {pad} padded", padded[:32]
        yield f"{name}: {pad} state", struct.pack("<8I", *compress(padded))


def plain(name, key):
    """The bytes themselves, as SHA-256 holds them, and in hexadecimal."""
    yield name, key
    if len(key) % 4 == 0:
        yield f"{name}: swapped", swapped(key)
    yield f"{name}: hexadecimal", key.hex().encode()
    yield f"{name}: HEXADECIMAL", key.hex().upper().encode()


def derived_from(name, key, salt):
    """The pseudorandom key of HKDF's first step."""
    yield from hmac_key(f"{name}: PRK", hmac.digest(salt, key, "sha256"))


def of_store(image, key_encryption_key):
    """Everything of a store, from its image and the key of its keyring slot."""
    header = image[: f.HEADER_SIZE]
    uuid = header[f.UUID_AT : f.UUID_AT + 16]
    for index in range(f.SLOT_COUNT):
        slot = header[f.SLOTS_AT + index * f.SLOT_SIZE :][: f.SLOT_SIZE]
        store_key = f.unwrap(key_encryption_key, header, index, slot)
        if store_key:
            break
    else:
        raise ValueError("the key opens no slot")
    keys = f.Keys(store_key, uuid)
    yield from of_slot("key-encryption key", key_encryption_key, slot)
    yield from plain("store key", store_key)
    yield from derived_from("store key", store_key, uuid)
    yield from aes("sector cipher key, data half", keys.sector_cipher[:32])
    yield from aes("sector cipher key, tweak half", keys.sector_cipher[32:])
    yield from aes("sector tag key", keys.sector_tag)
    yield from subkeys("sector tag key", keys.sector_tag)
    yield from hmac_key("structure key", keys.structure)
    yield from plain("audit key", keys.audit)


def of_sectors(image, key_encryption_key, most=20):
    """The states within the tags of the first sectors, which are an entry's, in their newest version."""
    volume = Volume(image, Credential(f.KEYRING, key_encryption_key))
    key = bytes.fromhex(reader.key_values(volume)["sector-tag-key"])
    for sector in range(min(most, volume.geometry.sector_count)):
        prefix = bytes.fromhex(reader.sector_values(volume, sector)["sector-tag-input-prefix"])
        yield from chaining_values(f"chaining value of sector {sector}", key, prefix + volume.ciphertext(sector))


def of_slot(name, key, slot):
    """A slot's key-encryption key, or what scrypt made of a passphrase, and what the store key is wrapped under."""
    salt = f.slot_salt(slot)
    yield from plain(name, key)
    yield from derived_from(name, key, salt)
    yield from aes(f"{name}: wrapping key", f.hkdf(key, salt, b"slot", 32))


def of_passphrase(image, passphrase):
    """Of the passphrase's slot. scrypt's blocks can't be listed; what goes in and what comes out can."""
    for index in range(f.SLOT_COUNT):
        slot = image[f.SLOTS_AT + index * f.SLOT_SIZE :][: f.SLOT_SIZE]
        if f.get(slot, 0, 4) == f.PASSPHRASE:
            yield "passphrase", passphrase
            stretched = f.scrypt(passphrase, f.slot_salt(slot), *f.slot_costs(slot))
            yield from of_slot("stretched passphrase", stretched, slot)


def of_state_key(key):
    """A key of 32 bytes under which states go over the control channel, as swtpm has it: AES in CBC mode, and HMAC."""
    yield from aes("state key", key)
    yield from hmac_key("state key", key)


def of_recovery_key(image, key):
    yield "recovery key: printed", f.recovery_text(key).encode()
    for index in range(f.SLOT_COUNT):
        slot = image[f.SLOTS_AT + index * f.SLOT_SIZE :][: f.SLOT_SIZE]
        if f.get(slot, 0, 4) == f.RECOVERY:
            yield from of_slot("recovery key", key, slot)
