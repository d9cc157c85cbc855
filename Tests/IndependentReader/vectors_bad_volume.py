"""Bad vectors: images whose journal, tree or sectors are wrong under headers that are right."""

import image_builder as b
import vnvram_format as f
from image_builder import ImageBuilder, put
from vector_parts import BAD, ENTRIES, SMALL, bad, change_one, closed, edits, flip, keyring, small
from vnvram_format import u32, u64

# The journal


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
wrong_commit("record-sector-outside", "a sector that the store doesn't have", (200, u64(2)))
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
wrong_images("images-outside", "the image of a block after the end", extra={SMALL.image_size: bytes(4096)})
wrong_images(
    "images-unaligned", "an offset that is no multiple of blockSize", extra={SMALL.data_offset - 4096 + 512: bytes(4096)}
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


# The tree


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


# Sectors


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
