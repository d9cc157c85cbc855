#!/usr/bin/env python3
"""Writes the vectors of Tests/Vectors/images anew; the same bytes each time.

Every bad vector breaks one rule and is otherwise consistent: where the rule concerns authenticated bytes, the MACs are
right, as one who holds the key could make them.
"""

import hashlib
import pathlib
import sys

import image_builder as b
import vector_file
import vnvram_format as f
import vnvram_reader as r
from image_builder import ImageBuilder, SlotSpec, der, put
from vnvram_format import u32, u64

DIRECTORY = pathlib.Path(__file__).resolve().parent.parent / "Vectors" / "images"

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


# Good. Each returns a builder, and how it opens: a credential line.

BY_KEY = ("key", KEY.hex())


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


# Bad: what is no image, and what is of another version


@bad("not-an-image", "zeros")
def not_image_zeros(seed):
    return bytearray(closed(seed).geometry.image_size)


@bad("not-an-image", "an empty file")
def not_image_empty(seed):
    return bytearray()


@bad("not-an-image", "the plain form where an encrypted image is expected")
def not_image_plain(seed):
    return bytearray(b.encode_stream(ENTRIES))


@bad("not-an-image", "one bit of the magic in both copies")
def not_image_magic(seed):
    builder = closed(seed)
    builder.edit_fixed(edits((7, b"\x0b")), rewrap=[keyring()])
    builder.reroot()
    return builder


def unsupported(name, about, *changes):
    def make(seed):
        builder = closed(seed)
        builder.edit_fixed(edits(*changes), rewrap=[keyring()])
        builder.reroot()
        return builder

    BAD[name] = ("unsupported-version", about, make)


unsupported("version-2", "version 2", (8, u32(2)))
unsupported("version-0", "version 0", (8, u32(0)))
unsupported("suite-2", "suite 2", (12, u32(2)))
unsupported("header-size-4096", "headerSize 4096", (16, u32(4096)))
unsupported("slot-count-8", "slotCount 8", (20, u32(8)))
unsupported("features-bit", "a feature that is not known", (104, u64(1)))


# Bad: keys


@bad("wrong-key", "a keyring key that opens no slot")
def key_another(seed):
    return closed(seed), ("key", OTHER_KEY.hex())


@bad("wrong-key", "the bytes of a recovery key offered as a keyring key")
def key_of_other_kind(seed):
    return closed(seed, [SlotSpec(f.RECOVERY, "drawer", KEY)])


@bad("wrong-key", "another passphrase")
def key_passphrase(seed):
    return closed(seed, [SlotSpec(f.PASSPHRASE, "admin", PASS.encode(), costs=(10, 1, 1))]), ("passphrase", PASS + "!")


@bad("wrong-key", "a slot moved to another index, the header's MAC computed anew")
def slot_moved(seed):
    builder = small(seed)
    builder.slots[1], builder.slots[0] = builder.slots[0], bytes(f.SLOT_SIZE)
    return builder.format(b.encode_stream(ENTRIES))


@bad("wrong-key", "a slot renamed, the header's MAC computed anew")
def slot_renamed(seed):
    builder = small(seed)
    builder.slots[0] = builder.slots[0][:132] + b"xm" + builder.slots[0][134:]
    return builder.format(b.encode_stream(ENTRIES))


@bad("wrong-key", "the slots of a store in a header with another UUID")
def slot_of_other_store(seed):
    builder = small(seed)
    builder.edit_fixed(edits((24, b"\x00" * 6)))
    return builder.format(b.encode_stream(ENTRIES))


def costs_beyond(name, about, costs):
    def make(seed):
        return closed(seed, [SlotSpec(f.PASSPHRASE, "admin", PASS.encode(), costs=costs)]), ("passphrase", PASS)

    BAD[name] = ("wrong-key", about, make)


costs_beyond("cost-n-small", "the only slot has log2N 9; its wrap is right", (9, 1, 1))
costs_beyond("cost-r-large", "the only slot has r 17; its wrap is right", (10, 17, 1))
costs_beyond("cost-p-large", "the only slot has p 9; its wrap is right", (10, 1, 9))


@bad("wrong-key", "the only slot has log2N 31 and must be refused before memory is taken for it")
def cost_n_large(seed):
    builder = closed(seed, [SlotSpec(f.PASSPHRASE, "admin", PASS.encode(), costs=(10, 1, 1))])
    builder.slots[0] = builder.slots[0][:8] + u32(31) + builder.slots[0][12:]
    builder.reroot()
    return builder, ("passphrase", PASS)


@bad("wrong-key", "the only slot has N and r within their limits and a product above 2^30")
def cost_product(seed):
    builder = closed(seed, [SlotSpec(f.PASSPHRASE, "admin", PASS.encode(), costs=(10, 1, 1))])
    builder.slots[0] = builder.slots[0][:8] + u32(20) + u32(9) + builder.slots[0][16:]
    builder.reroot()
    return builder, ("passphrase", PASS)


# Bad: geometry. The other fields are what the broken one gives, where anything is given at all.


def wrong_geometry(name, about, *changes, cut=0):
    def make(seed):
        builder = closed(seed)
        builder.edit_fixed(edits(*changes), rewrap=[keyring()])
        builder.reroot()
        return builder.image[: len(builder.image) - cut]

    BAD[name] = ("geometry", about, make)


_G = f.Geometry(512, 4096, 2)
wrong_geometry("sector-size-1024", "sectorSize 1024", (40, u32(1024)))
wrong_geometry("sector-size-0", "sectorSize 0", (40, u32(0)))
wrong_geometry("block-size-2048", "blockSize 2048", (44, u32(2048)))
wrong_geometry("block-size-32768", "blockSize 32768", (44, u32(32768)))
wrong_geometry("sector-count-0", "no sectors", (48, u64(0)))
wrong_geometry("sector-count-huge", "sectorCount 2^63", (48, u64(1 << 63)))
wrong_geometry("ring-offset", "ringOffset one block further", (56, u64(f.RING_OFFSET + 4096)))
wrong_geometry(
    "ring-size",
    "a ring one block smaller, everything after it one block earlier",
    (64, u64(_G.ring_size - 4096)),
    (72, u64(_G.leaf_offset - 4096)),
    (88, u64(_G.data_offset - 4096)),
    (96, u64(_G.image_size - 4096)),
)
wrong_geometry("leaf-offset", "the leaf table within the ring", (72, u64(_G.leaf_offset - 4096)))
wrong_geometry("leaf-size", "leafSize two blocks", (80, u64(8192)))
wrong_geometry("image-size", "imageSize one block more", (96, u64(_G.image_size + 4096)))
wrong_geometry("file-short", "the file is one byte shorter than the image", cut=1)
wrong_geometry("file-very-short", "the file ends after 8 bytes, which are the magic", cut=_G.image_size - 8)


def _too_many_sectors():
    g = f.Geometry(512, 4096, f.MAX_SECTORS + 1)
    changes = [(offset, value.to_bytes(length, "little")) for _, offset, length, value in g.header_fields()]
    wrong_geometry("sector-count-large", "2^20 + 1 sectors, all other fields to match", *changes)


_too_many_sectors()


# Bad: headers that verify


def wrong_header(name, about, *changes):
    def make(seed):
        builder = closed(seed)
        builder.write_headers(edit=edits(*changes))
        return builder

    BAD[name] = ("header", about, make)


wrong_header("header-copy-index", "both copies say that they are copy 2", (128, u32(2)))
wrong_header("header-flags", "a flag that is not known", (132, u32(3)))
wrong_header("header-reserved-188", "reserved bytes at 188", (188, u32(1)))
wrong_header("header-reserved-256", "reserved bytes at 256", (256, b"\x01"))
wrong_header("header-reserved-511", "reserved bytes at 511", (511, b"\x80"))
wrong_header("header-reserved-4608", "reserved bytes at 4608", (4608, b"\x01"))
wrong_header("header-reserved-8159", "reserved bytes at 8159", (8159, b"\x01"))
wrong_header("header-key-epoch", "keyEpoch 2", (184, u32(2)))
wrong_header("ring-position-unaligned", "ringPosition 512", (168, u64(512)))
wrong_header("ring-position-end", "ringPosition is ringSize", (168, u64(_G.ring_size)))


@bad("header", "reserved bytes at 112, everything else to match")
def header_reserved_112(seed):
    builder = closed(seed)
    builder.edit_fixed(edits((112, b"\x01")))
    builder.reroot()
    return builder


@bad("header", "one bit of the MAC in both copies")
def header_mac(seed):
    builder = closed(seed)
    for offset in f.HEADER_OFFSETS:
        flip(builder, offset + 8191)
    return builder


@bad("header", "one bit of the generation in both copies")
def header_generation(seed):
    builder = closed(seed)
    for offset in f.HEADER_OFFSETS:
        flip(builder, offset + 144)
    return builder


@bad("header", "copy A lies where B should be and B where A should be")
def header_copies_swapped(seed):
    builder = closed(seed)
    put(builder.image, f.HEADER_OFFSETS[0], builder.header(1))
    put(builder.image, f.HEADER_OFFSETS[1], builder.header(0))
    return builder


@bad("header", "a slot opens and gives a store key that is not the header's: no copy commits to it")
def header_other_store_key(seed):
    return closed(seed, [keyring(wraps=OTHER_KEY)])


def wrong_slot(name, about, slots):
    BAD[name] = ("header", about, lambda seed: closed(seed, slots))


def slot_edit(*changes):
    return [keyring(edit=edits(*changes))]


wrong_slot("slot-reserved-4", "reserved bytes at 4 of a slot", slot_edit((4, u32(1))))
wrong_slot("slot-reserved-20", "reserved bytes at 20 of a slot", slot_edit((20, u32(1))))
wrong_slot("slot-reserved-116", "reserved bytes at 116 of a slot", slot_edit((116, u32(1))))
wrong_slot("slot-reserved-252", "reserved bytes at 252 of a slot", slot_edit((252, u32(1))))
wrong_slot("slot-costs", "scrypt costs in a keyring key's slot", slot_edit((8, u32(10))))
wrong_slot("slot-name-empty", "a slot's name of no bytes", [keyring("")])
wrong_slot("slot-name-long", "nameLength 121", slot_edit((128, u32(121)), (132, b"n" * 120)))
wrong_slot("slot-name-control", "a control character in a slot's name", [keyring("v\x1bm")])
wrong_slot("slot-name-not-utf8", "a slot's name that is not UTF-8", [keyring(b"v\xffm")])
wrong_slot("slot-name-tail", "a byte after a slot's name", slot_edit((140, b"x")))
wrong_slot("slot-names-twice", "two slots with one name", [keyring(), SlotSpec(f.RECOVERY, "vm", RECOVERY_KEY)])
wrong_slot("slot-kind-4", "a second slot of a kind that is not known", [keyring(), SlotSpec(4, "new", OTHER_KEY)])
wrong_slot(
    "slot-cost-beside",
    "a second slot with p 9; the first opens",
    [keyring(), SlotSpec(f.PASSPHRASE, "admin", PASS.encode(), costs=(10, 1, 9))],
)


@bad("header", "an empty slot that is not all zeros")
def slot_empty_not_zero(seed):
    builder = small(seed)
    builder.slots[3] = bytes(255) + b"\x01"
    return builder.format(b.encode_stream(ENTRIES))


# Bad: pairs of copies that no power cut leaves


@bad("header-pair", "only copy B is valid, and it is clean")
def pair_only_b_clean(seed):
    builder = closed(seed)
    flip(builder, 8160)
    return builder


@bad("header-pair", "both valid, one sequence, two contents")
def pair_same_sequence(seed):
    builder = closed(seed)
    builder.epoch = builder.random.bytes(16)
    builder.write_headers((1,))
    return builder


@bad("header-pair", "the sequences differ by two")
def pair_two_apart(seed):
    builder = closed(seed)
    builder.open((1,))
    builder.header_sequence += 1
    builder.write_headers((1,))
    return builder


@bad("header-pair", "the newer is A and not clean")
def pair_a_newer_not_clean(seed):
    return closed(seed).open((0,))


@bad("header-pair", "the newer is B and clean")
def pair_b_newer_clean(seed):
    return closed(seed).open().close(copies=(1,))


@bad("header-pair", "the newer is A, and both are clean")
def pair_both_clean(seed):
    return closed(seed).close(copies=(0,))


@bad("header-pair", "copy A of one store and copy B of another under the same keys, one sequence later")
def pair_two_stores(seed):
    builder = closed(seed)
    builder.edit_fixed(edits((24, b"other!")), rewrap=[keyring()])
    return builder.open((1,))


# Bad: the journal


@bad("journal", "the second of three records lost a bit of its head")
def journal_gap_head(seed):
    builder = closed(seed).open()
    builder.commit(change_one(builder))
    second = builder.commit(change_one(builder))
    builder.commit(change_one(builder))
    flip(builder, f.RING_OFFSET + second + 16)
    return builder


@bad("journal", "the first of two records lost a bit of its payload")
def journal_gap_payload(seed):
    builder = closed(seed).open()
    first = builder.commit(change_one(builder))
    builder.commit(change_one(builder))
    flip(builder, f.RING_OFFSET + first + 192 + 80)
    return builder


@bad("journal", "the first record is gone; the second lies behind the end of the ring")
def journal_gap_wrapped(seed):
    builder = closed(seed, ring_position=f.SMALLEST_RING - 4096).open()
    first = builder.commit(change_one(builder))
    second = builder.commit(change_one(builder))
    assert second == 0
    put(builder.image, f.RING_OFFSET + first, bytes(4096))
    return builder


@bad("journal", "at the very place of the next record lies one with a later sequence")
def journal_later_in_place(seed):
    builder = closed(seed).open()
    builder.sequence += 1
    builder.commit(change_one(builder))
    return builder


def wrong_commit(name, about, *changes, edit=None, edit_leaf=None):
    def make(seed):
        builder = closed(seed).open()
        builder.commit(change_one(builder), edit=edit or edits(*changes), edit_leaf=edit_leaf)
        return builder

    BAD[name] = ("journal", about, make)


def entry_twice(authenticated):
    put(authenticated, 200, bytes(authenticated[160:200]))


wrong_commit("record-generation", "a commit that adds two to the generation", (24, u64(3)))
wrong_commit("record-previous", "another MAC of the record before", (48, b"\x01"))
wrong_commit("record-payload-size", "payloadSize one sector more", (88, u64(1536)))
wrong_commit("record-root", "a root in a commit", (96, b"\x01"))
wrong_commit("record-reserved", "reserved bytes in a record", (128, b"\x01"))
wrong_commit("record-sector-outside", "a sector that the store doesn't have", (160, u64(2)))
wrong_commit("record-leaf-epoch", "keyEpoch 2 in a leaf of a record", edit_leaf=edits((24, u32(2))))
wrong_commit("record-leaf-reserved", "reserved bytes in a leaf of a record", edit_leaf=edits((28, u32(1))))


@bad("journal", "one sector twice in a record, both payloads verify")
def record_sector_twice(seed):
    builder = closed(seed).open()
    changes = [builder.seal(0, plaintext) for plaintext in change_one(builder).values()]
    entries = [u64(0) + leaf for leaf, _ in changes]
    builder.append(f.COMMIT, entries, [ciphertext for _, ciphertext in changes], 2)
    return builder


@bad("journal", "entries in descending order, both payloads verify")
def record_order(seed):
    builder = closed(seed).open()
    changes = sorted(change_one(builder).items(), reverse=True)
    sealed = [(sector, *builder.seal(sector, plaintext)) for sector, plaintext in changes]
    builder.append(f.COMMIT, [u64(s) + leaf for s, leaf, _ in sealed], [ciphertext for _, _, ciphertext in sealed], 2)
    return builder


def wrong_images(name, about, edit=None, extra=None):
    """A record of images of its own, or, given `extra`, of nothing but those blocks."""

    def make(seed):
        builder = closed(seed).open()
        builder.commit({0: change_one(builder)[0]})
        builder.pending = {} if extra else builder.pending
        builder.images(edit=edit, extra=extra)
        return builder

    BAD[name] = ("journal", about, make)


wrong_images("images-generation", "a record of images that adds to the generation", edit=edits((24, u64(3))))
wrong_images("images-payload-size", "payloadSize one block less", edit=edits((88, u64(4096))))
wrong_images("images-reserved", "reserved bytes in a record of images", edit=edits((159, b"\x01")))
wrong_images("images-in-ring", "the image of a block of the ring", extra={f.RING_OFFSET: bytes(4096)})
wrong_images("images-in-header", "the image of a header copy", extra={0: bytes(4096)})
wrong_images("images-outside", "the image of a block after the end", extra={_G.image_size: bytes(4096)})
wrong_images(
    "images-unaligned", "an offset that is no multiple of blockSize", extra={_G.data_offset - 4096 + 512: bytes(4096)}
)


@bad("journal", "blocks in descending order, both payloads verify")
def images_order(seed):
    builder = closed(seed).open()
    g = builder.geometry
    entries, blocks = [], []
    for offset in (g.data_offset, g.leaf_offset):
        blocks.append(bytes(builder.image[offset : offset + 4096]))
        entries.append(u64(offset) + builder.keys.image_mac(builder.digest, offset, blocks[-1]))
    builder.append(f.IMAGES, entries, blocks, 1, builder.root)
    return builder


@bad("journal", "one block twice in a record of images, both payloads verify")
def images_block_twice(seed):
    builder = closed(seed).open()
    block = builder.table
    image = u64(builder.geometry.leaf_offset) + builder.keys.image_mac(builder.digest, builder.geometry.leaf_offset, block)
    builder.append(f.IMAGES, [image, image], [block, block], 1, builder.root)
    return builder


@bad("journal", "the image of a data block where a sector fills a block")
def images_of_data(seed):
    builder = ImageBuilder(seed, [keyring()], sector_count=1).format(b.encode_stream(ENTRIES)).open()
    g = builder.geometry
    builder.images(extra={g.data_offset: bytes(builder.image[g.data_offset : g.data_offset + 4096])})
    return builder


# Bad: tree


@bad("tree", "one bit of a leaf")
def tree_leaf_bit(seed):
    builder = closed(seed)
    flip(builder, builder.geometry.leaf_offset + 3)
    return builder


@bad("tree", "the root is that of another generation")
def tree_generation(seed):
    builder = closed(seed)
    builder.root = builder.table_root(generation=2)
    builder.write_headers()
    return builder


@bad("tree", "a sector and its leaf rolled back together, each of them right")
def tree_rolled_back(seed):
    builder = closed(seed)
    g = builder.geometry
    leaf, data = builder.table[:32], bytes(builder.image[g.data_offset : g.data_offset + 512])
    builder.open().commit(change_one(builder))
    builder.close()
    builder.put_leaf(0, leaf)
    builder.put_data(0, data)
    return builder


@bad("tree", "bytes after the last leaf, under the right root")
def tree_tail(seed):
    builder = closed(seed)
    flip(builder, builder.geometry.data_offset - 1)
    builder.reroot()
    return builder


@bad("tree", "a record of images whose root is not that of the table it gives")
def tree_images_root(seed):
    builder = closed(seed).open()
    builder.commit({0: change_one(builder)[0]})
    builder.images(root=builder.root)
    return builder


@bad("tree", "a leaf in place that only a commit replaces must still be the one under the header's root")
def tree_under_commit(seed):
    builder = closed(seed).open()
    builder.commit(change_one(builder))
    flip(builder, builder.geometry.leaf_offset)
    return builder


# Bad: sectors


@bad("sector", "one bit of a sector")
def sector_bit(seed):
    builder = closed(seed)
    flip(builder, builder.geometry.data_offset + 700)
    return builder


@bad("sector", "two sectors and their leaves exchanged, under the right root")
def sectors_swapped(seed):
    builder = closed(seed)
    g = builder.geometry
    first = bytes(builder.image[g.data_offset : g.data_offset + 512])
    second = bytes(builder.image[g.data_offset + 512 : g.data_offset + 1024])
    builder.put_data(0, second)
    builder.put_data(1, first)
    leaves = builder.table
    builder.put_leaf(0, leaves[32:64])
    builder.put_leaf(1, leaves[:32])
    builder.reroot()
    return builder


@bad("sector", "an earlier ciphertext of a sector in place")
def sector_rolled_back(seed):
    builder = closed(seed)
    data = bytes(builder.image[builder.geometry.data_offset :][:512])
    builder.open().commit(change_one(builder))
    builder.close()
    builder.put_data(0, data)
    return builder


@bad("sector", "keyEpoch 2 in a leaf, under the right root")
def leaf_key_epoch(seed):
    return small(seed).format(b.encode_stream(ENTRIES), edit_leaf=edits((24, u32(2))))


@bad("sector", "reserved bytes in a leaf, under the right root")
def leaf_reserved(seed):
    return small(seed).format(b.encode_stream(ENTRIES), edit_leaf=edits((28, u32(1))))


@bad("sector", "one bit of a leaf's nonce, under the right root")
def leaf_nonce(seed):
    return small(seed).format(b.encode_stream(ENTRIES), edit_leaf=lambda leaf: put(leaf, 16, bytes([leaf[16] ^ 1])))


# Bad: the stream. Everything around it is right.


def wrong_stream(name, about, make_stream, sector_size=512, sectors=None):
    def make(seed):
        stream = make_stream()
        count = sectors or -(-len(stream) // sector_size)
        return small(seed, sector_size=sector_size, sector_count=count).format(stream)

    BAD["stream-" + name] = ("stream", about, make)


def entry(name=b"a", size=(3).to_bytes(8, "big"), extra=b"", content=b"abc\x00\x00", after=b"", last=b""):
    blob = der(0x30, der(0x04, size) + extra + der(0x04, content) + after)
    return der(0x30, der(0x0C, name) + blob + last)


def stream(*entries, magic=b"qemu-nvram"):
    return der(0x30, der(0x0C, magic) + b"".join(entries))


def aligned(padding, name=b"a", capacity=4096, before=b""):
    return stream(*([before] if before else []), b.encode_entry(name, capacity, b"content", padding))


_P = f.stream_layout([(1, 4096)])[2][0]
_GOOD = stream(entry())
assert _GOOD == b.encode_stream([("a", 5, b"abc")])

wrong_stream("zeros", "nothing but zeros", lambda: bytes(512))
wrong_stream("magic", "another magic", lambda: stream(magic=b"qemu-nvraM"))
wrong_stream("magic-type", "the magic as an octet string", lambda: der(0x30, der(0x04, f.STREAM_MAGIC)))
wrong_stream("no-magic", "an entry without the magic before it", lambda: der(0x30, entry()))
wrong_stream("length-not-minimal", "a length of one digit more than it needs", lambda: b"\x30\x81" + _GOOD[1:])
wrong_stream("length-indefinite", "an indefinite length", lambda: b"\x30\x80" + _GOOD[2:] + b"\x00\x00")
wrong_stream("length-past-end", "a stream that is longer than the volume", lambda: der(0x30, bytes(600))[:512])
wrong_stream("entry-past-stream", "an entry that is longer than the stream", lambda: stream(entry()[:-1]))
wrong_stream("cut-header", "a stream that ends within an entry's header", lambda: stream(b"\x30"))
wrong_stream("after-end", "a byte after the stream's end", lambda: _GOOD + bytes(3) + b"\x01")
wrong_stream("name-twice", "a name that comes twice", lambda: stream(entry(), entry()))
wrong_stream("name-empty", "a name of no bytes", lambda: stream(entry(name=b"")))
wrong_stream("name-long", "a name of 121 bytes", lambda: stream(entry(name=b"n" * 121)))
wrong_stream("name-control", "a control character in a name", lambda: stream(entry(name=b"a\nb")))
wrong_stream("name-del", "U+007F in a name", lambda: stream(entry(name=b"a\x7fb")))
wrong_stream("name-not-utf8", "an overlong encoding in a name", lambda: stream(entry(name=b"a\xc0\xaf")))
wrong_stream("name-surrogate", "a surrogate in a name", lambda: stream(entry(name=b"\xed\xa0\x80")))
wrong_stream("size-above", "a real size above the capacity", lambda: stream(entry(size=(6).to_bytes(8, "big"))))
wrong_stream("size-huge", "a real size of 2^64 - 1", lambda: stream(entry(size=b"\xff" * 8)))
wrong_stream("size-narrow", "a size of seven bytes", lambda: stream(entry(size=(3).to_bytes(7, "big"))))
wrong_stream("beyond-size", "a byte beyond the real size", lambda: stream(entry(content=b"abc\x00\x01")))
wrong_stream("capacity-0", "a capacity of no bytes", lambda: stream(entry(size=bytes(8), content=b"")))
wrong_stream("blob-more", "a second content in a blob", lambda: stream(entry(after=der(0x04, b""))))
wrong_stream("entry-more", "an element after the blob", lambda: stream(entry(last=der(0x05, b""))))
wrong_stream("entry-type", "an entry that is a SET", lambda: stream(b"\x31" + entry()[1:]))
wrong_stream("padding-small", "padding in an entry of less than 4096 bytes", lambda: stream(entry(extra=der(0x80, b"\x00"))))
wrong_stream("padding-order", "padding after the content", lambda: stream(entry(after=der(0x80, b""))))
wrong_stream("padding-missing", "an entry of 4096 bytes that is not aligned", lambda: aligned(None), 4096)
wrong_stream("padding-short", "one byte of padding less", lambda: aligned(_P - 1), 4096)
wrong_stream("padding-long", "padding to the multiple of 4096 after the next", lambda: aligned(_P + 4096), 4096)


def _padding_filled():
    return aligned(_P).replace(bytes(64), bytes(63) + b"\x01", 1)


wrong_stream("padding-filled", "padding that is not zero", _padding_filled, 4096)


def _many():
    return stream(*(entry(name=b"%d" % i, size=bytes(8), content=b"\x00") for i in range(1025)))


wrong_stream("entries-1025", "1025 entries", _many, 4096)


# Making the files


def image_of(made):
    made = made.image if isinstance(made, ImageBuilder) else made
    return bytes(made)


def credential(line):
    kind, text = line
    if kind == "key":
        return r.Credential(f.KEYRING, bytes.fromhex(text))
    if kind == "recovery":
        return r.Credential(f.RECOVERY, f.recovery_key(text))
    return r.Credential(f.PASSPHRASE, text.encode())


def yes(flag):
    return "yes" if flag else "no"


def good_vector(name, make):
    builder, line = make(name)
    image = image_of(builder)
    volume = r.Volume(image, credential(line))
    opened = r.Stream(volume.plaintext())
    found = r.describe(volume, opened)
    fields = {"name": name, "about": make.__doc__, "expect": "ok", line[0]: line[1], "uuid": found["uuid"]}
    fields |= {"generation": str(volume.generation), "clean": yes(volume.header.clean)}
    fields |= {"copies-differ": yes(volume.copies_differ), "records": str(len(volume.records))}
    content = [(e["name"], e["capacity"], e["size"], e["sha256"]) for e in found["entries"]]
    last = volume.geometry.sector_count - 1
    values = {**r.key_values(volume), **r.tree_values(volume), **r.record_values(volume), **r.sector_values(volume, last)}
    return vector_file.Vector(fields, image, content, values)


def bad_vector(name, reason, about, make):
    made = make(name)
    made, line = made if isinstance(made, tuple) else (made, BY_KEY)
    fields = {"name": name, "about": about, "expect": reason, line[0]: line[1]}
    return vector_file.Vector(fields, image_of(made))


def vectors():
    """Every vector, in order of name."""
    made = [good_vector(name, make) for name, make in GOOD.items()]
    made += [bad_vector(name, *what) for name, what in BAD.items()]
    return sorted(made, key=lambda vector: vector.name)


def file_name(vector):
    return ("good-" if vector.expect == "ok" else "bad-") + vector.name + ".txt"


def main():
    DIRECTORY.mkdir(parents=True, exist_ok=True)
    wanted = {file_name(vector): vector_file.write(vector) for vector in vectors()}
    for stale in set(p.name for p in DIRECTORY.glob("*.txt")) - set(wanted):
        (DIRECTORY / stale).unlink()
    for name, text in wanted.items():
        (DIRECTORY / name).write_text(text, encoding="utf-8")
    print(f"{len(wanted)} vectors, {len(GOOD)} good, {len(BAD)} bad")
    return 0


if __name__ == "__main__":
    sys.exit(main())
