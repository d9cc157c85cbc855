"""Bad vectors: images whose journal, tree or sectors are wrong under headers that are right."""

import vnvram_format as f
from builder_parts import encode_stream, put
from vector_parts import (
    ENTRIES,
    bad,
    change,
    closed,
    contents,
    edits,
    flip,
    in_ring,
    opened,
    register_bad,
    small,
)
from vectors_journal_good import lookalikes
from vnvram_format import u32, u64

# The journal: a record behind the end


@bad("journal", "the second of three records lost a bit of its head")
def journal_gap_head(seed):
    builder = opened(seed)
    change(builder)
    second = change(builder)
    change(builder)
    flip(builder, in_ring(builder, second + 16))
    return builder


@bad("journal", "the first of two records lost a bit of its payload")
def journal_gap_payload(seed):
    builder = opened(seed)
    first = change(builder)
    change(builder)
    flip(builder, in_ring(builder, first + 4096 + 80))
    return builder


@bad("journal", "the first record is gone; the second lies behind the end of the ring")
def journal_gap_wrapped(seed):
    builder = opened(seed, ring_position=63 * 4096)
    first = change(builder)
    second = change(builder)
    assert second == 4096
    put(builder.image, in_ring(builder, first), bytes(4096))
    return builder


@bad("journal", "at the very place of the next record lies one with a later sequence")
def journal_later_in_place(seed):
    builder = opened(seed)
    builder.sequence += 1
    change(builder)
    return builder


@bad("journal", "a later record far behind the end, in the last two blocks before the first record")
def journal_later_far(seed):
    builder = opened(seed, ring_position=8 * 4096)
    change(builder)
    builder.write_position = 6 * 4096
    builder.sequence += 1 << 40
    change(builder)
    return builder


@bad("journal", "a later record behind one of which the payload was torn, whose payload does not verify either")
def journal_two_torn(seed):
    builder = opened(seed)
    change(builder)
    for _ in range(2):
        flip(builder, in_ring(builder, change(builder) + 4096))
    return builder


@bad("journal", "a later record in the middle of a torn one")
def journal_later_within(seed):
    builder = opened(seed)
    start = change(builder)
    flip(builder, in_ring(builder, start + 4096))
    builder.write_position = start + 4096
    change(builder)
    return builder


@bad("journal", "more than the ring's size to hash of what looks like records")
def journal_lookalikes(seed):
    builder = opened(seed, sector_count=200)
    blocks = builder.geometry.ring_size // 4096
    lookalikes(builder, blocks, 200)
    assert blocks * 8128 > 1.5 * builder.geometry.ring_size
    return builder


# The journal: a record of the expected sequence that no writer makes. Its MAC is right, and its payloads verify.


def wrong_record(name, about, *changes, sectors=1, **more):
    def make(seed):
        builder = opened(seed, sector_count=sectors)
        change(builder, edit=edits(*changes) if changes else None, **more)
        return builder

    register_bad("record-" + name, "journal", about, make)


wrong_record("generation", "a commit that adds two to the generation", (24, u64(2)))
wrong_record("generation-same", "a commit that adds nothing to the generation", (24, u64(0)))
wrong_record("previous", "another MAC of the record before", (48, b"\x01"))
wrong_record("reserved-88", "reserved bytes at 88 of a record", (88, b"\x01"))
wrong_record("reserved-127", "reserved bytes at 127 of a record", (127, b"\x80"))
wrong_record("sector-outside", "a sector that the store doesn't have", (128, u64(1)))
wrong_record("sector-huge", "sector 2^64 - 1", (128, b"\xff" * 8))
wrong_record("leaf-epoch", "keyEpoch 2 in a leaf of a record", edit_leaf=edits((24, u32(2))))
wrong_record("leaf-reserved", "reserved bytes in a leaf of a record", edit_leaf=edits((28, u32(1))))


@bad("journal", "the second record has the chain of the header in place of the first record's MAC")
def record_previous_second(seed):
    builder = opened(seed)
    change(builder)
    change(builder, edit=edits((48, bytes(32))))
    return builder


@bad("journal", "a record that is wrong and whose payload does not verify, either")
def record_wrong_and_torn(seed):
    builder = opened(seed)
    start = change(builder, edit=edits((88, b"\x01")))
    flip(builder, in_ring(builder, start + 4096))
    return builder


def two_entries(name, about, order):
    def make(seed):
        builder = opened(seed, sector_count=2)
        sealed = [(sector, *builder.seal(sector, bytes(4096))) for sector in order]
        builder.append([u64(sector) + leaf for sector, leaf, _ in sealed], [data for _, _, data in sealed], 1)
        return builder

    register_bad("record-" + name, "journal", about + ", all payloads verify", make)


two_entries("sector-twice", "one sector twice in a record", (0, 0))
two_entries("order", "entries in descending order", (1, 0))


@bad("journal", "records of one block more than the ring has; the last payload is the very head of the first")
def record_over_ring(seed):
    builder = opened(seed, sector_count=31)
    change(builder)
    sectors, nonces = builder.hollow(contents(builder))
    builder.commit({i: sectors[i] for i in range(30)}, nonces=nonces)
    assert builder.write_position == 63 * 4096
    head = bytes(builder.image[f.RING_OFFSET : f.RING_OFFSET + 4096])
    builder.commit({30: builder.keys.decrypt(30, nonces[30], head)}, nonces=nonces)
    return builder


@bad("journal", "a record of sequence 2^63")
def record_sequence_limit(seed):
    builder = closed(seed)
    builder.next_sequence = builder.sequence = f.LIMIT - 1
    builder.write_headers()
    builder.open()
    change(builder)
    change(builder)
    return builder


@bad("journal", "a record of generation 2^63")
def record_generation_limit(seed):
    builder = closed(seed)
    builder.header_generation = builder.generation = f.LIMIT - 1
    builder.reroot().open()
    change(builder)
    return builder


# The tree


@bad("tree", "one bit of a leaf")
def tree_leaf_bit(seed):
    builder = closed(seed)
    flip(builder, builder.geometry.table_offset(0) + 3)
    return builder


@bad("tree", "one bit of a leaf of table 1, which counts")
def tree_leaf_bit_1(seed):
    builder = opened(seed)
    change(builder)
    builder.close()
    flip(builder, builder.geometry.table_offset(1) + 3)
    return builder


@bad("tree", "the header names the other table, which is an earlier state")
def tree_other_table(seed):
    builder = opened(seed)
    change(builder)
    builder.checkpoint()
    builder.leaf_table = 0
    builder.write_headers()
    return builder


@bad("tree", "the root is that of another generation")
def tree_generation(seed):
    builder = closed(seed)
    builder.root = builder.table_root(generation=1)
    builder.write_headers()
    return builder


@bad("tree", "a sector and its leaf rolled back together, each of them right")
def tree_rolled_back(seed):
    builder = closed(seed)
    leaf, data = builder.table[:32], bytes(builder.image[builder.geometry.data_offset :])
    change(builder.open())
    builder.close()
    builder.put_leaf(0, leaf)
    builder.put_data(0, data)
    return builder


@bad("tree", "the last byte of the leaf table, under the right root")
def tree_tail(seed):
    builder = closed(seed)
    flip(builder, builder.geometry.table_offset(1) - 1)
    return builder.reroot()


@bad("tree", "the first byte after the last leaf, under the right root")
def tree_tail_first(seed):
    builder = closed(seed)
    flip(builder, builder.geometry.table_offset(0) + f.LEAF_SIZE)
    return builder.reroot()


@bad("tree", "the second and third block of the leaf table exchanged")
def tree_blocks_swapped(seed):
    builder = closed(seed, sector_count=384)
    at = builder.geometry.table_offset(0)
    first, second = (bytes(builder.image[at + j * 4096 : at + (j + 1) * 4096]) for j in (1, 2))
    put(builder.image, at + 4096, second + first)
    return builder


@bad("tree", "a leaf that a commit replaces must still be the one under the header's root")
def tree_under_commit(seed):
    builder = opened(seed)
    change(builder)
    flip(builder, builder.geometry.table_offset(0))
    return builder


@bad("tree", "the leaves of the records that count are in the table already: it is not the header's")
def tree_ahead(seed):
    builder = opened(seed)
    change(builder)
    builder.put_in_place(1)
    other = builder.geometry.table_offset(1)
    put(builder.image, builder.geometry.table_offset(0), bytes(builder.image[other : other + 4096]))
    return builder


# Sectors


@bad("sector", "one bit of a sector")
def sector_bit(seed):
    builder = closed(seed)
    flip(builder, builder.geometry.data_offset + 700)
    return builder


@bad("sector", "the last bit of the last sector")
def sector_last_bit(seed):
    builder = closed(seed, block_size=65536, sector_count=2)
    flip(builder, builder.geometry.image_size - 1, 128)
    return builder


@bad("sector", "two sectors and their leaves exchanged, under the right root")
def sectors_swapped(seed):
    builder = small(seed, sector_count=2).format(encode_stream(ENTRIES))
    at = builder.geometry.data_offset
    first, second = (bytes(builder.image[at + i * 4096 : at + (i + 1) * 4096]) for i in (0, 1))
    put(builder.image, at, second + first)
    leaves = builder.table
    builder.put_leaf(0, leaves[32:64])
    builder.put_leaf(1, leaves[:32])
    return builder.reroot()


@bad("sector", "an earlier ciphertext of a sector in place")
def sector_rolled_back(seed):
    builder = closed(seed)
    data = bytes(builder.image[builder.geometry.data_offset :])
    change(builder.open())
    builder.close()
    builder.put_data(0, data)
    return builder


@bad("sector", "a sector of which the journal has none, beside one that it has")
def sector_beside_record(seed):
    builder = opened(seed, sector_count=2)
    change(builder, 0)
    flip(builder, builder.geometry.image_size - 1)
    return builder


def wrong_leaf(name, about, *changes, edit=None):
    def make(seed):
        builder = small(seed)
        return builder.format(encode_stream(ENTRIES), edit_leaf=edit or edits(*changes))

    register_bad("leaf-" + name, "sector", about + ", under the right root", make)


wrong_leaf("key-epoch", "keyEpoch 2 in a leaf", (24, u32(2)))
wrong_leaf("key-epoch-0", "keyEpoch 0 in a leaf", (24, u32(0)))
wrong_leaf("reserved", "reserved bytes in a leaf", (28, u32(1)))
wrong_leaf("reserved-last", "the last byte of a leaf", (31, b"\x80"))
wrong_leaf("nonce", "one bit of a leaf's nonce", edit=lambda leaf: put(leaf, 16, bytes([leaf[16] ^ 1])))


@bad("sector", "keyEpoch 2 in a leaf of the table that counts, though a record replaces it")
def leaf_under_record(seed):
    builder = small(seed).format(encode_stream(ENTRIES), edit_leaf=edits((24, u32(2)))).open()
    builder.commit(builder.sectors_of(encode_stream(ENTRIES)))
    return builder
