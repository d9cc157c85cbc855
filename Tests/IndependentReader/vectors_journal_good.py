"""Good vectors of what is not closed cleanly: records that count, and what a power cut leaves beside them."""

import vnvram_format as f
from builder_parts import put
from vector_parts import BY_KEY, change, closed, edits, flip, good, in_ring, opened, register_good
from vnvram_format import u32, u64


@good("opened, and nothing written")
def opened_only(seed):
    return opened(seed), BY_KEY


@good("three commits to replay, the last of a sector that the first wrote too")
def three_records(seed):
    builder = opened(seed, sector_count=2)
    change(builder, 0, b"first")
    change(builder, 1)
    change(builder, 0, b"third")
    return builder, BY_KEY


@good("a commit of every sector")
def record_of_all(seed):
    builder = opened(seed, sector_count=3)
    change(builder)
    return builder, BY_KEY


@good("two commits of every sector fill the ring, which is as small as section 1 has it")
def ring_full(seed):
    builder = opened(seed, sector_count=40)
    change(builder)
    change(builder)
    assert builder.write_position == 0
    return builder, BY_KEY


@good("the ring's last block holds the head of the first record; its payload and the second record lie at the start")
def wrap_around(seed):
    builder = opened(seed, sector_count=2, ring_position=64 * 4096 - 4096)
    change(builder)
    change(builder, 1)
    return builder, BY_KEY


@good("the entries of a record cross the end of the ring")
def wrap_entries(seed):
    g = f.Geometry(4096, 100)
    builder = opened(seed, sector_count=100, ring_position=g.ring_size - 4096)
    change(builder)
    assert 160 + 40 * 100 > 4096
    return builder, BY_KEY


@good("blocks of 65536 bytes: a record whose payload goes on at the ring's start, and one more")
def wrap_65536(seed):
    builder = opened(seed, block_size=65536, sector_count=2, ring_position=62 * 65536)
    change(builder)
    change(builder, 0, b"again")
    return builder, BY_KEY


@good("the last record brings sequence and generation to 2^63 - 1")
def record_numbers_limit(seed):
    builder = closed(seed)
    builder.next_sequence = builder.sequence = f.LIMIT - 1
    builder.header_generation = builder.generation = f.LIMIT - 2
    builder.reroot().open()
    change(builder)
    return builder, BY_KEY


# A power cut within a commit


@good("two commits count; of the third the payload did not arrive, and behind it lies a record of an earlier opening")
def torn_payload(seed):
    builder = opened(seed)
    for _ in range(4):
        change(builder)
    builder.begin_epoch()
    builder.header_sequence += 1
    builder.write_position, builder.sequence, builder.last_mac, builder.generation = 0, 1, bytes(32), 0
    builder.write_headers()
    for _ in range(3):
        third = change(builder)
    put(builder.image, in_ring(builder, third + 4096 + 80), b"torn" * 40)
    return builder, BY_KEY


@good("of the second record one bit of the MAC did not arrive")
def torn_mac(seed):
    builder = opened(seed)
    change(builder)
    second = change(builder)
    flip(builder, in_ring(builder, second + 128 + 40 + 31))
    return builder, BY_KEY


@good("of the second record one bit of an entry did not arrive")
def torn_entry(seed):
    builder = opened(seed)
    change(builder)
    second = change(builder)
    flip(builder, in_ring(builder, second + 128 + 20))
    return builder, BY_KEY


@good("where the next record would be lies one of the same opening with a lower sequence")
def stale_record(seed):
    builder = opened(seed)
    first = change(builder)
    builder.checkpoint()
    builder.ring_position = builder.write_position = first
    builder.header_sequence += 1
    builder.write_headers()
    return builder, BY_KEY


@good("a record of the expected sequence behind a gap was never acknowledged, and proves nothing")
def expected_behind_gap(seed):
    builder = opened(seed)
    builder.write_position += 4096
    change(builder)
    return builder, BY_KEY


@good("a later record of another epoch behind the end")
def other_epoch_behind(seed):
    builder = opened(seed)
    change(builder)
    builder.write_position += 8192
    builder.sequence += 5
    builder.epochs[-1].epoch = bytes(16)
    change(builder)
    return builder, BY_KEY


@good("a later record behind the end that lies elsewhere than its position says")
def other_position_behind(seed):
    builder = opened(seed)
    change(builder)
    builder.sequence += 1
    later = change(builder)
    at = in_ring(builder, later)
    put(builder.image, at + 12288, bytes(builder.image[at : at + 8192]))
    put(builder.image, at, bytes(8192))
    return builder, BY_KEY


@good("a later record behind the end with a MAC over the geometry of another store")
def other_geometry_behind(seed):
    builder = opened(seed)
    change(builder)
    builder.sequence += 1
    builder.digest, kept = bytes(32), builder.digest
    change(builder)
    builder.digest = kept
    return builder, BY_KEY


def no_record(name, about, *changes):
    """What has a MAC and a later sequence, and yet is no record: it proves nothing."""

    def make(seed):
        builder = opened(seed)
        change(builder)
        builder.sequence += 1
        change(builder, edit=edits(*changes))
        return builder, BY_KEY

    register_good("no-record-" + name, about + ", a later sequence and a MAC: not a record", make)


no_record("magic", "another magic", (0, b"vnvram-K"))
no_record("type", "type 2", (8, u32(2)))
no_record("type-0", "type 0", (8, u32(0)))


def no_record_of_count(name, count):
    """The MAC lies where the count says."""

    def make(seed):
        builder = opened(seed)
        change(builder)
        builder.sequence += 1
        entries = [u64(sector) + bytes(24) + u32(1) + bytes(4) for sector in range(count)]
        builder.append(entries, [bytes(4096)] * count, builder.generation + 1)
        return builder, BY_KEY

    register_good("no-record-" + name, f"count {count}, a later sequence and a MAC: not a record", make)


no_record_of_count("count-0", 0)
no_record_of_count("count-2", 2)  # of a store of one sector


@good("garbage in a record's padding, and in place of the sector that it replaces")
def record_padding(seed):
    builder = opened(seed)
    first = change(builder)
    put(builder.image, in_ring(builder, first + 128 + 40 + 32), b"garbage!" * 4)
    put(builder.image, in_ring(builder, first + 4088), b"garbage!")
    put(builder.image, builder.geometry.data_offset, b"garbage!")
    return builder, BY_KEY


def lookalikes(builder, blocks, count):
    """Blocks that look like records of this epoch until their MAC is computed."""
    for position in range(0, blocks * 4096, 4096):
        head = f.RECORD_MAGIC + u32(1) + u32(count) + u64(9) + u64(9) + builder.epoch + bytes(32) + u64(position)
        put(builder.image, f.RING_OFFSET + position, head)


@good("what looks like records takes less than the ring's size to hash")
def lookalikes_few(seed):
    builder = opened(seed, sector_count=200)
    lookalikes(builder, 100, 200)
    assert 100 * 8128 < builder.geometry.ring_size
    return builder, BY_KEY


# A power cut within a checkpoint


@good("a checkpoint's overwriting was cut short: the other table and the sectors in place are torn")
def checkpoint_torn(seed):
    builder = opened(seed, sector_count=2)
    change(builder)
    put(builder.image, builder.geometry.table_offset(1), b"torn" * 8)
    put(builder.image, builder.geometry.data_offset, b"torn" * 16)
    return builder, BY_KEY


@good("all of a checkpoint but its headers, with a commit that came between")
def checkpoint_no_header(seed):
    builder = opened(seed, sector_count=2)
    change(builder, 0)
    builder.put_in_place(1)
    change(builder, 1)
    return builder, BY_KEY


@good("a checkpoint complete but for header copy A: B is newer, not clean, and names the other table")
def checkpoint_one_header(seed):
    builder = opened(seed, sector_count=2)
    change(builder, 0)
    builder.put_in_place(1)
    change(builder, 1)
    builder.adopt(1)
    builder.write_headers((1,))
    return builder, BY_KEY


@good("two checkpoints and a commit: leaf table 0 counts again")
def two_checkpoints(seed):
    builder = opened(seed, sector_count=2)
    change(builder, 0)
    builder.checkpoint()
    change(builder, 1)
    builder.checkpoint()
    change(builder, 0, b"again")
    return builder, BY_KEY


# A power cut within an opening or a recovery


@good("opening complete but for header copy A: B is newer, and not clean")
def opening_one_header(seed):
    return closed(seed).open(copies=(1,)), BY_KEY


@good("opening cut short in header copy A: only B is valid, and it is not clean")
def header_a_torn(seed):
    builder = opened(seed)
    put(builder.image, f.HEADER_OFFSETS[0], b"garbage!" * 2)
    return builder, BY_KEY


@good("only A is valid, and it is not clean; a record to replay")
def header_b_torn_open(seed):
    builder = opened(seed)
    change(builder)
    put(builder.image, f.HEADER_OFFSETS[1] + 36000, b"garbage!")
    return builder, BY_KEY


def other_a(name, about, make_copy):
    def make(seed):
        builder = opened(seed)
        change(builder)
        put(builder.image, 0, make_copy(builder).ljust(f.HEADER_SIZE, b"\0"))
        return builder, BY_KEY

    register_good("header-a-" + name, about + " in place of copy A: copy B counts, which is not clean", make)


def unsealed(builder, *changes):
    raw = bytearray(builder.header(0))
    edits(*changes)(raw)
    return bytes(raw)


def without_magic(builder):
    return builder.header(0, edits((8, b"\0")))


other_a("zeros", "nothing", lambda _: b"")
other_a("version-1", "a magic of version 1", lambda _: f.MAGIC + u32(1))
other_a("version", "version 3, without its MAC", lambda builder: unsealed(builder, (20, u32(3))))
other_a("size", "other sizes, without their MAC", lambda builder: unsealed(builder, (64, u64(9))))
other_a("no-magic", "a MAC that verifies, over a magic that is not right", without_magic)


def recovering(seed, copies):
    builder = opened(seed, sector_count=2)
    change(builder, 0)
    change(builder, 1)
    change(builder, 0, b"in doubt")
    builder.append_last_again()
    builder.write_headers(copies)
    return builder


@good("recovery appended the last record again, and did not come to write its headers")
def recovery_no_header(seed):
    return recovering(seed, ()), BY_KEY


@good("recovery came to write header copy B: it begins with the record that was appended again")
def recovery_one_header(seed):
    return recovering(seed, (1,)), BY_KEY


@good("a recovery, and a commit after it")
def recovery(seed):
    builder = recovering(seed, (1, 0))
    change(builder, 1)
    return builder, BY_KEY


@good("two recoveries on each other of the only record there is")
def recovery_twice(seed):
    builder = opened(seed)
    change(builder)
    return builder.recover().recover(), BY_KEY
