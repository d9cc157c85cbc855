"""What an image is built from, apart from its place in it: reproducible bytes, the stream, slots."""

import hashlib
from dataclasses import dataclass

import vnvram_format as f
from vnvram_format import u32, u64


class Seeded:
    """Reproducible bytes: SHA-256 of the seed and a counter."""

    def __init__(self, seed):
        self.seed = seed.encode()
        self.counter = 0

    def bytes(self, length):
        out = b""
        while len(out) < length:
            out += hashlib.sha256(self.seed + self.counter.to_bytes(8, "big")).digest()
            self.counter += 1
        return out[:length]

    def below(self, limit):
        return int.from_bytes(self.bytes(8), "big") % limit


def put(target, offset, value):
    target[offset : offset + len(value)] = value


# Section 8


def der(tag, content):
    length = len(content)
    if length < 128:
        return bytes([tag, length]) + content
    digits = length.to_bytes((length.bit_length() + 7) // 8, "big")
    return bytes([tag, 128 + len(digits)]) + digits + content


def encode_entry(name, capacity, content, padding):
    blob = der(0x04, len(content).to_bytes(8, "big"))
    if padding is not None:
        blob += der(0x80, bytes(padding))
    blob += der(0x04, content + bytes(capacity - len(content)))
    return der(0x30, der(0x0C, name) + der(0x30, blob))


def to_bytes(text):
    return text.encode() if isinstance(text, str) else text


def encode_stream(entries):
    """The one encoding of these (name, capacity, content) entries."""
    entries = [(to_bytes(name), capacity, content) for name, capacity, content in entries]
    _, length, paddings = f.stream_layout([(len(name), capacity) for name, capacity, _ in entries])
    content = der(0x0C, f.STREAM_MAGIC)
    for (name, capacity, real), padding in zip(entries, paddings):
        content += encode_entry(name, capacity, real, padding)
    stream = der(0x30, content)
    assert len(stream) == length
    return stream


def content_offsets(entries):
    """Where in the stream each content begins."""
    shapes = [(len(to_bytes(name)), capacity) for name, capacity, _ in entries]
    at, _, paddings = f.stream_layout(shapes)
    at += f.element_length(len(f.STREAM_MAGIC))
    offsets = []
    for (name_length, capacity), padding in zip(shapes, paddings):
        whole, start = f.entry_length(name_length, capacity, padding)
        offsets.append(at + start)
        at += whole
    return offsets


# Sections 2 and 3


@dataclass
class SlotSpec:
    """A slot to be written. `edit` changes it before it is sealed; `wraps` is sealed in place of the store key, and
    `seals` says whether it is sealed at all: a passphrase of a cost that nobody waits for is not."""

    kind: int
    label: str | bytes
    secret: bytes
    costs: tuple = (0, 0, 0)
    index: int | None = None
    created: int = 1700000000
    maker: str | bytes = "vnvram's builder in Python"
    edit: object = None
    wraps: bytes | None = None
    seals: bool = True

    def wrap(self, header, index, store_key, random):
        slot = bytearray(f.SLOT_SIZE)
        put(slot, 0, u32(self.kind) + u32(1) + u32(1))
        put(slot, f.COSTS_AT, b"".join(map(u32, self.costs)))
        put(slot, f.CREATED_AT, u64(self.created))
        put(slot, f.SALT_AT, random.bytes(32))
        put(slot, f.NONCE_AT, random.bytes(12))
        for at, text in ((f.LABEL_AT, to_bytes(self.label)), (f.MAKER_AT, to_bytes(self.maker))):
            put(slot, at, u32(len(text)) + text)
        if self.edit:
            self.edit(slot)
        assert len(slot) == f.SLOT_SIZE
        put(slot, f.WRAPPED_AT, self.seal(header, index, slot, store_key) if self.seals else random.bytes(48))
        return bytes(slot)

    def seal(self, header, index, slot, store_key):
        salt = f.slot_salt(slot)
        key = f.scrypt(self.secret, salt, *self.costs) if self.kind == f.PASSPHRASE else self.secret
        cipher = f.AESGCM(f.hkdf(key, salt, b"slot", 32))
        associated = f.slot_associated_data(header, index, slot)
        return cipher.encrypt(bytes(slot[f.NONCE_AT : f.NONCE_AT + 12]), self.wraps or store_key, associated)


def vm_binding(uuid, name):
    name = to_bytes(name)
    return (uuid + u32(len(name)) + name).ljust(f.BINDING_SIZE, b"\0")
