"""Good vectors of what is closed cleanly: shapes, slots, numbers, and all that a header may say."""

import vnvram_format as f
from builder_parts import SlotSpec, encode_stream, put, vm_binding
from image_builder import ImageBuilder
from vector_parts import (
    BY_KEY,
    BY_PASSPHRASE,
    ENTRIES,
    OTHER_KEY,
    RECOVERY_KEY,
    VM,
    change,
    closed,
    edits,
    good,
    keyring,
    opened,
    passphrase,
    register_good,
    small,
)
from vnvram_format import u32, u64


@good("as it was formatted; zeros after the stream's end")
def clean(seed):
    return small(seed, sector_count=2).format(encode_stream(ENTRIES)), BY_KEY


@good("opened, written and closed twice; a name in two spellings of \u00e9, which differ in bytes")
def closed_twice(seed):
    entries = ENTRIES + [("caf\u00e9", 1, b""), ("cafe\u0301", 2, b"ab")]
    builder = small(seed).format(encode_stream(entries))
    for _ in range(2):
        builder.open().commit(builder.sectors_of(encode_stream(entries)))
        builder.close()
    return builder, BY_KEY


def of_block_size(size):
    def make(seed):
        builder = opened(seed, block_size=size, sector_count=2)
        change(builder, 1)
        return builder.close(), BY_KEY

    register_good(f"blocks-{size}", f"blocks of {size} bytes; opened, written, closed", make)


for block_size in (8192, 16384, 32768, 65536):
    of_block_size(block_size)


@good("300 sectors, whose leaves fill two blocks and part of a third; leaf table 1 counts")
def leaf_blocks(seed):
    builder = opened(seed, sector_count=300)
    change(builder, 299)
    return builder.close(), BY_KEY


@good("no entries at all: the smallest store there is, one sector of 4096 bytes")
def empty_stream(seed):
    return small(seed).format(encode_stream([])), BY_KEY


@good("entries that are aligned, with paddings of all lengths of header; one whose content ends at its capacity")
def padding(seed):
    entries = [
        ("first", 3000, b"1"),
        ("aligned", 4096, b"2" * 4096),
        ("little", 3826, b""),
        ("near", 4096, b"3" * 77),
        ("next", 5000, b"4"),
    ]
    builder = ImageBuilder(seed, [keyring()], sector_count=7)
    return builder.format(encode_stream(entries)), BY_KEY


def hollow_stream(name, about, sectors, entries):
    """A stream whose contents encrypt to zeros, for the sake of its layout."""

    def make(seed):
        builder = small(seed, sector_count=sectors)
        return builder.format_sectors(*builder.hollow(entries)), BY_KEY

    register_good("stream-" + name, about, make)


AT_64_KIB = "near 64 KiB: "
hollow_stream("two-headers", AT_64_KIB + "the shorter outer header", 16, [("a", 3770, None), ("b", 61000, None)])
hollow_stream("no-header", AT_64_KIB + "no outer header fits", 17, [("a", 3771, None), ("b", 61000, None)])
hollow_stream(
    "no-header-two",
    AT_64_KIB + "no outer header fits; of two aligned entries the first is moved on, which has 4096 bytes",
    17,
    [("a", 3771, None), ("b", 4096, None), ("c", 52000, None)],
)


@good("1024 entries, the most there can be, with names of one to 120 bytes")
def entries_1024(seed):
    names = [("%d" % i).rjust(4 if i else 120, "n") for i in range(1024)]
    shapes = [(name, 1, None) for name in names]
    length = f.stream_layout([(len(name), 1) for name in names])[1]
    builder = small(seed, sector_count=-(-length // 4096))
    return builder.format(encode_stream([(name, 1, b"") for name, _, _ in shapes])), BY_KEY


# Slots


@good("opened with a recovery key, which lies behind a keyring key's slot")
def recovery_slot(seed):
    slots = [keyring(), SlotSpec(f.RECOVERY, "drawer", RECOVERY_KEY)]
    return closed(seed, slots), ("recovery", f.recovery_text(RECOVERY_KEY))


@good("the recovery key in capitals, with spaces for its hyphens")
def recovery_spelling(seed):
    text = f.recovery_text(RECOVERY_KEY).upper().replace("-", " ")
    return closed(seed, [SlotSpec(f.RECOVERY, "drawer", RECOVERY_KEY)]), ("recovery", text)


@good("opened with a passphrase at the smallest cost")
def passphrase_slot(seed):
    return closed(seed, [keyring(), passphrase()]), BY_PASSPHRASE


@good("slots 0, 7 and 15; labels and makers of one to 120 bytes, or no maker; any time of creation")
def slots_apart(seed):
    slots = [keyring("1", index=0, maker=""), keyring("\u00fc" * 60, index=7, maker="m" * 120)]
    slots.append(SlotSpec(f.KEYRING, "three", OTHER_KEY, index=15, created=(1 << 64) - 1))
    return closed(seed, slots), ("key", OTHER_KEY.hex())


@good("all sixteen slots, of which the last opens")
def slots_all(seed):
    slots = [SlotSpec(f.KEYRING, f"key {i}", bytes([i]) * 32) for i in range(15)]
    return closed(seed, slots + [keyring()]), BY_KEY


@good("scrypt costs of 2^26 in all, the most there may be; a passphrase is not what opens it")
def cost_sum_limit(seed):
    return closed(seed, [passphrase(costs=(20, 8, 8), seals=False), keyring()]), BY_KEY


@good("scrypt costs of 2^26 in all, and a passphrase that opens the first, cheap slot")
def cost_sum_limit_passphrase(seed):
    costs = [(20, 7, 8), (19, 15, 1), (15, 15, 1), (11, 15, 1), (10, 1, 1)]
    assert sum(f.cost(*c) for c in costs + [(10, 1, 1)]) == f.MAX_COST
    dear = [passphrase(f"dear {i}", c, seals=False) for i, c in enumerate(costs)]
    return closed(seed, [passphrase(), *dear]), BY_PASSPHRASE


@good("a passphrase's slot at the other limits: log2N 10, r 16, p 8")
def cost_r_p_limit(seed):
    return closed(seed, [passphrase(costs=(10, 16, 8))]), BY_PASSPHRASE


# What else a header says


@good("a UUID that is not of version 4")
def uuid_any(seed):
    builder = small(seed)
    builder.edit_fixed(edits((f.UUID_AT, bytes(range(16)))), rewrap=[keyring()])
    builder.format_sectors(*builder.hollow([("filler", 3900, None)]))
    return builder, BY_KEY


@good("headerSequence, generation and nextSequence 2^63 - 1; ringPosition the last block")
def numbers_limit(seed):
    builder = closed(seed)
    builder.header_sequence = builder.header_generation = builder.generation = builder.next_sequence = f.LIMIT - 1
    builder.ring_position = builder.geometry.ring_size - 4096
    return builder.reroot(), BY_KEY


@good("bound to a VM whose name has 236 bytes")
def bound(seed):
    return closed(seed, binding=vm_binding(VM, "\u00e9" * 118)), BY_KEY


@good("bound to a VM without a name")
def bound_without_name(seed):
    return closed(seed, binding=vm_binding(VM, "")), BY_KEY


@good("bound to a VM; opened with a passphrase, whose slot is bound to it too")
def bound_passphrase(seed):
    return closed(seed, [passphrase()], binding=vm_binding(VM, "guest")), BY_PASSPHRASE


def audit_heads(*sequences):
    return b"".join(bytes([i + 1]) * 16 + u64(s) + bytes([i + 2]) * 32 + bytes(8) for i, s in enumerate(sequences))


@good("one audit head, of sequence 0")
def audit_head(seed):
    return closed(seed, audit_heads=audit_heads(0)), BY_KEY


@good("eight audit heads, one of sequence 2^63 - 1")
def audit_heads_all(seed):
    return closed(seed, audit_heads=audit_heads(1, 2, 3, 4, 5, 6, 7, f.LIMIT - 1)), BY_KEY


@good("audit heads that went on within the epoch: lineage values are not computed anew")
def audit_heads_later(seed):
    builder = closed(seed, audit_heads=audit_heads(1))
    builder.audit_heads = audit_heads(9).ljust(512, b"\0")
    builder.write_headers()
    return builder, BY_KEY


@good("63 openings without an anchor: 64 lineage entries")
def lineage_full(seed):
    builder = closed(seed)
    for _ in range(63):
        builder.open()
    return builder.close(), BY_KEY


@good("opened 80 times without its anchor: it was handed an entry that is not among the newest 64")
def anchored(seed):
    builder = closed(seed)
    for _ in range(2):
        change(builder.open())
        builder.close()
    builder.hand_over()
    for _ in range(80):
        builder.open()
    change(builder)
    return builder.close(), BY_KEY


@good("anchored is the newest lineage entry")
def anchored_newest(seed):
    builder = opened(seed)
    builder.hand_over()
    return builder.close(), BY_KEY


@good("anchored is an older lineage entry; an acceptance made the generation leap")
def leapt(seed):
    builder = opened(seed)
    builder.hand_over()
    change(builder)
    builder.checkpoint()
    builder.recover().leap(builder.generation + (1 << 20))
    return builder.close(), BY_KEY


@good("slots changed after a checkpoint, in a new epoch")
def slots_changed(seed):
    builder = opened(seed)
    change(builder)
    builder.checkpoint().change_slots([SlotSpec(f.KEYRING, "new", OTHER_KEY)])
    return builder.close(), ("key", OTHER_KEY.hex())


# Copies that differ


@good("formatting or closing cut short in header copy B: its second block is garbage")
def header_b_torn(seed):
    builder = closed(seed)
    put(builder.image, f.HEADER_OFFSETS[1] + 4096, b"garbage!" * 2)
    return builder, BY_KEY


@good("closing complete but for header copy B: A is newer, and clean")
def closing_one_header(seed):
    builder = opened(seed)
    change(builder)
    return builder.close(copies=(0,)), BY_KEY


def other_b(name, about, make_copy):
    def make(seed):
        builder = closed(seed)
        put(builder.image, f.HEADER_OFFSETS[1], make_copy(builder).ljust(f.HEADER_SIZE, b"\0"))
        return builder, BY_KEY

    register_good("header-b-" + name, about + " in place of copy B: copy A counts", make)


def unsealed(builder, *changes):
    raw = bytearray(builder.header(1))
    edits(*changes)(raw)
    return bytes(raw)


def stranger(builder):
    return closed("stranger", [SlotSpec(f.KEYRING, "vm", OTHER_KEY)]).header(1)


other_b("a-twice", "copy A", lambda builder: builder.header(0))
other_b("stranger", "a store that the key does not open", stranger)
@good("copy B, not clean, in both places: what lies in A's place is no copy A, and copy B counts")
def header_b_twice(seed):
    builder = opened(seed)
    change(builder)
    put(builder.image, 0, builder.header(1))
    return builder, BY_KEY


other_b("version", "version 3, without its MAC", lambda builder: unsealed(builder, (20, u32(3))))
other_b("size", "a size larger than the file, without its MAC", lambda builder: unsealed(builder, (64, u64(65536))))
other_b("version-1", "a magic of version 1", lambda builder: f.MAGIC + u32(1))
other_b("reserved", "reserved bytes that are not zero, without their MAC", lambda b: unsealed(b, (3760, b"\1")))
other_b("costs", "scrypt costs beyond any limit, without their MAC", lambda b: unsealed(b, (f.SLOTS_AT, u32(3) * 8)))


# Unused space


@good("garbage in every place that section 7 lists as unused, and bytes after the image's end")
def unused_space(seed):
    builder = opened(seed)
    change(builder)
    builder.close()
    g = builder.geometry
    for offset in (36864, 65535, 102400, 131071, f.RING_OFFSET, g.table_offset(0), g.table_offset(0) + 24):
        builder.image[offset] = 0xFF
    put(builder.image, g.leaf_offset - 32, b"garbage!" * 4)
    builder.image += b"after the end"
    return builder, BY_KEY


@good("a clean image with records of its own epoch in the ring, which count for nothing")
def clean_with_records(seed):
    builder = closed(seed)
    change(builder)
    change(builder)
    return builder, BY_KEY


@good("the rest of the leaf table that the header does not name is not zero")
def other_table_garbage(seed):
    builder = closed(seed)
    put(builder.image, builder.geometry.table_offset(1), b"garbage!" * 512)
    return builder, BY_KEY
