"""Anchor files (section 12 of FORMAT.md): the record that counts, and what it says of an image."""

from dataclasses import dataclass

import vnvram_format as f
from vnvram_format import get, is_zero, u32

MAGIC = b"vnvram-A"
VERSION = 2
FILE_SIZE = 131072
PLACES = (0, 65536)
RECORD_SIZE = 256

# The reasons of section 12, with the exit status of each.
STATUS = {
    "rolled-back": 7,
    "forked": 7,
    "anchor-missing": 7,
    "anchor-damaged": 7,
    "anchor-rolled-back": 7,
    "anchor-counter": 15,
}


class Refuse(Exception):
    """An image that its anchor refuses, or an anchor that is none."""

    def __init__(self, reason, where):
        assert reason in STATUS
        super().__init__(f"{reason}: {where}")
        self.reason = reason
        self.where = where


@dataclass
class Record:
    sequence: int
    header_sequence: int
    generation: int
    epoch: bytes
    counter: int
    root: bytes
    lineage: bytes
    raw: bytes


def mac_input(digest, raw):
    return u32(6) + u32(0) + digest + bytes(raw[0:224])


def parse(raw, header):
    """The record in 256 bytes, or None where it does not verify or is not as section 12 says."""
    if raw[0:8] != MAGIC or get(raw, 8, 4) != VERSION or raw[16:32] != header.uuid:
        return None
    if not is_zero(raw[12:16]) or not is_zero(raw[144:224]):
        return None
    if header.keys.mac(mac_input(header.digest, raw)) != raw[224:256]:
        return None
    sequence, header_sequence, generation, counter = numbers = [get(raw, at, 8) for at in (32, 40, 48, 72)]
    if max(numbers) >= f.LIMIT or sequence == 0:
        return None
    return Record(sequence, header_sequence, generation, raw[56:72], counter, raw[80:112], raw[112:144], raw)


def newest(file, header):
    if len(file) < FILE_SIZE:
        raise Refuse("anchor-damaged", f"{len(file)} bytes")
    records = [parse(bytes(file[at : at + RECORD_SIZE]), header) for at in PLACES]
    records = [record for record in records if record]
    if not records:
        raise Refuse("anchor-damaged", "no record verifies")
    first, last = records[0], records[-1]
    if first.sequence == last.sequence and first.raw != last.raw:
        raise Refuse("anchor-damaged", f"two records of sequence {first.sequence}")
    return max(records, key=lambda record: record.sequence)


def check_counter(record, counter):
    if counter is None:
        if record.counter:
            raise Refuse("anchor-counter", f"the record goes with a counter, which was at {record.counter}")
    elif record.counter < counter:
        raise Refuse("anchor-rolled-back", f"the record has {record.counter}, the counter {counter}")
    elif record.counter > counter + 1:
        raise Refuse("anchor-damaged", f"the record has {record.counter}, the counter {counter}")


def check_lineage(header, record):
    """Rules 2 and 3: the record is of an epoch that the header descends from, and of one that didn't go further."""
    older = header.lineage[:-1] + ([header.anchored] if header.anchored else [])
    if record.lineage == header.lineage[-1].value:
        return
    found = next((entry for entry in older if entry.value == record.lineage), None)
    if found is None:
        raise Refuse("forked", "the header does not descend from the record's epoch")
    if found.ended < record.generation:
        raise Refuse("forked", f"that epoch ended at generation {found.ended}, the record has {record.generation}")


def compare(volume, file, counter=None):
    """`current` or `ahead`, and the record that counts; Refuse otherwise."""
    header = volume.header
    record = newest(file, header)
    check_counter(record, counter)
    if header.sequence < record.header_sequence or header.generation < record.generation:
        raise Refuse("rolled-back", f"generation {header.generation}, the anchor {record.generation}")
    check_lineage(header, record)
    if header.sequence == record.header_sequence and header.epoch != record.epoch:
        raise Refuse("forked", f"header {header.sequence} is of another epoch")
    if header.generation == record.generation and header.root != record.root:
        raise Refuse("forked", f"generation {header.generation} is another")
    same = header.sequence == record.header_sequence and volume.generation == record.generation
    return ("current" if same else "ahead"), record
