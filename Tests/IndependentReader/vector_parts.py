"""What the vectors are made of: keys, contents, small stores, and the lists in which each vector is registered."""

import functools
import hashlib

import vnvram_format as f
from builder_parts import SlotSpec, put
from image_builder import ImageBuilder

KEY = hashlib.sha256(b"the keyring key of the vectors").digest()
OTHER_KEY = hashlib.sha256(b"another keyring key").digest()
RECOVERY_KEY = hashlib.sha256(b"the recovery key of the vectors").digest()
PASS = "correct horse battery staple"
CHEAP = (10, 1, 1)
VM = bytes.fromhex("5e3c2a50f2b14f0e9d0c6f1f8a7b6c5d")

ENTRIES = [("tpm-00.permall", 300, b"permanent state"), ("uefi", 500, bytes(range(1, 200)))]

GOOD, BAD = {}, {}


def name_of(function):
    return function.__name__.replace("_", "-")


def register_good(name, about, make):
    assert name not in GOOD
    GOOD[name] = (about, make)


def register_bad(name, reason, about, make):
    assert name not in BAD
    BAD[name] = (reason, about, make)


def good(about):
    def register(function):
        register_good(name_of(function), about, function)
        return function

    return register


def bad(reason, about):
    def register(function):
        register_bad(name_of(function), reason, about, function)
        return function

    return register


def keyring(label="vm", **more):
    return SlotSpec(f.KEYRING, label, KEY, **more)


def passphrase(label="admin", costs=CHEAP, **more):
    return SlotSpec(f.PASSPHRASE, label, PASS.encode(), costs=costs, **more)


@functools.cache
def filler_capacity(block_size, sector_count):
    """The capacity that makes the stream of `contents` end with the volume, or with its first 4096 bytes."""
    total = block_size * sector_count
    rest = [("rest", total - f.ALIGNMENT)] if total > f.ALIGNMENT else []
    shapes = [(name, capacity) for name, capacity, _ in ENTRIES]
    for capacity in range(f.ALIGNMENT - 1, 0, -1):
        names = shapes + [("filler", capacity)] + rest
        if f.stream_layout([(len(name), capacity) for name, capacity in names])[1] == total:
            return capacity
    raise ValueError("no capacity fills the volume")


def contents(builder, state=b"permanent state"):
    """The entries of a small store. Two of them fill it with what encrypts to zeros, which keeps its vector small."""
    size, count = builder.geometry.block_size, builder.geometry.sector_count
    entries = [("tpm-00.permall", 300, state), ENTRIES[1], ("filler", filler_capacity(size, count), None)]
    total = size * count
    return entries + ([("rest", total - f.ALIGNMENT, None)] if total > f.ALIGNMENT else [])


def small(seed, slots=None, **more):
    return ImageBuilder(seed, slots or [keyring()], **more)


def formatted(builder):
    return builder.format_sectors(*builder.hollow(contents(builder)))


def closed(seed, slots=None, **more):
    """A small store as it is after it was formatted: one sector of 4096 bytes."""
    return formatted(small(seed, slots, **more))


def opened(seed, slots=None, **more):
    return closed(seed, slots, **more).open()


def change(builder, only=None, state=b"permanent state, changed", **more):
    """A commit of all sectors, or only of one; returns where in the ring it starts."""
    sectors, nonces = builder.hollow(contents(builder, state))
    changes = sectors if only is None else {only: sectors[only]}
    return builder.commit(changes, nonces=nonces, **more)


def edits(*changes):
    """An edit that puts each of (offset, bytes)."""

    def edit(target):
        for offset, value in changes:
            put(target, offset, value)

    return edit


def flip(builder, offset, bit=1):
    builder.image[offset] ^= bit


def in_ring(builder, position):
    """The image's offset of a place in the ring."""
    return f.RING_OFFSET + position % builder.geometry.ring_size


BY_KEY = ("key", KEY.hex())
BY_PASSPHRASE = ("passphrase", PASS)
SMALL = f.Geometry(4096, 1)
