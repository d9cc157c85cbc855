#!/usr/bin/env python3
"""An independent writer of vnvram images, written from FORMAT.md alone: it makes the vectors, good and bad.

It works on an image in memory and is as deterministic as its seed. Nothing is synced and nothing is atomic here; a
state that a power cut leaves is made by stopping a step half-way. The hooks named `edit` change bytes just before they
are authenticated, so that a bad vector breaks one rule and is consistent in everything else.

As a command it makes images of random shapes: image_builder.py --random N --seed S DIRECTORY
"""

import hashlib
import sys
from dataclasses import dataclass

import vnvram_format as f
from builder_parts import Seeded, content_offsets, encode_stream, put
from vnvram_format import u32, u64


@dataclass
class Epoch:
    """What a lineage entry is made from: epoch, audit heads when it began, generation of its last header."""

    epoch: bytes
    audit_heads: bytes
    ended: int = 0


@dataclass
class Commit:
    """A record that is in the journal and not in place: its sectors, and where the next one starts."""

    sealed: dict
    previous: bytes
    mac: bytes
    generation: int
    sequence: int
    end: int


class ImageBuilder:
    """One image in memory, and the state of its writer."""

    def __init__(self, seed, slots, block_size=4096, sector_count=1, ring_position=0, binding=b"", audit_heads=b""):
        self.random = Seeded(seed)
        self.geometry = f.Geometry(block_size, sector_count)
        uuid = bytearray(self.random.bytes(16))
        uuid[6] = uuid[6] & 0x0F | 0x40
        uuid[8] = uuid[8] & 0x3F | 0x80
        self.uuid = bytes(uuid)
        self.keys = f.Keys(self.random.bytes(32), self.uuid)
        self.image = bytearray(self.geometry.image_size)
        self.binding = binding.ljust(f.BINDING_SIZE, b"\0")
        self.audit_heads = audit_heads.ljust(f.AUDIT_HEADS * f.AUDIT_HEAD_SIZE, b"\0")
        self.clean = True
        self.header_sequence = 1
        self.generation = self.header_generation = 0
        self.epochs = [Epoch(self.random.bytes(16), self.audit_heads)]
        self.anchored = None
        self.ring_position = self.write_position = ring_position
        self.next_sequence = self.sequence = 1
        self.chain = self.last_mac = bytes(32)
        self.leaf_table = 0
        self.root = bytes(32)
        self.fixed = self._fixed_fields()
        self.digest = hashlib.sha256(self.fixed).digest()
        self.slots = self._slots(slots)
        self.pending = []  # commits that are not in place

    def _fixed_fields(self):
        header = bytearray(128)
        put(header, 0, f.MAGICS)
        put(header, 20, b"".join(map(u32, (f.VERSION, f.SUITE, f.HEADER_SIZE, f.SLOT_COUNT, f.SLOT_SIZE))))
        put(header, f.UUID_AT, self.uuid)
        for _, offset, length, value in self.geometry.header_fields():
            put(header, offset, value.to_bytes(length, "little"))
        return bytes(header)

    def _slots(self, specs):
        slots = [bytes(f.SLOT_SIZE)] * f.SLOT_COUNT
        bound = bytearray(f.HEADER_SIZE)
        put(bound, 0, self.fixed)
        put(bound, f.BINDING_AT, self.binding)
        for at, spec in enumerate(specs):
            index = at if spec.index is None else spec.index
            slots[index] = spec.wrap(bound, index, self.keys.store_key, self.random)
        return slots

    # Headers

    @property
    def epoch(self):
        return self.epochs[-1].epoch

    def lineage(self):
        """Every entry there was, the oldest first: 40 bytes each."""
        value, entries = bytes(32), []
        for epoch in self.epochs:
            value = self.keys.lineage(self.digest, value, epoch.epoch, epoch.audit_heads)
            entries.append(value + u64(epoch.ended))
        return entries

    def edit_fixed(self, edit, rewrap=None):
        """Changes header[0..128], and with it the geometry digest; `rewrap` are the slots to be wrapped anew."""
        fixed = bytearray(self.fixed)
        edit(fixed)
        self.fixed = bytes(fixed)
        self.uuid = self.fixed[f.UUID_AT : f.UUID_AT + 16]
        self.digest = hashlib.sha256(self.fixed).digest()
        self.keys = f.Keys(self.keys.store_key, self.uuid)
        if rewrap:
            self.slots = self._slots(rewrap)

    def header(self, copy, edit=None):
        header = bytearray(f.HEADER_SIZE)
        entries = self.lineage()
        kept = entries[-f.MAX_LINEAGE :]
        numbers = (self.header_sequence, self.header_generation)
        put(header, 0, self.fixed)
        put(header, f.COPY_AT, u32(copy) + u32(f.FLAG_CLEAN if self.clean else 0) + b"".join(map(u64, numbers)))
        put(header, 152, self.epoch + u64(self.ring_position) + u64(self.next_sequence))
        put(header, 184, u32(f.KEY_EPOCH) + u32(self.leaf_table) + self.chain + self.root)
        put(header, f.ANCHORED_AT, bytes(40) if self.anchored is None else entries[self.anchored])
        put(header, f.LINEAGE_AT - 8, u32(len(kept)) + u32(0) + b"".join(kept))
        put(header, f.AUDIT_AT, self.audit_heads + self.binding)
        put(header, f.SLOTS_AT, b"".join(self.slots))
        if edit:
            edit(header)
        put(header, f.HEADER_MAC_AT, self.keys.header_mac(header))
        return bytes(header)

    def write_headers(self, copies=(0, 1), edit=None):
        for copy in copies:
            put(self.image, f.HEADER_OFFSETS[copy], self.header(copy, edit))

    def begin_epoch(self):
        self.epochs[-1].ended = self.header_generation
        self.epochs.append(Epoch(self.random.bytes(16), self.audit_heads))

    def hand_over(self):
        """The newest entry goes to an anchor: the next header that is written has it as `anchored`."""
        self.anchored = len(self.epochs) - 1

    # Sectors and the tree

    def seal(self, sector, plaintext, edit_leaf=None, nonce=None):
        """A sector's leaf and ciphertext, under a new nonce."""
        nonce = nonce or self.random.bytes(8)
        ciphertext = self.keys.encrypt(sector, nonce, plaintext)
        leaf = bytearray(self.keys.tag(sector, nonce, ciphertext) + nonce + u32(f.KEY_EPOCH) + u32(0))
        if edit_leaf:
            edit_leaf(leaf)
        return bytes(leaf), ciphertext

    def put_leaf(self, sector, leaf, table=None):
        at = self.geometry.table_offset(self.leaf_table if table is None else table)
        put(self.image, at + sector * f.LEAF_SIZE, leaf)

    def put_data(self, sector, ciphertext):
        put(self.image, self.geometry.data_offset + sector * self.geometry.block_size, ciphertext)

    @property
    def table(self):
        """The leaf table that counts."""
        at = self.geometry.table_offset(self.leaf_table)
        return bytes(self.image[at : at + self.geometry.leaf_size])

    def table_root(self, table=None, generation=None):
        table = self.table if table is None else table
        generation = self.header_generation if generation is None else generation
        return self.keys.root(self.digest, generation, table, self.geometry.block_size)

    def sectors_of(self, stream):
        """The volume's sectors for a stream, which may be too long only where a bad vector wants it so."""
        size, count = self.geometry.block_size, self.geometry.sector_count
        volume = stream + bytes(size * count - len(stream))
        return {i: volume[i * size : (i + 1) * size] for i in range(count)}

    # What a writer does

    def format(self, stream, edit_leaf=None):
        return self.format_sectors(self.sectors_of(stream), None, edit_leaf)

    def format_sectors(self, sectors, nonces=None, edit_leaf=None):
        for sector, plaintext in sectors.items():
            edit = edit_leaf if sector == 0 else None
            leaf, ciphertext = self.seal(sector, plaintext, edit, nonces and nonces[sector])
            self.put_leaf(sector, leaf)
            self.put_data(sector, ciphertext)
        return self.reroot()

    def hollow_volume(self):
        """A volume that encrypts to zeros, and the nonce of each of its sectors: much data in a small vector."""
        size, count = self.geometry.block_size, self.geometry.sector_count
        nonces = [self.random.bytes(8) for _ in range(count)]
        return b"".join(self.keys.decrypt(i, nonces[i], bytes(size)) for i in range(count)), nonces

    def hollow(self, entries):
        """The sectors of these entries and a nonce for each. An entry whose content is None is filled with what
        encrypts to zeros under those nonces."""
        volume, nonces = self.hollow_volume()
        offsets = content_offsets(entries)
        filled = [
            (name, capacity, volume[at : at + capacity] if content is None else content)
            for (name, capacity, content), at in zip(entries, offsets)
        ]
        return self.sectors_of(encode_stream(filled)), nonces

    def reroot(self):
        """The root and both headers anew, after a change of the leaf table."""
        self.root = self.table_root()
        self.write_headers()
        return self

    def open(self, copies=(1, 0)):
        self.header_sequence += 1
        self.clean = False
        self.begin_epoch()
        self.write_headers(copies)
        return self

    def ring_write(self, position, data):
        size = self.geometry.ring_size
        assert len(data) <= size
        first = min(len(data), size - position)
        put(self.image, f.RING_OFFSET + position, data[:first])
        put(self.image, f.RING_OFFSET, data[first:])

    def append(self, entries, payloads, generation, edit=None, edit_record=None):
        """A record at the end of the journal. `edit` changes its authenticated bytes, `edit_record` the whole of it."""
        head = f.RECORD_MAGIC + u32(f.COMMIT) + u32(len(entries)) + u64(self.sequence) + u64(generation)
        head += self.epoch + self.last_mac + u64(self.write_position) + bytes(40)
        authenticated = bytearray(head + b"".join(entries))
        if edit:
            edit(authenticated)
        mac = self.keys.record_mac(self.digest, authenticated)
        record = bytes(authenticated) + mac
        record = bytearray(record.ljust(self.geometry.payload_offset(len(entries)), b"\0") + b"".join(payloads))
        if edit_record:
            edit_record(record)
        self.ring_write(self.write_position, bytes(record))
        start = self.write_position
        self.write_position = (start + len(record)) % self.geometry.ring_size
        self.sequence += 1
        self.last_mac = mac
        return start

    def append_sealed(self, sealed, edit=None, edit_record=None):
        """A record of these sectors, each with leaf and ciphertext."""
        previous, sequence = self.last_mac, self.sequence
        self.generation += 1
        entries = [u64(sector) + leaf for sector, (leaf, _) in sealed.items()]
        payloads = [ciphertext for _, ciphertext in sealed.values()]
        start = self.append(entries, payloads, self.generation, edit, edit_record)
        end = self.write_position
        self.pending.append(Commit(sealed, previous, self.last_mac, self.generation, sequence, end))
        return start

    def commit(self, changes, edit=None, edit_record=None, edit_leaf=None, nonces=None):
        """A commit of these plaintext sectors; returns where in the ring it starts."""
        sealed = {i: self.seal(i, changes[i], edit_leaf, nonces and nonces[i]) for i in sorted(changes)}
        return self.append_sealed(sealed, edit, edit_record)

    # A checkpoint, in the steps between which power can go

    def put_in_place(self, count):
        """The sectors of the first `count` commits, and the other leaf table with their leaves."""
        sectors = {}
        for commit in self.pending[:count]:
            sectors.update(commit.sealed)
        other = 1 - self.leaf_table
        put(self.image, self.geometry.table_offset(other), self.table)
        for sector, (leaf, ciphertext) in sectors.items():
            self.put_leaf(sector, leaf, other)
            self.put_data(sector, ciphertext)

    def adopt(self, count):
        """The new content of the headers after `put_in_place`, not written yet."""
        last = self.pending[count - 1]
        self.ring_position, self.next_sequence, self.chain = last.end, last.sequence + 1, last.mac
        self.header_generation = last.generation
        self.leaf_table = 1 - self.leaf_table
        self.root = self.table_root()
        self.pending = self.pending[count:]
        self.header_sequence += 1

    def checkpoint(self, count=None):
        count = len(self.pending) if count is None else count
        self.put_in_place(count)
        self.adopt(count)
        self.write_headers((1, 0))
        return self

    def append_last_again(self):
        """Recovery, up to where the last record is appended as the first of a new epoch; no header says so yet."""
        if len(self.pending) > 1:
            self.checkpoint(len(self.pending) - 1)
        last = self.pending.pop()
        self.begin_epoch()
        self.last_mac, self.generation = last.previous, last.generation - 1
        self.ring_position, self.next_sequence = self.write_position, self.sequence
        self.header_sequence += 1
        return self.append_sealed(last.sealed)

    def recover(self):
        """What an opener for writing does after a crash."""
        if self.pending:
            self.append_last_again()
            self.write_headers((1, 0))
            return self
        return self.open()

    def change_slots(self, slots):
        """After a checkpoint: other slots, in a new epoch."""
        self.slots = self._slots(slots)
        self.header_sequence += 1
        self.begin_epoch()
        self.write_headers((1, 0))
        return self

    def leap(self, generation):
        """An acceptance (section 12), after a checkpoint."""
        self.begin_epoch()
        self.generation = self.header_generation = generation
        self.root = self.table_root()
        self.header_sequence += 1
        self.write_headers((1, 0))
        return self

    def close(self, copies=(0, 1)):
        if self.pending:
            self.checkpoint()
        self.clean = True
        self.header_sequence += 1
        self.write_headers(copies)
        return self


if __name__ == "__main__":
    import random_images

    sys.exit(random_images.main())
