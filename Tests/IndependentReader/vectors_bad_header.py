"""Bad vectors: what is refused before a header is believed (section 2, steps 1 to 4, and 7)."""

import vnvram_format as f
from builder_parts import SlotSpec, encode_stream, put, vm_binding
from vector_parts import (
    BY_PASSPHRASE,
    ENTRIES,
    KEY,
    OTHER_KEY,
    PASS,
    RECOVERY_KEY,
    SMALL,
    VM,
    bad,
    closed,
    edits,
    formatted,
    keyring,
    opened,
    passphrase,
    register_bad,
    small,
)
from vnvram_format import u32, u64


def with_fixed(seed, *changes, slots=None):
    """A store with other bytes in header[0..128], under MACs that are right."""
    builder = closed(seed, slots)
    builder.edit_fixed(edits(*changes), rewrap=slots or [keyring()])
    return builder.reroot()


# Step 1: what is no image


@bad("not-an-image", "zeros")
def not_image_zeros(_):
    return bytes(SMALL.image_size)


@bad("not-an-image", "an empty file")
def not_image_empty(_):
    return b""


@bad("not-an-image", "the plain form where an encrypted image is expected")
def not_image_plain(_):
    return encode_stream(ENTRIES)


@bad("not-an-image", "one bit of this format's magic in both copies")
def not_image_magic(seed):
    return with_fixed(seed, (16, b"\x0b"))


@bad("not-an-image", "one bit of the foreign magic in both copies")
def not_image_foreign_magic(seed):
    return with_fixed(seed, (8, b"\xfe"))


@bad("not-an-image", "nothing but the foreign magic: swtpm's store of a version to come")
def not_image_swtpm(seed):
    return with_fixed(seed, (9, bytes(8)))


@bad("not-an-image", "the magic of version 1 where copy B begins, and nothing else")
def not_image_version_1_at_b(seed):
    image = bytearray(SMALL.image_size)
    put(image, f.HEADER_OFFSETS[1], f.MAGIC + u32(1))
    return image


def cut_short(length, reason, about):
    def make_file(seed):
        return bytes(closed(seed).image[:length])

    register_bad(f"file-of-{length}", reason, about, make_file)


cut_short(1, "not-an-image", "the file ends after one byte of the magics")
cut_short(9, "not-an-image", "the file ends after the foreign magic")
cut_short(16, "not-an-image", "the file ends after all but a byte of the magics")
cut_short(17, "geometry", "the file ends after the magics")
cut_short(127, "geometry", "the file ends a byte before the end of the sizes and features")
cut_short(128, "geometry", "the file ends after what decides on whether a copy is readable")
cut_short(4000, "geometry", "the file ends within copy A")
cut_short(36864, "geometry", "the file ends after copy A")
cut_short(65546, "geometry", "the file ends within the magics of copy B")
cut_short(102400, "geometry", "the file ends after copy B: it is a saved header")
cut_short(SMALL.image_size - 1, "geometry", "the file is one byte shorter than the image")


@bad("geometry", "a file of 127 bytes, which say version 3: it is too short to say so")
def file_of_127_version_3(seed):
    return bytes(with_fixed(seed, (20, u32(3))).image[:127])


@bad("unsupported-version", "a file of 128 bytes, which say version 3")
def file_of_128_version_3(seed):
    return bytes(with_fixed(seed, (20, u32(3))).image[:128])


@bad("geometry", "the file ends within copy B, and has no copy A")
def file_of_b_alone(seed):
    return bytes(f.HEADER_OFFSETS[1]) + opened(seed).header(1)[:64]


# Steps 1 and 2: other versions


@bad("unsupported-version", "version 1, by its magic")
def version_1(seed):
    builder = closed(seed)
    for offset in f.HEADER_OFFSETS:
        put(builder.image, offset, (f.MAGIC + u32(1) + u32(1) + u32(8192) + u32(16)).ljust(f.HEADER_SIZE, b"\0"))
    return builder


@bad("unsupported-version", "the magic of version 1 and the end of the file")
def version_1_short(_):
    return f.MAGIC


def unsupported(name, about, *changes):
    register_bad(name, "unsupported-version", about, lambda seed: with_fixed(seed, *changes))


unsupported("version-3", "version 3", (20, u32(3)))
unsupported("version-0", "version 0", (20, u32(0)))
unsupported("version-1-here", "version 1 behind the magics of this one", (20, u32(1)))
unsupported("suite-2", "suite 2", (24, u32(2)))
unsupported("suite-0", "suite 0", (24, u32(0)))
unsupported("header-size-32768", "headerSize 32768", (28, u32(32768)))
unsupported("slot-count-8", "slotCount 8", (32, u32(8)))
unsupported("slot-size-1024", "slotSize 1024", (36, u32(1024)))
unsupported("features-bit", "a feature that is not known", (120, u64(1)))
unsupported("features-last-bit", "the last bit of features", (120, u64(1 << 63)))
unsupported("version-and-sizes", "version 3 and a sectorCount of 0", (20, u32(3)), (64, u64(0)))


# Step 3: sizes. The other fields are what the broken one gives, where anything is given at all.


def wrong_geometry(name, about, *changes, longer=0):
    def make(seed):
        return bytes(with_fixed(seed, *changes).image) + bytes(longer)

    register_bad(name, "geometry", about, make)


def later(*offsets, by=4096):
    """The geometry fields at these offsets, in the header, one block further."""
    values = {offset: (length, value) for _, offset, length, value in SMALL.header_fields()}
    return [(at, (values[at][1] + by).to_bytes(values[at][0], "little")) for at in offsets]


wrong_geometry("block-size-0", "blockSize 0", (56, u32(0)))
wrong_geometry("sector-count-2-63", "sectorCount 2^63", (64, u64(1 << 63)))
wrong_geometry("sector-count-wraps", "sectorCount 2^52 + 1: its bytes are 4096, modulo 2^64", (64, u64((1 << 52) + 1)))
wrong_geometry("sector-count-most", "sectorCount 2^64 - 1", (64, u64((1 << 64) - 1)))
wrong_geometry("ring-offset", "ringOffset one block further", *later(72))
wrong_geometry("ring-size", "a ring of one block less", *later(80, 88, 104, 112, by=-4096))
wrong_geometry("ring-size-more", "a ring of one block more", *later(80, 88, 104, 112), longer=4096)
wrong_geometry("leaf-offset", "leaf table 0 begins within the ring", *later(88, by=-4096))
wrong_geometry("leaf-size", "leaf tables of two blocks", *later(96), *later(104, 112, by=8192), longer=8192)
wrong_geometry("data-offset", "the sectors begin a block further", *later(104, 112), longer=4096)
wrong_geometry("image-size", "imageSize one block more", *later(112), longer=4096)
wrong_geometry("image-size-less", "imageSize one block less", *later(112, by=-4096))


def outside_limits(name, about, geometry):
    longer = max(0, min(geometry.image_size, 1 << 20) - SMALL.image_size)
    changes = [(offset, value.to_bytes(length, "little")) for _, offset, length, value in geometry.header_fields()]
    wrong_geometry(name, about + ", all other fields to match", *changes, longer=longer)


outside_limits("block-size-512", "blockSize 512", f.Geometry(512, 1))
outside_limits("block-size-2048", "blockSize 2048", f.Geometry(2048, 1))
outside_limits("block-size-12288", "blockSize 12288, which is no power of two", f.Geometry(12288, 1))
outside_limits("block-size-131072", "blockSize 131072", f.Geometry(131072, 1))
outside_limits("sector-count-0", "no sectors", f.Geometry(4096, 0))
outside_limits("volume-size-limit", "256 MiB of sectors, which the file does not hold", f.Geometry(4096, 65536))
outside_limits("volume-size-above", "one sector above 256 MiB", f.Geometry(4096, 65537))
outside_limits("volume-size-above-65536", "one sector of 64 KiB above 256 MiB", f.Geometry(65536, 4097))


# Step 4: keys


@bad("wrong-key", "a keyring key that opens no slot")
def key_another(seed):
    return closed(seed), ("key", OTHER_KEY.hex())


@bad("wrong-key", "the bytes of a recovery key offered as a keyring key")
def key_of_other_kind(seed):
    return closed(seed, [SlotSpec(f.RECOVERY, "drawer", KEY)])


@bad("wrong-key", "the bytes of a keyring key offered as a recovery key")
def recovery_of_other_kind(seed):
    return closed(seed, [SlotSpec(f.KEYRING, "vm", RECOVERY_KEY)]), ("recovery", f.recovery_text(RECOVERY_KEY))


@bad("wrong-key", "another passphrase")
def key_passphrase(seed):
    return closed(seed, [passphrase()]), ("passphrase", PASS + "!")


@bad("wrong-key", "no slots at all")
def slots_none(seed):
    builder = small(seed)
    builder.slots = [bytes(f.SLOT_SIZE)] * f.SLOT_COUNT
    return formatted(builder)


@bad("wrong-key", "a slot moved to another index, the header's MAC computed anew")
def slot_moved(seed):
    builder = small(seed)
    builder.slots[1], builder.slots[0] = builder.slots[0], bytes(f.SLOT_SIZE)
    return formatted(builder)


def resealed(name, about, *changes):
    """A slot changed after it was sealed; the header's MAC is right."""

    def make(seed):
        builder = small(seed)
        slot = bytearray(builder.slots[0])
        edits(*changes)(slot)
        builder.slots[0] = bytes(slot)
        return formatted(builder)

    about += " of a sealed slot changed, the header's MAC computed anew"
    register_bad("slot-changed-" + name, "wrong-key", about, make)


resealed("created", "the time of creation", (f.CREATED_AT, u64(1)))
resealed("salt", "one byte of the salt", (f.SALT_AT, b"\0"))
resealed("label", "the label", (f.LABEL_AT + 4, b"xm"))
resealed("maker", "the maker", (f.MAKER_AT + 4, b"V"))
resealed("nonce", "one byte of the nonce", (f.NONCE_AT, b"\0"))
resealed("tag", "one byte of the tag", (f.WRAPPED_AT + 47, b"\0"))


@bad("wrong-key", "the slots of a store in a header with another UUID")
def slot_of_other_store(seed):
    builder = closed(seed)
    builder.edit_fixed(edits((f.UUID_AT, b"\x00" * 6)))
    return builder.reroot()


@bad("wrong-key", "the slots of a store that is bound to no VM in a header that is bound to one")
def slot_of_other_vm(seed):
    builder = closed(seed)
    builder.binding = vm_binding(VM, "guest")
    return builder.reroot()


def costs_beyond(name, about, costs):
    """The header's MAC is right; what the slot wraps is so too where scrypt takes such costs."""

    def make(seed):
        builder = closed(seed, [passphrase(costs=costs, seals=0 < f.cost(*costs) <= 1 << 20)])
        return builder, BY_PASSPHRASE

    register_bad(name, "wrong-key", f"the only slot has {about}", make)


costs_beyond("cost-n-small", "log2N 9; its wrap is right", (9, 1, 1))
costs_beyond("cost-r-large", "r 17; its wrap is right", (10, 17, 1))
costs_beyond("cost-p-large", "p 9; its wrap is right", (10, 1, 9))
costs_beyond("cost-r-0", "r 0", (10, 0, 1))
costs_beyond("cost-p-0", "p 0", (10, 1, 0))
costs_beyond("cost-n-21", "log2N 21", (21, 1, 1))
costs_beyond("cost-n-large", "log2N 2^32 - 1, and must be refused before memory is taken for it", ((1 << 32) - 1, 1, 1))
costs_beyond("cost-product", "N and r within their limits and a product above 2^30", (20, 9, 1))


@bad("wrong-key", "costs of more than 2^26 in all: not even the first slot is tried, which would open")
def cost_sum(seed):
    return closed(seed, [passphrase(), passphrase("dear", (20, 8, 8), seals=False)]), BY_PASSPHRASE


@bad("wrong-key", "costs of more than 2^26 in all, those of a slot outside the limits among them")
def cost_sum_of_outside(seed):
    return closed(seed, [passphrase(), passphrase("dear", (31, 1, 1), seals=False)]), BY_PASSPHRASE


# Step 7


@bad("geometry", "copy A, which counts, has more sectors than the file; copy B, without its MAC, would fit")
def file_short_of_chosen(seed):
    builder = small(seed, sector_count=3).format(encode_stream(ENTRIES))
    smaller = bytearray(builder.header(1))
    for _, offset, length, value in SMALL.header_fields():
        put(smaller, offset, value.to_bytes(length, "little"))
    put(builder.image, f.HEADER_OFFSETS[1], smaller)
    return bytes(builder.image[: SMALL.image_size + 4096])
