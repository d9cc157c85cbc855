"""What the vectors of anchors are made of: records and files, and the list in which each vector is registered."""

import vnvram_anchor as a
import vnvram_format as f

CLEAN, RECORDS, ANCHORED, LEAPT = "closed-twice", "three-records", "anchored", "leapt"
IMAGES = (CLEAN, RECORDS, ANCHORED, LEAPT)
VECTORS = {}


def record(header, sequence=5, edit=None, digest=None, kind=6, key=None, **fields):
    """A sealed record of a header; `fields` replace what it says, `edit` changes bytes under the right MAC."""
    says = {"header_sequence": header.sequence, "generation": header.generation, "counter": 0}
    says |= {"epoch": header.epoch, "root": header.root, "uuid": header.uuid}
    says |= {"lineage": header.lineage[-1].value} | fields
    raw = bytearray(224)
    raw[0:8], raw[8:12], raw[16:32] = a.MAGIC, f.u32(a.VERSION), says["uuid"]
    numbers = {32: sequence, 40: says["header_sequence"], 48: says["generation"], 72: says["counter"]}
    for at, number in numbers.items():
        raw[at : at + 8] = f.u64(number)
    raw[56:72], raw[80:112], raw[112:144] = says["epoch"], says["root"], says["lineage"]
    if edit:
        raw[edit[0] : edit[0] + len(edit[1])] = edit[1]
    keys = key or header.keys
    return bytes(raw) + keys.mac(f.u32(kind), f.u32(0), digest or header.digest, raw)


def file(first=b"", second=b""):
    made = bytearray(a.FILE_SIZE)
    for at, raw in zip(a.PLACES, (first, second)):
        made[at : at + len(raw)] = raw
    return bytes(made)


def vector(expect, image, about, counter=None):
    def register(make):
        VECTORS[make.__name__.replace("_", "-")] = (expect, image, about, counter, make)
        return make

    return register


def flip(raw, bit):
    raw = bytearray(raw)
    raw[bit // 8] ^= 1 << bit % 8
    return bytes(raw)


def other(value):
    return bytes(byte ^ 0xA5 for byte in value)


def earlier(header, entry, generation, **fields):
    """A record of an earlier epoch, as that epoch's header could have made it."""
    fields = {"header_sequence": header.sequence - 2, "root": other(header.root)} | fields
    return record(header, lineage=entry.value, generation=generation, epoch=other(header.epoch), **fields)
