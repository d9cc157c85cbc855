"""What FORMAT.md fixes: numbers, geometry, key schedule, authenticated inputs, and the layout of the stream.

Shared by the reader and the builder, and written from FORMAT.md alone: nothing here was taken from the Swift program.
Cryptography is the library's (PyPI `cryptography`, hashlib, hmac).
"""

import hashlib
import hmac
from dataclasses import dataclass

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives import cmac, hashes
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from cryptography.hazmat.primitives.kdf.scrypt import Scrypt

# swtpm's single-file store of a version that it refuses, then this format's own.
FOREIGN_MAGIC = bytes.fromhex("6E696C6D70747773FF")
MAGIC = bytes.fromhex("89564E5652414D0A")
MAGICS = FOREIGN_MAGIC + MAGIC
RECORD_MAGIC = b"vnvram-J"
VERSION = 2
SUITE = 1
HEADER_SIZE = 36864
HEADER_OFFSETS = (0, 65536)
SLOT_COUNT = 16
SLOT_SIZE = 2048
RING_OFFSET = 131072
LEAF_SIZE = 32
BLOCK_SIZES = (4096, 8192, 16384, 32768, 65536)
MAX_VOLUME = 268435456
KEY_EPOCH = 1
FLAG_CLEAN = 1
LIMIT = 1 << 63  # of sequence numbers and generations

# Offsets in the header (section 2).
UUID_AT = 40
FEATURES_AT = 120
COPY_AT = 128
ANCHORED_AT = 256
LINEAGE_AT = 304
MAX_LINEAGE = 64
LINEAGE_SIZE = 40
AUDIT_AT = 2864
AUDIT_HEADS = 8
AUDIT_HEAD_SIZE = 64
BINDING_AT = 3376
BINDING_SIZE = 256
MAX_VM_NAME = 236
PREVIOUS_KEY_AT = 3632
SLOTS_AT = 4064
HEADER_MAC_AT = 36832

# Offsets in a slot (section 3).
COSTS_AT = 12
CREATED_AT = 24
SALT_AT = 32
NONCE_AT = 64
WRAPPED_AT = 76
LABEL_AT = 124
MAKER_AT = 248

COMMIT = 1

KEYRING = 1
RECOVERY = 2
PASSPHRASE = 3
MAX_COST = 1 << 26

# Section 10: the reasons, with the exit status of each.
STATUS = {
    "not-an-image": 8,
    "unsupported-version": 8,
    "wrong-key": 4,
    "geometry": 6,
    "header": 6,
    "header-pair": 6,
    "journal": 6,
    "tree": 6,
    "sector": 6,
    "stream": 6,
}

STREAM_MAGIC = b"qemu-nvram"
MAX_ENTRIES = 1024
MAX_CAPACITY = 268435456
ALIGNMENT = 4096
MAX_NAME = 120


class Reject(Exception):
    """An image that FORMAT.md says to refuse, with one of the reasons of section 10 and a message of where."""

    def __init__(self, reason, where):
        assert reason in STATUS
        super().__init__(f"{reason}: {where}")
        self.reason = reason
        self.where = where


def u32(value):
    return value.to_bytes(4, "little")


def u64(value):
    return value.to_bytes(8, "little")


def get(data, offset, length):
    """The little-endian integer of `length` bytes at `offset`."""
    return int.from_bytes(data[offset : offset + length], "little")


def ceil_to(value, unit):
    return (value + unit - 1) // unit * unit


def is_zero(data):
    return bytes(data).count(0) == len(data)


def text_fault(raw, shortest, longest):
    """What is wrong with the bytes of a label, a name or other text, or None."""
    if not shortest <= len(raw) <= longest:
        return f"a text of {len(raw)} bytes"
    try:
        text = raw.decode("utf-8", "strict")
    except UnicodeDecodeError:
        return "a text that is not UTF-8"
    if any(ord(c) < 0x20 or 0x7F <= ord(c) <= 0x9F for c in text):
        return "a control character"
    return None


# Section 1


@dataclass(frozen=True)
class Geometry:
    """The size of a block, the number of sectors, and all that follows from them."""

    block_size: int
    sector_count: int

    def fault(self):
        """What is outside the limits, or None. Checked before any of the sizes below is used."""
        if self.block_size not in BLOCK_SIZES:
            return f"blockSize {self.block_size}"
        if self.sector_count < 1 or self.sector_count * self.block_size > MAX_VOLUME:
            return f"sectorCount {self.sector_count}"
        return None

    def payload_offset(self, count):
        return ceil_to(160 + 40 * count, self.block_size)

    def record_size(self, count):
        return self.payload_offset(count) + count * self.block_size

    @property
    def ring_size(self):
        return max(64 * self.block_size, 2 * self.record_size(self.sector_count))

    @property
    def leaf_size(self):
        return ceil_to(self.sector_count * LEAF_SIZE, self.block_size)

    @property
    def leaf_offset(self):
        return RING_OFFSET + self.ring_size

    def table_offset(self, table):
        return self.leaf_offset + table * self.leaf_size

    @property
    def data_offset(self):
        return self.leaf_offset + 2 * self.leaf_size

    @property
    def image_size(self):
        return self.data_offset + self.sector_count * self.block_size

    def header_fields(self):
        """Name, offset, length and value of the header's geometry fields (section 2)."""
        return (
            ("blockSize", 56, 4, self.block_size),
            ("sectorCount", 64, 8, self.sector_count),
            ("ringOffset", 72, 8, RING_OFFSET),
            ("ringSize", 80, 8, self.ring_size),
            ("leafOffset", 88, 8, self.leaf_offset),
            ("leafSize", 96, 8, self.leaf_size),
            ("dataOffset", 104, 8, self.data_offset),
            ("imageSize", 112, 8, self.image_size),
        )


# Section 3


def hkdf(key, salt, label, length):
    info = b"vnvram" + u32(VERSION) + u32(SUITE) + label
    return HKDF(algorithm=hashes.SHA256(), length=length, salt=salt, info=info).derive(key)


def scrypt(passphrase, salt, log2n, r, p):
    return Scrypt(salt=salt, length=32, n=1 << log2n, r=r, p=p).derive(passphrase)


def costs_allowed(log2n, r, p):
    return 10 <= log2n <= 20 and 1 <= r <= 16 and 1 <= p <= 8 and 128 * r * (1 << log2n) <= 1 << 30


def slot_costs(slot):
    """log2N, r and p of a slot."""
    return tuple(get(slot, COSTS_AT + at, 4) for at in (0, 4, 8))


def cost(log2n, r, p):
    # What is above 2^64 is far above the limit; the shift must not be as large as a forger likes.
    return (1 << min(log2n, 64)) * r * p


def slot_salt(slot):
    return bytes(slot[SALT_AT : SALT_AT + 32])


def slot_associated_data(header, index, slot):
    binding = bytes(header[BINDING_AT : BINDING_AT + BINDING_SIZE])
    return bytes(header[0:56]) + u32(index) + binding + bytes(slot[0:64]) + bytes(slot[LABEL_AT:SLOT_SIZE])


def unwrap(key_encryption_key, header, index, slot):
    """The store key in a slot, or None where this key-encryption key does not open it."""
    wrapping = AESGCM(hkdf(key_encryption_key, slot_salt(slot), b"slot", 32))
    nonce, sealed = bytes(slot[NONCE_AT : NONCE_AT + 12]), bytes(slot[WRAPPED_AT : WRAPPED_AT + 48])
    try:
        return wrapping.decrypt(nonce, sealed, slot_associated_data(header, index, slot))
    except InvalidTag:
        return None


def recovery_check(key):
    return hashlib.sha256(b"vnvram recovery key" + key).digest()[:2]


def recovery_text(key):
    digits = key.hex()
    groups = [digits[at : at + 8] for at in range(0, 64, 8)] + [recovery_check(key).hex()]
    return "-".join(groups)


def recovery_key(text):
    """The 32 bytes of a printed recovery key; ValueError where it was mistyped."""
    digits = text.replace("-", "").replace(" ", "").strip()
    if len(digits) != 68:
        raise ValueError("a recovery key has 68 hexadecimal digits")
    raw = bytes.fromhex(digits)
    if recovery_check(raw[:32]) != raw[32:]:
        raise ValueError("the last group of the recovery key does not fit the others")
    return raw[:32]


# Sections 4 to 7: keys and what is authenticated


class Keys:
    """The keys derived from a store key, and every input that is authenticated under them."""

    def __init__(self, store_key, uuid):
        self.store_key = store_key
        self.sector_cipher = hkdf(store_key, uuid, b"sector cipher", 64)
        self.sector_tag = hkdf(store_key, uuid, b"sector tag", 32)
        self.structure = hkdf(store_key, uuid, b"structure", 32)
        self.audit = hkdf(store_key, uuid, b"audit", 32)
        if self.sector_cipher[:32] == self.sector_cipher[32:]:
            raise Reject("header", "the halves of the sector cipher key are equal")
        self._cipher = algorithms.AES(self.sector_cipher)
        self._cmac = cmac.CMAC(algorithms.AES(self.sector_tag))
        self._hmac = hmac.new(self.structure, digestmod=hashlib.sha256)

    def mac(self, *parts):
        state = self._hmac.copy()
        for part in parts:
            state.update(part)
        return state.digest()

    @staticmethod
    def header_input(header):
        return u32(1) + u32(0) + bytes(header[0:HEADER_MAC_AT])

    def header_mac(self, header):
        return self.mac(self.header_input(header))

    def leaf_mac(self, digest, block_index, block):
        return self.mac(u32(2), u32(0), digest, u64(block_index), block)

    @staticmethod
    def root_input(digest, generation, leaf_macs):
        return u32(3) + u32(0) + digest + u64(generation) + u64(len(leaf_macs)) + b"".join(leaf_macs)

    def root(self, digest, generation, table, block_size):
        """The root of a whole leaf table (section 6)."""
        blocks = [table[at : at + block_size] for at in range(0, len(table), block_size)]
        leaf_macs = [self.leaf_mac(digest, j, block) for j, block in enumerate(blocks)]
        return self.mac(self.root_input(digest, generation, leaf_macs))

    @staticmethod
    def record_input(digest, authenticated):
        return u32(4) + u32(0) + digest + bytes(authenticated)

    def record_mac(self, digest, authenticated):
        return self.mac(self.record_input(digest, authenticated))

    def lineage(self, digest, before, epoch, audit_heads):
        return self.mac(u32(7), u32(0), digest, before, epoch, audit_heads)

    @staticmethod
    def tweak(sector, nonce):
        return u64(sector) + nonce

    @staticmethod
    def tag_prefix(block_size, sector, nonce):
        return u32(16) + u32(block_size) + u64(sector) + nonce + u32(KEY_EPOCH) + u32(0)

    def tag(self, sector, nonce, ciphertext):
        state = self._cmac.copy()
        state.update(self.tag_prefix(len(ciphertext), sector, nonce) + ciphertext)
        return state.finalize()

    def encrypt(self, sector, nonce, plaintext):
        context = Cipher(self._cipher, modes.XTS(self.tweak(sector, nonce))).encryptor()
        return context.update(plaintext) + context.finalize()

    def decrypt(self, sector, nonce, ciphertext):
        context = Cipher(self._cipher, modes.XTS(self.tweak(sector, nonce))).decryptor()
        return context.update(ciphertext) + context.finalize()


# Section 8


def header_length(length):
    """How many bytes the tag and the minimal length of an element of `length` content bytes take."""
    if length < 128:
        return 2
    return 2 + (length.bit_length() + 7) // 8


def element_length(length):
    return header_length(length) + length


def entry_length(name_length, capacity, padding):
    """The whole entry's length, and where its content begins within it. `padding` is None where there is none."""
    blob = 10 + (0 if padding is None else element_length(padding)) + element_length(capacity)
    entry = element_length(name_length) + element_length(blob)
    whole = element_length(entry)
    return whole, whole - capacity


def entry_padding(start, name_length, capacity, skipped=0):
    """The padding of an entry that begins at `start`: None, or the fewest bytes that align its content; with
    `skipped`, the one after that many shorter ones that would."""
    if capacity < ALIGNMENT:
        return None
    at = start + entry_length(name_length, capacity, None)[1]
    if at % ALIGNMENT == 0:
        if skipped == 0:
            return None
        skipped -= 1
    # Fewer bytes than this can't reach the next multiple: enclosing headers grow by less than 8 bytes.
    padding = max(0, -at % ALIGNMENT - 10)
    while True:
        if (start + entry_length(name_length, capacity, padding)[1]) % ALIGNMENT == 0:
            if skipped == 0:
                return padding
            skipped -= 1
        padding += 1


def stream_layout(shapes):
    """Where everything lies in the stream of these (length of name, capacity) pairs: the length of the stream's
    header, of the whole stream, and each entry's padding. The length of the outer header shifts everything, and the
    padding decides on the length of the outer header, so each is tried, the shortest first; where none fits, the
    first aligned entry moves on."""
    for skipped in range(8):
        for header in range(2, 8):
            at = header + element_length(len(STREAM_MAGIC))
            paddings = []
            to_skip = skipped
            for name_length, capacity in shapes:
                padding = entry_padding(at, name_length, capacity, to_skip)
                if capacity >= ALIGNMENT:
                    to_skip = 0
                paddings.append(padding)
                at += entry_length(name_length, capacity, padding)[0]
            if header_length(at - header) == header:
                return header, at, paddings
    raise ValueError("no length of the outer header fits these entries")
