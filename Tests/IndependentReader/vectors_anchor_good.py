"""Vectors of anchors that their image satisfies."""

import vnvram_anchor as a
import vnvram_format as f
from anchor_parts import ANCHORED, CLEAN, LEAPT, RECORDS, earlier, file, flip, other, record, vector
from vector_parts import OTHER_KEY


@vector("current", CLEAN, "the image's own header")
def current(h):
    return file(record(h))


@vector("current", CLEAN, "in the second place, beside something else")
def current_in_the_second_place(h):
    return file(bytes(range(256)), record(h))


@vector("current", CLEAN, "two records, of which the later is the image's")
def current_later_of_two(h):
    return file(record(h, 5), record(h, 4, header_sequence=h.sequence - 1, generation=h.generation - 1))


@vector("current", CLEAN, "a later record that was torn, which says more")
def current_beside_a_torn_one(h):
    return file(flip(record(h, 6, generation=h.generation + 1), 1999), record(h, 5))


@vector("current", CLEAN, "two records that are the same to the byte")
def current_twice(h):
    return file(record(h), record(h))


@vector("current", CLEAN, "beside one of a later sequence and another store")
def current_beside_another_store(h):
    return file(record(h, 9, key=f.Keys(OTHER_KEY, h.uuid)), record(h))


@vector("current", CLEAN, "in a file with bytes behind the anchor")
def current_in_a_longer_file(h):
    return file(record(h)) + b"behind"


@vector("current", CLEAN, "of sequence 2^63 - 1, among bytes that have no meaning")
def current_sequence_limit(h):
    made = bytearray(file(record(h, f.LIMIT - 1)))
    for at in (256, 65535, 65536 + 256, a.FILE_SIZE - 1):
        made[at] = 0xFF
    return bytes(made)


@vector("current", CLEAN, "of sequence 1")
def current_sequence_1(h):
    return file(record(h, 1))


@vector("current", CLEAN, "without a counter's value, with a counter that is at 0", 0)
def current_counter_0(h):
    return file(record(h))


@vector("current", CLEAN, "with the counter's value", 7)
def current_with_counter(h):
    return file(record(h, counter=7))


@vector("current", CLEAN, "one before the counter is incremented", 6)
def current_before_the_increment(h):
    return file(record(h, counter=7))


@vector("ahead", RECORDS, "the header's, and commits after it")
def ahead_by_records(h):
    return file(record(h))


@vector("ahead", CLEAN, "an earlier header of this epoch, of an earlier generation")
def ahead_by_a_header(h):
    return file(record(h, header_sequence=h.sequence - 1, generation=h.generation - 1, root=other(h.root)))


@vector("ahead", CLEAN, "an earlier header of this epoch and the same content")
def ahead_by_closing(h):
    return file(record(h, header_sequence=h.sequence - 1))


@vector("ahead", CLEAN, "the epoch before, at the generation of its last header")
def ahead_by_an_epoch(h):
    return file(earlier(h, h.lineage[-2], h.lineage[-2].ended))


@vector("ahead", CLEAN, "the epoch before, at an earlier generation")
def ahead_by_an_epoch_and_more(h):
    return file(earlier(h, h.lineage[-2], h.lineage[-2].ended - 1))


@vector("ahead", CLEAN, "the oldest epoch, in which nothing was written")
def ahead_by_two_epochs(h):
    return file(earlier(h, h.lineage[0], 0, header_sequence=1))


@vector("ahead", ANCHORED, "the oldest lineage entry that the header keeps")
def ahead_by_63_epochs(h):
    return file(earlier(h, h.lineage[0], h.lineage[0].ended))


@vector("ahead", ANCHORED, "an epoch that only anchored keeps, at the generation of its last header")
def ahead_by_anchored(h):
    return file(earlier(h, h.anchored, h.anchored.ended, header_sequence=7))


@vector("ahead", LEAPT, "an epoch that both the lineage and anchored have")
def ahead_by_both(h):
    assert h.anchored in h.lineage
    return file(earlier(h, h.anchored, h.anchored.ended, header_sequence=2))


@vector("ahead", CLEAN, "the same headerSequence and epoch, at an earlier generation")
def ahead_by_a_generation(h):
    return file(record(h, generation=h.generation - 1))
