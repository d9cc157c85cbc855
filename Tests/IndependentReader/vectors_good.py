"""Good vectors: each returns a builder, and the line of the credential that opens it."""

import image_builder as b
import vnvram_format as f
from image_builder import ImageBuilder, SlotSpec, put
from vector_parts import BY_KEY, CHANGED, ENTRIES, OTHER_KEY, PASS, RECOVERY_KEY, change_one, closed, good, keyring, small

@good
def clean_4096(seed):
    """4096-byte sectors, closed cleanly, never opened since it was formatted"""
    builder = ImageBuilder(seed, [keyring()], sector_count=2)
    return builder.format(b.encode_stream(ENTRIES)), BY_KEY


@good
def clean_512(seed):
    """512-byte sectors in blocks of 4096; opened, written, closed; a name in two spellings of é, which differ in bytes"""
    builder = small(seed, sector_count=3)
    entries = ENTRIES + [("caf\u00e9", 1, b""), ("cafe\u0301", 2, b"ab")]
    builder.format(b.encode_stream(entries)).open()
    builder.commit({1: builder.sectors_of(b.encode_stream(entries))[1]})
    return builder.close(), BY_KEY


@good
def clean_blocks_16384(seed):
    """512-byte sectors in blocks of 16384, and slots 0, 7 and 15"""
    slots = [keyring("one", index=0), SlotSpec(f.KEYRING, "two", OTHER_KEY, index=7), keyring("three", index=15)]
    return closed(seed, slots, block_size=16384), ("key", OTHER_KEY.hex())


@good
def empty_stream(seed):
    """no entries at all: the smallest store there is, one sector of 512 bytes"""
    return small(seed, sector_count=1).format(b.encode_stream([])), BY_KEY


@good
def padding(seed):
    """entries that are aligned, and whose padding has headers of every size; one whose content ends at its capacity"""
    entries = [
        ("first", 3000, b"1"),
        ("aligned", 4096, b"2" * 4096),
        ("little", 3826, b""),
        ("near", 4096, b"3" * 77),
        ("next", 5000, b"4"),
    ]
    builder = ImageBuilder(seed, [keyring()], sector_count=7)
    return builder.format(b.encode_stream(entries)), BY_KEY


@good
def three_records(seed):
    """not closed cleanly: three commits to replay, the last of a sector that the first wrote too"""
    builder = ImageBuilder(seed, [keyring()], sector_size=512, sector_count=2).format(b.encode_stream(ENTRIES)).open()
    old, new = builder.sectors_of(b.encode_stream(ENTRIES)), builder.sectors_of(b.encode_stream(CHANGED))
    builder.commit({0: old[0]})
    builder.commit({1: new[1]})
    builder.commit({0: new[0]})
    return builder, BY_KEY


@good
def wrap_around(seed):
    """the first record crosses the end of the ring; the second lies at its start"""
    builder = ImageBuilder(seed, [keyring()], sector_count=2, ring_position=f.SMALLEST_RING - 4096)
    builder.format(b.encode_stream(ENTRIES)).open()
    builder.commit(change_one(builder))
    builder.commit({1: builder.sectors_of(b.encode_stream(CHANGED))[1]})
    return builder, BY_KEY


@good
def torn_last_record(seed):
    """two commits count; of the third the payload did not arrive, and behind it lies a record of an earlier opening"""
    builder = closed(seed).open()
    for _ in range(4):
        stale = builder.commit(change_one(builder))
    assert stale == 3 * 4096
    earlier = bytes(builder.image[f.RING_OFFSET + stale : f.RING_OFFSET + stale + 4096])
    builder = closed(seed).open()
    builder.epoch = builder.random.bytes(16)
    builder.write_headers()
    builder.commit(change_one(builder))
    builder.commit(change_one(builder))
    third = builder.commit(change_one(builder))
    put(builder.image, f.RING_OFFSET + third + 192 + 80, bytes(1024))
    put(builder.image, f.RING_OFFSET + stale, earlier)
    return builder, BY_KEY


@good
def stale_record(seed):
    """nothing to replay: where the next record would be lies one of the same opening with a lower sequence"""
    builder = closed(seed).open()
    first = builder.commit(change_one(builder))
    builder.checkpoint()
    builder.ring_position = builder.write_position = first
    builder.header_sequence += 1
    builder.write_headers()
    return builder, BY_KEY


@good
def checkpoint_after_record(seed):
    """power went after a checkpoint's record of images; leaf and data blocks in place are torn"""
    builder = closed(seed).open()
    builder.commit({0: change_one(builder)[0]})
    builder.images()
    put(builder.image, builder.geometry.leaf_offset, b"torn" * 8)
    put(builder.image, builder.geometry.data_offset, b"torn" * 256)
    return builder, BY_KEY


@good
def checkpoint_then_commits(seed):
    """a checkpoint's record, commits after it, then power went half-way through the overwriting"""
    builder = ImageBuilder(seed, [keyring()], sector_count=2).format(b.encode_stream(ENTRIES)).open()
    builder.commit({0: change_one(builder)[0]})
    builder.images()
    builder.commit({1: change_one(builder)[1]})
    builder.overwrite()
    put(builder.image, builder.geometry.leaf_offset, b"torn" * 4)
    return builder, BY_KEY


@good
def two_checkpoints(seed):
    """a recovery that was cut short too: two records of images in one journal, with commits between them"""
    builder = closed(seed).open()
    builder.commit({0: change_one(builder)[0]})
    builder.images()
    builder.commit({1: change_one(builder)[1]})
    builder.images()
    put(builder.image, builder.geometry.leaf_offset, bytes(4096))
    return builder, BY_KEY


@good
def checkpoint_one_header(seed):
    """a checkpoint complete but for header copy A: B is newer, and not clean"""
    builder = closed(seed).open()
    builder.commit(change_one(builder))
    builder.images()
    builder.overwrite()
    builder.adopt()
    builder.write_headers((1,))
    return builder, BY_KEY


@good
def closing_one_header(seed):
    """closing complete but for header copy B: A is newer, and clean"""
    builder = closed(seed).open()
    builder.commit(change_one(builder))
    return builder.close(copies=(0,)), BY_KEY


@good
def header_b_torn(seed):
    """formatting or closing cut short in header copy B: its second block is garbage"""
    builder = closed(seed)
    put(builder.image, f.HEADER_OFFSETS[1] + 4096, b"garbage!" * 2)
    return builder, BY_KEY


@good
def header_a_torn(seed):
    """opening cut short in header copy A: only B is valid, and it is not clean"""
    builder = closed(seed).open()
    put(builder.image, f.HEADER_OFFSETS[0], b"garbage!" * 2)
    return builder, BY_KEY


@good
def recovery_slot(seed):
    """opened with a recovery key, which lies behind a keyring key's slot"""
    slots = [keyring(), SlotSpec(f.RECOVERY, "drawer", RECOVERY_KEY)]
    return closed(seed, slots), ("recovery", f.recovery_text(RECOVERY_KEY))


@good
def passphrase_slot(seed):
    """opened with a passphrase at the smallest cost"""
    slots = [keyring(), SlotSpec(f.PASSPHRASE, "admin", PASS.encode(), costs=(10, 1, 1))]
    return closed(seed, slots), ("passphrase", PASS)


@good
def longer_file(seed):
    """bytes after the image's end, and in every place that section 7 lists as unused"""
    builder = closed(seed)
    for offset in (8192, 16383, 24576, 32767, f.RING_OFFSET, builder.geometry.image_size - 1):
        builder.image[offset] = 0xFF
    builder.image += b"after the end"
    return builder, BY_KEY
