"""Bad vectors: authentic headers that are not as sections 2 and 3 have them, and pairs that no power cut leaves."""

import vnvram_format as f
from builder_parts import SlotSpec, put, vm_binding
from vector_parts import (
    BY_PASSPHRASE,
    OTHER_KEY,
    RECOVERY_KEY,
    SMALL,
    VM,
    bad,
    closed,
    edits,
    flip,
    formatted,
    keyring,
    opened,
    passphrase,
    register_bad,
    small,
)
from vnvram_format import u32, u64

# Not authentic


@bad("header", "one bit of the MAC in both copies")
def header_mac(seed):
    builder = closed(seed)
    for offset in f.HEADER_OFFSETS:
        flip(builder, offset + f.HEADER_SIZE - 1)
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


@bad("header", "the first slot that opens gives a store key of which no copy knows, the second the right one")
def header_first_slot(seed):
    return closed(seed, [keyring(wraps=OTHER_KEY), keyring("right")])


@bad("header", "slot 0 of copy A, without its MAC, gives another store key than copy B, which verifies")
def header_first_copy(seed):
    builder = opened(seed)
    good = builder.slots
    builder.slots = builder._slots([keyring(wraps=OTHER_KEY)])
    builder.write_headers((0,))
    flip(builder, f.HEADER_SIZE - 1)
    builder.slots = good
    return builder


@bad("header", "slot 0 of copy B, without its MAC, is tried before slot 1 of copy A, and gives another store key")
def header_slot_order(seed):
    builder = closed(seed, [keyring(index=1)])
    builder.slots = builder._slots([keyring(wraps=OTHER_KEY)])
    builder.write_headers((1,))
    flip(builder, f.HEADER_OFFSETS[1] + f.HEADER_SIZE - 1)
    return builder


@bad("header", "one bit of the audit heads in both copies")
def header_audit_bit(seed):
    builder = closed(seed)
    for offset in f.HEADER_OFFSETS:
        flip(builder, offset + f.AUDIT_AT)
    return builder


# Authentic, and wrong


def wrong_header(name, about, *changes, reason="header", **more):
    def make(seed):
        builder = closed(seed, **more)
        builder.write_headers(edit=edits(*changes))
        return builder

    register_bad("header-" + name, reason, about, make)


wrong_header("copy-index", "both copies say that they are copy 2", (f.COPY_AT, u32(2)))
wrong_header("flags", "a flag that is not known", (132, u32(3)))
wrong_header("flags-last-bit", "the last bit of flags", (132, u32(1 | 1 << 31)))
wrong_header("sequence-limit", "headerSequence 2^63", (136, u64(f.LIMIT)))
wrong_header("next-sequence-limit", "nextSequence 2^63", (176, u64(f.LIMIT)))
wrong_header("next-sequence-0", "nextSequence 0", (176, u64(0)))
wrong_header("key-epoch", "keyEpoch 2", (184, u32(2)))
wrong_header("key-epoch-0", "keyEpoch 0", (184, u32(0)))
wrong_header("leaf-table", "leafTable 2", (188, u32(2)))
wrong_header("reserved-300", "reserved bytes at 300", (300, b"\x01"))
wrong_header("reserved-303", "reserved bytes at 303", (303, b"\x80"))
wrong_header("reserved-3760", "reserved bytes at 3760", (3760, b"\x01"))
wrong_header("reserved-4063", "reserved bytes at 4063", (4063, b"\x80"))
wrong_header("ring-position-unaligned", "ringPosition 512", (168, u64(512)))
wrong_header("ring-position-end", "ringPosition is ringSize", (168, u64(SMALL.ring_size)))
wrong_header("ring-position-huge", "ringPosition 2^63", (168, u64(f.LIMIT)))

LAST = f.LINEAGE_AT + f.LINEAGE_SIZE  # where the list of a store that was never opened ends
wrong_header("lineage-count-0", "no lineage entries", (296, u32(0)), (f.LINEAGE_AT, bytes(40)))
wrong_header("lineage-count-65", "65 lineage entries", (296, u32(65)))
wrong_header("lineage-newest", "the newest lineage entry says that the next epoch began", (LAST - 8, u64(1)))
wrong_header("lineage-tail", "a byte after the newest lineage entry", (LAST, b"\x01"))
wrong_header("lineage-tail-end", "the byte before the audit heads", (f.AUDIT_AT - 1, b"\x80"))
wrong_header("anchored-generation", "a generation in anchored, and no value", (f.ANCHORED_AT + 32, u64(1)))
wrong_header("anchored-limit", "a generation of 2^63 in anchored", (f.ANCHORED_AT, b"\x01" * 32 + u64(f.LIMIT)))
wrong_header("audit-gap", "an audit head behind an unused one", (f.AUDIT_AT + 64, b"\x01"))
wrong_header("audit-reserved", "reserved bytes in an audit head", (f.AUDIT_AT, b"\1" * 16), (f.AUDIT_AT + 63, b"\1"))
wrong_header("audit-limit", "an audit head of sequence 2^63", (f.AUDIT_AT, b"\x01" * 16 + u64(f.LIMIT)))

ROTATION = f.PREVIOUS_KEY_AT
wrong_header("previous-key", "a previous store key", (ROTATION, b"\1"), reason="unsupported-version")
wrong_header("previous-key-end", "its last byte", (ROTATION + 127, b"\x80"), reason="unsupported-version")
wrong_header("previous-key-and-flag", "a previous store key and an unknown flag", (ROTATION, b"\1"), (132, u32(3)))


@bad("header", "generation 2^63, the root to match")
def header_generation_limit(seed):
    builder = closed(seed)
    builder.header_generation = f.LIMIT
    return builder.reroot()


@bad("header", "an older lineage entry of generation 2^63")
def header_lineage_limit(seed):
    builder = opened(seed)
    builder.write_headers(edit=edits((f.LINEAGE_AT + 32, u64(f.LIMIT))))
    return builder


def reserved_in_sizes(offset):
    def make(seed):
        builder = closed(seed)
        builder.edit_fixed(edits((offset, b"\x01")), rewrap=[keyring()])
        return builder.reroot()

    register_bad(f"header-reserved-{offset}", "header", f"reserved bytes at {offset}, everything else to match", make)


for reserved in (17, 19, 60, 63):
    reserved_in_sizes(reserved)


def wrong_binding(name, about, binding):
    register_bad("vm-" + name, "header", about, lambda seed: closed(seed, binding=binding))


wrong_binding("name-long", "the length of a VM's name 237", VM + u32(237) + b"n" * 236)
wrong_binding("name-length-huge", "the length of a VM's name 2^32 - 1", VM + u32((1 << 32) - 1))
wrong_binding("name-control", "a control character in a VM's name", vm_binding(VM, "v\u0085m"))
wrong_binding("name-not-utf8", "a VM's name that is not UTF-8", vm_binding(VM, b"v\xffm"))
wrong_binding("name-tail", "a byte after a VM's name", vm_binding(VM, "guest")[:-1] + b"x")
wrong_binding("name-zero", "a zero byte within a VM's name", vm_binding(VM, b"a\0b"))


# Slots


def wrong_slot(name, about, slots):
    register_bad("slot-" + name, "header", about, lambda seed: closed(seed, slots))


def slot_edit(*changes):
    return [keyring(edit=edits(*changes))]


def beside(*changes):
    """A slot that opens, and one more with these changes."""
    return [keyring(), SlotSpec(f.KEYRING, "beside", OTHER_KEY, edit=edits(*changes))]


wrong_slot("algorithm-2", "algorithm 2 in a second slot", beside((4, u32(2))))
wrong_slot("algorithm-0", "algorithm 0 in a second slot", beside((4, u32(0))))
wrong_slot("state-2", "state 2 in a second slot", beside((8, u32(2))))
wrong_slot("state-0", "state 0 in a second slot", beside((8, u32(0))))
wrong_slot("kind-4", "a second slot of kind 4", [keyring(), SlotSpec(4, "new", OTHER_KEY)])
wrong_slot("kind-5", "a second slot of a kind that is not known", [keyring(), SlotSpec(5, "new", OTHER_KEY)])
wrong_slot("costs", "scrypt costs in a keyring key's slot", slot_edit((f.COSTS_AT, u32(10))))
wrong_slot("costs-p", "p 1 in a keyring key's slot", slot_edit((f.COSTS_AT + 8, u32(1))))
wrong_slot("label-empty", "a label of no bytes", [keyring("")])
wrong_slot("label-long", "labelLength 121", slot_edit((f.LABEL_AT, u32(121)), (f.LABEL_AT + 4, b"n" * 120)))
wrong_slot("label-length-huge", "labelLength 2^32 - 1", slot_edit((f.LABEL_AT, b"\xff" * 4)))
wrong_slot("label-control", "a control character in a label", [keyring("v\x1bm")])
wrong_slot("label-c1", "U+009F in a label", [keyring("v\u009fm")])
wrong_slot("label-not-utf8", "a label that is not UTF-8", [keyring(b"v\xffm")])
wrong_slot("label-overlong", "an overlong encoding in a label", [keyring(b"v\xc1\x81m")])
wrong_slot("label-tail", "a byte after a label", slot_edit((f.LABEL_AT + 123, b"x")))
wrong_slot("labels-twice", "two slots with one label", [keyring(), SlotSpec(f.RECOVERY, "vm", RECOVERY_KEY)])
wrong_slot("maker-long", "makerLength 121", slot_edit((f.MAKER_AT, u32(121)), (f.MAKER_AT + 4, b"n" * 120)))
wrong_slot("maker-control", "a control character in a maker", [keyring(maker="a\nb")])
wrong_slot("maker-not-utf8", "a maker that is not UTF-8", [keyring(maker=b"\xed\xa0\x80")])
wrong_slot("maker-tail", "a byte after a maker", slot_edit((f.MAKER_AT + 123, b"x")))
wrong_slot("encapsulation-length", "encapsulationLength 1", slot_edit((372, u32(1))))
wrong_slot("key-id", "a key id", slot_edit((376, b"\x01")))
wrong_slot("sender", "a sender", slot_edit((439, b"\x01")))
wrong_slot("reserved-440", "reserved bytes at 440 of a slot", slot_edit((440, b"\x01")))
wrong_slot("reserved-479", "reserved bytes at 479 of a slot", slot_edit((479, b"\x80")))
wrong_slot("encapsulation", "an encapsulation", slot_edit((480, b"\x01")))
wrong_slot("encapsulation-end", "the last byte of a slot", slot_edit((2047, b"\x80")))

# What step 4 never tries is refused where another key opens the store.
wrong_slot("cost-p-beside", "p 9 in a second slot; the first opens", [keyring(), passphrase(costs=(10, 1, 9))])
wrong_slot("cost-r-0-beside", "r 0 in a second slot", [keyring(), passphrase(costs=(10, 0, 1), seals=False)])
wrong_slot("cost-n-beside", "log2N 21 in a second slot", [keyring(), passphrase(costs=(21, 1, 1), seals=False)])
wrong_slot("cost-product-beside", "a product above 2^30", [keyring(), passphrase(costs=(20, 9, 1), seals=False)])
wrong_slot(
    "cost-sum-beside",
    "costs of 2^26 + 2^10 in all; a keyring key opens",
    [keyring(), passphrase(costs=(20, 8, 8), seals=False), passphrase("cheap")],
)


@bad("header", "two passphrases; the first slot opens, and the second has log2N 9")
def slot_cost_behind(seed):
    return closed(seed, [passphrase(), passphrase("weak", (9, 1, 1))]), BY_PASSPHRASE


def empty_slot_with(offset):
    def make(seed):
        builder = small(seed)
        slot = bytearray(f.SLOT_SIZE)
        slot[offset] = 1
        builder.slots[3] = bytes(slot)
        return formatted(builder)

    register_bad(f"slot-empty-{offset}", "header", f"an empty slot with a byte at {offset}", make)


for used in (4, 376, 2047):
    empty_slot_with(used)


# A flaw in one authentic copy: the other is never taken in its place.


def one_copy(name, about, copy, *changes, make=closed, reason="header"):
    def build(seed):
        builder = make(seed)
        builder.write_headers((copy,), edits(*changes))
        return builder

    register_bad("one-copy-" + name, reason, about, build)


one_copy("flags-a", "an unknown flag in copy A alone", 0, (132, u32(3)))
one_copy("flags-b", "an unknown flag in copy B alone", 1, (132, u32(3)))
one_copy("reserved-a-open", "reserved bytes in copy A; B is right, and not clean", 0, (3760, b"\x01"), make=opened)
one_copy("next-sequence-b", "nextSequence 0 in copy B alone", 1, (176, u64(0)))
one_copy("previous-key-b", "a previous store key in copy B alone", 1, (3632, b"\1"), reason="unsupported-version")


@bad("header", "only copy A is authentic, and has an unknown flag")
def only_a_flags(seed):
    builder = closed(seed)
    builder.write_headers((0,), edits((132, u32(3))))
    flip(builder, f.HEADER_OFFSETS[1] + f.HEADER_SIZE - 1)
    return builder


def only_a(name, reason, about, *changes):
    """Copy A is authentic and B is readable alone: its MAC is wrong."""

    def make(seed):
        builder = opened(seed)
        kept = builder.header(1)
        builder.edit_fixed(edits(*changes), rewrap=[keyring()])
        builder.reroot()
        put(builder.image, f.HEADER_OFFSETS[1], kept[:-1] + bytes([kept[-1] ^ 1]))
        return builder

    register_bad("only-a-" + name, reason, about + "; B is readable, and its MAC is wrong", make)


only_a("features", "unsupported-version", "copy A is authentic, with an unknown feature", (120, u64(2)))
only_a("sizes", "geometry", "copy A is authentic, with one sector more and no other size to match", (64, u64(2)))
only_a("image-size", "geometry", "copy A is authentic, with a small imageSize", (112, u64(SMALL.image_size - 4096)))
