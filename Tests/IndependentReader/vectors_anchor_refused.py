"""Vectors of anchors that refuse their image, and of anchors that are none."""

import vnvram_format as f
from anchor_parts import ANCHORED, CLEAN, LEAPT, RECORDS, VECTORS, earlier, file, flip, other, record, vector
from vector_parts import OTHER_KEY


@vector("rolled-back", CLEAN, "a later header of the same generation")
def rolled_back_by_a_header(h):
    return file(record(h, header_sequence=h.sequence + 1))


@vector("rolled-back", CLEAN, "an earlier header with a later generation")
def rolled_back_by_a_generation(h):
    return file(record(h, header_sequence=h.sequence - 1, generation=h.generation + 1))


@vector("rolled-back", RECORDS, "a generation that only the records reach")
def rolled_back_by_headers_alone(h):
    return file(record(h, header_sequence=h.sequence + 1, generation=h.generation + 3))


@vector("rolled-back", CLEAN, "two records, of which the later says more")
def rolled_back_by_the_later(h):
    return file(record(h, 5), record(h, 6, header_sequence=h.sequence + 1))


@vector("forked", CLEAN, "the same header and generation with another root")
def forked_root(h):
    return file(record(h, root=other(h.root)))


@vector("forked", CLEAN, "the same header and generation in another epoch")
def forked_epoch(h):
    return file(record(h, epoch=other(h.epoch)))


@vector("forked", CLEAN, "an earlier header of the same generation with another root")
def forked_content(h):
    return file(record(h, header_sequence=h.sequence - 1, root=other(h.root)))


@vector("forked", CLEAN, "a lineage value that the header does not know, everything else the same")
def forked_lineage(h):
    return file(record(h, lineage=other(h.lineage[-1].value)))


@vector("forked", CLEAN, "an earlier header of an epoch that the header does not descend from")
def forked_lineage_earlier(h):
    return file(record(h, header_sequence=1, generation=0, lineage=other(h.lineage[0].value)))


@vector("forked", CLEAN, "a lineage value of zeros, where anchored is absent")
def forked_lineage_zero(h):
    assert h.anchored is None
    return file(record(h, header_sequence=1, generation=0, lineage=bytes(32)))


@vector("forked", CLEAN, "the epoch before, which went on for one generation after its last header here")
def forked_further(h):
    return file(earlier(h, h.lineage[-2], h.lineage[-2].ended + 1))


@vector("forked", CLEAN, "the oldest epoch, which went on for one generation")
def forked_further_oldest(h):
    return file(earlier(h, h.lineage[0], 1, header_sequence=1))


@vector("forked", ANCHORED, "an epoch that only anchored keeps, which went on for one generation")
def forked_further_anchored(h):
    return file(earlier(h, h.anchored, h.anchored.ended + 1, header_sequence=7))


@vector("forked", LEAPT, "the epoch before the leap, which went further than its image")
def forked_leapt(h):
    return file(earlier(h, h.lineage[-3], h.lineage[-3].ended + 1, header_sequence=3))


@vector("forked", LEAPT, "the epoch that the leap ended, at a generation between its last and the one leapt to")
def forked_leapt_over(h):
    assert h.lineage[-2].ended + 1000 < h.generation
    return file(earlier(h, h.lineage[-2], h.lineage[-2].ended + 1000))


@vector("forked", CLEAN, "another epoch under the newest lineage value, in the same header")
def forked_epoch_alone(h):
    return file(record(h, epoch=bytes(16)))


@vector("anchor-damaged", CLEAN, "another magic")
def damaged_magic(h):
    return file(record(h, edit=(0, b"vnvram-B")))


@vector("anchor-damaged", CLEAN, "another version")
def damaged_version(h):
    return file(record(h, edit=(8, f.u32(1))))


@vector("anchor-damaged", CLEAN, "a version to come")
def damaged_version_3(h):
    return file(record(h, edit=(8, f.u32(3))))


@vector("anchor-damaged", CLEAN, "reserved bytes after the version")
def damaged_reserved_12(h):
    return file(record(h, edit=(15, b"\x01")))


@vector("anchor-damaged", CLEAN, "reserved bytes after the lineage value")
def damaged_reserved_144(h):
    return file(record(h, edit=(144, b"\x01")))


@vector("anchor-damaged", CLEAN, "reserved bytes before the MAC")
def damaged_reserved_223(h):
    return file(record(h, edit=(223, b"\x01")))


@vector("anchor-damaged", CLEAN, "sequence 0")
def damaged_sequence_0(h):
    return file(record(h, 0))


def number_limit(name, at):
    def make(h):
        return file(record(h, edit=(at, f.u64(f.LIMIT))))

    VECTORS["damaged-limit-" + name] = ("anchor-damaged", CLEAN, f"{name} 2^63", None, make)


for number, place in (("sequence", 32), ("header-sequence", 40), ("generation", 48), ("counter", 72)):
    number_limit(number, place)


@vector("anchor-damaged", CLEAN, "two records of one sequence that differ, the first of which is the image's")
def damaged_same_sequence(h):
    return file(record(h), record(h, header_sequence=h.sequence - 1))


@vector("anchor-damaged", CLEAN, "two records of one sequence that differ in the counter alone", 7)
def damaged_same_sequence_counter(h):
    return file(record(h, counter=7), record(h, counter=8))


@vector("anchor-damaged", CLEAN, "cut short behind the second record, which is whole")
def damaged_short_behind_records(h):
    return file(b"", record(h))[: 65536 + 256]


@vector("anchor-damaged", CLEAN, "another store's UUID")
def damaged_uuid(h):
    return file(record(h, uuid=other(h.uuid)))


@vector("anchor-damaged", CLEAN, "a MAC over another kind of input")
def damaged_kind(h):
    return file(record(h, kind=4))


@vector("anchor-damaged", CLEAN, "a MAC over another geometry")
def damaged_geometry(h):
    return file(record(h, digest=other(h.digest)))


@vector("anchor-damaged", CLEAN, "a MAC under another store's key")
def damaged_key(h):
    return file(record(h, key=f.Keys(OTHER_KEY, h.uuid)))


@vector("anchor-damaged", CLEAN, "a MAC with one bit flipped")
def damaged_mac(h):
    return file(flip(record(h), 2047))


@vector("anchor-damaged", CLEAN, "records in the wrong places")
def damaged_places(h):
    return file(bytes(256) + record(h), bytes(256) + record(h))


@vector("anchor-damaged", CLEAN, "nothing but zeros")
def damaged_empty(h):
    return file()


@vector("anchor-damaged", CLEAN, "cut short by a byte")
def damaged_short(h):
    return file(record(h))[:-1]


@vector("anchor-damaged", CLEAN, "an empty file")
def damaged_no_bytes(_):
    return b""


@vector("anchor-damaged", CLEAN, "an anchor of version 1, of 32768 bytes")
def damaged_version_1_file(h):
    made = bytearray(32768)
    made[0:256] = record(h, edit=(8, f.u32(1)))
    return bytes(made)


@vector("anchor-counter", CLEAN, "a record that goes with a counter, and no counter")
def counter_not_named(h):
    return file(record(h, counter=7))


@vector("anchor-counter", CLEAN, "a record that goes with a counter, and says more than the image does")
def counter_not_named_and_rolled_back(h):
    return file(record(h, counter=1, header_sequence=h.sequence + 1))


@vector("anchor-rolled-back", CLEAN, "behind its counter, and it says more than the image does", 8)
def counter_behind_and_rolled_back(h):
    return file(record(h, counter=7, header_sequence=h.sequence + 1))


@vector("rolled-back", CLEAN, "at its counter, of a later header", 7)
def rolled_back_with_counter(h):
    return file(record(h, counter=7, header_sequence=h.sequence + 1))


@vector("rolled-back", CLEAN, "of a later header and a lineage that the image does not know: *rolled-back* comes first")
def rolled_back_and_forked(h):
    return file(record(h, header_sequence=h.sequence + 1, lineage=other(h.root)))


@vector("anchor-rolled-back", CLEAN, "behind its counter", 8)
def counter_behind(h):
    return file(record(h, counter=7))


@vector("anchor-rolled-back", CLEAN, "without a counter, beside one", 1)
def counter_absent(h):
    return file(record(h))


@vector("anchor-damaged", CLEAN, "two ahead of its counter", 5)
def counter_two_ahead(h):
    return file(record(h, counter=7))
