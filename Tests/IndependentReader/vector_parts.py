"""What the vectors are made of: keys, contents, small stores, and the lists in which each vector is registered."""

import hashlib

import image_builder as b
import vnvram_format as f
from image_builder import ImageBuilder, SlotSpec, put

KEY = hashlib.sha256(b"the keyring key of the vectors").digest()
OTHER_KEY = hashlib.sha256(b"another keyring key").digest()
RECOVERY_KEY = hashlib.sha256(b"the recovery key of the vectors").digest()
PASS = "correct horse battery staple"

ENTRIES = [("tpm-00.permall", 300, b"permanent state"), ("uefi", 500, bytes(range(1, 200)))]
CHANGED = [("tpm-00.permall", 300, b"permanent state, changed"), ("uefi", 500, bytes(range(1, 220)))]

GOOD, BAD = {}, {}


def good(function):
    GOOD[function.__name__.replace("_", "-")] = function
    return function


def bad(reason, about):
    def register(function):
        BAD[function.__name__.replace("_", "-")] = (reason, about, function)
        return function

    return register


def keyring(name="vm", **more):
    return SlotSpec(f.KEYRING, name, KEY, **more)


def small(seed, slots=None, **more):
    """A builder of a small store: 512-byte sectors, two of them with content."""
    more.setdefault("sector_size", 512)
    more.setdefault("sector_count", 2)
    return ImageBuilder(seed, slots or [keyring()], **more)


def closed(seed, slots=None, **more):
    builder = small(seed, slots, **more)
    return builder.format(b.encode_stream(ENTRIES))


def edits(*changes):
    """An edit that puts each of (offset, bytes)."""

    def edit(target):
        for offset, value in changes:
            put(target, offset, value)

    return edit


def flip(builder, offset, bit=1):
    builder.image[offset] ^= bit


def change_one(builder, sector=0, byte=0):
    """The sector's plaintext of CHANGED: any commit of both sectors turns ENTRIES into CHANGED."""
    return builder.sectors_of(b.encode_stream(CHANGED))


BY_KEY = ("key", KEY.hex())
SMALL = f.Geometry(512, 4096, 2)
