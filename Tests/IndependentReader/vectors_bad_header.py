"""Bad vectors: images that are refused for what their headers say, before journal, tree or sectors are looked at."""

import image_builder as b
import vnvram_format as f
from image_builder import SlotSpec, put
from vector_parts import BAD, ENTRIES, KEY, OTHER_KEY, PASS, RECOVERY_KEY, SMALL, bad, closed, edits, flip, keyring, small
from vnvram_format import u32, u64

# What is no image, and what is of another version


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


# Keys


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


# Geometry. The other fields are what the broken one gives, where anything is given at all.


def wrong_geometry(name, about, *changes, cut=0, longer=0):
    def make(seed):
        builder = closed(seed)
        builder.edit_fixed(edits(*changes), rewrap=[keyring()])
        builder.reroot()
        return builder.image[: len(builder.image) - cut] + bytes(longer)

    BAD[name] = ("geometry", about, make)


wrong_geometry("sector-size-0", "sectorSize 0", (40, u32(0)))
wrong_geometry("sector-count-huge", "sectorCount 2^63", (48, u64(1 << 63)))
wrong_geometry("ring-offset", "ringOffset one block further", (56, u64(f.RING_OFFSET + 4096)))
wrong_geometry(
    "ring-size",
    "a ring one block smaller, everything after it one block earlier",
    (64, u64(SMALL.ring_size - 4096)),
    (72, u64(SMALL.leaf_offset - 4096)),
    (88, u64(SMALL.data_offset - 4096)),
    (96, u64(SMALL.image_size - 4096)),
)
wrong_geometry("leaf-offset", "the leaf table within the ring", (72, u64(SMALL.leaf_offset - 4096)))
wrong_geometry("leaf-size", "leafSize two blocks", (80, u64(8192)))
wrong_geometry("image-size", "imageSize one block more", (96, u64(SMALL.image_size + 4096)))
wrong_geometry("file-short", "the file is one byte shorter than the image", cut=1)
wrong_geometry("file-very-short", "the file ends after 8 bytes, which are the magic", cut=SMALL.image_size - 8)


def outside_limits(name, about, geometry):
    longer = max(0, min(geometry.image_size, 1 << 20) - SMALL.image_size)
    changes = [(offset, value.to_bytes(length, "little")) for _, offset, length, value in geometry.header_fields()]
    wrong_geometry(name, about + ", all other fields to match", *changes, longer=longer)


outside_limits("sector-size-1024", "sectorSize 1024", f.Geometry(1024, 4096, 2))
outside_limits("block-size-2048", "blockSize 2048", f.Geometry(512, 2048, 2))
outside_limits("block-size-32768", "blockSize 32768", f.Geometry(512, 32768, 2))
outside_limits("sector-count-0", "no sectors", f.Geometry(512, 4096, 0))
outside_limits("sector-count-large", "2^20 + 1 sectors", f.Geometry(512, 4096, f.MAX_SECTORS + 1))


# Headers that verify


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
wrong_header("ring-position-end", "ringPosition is ringSize", (168, u64(SMALL.ring_size)))


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


# Pairs of copies that no power cut leaves


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
