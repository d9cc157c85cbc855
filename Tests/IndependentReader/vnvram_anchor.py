"""Anchor files (section 12 of FORMAT.md): the record that counts, and what it says of an image."""

from dataclasses import dataclass

import vnvram_format as f
from vnvram_format import get, is_zero, u32

MAGIC = b"vnvram-A"
FILE_SIZE = 32768
PLACES = (0, 16384)
RECORD_SIZE = 256

# The reasons of section 12; all with exit status 7.
STATUS = 7
REASONS = ("rolled-back", "forked", "anchor-missing", "anchor-damaged", "anchor-rolled-back")


class Refuse(Exception):
    """An image that its anchor refuses, or an anchor that is none."""

    def __init__(self, reason, where):
        assert reason in REASONS
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
    raw: bytes


def mac_input(digest, raw):
    return u32(6) + u32(0) + digest + bytes(raw[0:224])


def parse(raw, header):
    """The record in 256 bytes, or None where it does not verify or is not as section 12 says."""
    if raw[0:8] != MAGIC or get(raw, 8, 4) != 1 or raw[16:32] != header.uuid:
        return None
    if not is_zero(raw[12:16]) or not is_zero(raw[112:224]):
        return None
    if header.keys.mac(mac_input(header.digest, raw)) != raw[224:256]:
        return None
    numbers = [get(raw, at, 8) for at in (32, 40, 48, 72)]
    if max(numbers) >= 1 << 63:
        return None
    return Record(numbers[0], numbers[1], numbers[2], raw[56:72], numbers[3], raw[80:112], raw)


def newest(file, header):
    if len(file) < FILE_SIZE:
        raise Refuse("anchor-damaged", f"{len(file)} bytes")
    records = [parse(bytes(file[at : at + RECORD_SIZE]), header) for at in PLACES]
    records = [record for record in records if record]
    if not records:
        raise Refuse("anchor-damaged", "no record verifies")
    return max(records, key=lambda record: record.sequence)


def check_counter(record, counter):
    if record.counter < counter:
        raise Refuse("anchor-rolled-back", f"the record has {record.counter}, the counter {counter}")
    if record.counter > counter + 1:
        raise Refuse("anchor-damaged", f"the record has {record.counter}, the counter {counter}")


def compare(volume, file, counter=None):
    """`current` or `ahead`, and the record that counts; Refuse otherwise."""
    header = volume.header
    record = newest(file, header)
    if counter is not None:
        check_counter(record, counter)
    if header.sequence < record.header_sequence or header.generation < record.generation:
        raise Refuse("rolled-back", f"generation {header.generation}, the anchor {record.generation}")
    same = (header.generation, header.root, header.epoch) == (record.generation, record.root, record.epoch)
    if header.sequence == record.header_sequence:
        if not same:
            raise Refuse("forked", f"header {header.sequence} is another")
        return ("current" if volume.generation == record.generation else "ahead"), record
    if header.generation == record.generation and header.root != record.root:
        raise Refuse("forked", f"generation {header.generation} is another")
    return "ahead", record
