"""Bad vectors: pairs of header copies that no power cut leaves (section 2, steps 5 and 6)."""

import vnvram_format as f
from builder_parts import put
from vector_parts import OTHER_KEY, bad, change, closed, edits, flip, keyring, opened, register_bad
from vnvram_format import u32, u64


@bad("header-pair", "only copy B is valid, and it is clean")
def pair_only_b_clean(seed):
    builder = closed(seed)
    flip(builder, f.HEADER_SIZE - 1)
    return builder


@bad("header-pair", "only copy B is valid, and it is clean; nothing is where copy A should be")
def pair_no_a(seed):
    builder = closed(seed)
    put(builder.image, 0, bytes(f.HEADER_SIZE))
    return builder


@bad("header-pair", "both valid, one sequence, two contents")
def pair_same_sequence(seed):
    builder = opened(seed)
    builder.begin_epoch()
    builder.write_headers((1,))
    return builder


@bad("header-pair", "both valid and clean, one sequence, and a bit of the lineage differs")
def pair_same_but_lineage(seed):
    builder = closed(seed)
    raw = builder.header(1)
    builder.write_headers((1,), edits((f.LINEAGE_AT, bytes([raw[f.LINEAGE_AT] ^ 1]))))
    return builder


@bad("header-pair", "the sequences differ by two")
def pair_two_apart(seed):
    builder = closed(seed).open((1,))
    builder.header_sequence += 1
    builder.write_headers((1,))
    return builder


@bad("header-pair", "the newer is A and not clean")
def pair_a_newer_not_clean(seed):
    return closed(seed).open((0,))


@bad("header-pair", "the newer is A, and neither is clean")
def pair_a_newer_neither_clean(seed):
    return opened(seed).open((0,))


@bad("header-pair", "the newer is B and clean")
def pair_b_newer_clean(seed):
    return opened(seed).close(copies=(1,))


@bad("header-pair", "the newer is A, and both are clean")
def pair_both_clean(seed):
    return closed(seed).close(copies=(0,))


@bad("header-pair", "the newer is B, and both are clean")
def pair_both_clean_b(seed):
    return closed(seed).close(copies=(1,))


@bad("header-pair", "copy B, clean, in both places: what lies in A's place is no copy A")
def pair_b_twice(seed):
    builder = closed(seed)
    put(builder.image, 0, builder.header(1))
    return builder


def two_layouts(name, about, *changes):
    """Both copies are authentic under one structure key, and header[0..128] differ."""

    def make(seed):
        builder = closed(seed)
        builder.edit_fixed(edits(*changes))
        return builder.open((1,))

    register_bad("pair-" + name, "header-pair", about, make)


two_layouts("features", "copy B has an unknown feature, under the same keys", (120, u64(1)))
two_layouts("version", "copy B is of version 3, under the same keys", (20, u32(3)))
two_layouts("sector-count", "copy B has another number of sectors, under the same keys", (64, u64(2)))
two_layouts("image-size", "copy B has another imageSize, under the same keys", (112, u64(1 << 62)))
two_layouts("reserved-17", "copy B has reserved bytes at 17, under the same keys", (17, b"\x01"))
two_layouts("reserved-60", "copy B has reserved bytes at 60, under the same keys", (60, b"\x01"))


@bad("header-pair", "copy A has an unknown feature, under the same keys")
def pair_features_a(seed):
    builder = opened(seed)
    kept = builder.header(1)
    builder.edit_fixed(edits((120, u64(1))))
    builder.write_headers()
    put(builder.image, f.HEADER_OFFSETS[1], kept)
    return builder


def two_stores(name, about, copy, edit):
    """One copy of another store that the same key opens, the other as it was."""

    def make(seed):
        builder = opened(seed)
        edit(builder)
        builder.reroot() if copy is None else builder.write_headers((copy,))
        return builder

    register_bad("pair-" + name, "header-pair", about, make)


def another_uuid(builder):
    builder.edit_fixed(edits((f.UUID_AT, b"other!")), rewrap=[keyring()])


def another_store_key(builder):
    builder.keys = f.Keys(OTHER_KEY, builder.uuid)
    builder.slots = builder._slots([keyring()])


def another_slot(builder):
    builder.keys = f.Keys(OTHER_KEY, builder.uuid)
    builder.slots = builder._slots([keyring("elsewhere", index=9)])


two_stores("uuid-a", "copy A of a store of another UUID, under the same store key", 0, another_uuid)
two_stores("uuid-b", "copy B of a store of another UUID, under the same store key", 1, another_uuid)
two_stores("store-key-a", "copy A under another store key, which the same key opens", 0, another_store_key)
two_stores("store-key-b", "copy B under another store key, which the same key opens", 1, another_store_key)
two_stores("store-key-slot-9", "copy B under another store key, which lies in its slot 9", 1, another_slot)


@bad("header-pair", "copy B under another store key, with an unknown flag: two stores, whatever they say")
def pair_store_key_and_flag(seed):
    builder = opened(seed)
    another_store_key(builder)
    builder.write_headers((1,), edits((132, u32(2))))
    return builder


@bad("header-pair", "both authentic, copy A with an unknown flag, and header[0..128] differ: *header-pair* comes first")
def pair_before_header(seed):
    builder = opened(seed)
    builder.write_headers((0,), edits((132, u32(2))))
    builder.edit_fixed(edits((64, u64(2))))
    builder.write_headers((1,))
    return builder


@bad("header-pair", "a record that A's header would count, and B newer by two")
def pair_with_record(seed):
    builder = opened(seed)
    change(builder)
    builder.header_sequence += 2
    builder.write_headers((1,))
    return builder
