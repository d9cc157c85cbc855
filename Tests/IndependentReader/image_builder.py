"""An independent writer of vnvram images, written from FORMAT.md alone: it makes the vectors, good and bad.

It works on an image in memory and is as deterministic as its seed. Nothing is synced and nothing is atomic here; a state
that a power cut leaves is made by stopping a step half-way. The hooks named `edit` change bytes just before they are
authenticated, so that a bad vector breaks one rule and is consistent in everything else.
"""

import hashlib

import vnvram_format as f
from vnvram_format import u32, u64


class Seeded:
    """Reproducible bytes: SHA-256 of the seed and a counter."""

    def __init__(self, seed):
        self.seed = seed.encode()
        self.counter = 0

    def bytes(self, length):
        out = b""
        while len(out) < length:
            out += hashlib.sha256(self.seed + self.counter.to_bytes(8, "big")).digest()
            self.counter += 1
        return out[:length]

    def below(self, limit):
        return int.from_bytes(self.bytes(8), "big") % limit


def put(target, offset, value):
    target[offset : offset + len(value)] = value


# Section 8


def der(tag, content):
    length = len(content)
    if length < 128:
        return bytes([tag, length]) + content
    digits = length.to_bytes((length.bit_length() + 7) // 8, "big")
    return bytes([tag, 128 + len(digits)]) + digits + content


def encode_entry(name, capacity, content, padding):
    blob = der(0x04, len(content).to_bytes(8, "big"))
    if padding is not None:
        blob += der(0x80, bytes(padding))
    blob += der(0x04, content + bytes(capacity - len(content)))
    return der(0x30, der(0x0C, name) + der(0x30, blob))


def encode_stream(entries):
    """The one encoding of these (name, capacity, content) entries."""
    entries = [(name.encode() if isinstance(name, str) else name, capacity, content) for name, capacity, content in entries]
    _, length, paddings = f.stream_layout([(len(name), capacity) for name, capacity, _ in entries])
    content = der(0x0C, f.STREAM_MAGIC)
    for (name, capacity, real), padding in zip(entries, paddings):
        content += encode_entry(name, capacity, real, padding)
    stream = der(0x30, content)
    assert len(stream) == length
    return stream


# Section 3


class SlotSpec:
    """A slot to be written: its kind, name and secret, and, for a passphrase, its costs."""

    def __init__(self, kind, name, secret, costs=(0, 0, 0), index=None, created=1700000000, edit=None, wraps=None):
        self.kind = kind
        self.name = name.encode() if isinstance(name, str) else name
        self.secret = secret
        self.costs = costs
        self.index = index
        self.created = created
        self.edit = edit
        self.wraps = wraps

    def wrap(self, header, index, store_key, random):
        slot = bytearray(f.SLOT_SIZE)
        put(slot, 0, u32(self.kind))
        for at, cost in zip((8, 12, 16), self.costs):
            put(slot, at, u32(cost))
        put(slot, 24, random.bytes(32))
        put(slot, 56, random.bytes(12))
        put(slot, 120, u64(self.created))
        put(slot, 128, u32(len(self.name)))
        put(slot, 132, self.name)
        if self.edit:
            self.edit(slot)
        assert len(slot) == f.SLOT_SIZE
        salt = bytes(slot[24:56])
        key = f.scrypt(self.secret, salt, *self.costs) if self.kind == f.PASSPHRASE else self.secret
        wrapping = f.hkdf(key, salt, b"slot", 32)
        sealed = f.AESGCM(wrapping).encrypt(bytes(slot[56:68]), self.wraps or store_key, f.slot_associated_data(header, index, slot))
        put(slot, 68, sealed)
        return bytes(slot)


class ImageBuilder:
    """One image in memory, and the state of its writer."""

    def __init__(self, seed, slots, sector_size=4096, block_size=4096, sector_count=3, geometry=None, ring_position=0):
        self.random = Seeded(seed)
        self.geometry = geometry or f.Geometry(sector_size, block_size, sector_count)
        uuid = bytearray(self.random.bytes(16))
        uuid[6] = uuid[6] & 0x0F | 0x40
        uuid[8] = uuid[8] & 0x3F | 0x80
        self.uuid = bytes(uuid)
        self.keys = f.Keys(self.random.bytes(32), self.uuid)
        self.image = bytearray(self.geometry.image_size)
        self.clean = True
        self.header_sequence = 1
        self.generation = 1
        self.epoch = self.random.bytes(16)
        self.ring_position = ring_position
        self.write_position = ring_position
        self.next_sequence = 1
        self.sequence = 1
        self.chain = bytes(32)
        self.last_mac = bytes(32)
        self.header_generation = 1
        self.root = bytes(32)
        self.fixed = self._fixed_fields()
        self.slots = self._slots(slots)
        self.digest = hashlib.sha256(self.fixed).digest()
        self.pending = {}  # sectors committed and not yet in place: leaf and ciphertext

    def _fixed_fields(self):
        header = bytearray(128)
        put(header, 0, f.MAGIC)
        for at, value in ((8, f.VERSION), (12, f.SUITE), (16, f.HEADER_SIZE), (20, f.SLOT_COUNT)):
            put(header, at, u32(value))
        put(header, 24, self.uuid)
        for _, offset, length, value in self.geometry.header_fields():
            put(header, offset, value.to_bytes(length, "little"))
        return bytes(header)

    def _slots(self, specs):
        slots = [bytes(f.SLOT_SIZE)] * f.SLOT_COUNT
        for at, spec in enumerate(specs):
            index = at if spec.index is None else spec.index
            slots[index] = spec.wrap(self.fixed, index, self.keys.store_key, self.random)
        return slots

    # Headers

    def edit_fixed(self, edit, rewrap=None):
        """Changes header[0..128], and with it the geometry digest; `rewrap` are the slots to be wrapped anew."""
        fixed = bytearray(self.fixed)
        edit(fixed)
        self.fixed = bytes(fixed)
        self.uuid = self.fixed[24:40]
        self.digest = hashlib.sha256(self.fixed).digest()
        self.keys = f.Keys(self.keys.store_key, self.uuid)
        if rewrap:
            self.slots = self._slots(rewrap)

    def header(self, copy, edit=None):
        header = bytearray(f.HEADER_SIZE)
        put(header, 0, self.fixed)
        put(header, 128, u32(copy))
        put(header, 132, u32(f.FLAG_CLEAN if self.clean else 0))
        put(header, 136, u64(self.header_sequence))
        put(header, 144, u64(self.header_generation))
        put(header, 152, self.epoch)
        put(header, 168, u64(self.ring_position))
        put(header, 176, u64(self.next_sequence))
        put(header, 184, u32(f.KEY_EPOCH))
        put(header, 192, self.chain)
        put(header, 224, self.root)
        put(header, 512, b"".join(self.slots))
        if edit:
            edit(header)
        put(header, 8160, self.keys.header_mac(header))
        return bytes(header)

    def write_headers(self, copies=(0, 1), edit=None):
        for copy in copies:
            put(self.image, f.HEADER_OFFSETS[copy], self.header(copy, edit))

    # Sectors and the tree

    def seal(self, sector, plaintext, edit_leaf=None):
        """A sector's leaf and ciphertext, under a new nonce."""
        nonce = self.random.bytes(8)
        ciphertext = self.keys.encrypt(sector, nonce, plaintext)
        leaf = bytearray(self.keys.tag(sector, nonce, ciphertext) + nonce + u32(f.KEY_EPOCH) + u32(0))
        if edit_leaf:
            edit_leaf(leaf)
        return bytes(leaf), ciphertext

    def put_leaf(self, sector, leaf):
        put(self.image, self.geometry.leaf_offset + sector * f.LEAF_SIZE, leaf)

    def put_data(self, sector, ciphertext):
        put(self.image, self.geometry.data_offset + sector * self.geometry.sector_size, ciphertext)

    @property
    def table(self):
        return bytes(self.image[self.geometry.leaf_offset : self.geometry.data_offset])

    def table_root(self, table=None, generation=None):
        table = self.table if table is None else table
        generation = self.generation if generation is None else generation
        return self.keys.root(self.digest, generation, table, self.geometry.block_size)

    def sectors_of(self, stream):
        """The volume's sectors for a stream, which may be too long only where a bad vector wants it so."""
        size, count = self.geometry.sector_size, self.geometry.sector_count
        volume = stream + bytes(size * count - len(stream))
        return {i: volume[i * size : (i + 1) * size] for i in range(count)}

    # What a writer does

    def format(self, stream, edit_leaf=None):
        for sector, plaintext in self.sectors_of(stream).items():
            leaf, ciphertext = self.seal(sector, plaintext, edit_leaf if sector == 0 else None)
            self.put_leaf(sector, leaf)
            self.put_data(sector, ciphertext)
        self.root = self.table_root()
        self.write_headers()
        return self

    def reroot(self):
        """The tree and both headers anew, after a change of the leaf table."""
        self.root = self.table_root()
        self.write_headers()

    def open(self, copies=(1, 0)):
        self.header_sequence += 1
        self.clean = False
        self.epoch = self.random.bytes(16)
        self.write_headers(copies)
        return self

    def ring_write(self, position, data):
        size = self.geometry.ring_size
        assert len(data) <= size
        first = min(len(data), size - position)
        put(self.image, f.RING_OFFSET + position, data[:first])
        put(self.image, f.RING_OFFSET, data[first:])

    def append(self, kind, entries, payloads, generation, root=bytes(32), edit=None, edit_mac=None):
        """One record at the end of the journal. `edit` changes its authenticated bytes, `edit_mac` what comes after."""
        payload = b"".join(payloads)
        head = f.RECORD_MAGIC + u32(kind) + u32(len(entries)) + u64(self.sequence) + u64(generation) + self.epoch
        head += self.last_mac + u64(self.write_position) + u64(len(payload)) + root + bytes(32)
        authenticated = bytearray(head + b"".join(entries))
        if edit:
            edit(authenticated)
        mac = self.keys.record_mac(self.digest, authenticated)
        record = bytearray(bytes(authenticated) + mac + payload)
        if edit_mac:
            edit_mac(record)
        record += bytes(-len(record) % self.geometry.block_size)
        self.ring_write(self.write_position, bytes(record))
        start = self.write_position
        self.write_position = (start + len(record)) % self.geometry.ring_size
        self.sequence += 1
        self.last_mac = mac
        return start

    def commit(self, changes, edit=None, edit_mac=None, edit_leaf=None):
        """A commit of these plaintext sectors; returns where in the ring it starts."""
        sealed = {sector: self.seal(sector, plaintext, edit_leaf) for sector, plaintext in sorted(changes.items())}
        self.generation += 1
        entries = [u64(sector) + leaf for sector, (leaf, _) in sealed.items()]
        payloads = [ciphertext for _, ciphertext in sealed.values()]
        start = self.append(f.COMMIT, entries, payloads, self.generation, edit=edit, edit_mac=edit_mac)
        self.pending.update(sealed)
        return start

    def partial_blocks(self):
        """The new content of every block that a checkpoint now would overwrite in part, by its offset."""
        g = self.geometry
        after = bytearray(self.image)
        touched = {}
        for sector, (leaf, ciphertext) in self.pending.items():
            at = g.leaf_offset + sector * f.LEAF_SIZE
            put(after, at, leaf)
            touched.setdefault(at // g.block_size * g.block_size, set()).add(sector)
            at = g.data_offset + sector * g.sector_size
            put(after, at, ciphertext)
            if g.sector_size < g.block_size:
                touched.setdefault(at // g.block_size * g.block_size, set()).add(sector)
        whole = g.block_size // g.sector_size
        offsets = [o for o, s in touched.items() if o < g.data_offset or len(s) < whole]
        return {offset: bytes(after[offset : offset + g.block_size]) for offset in sorted(offsets)}

    def images(self, edit=None, edit_mac=None, extra=None, root=None):
        """The record of images that begins a checkpoint."""
        g = self.geometry
        blocks = {**self.partial_blocks(), **(extra or {})}
        table = bytearray(self.table)
        for offset, block in blocks.items():
            if g.leaf_offset <= offset < g.data_offset:
                put(table, offset - g.leaf_offset, block)
        new_root = root or self.table_root(bytes(table), self.generation)
        entries = [u64(o) + self.keys.image_mac(self.digest, o, block) for o, block in blocks.items()]
        start = self.append(f.IMAGES, entries, list(blocks.values()), self.generation, new_root, edit, edit_mac)
        self.checkpointed = (self.write_position, self.sequence, self.last_mac, self.generation, new_root, dict(self.pending))
        return start

    def overwrite(self):
        """The second step of a checkpoint: everything that was pending at its record goes in place."""
        for sector, (leaf, ciphertext) in self.checkpointed[5].items():
            self.put_leaf(sector, leaf)
            self.put_data(sector, ciphertext)

    def adopt(self):
        """The new content of the headers after a checkpoint, not written yet."""
        position, sequence, chain, generation, root, covered = self.checkpointed
        self.ring_position, self.next_sequence, self.chain = position, sequence, chain
        self.header_generation, self.root = generation, root
        self.pending = {s: v for s, v in self.pending.items() if covered.get(s) != v}
        self.header_sequence += 1

    def checkpoint(self):
        self.images()
        self.overwrite()
        self.adopt()
        self.write_headers((1, 0))
        return self

    def close(self, copies=(0, 1)):
        if self.pending:
            self.checkpoint()
        self.clean = True
        self.header_sequence += 1
        self.write_headers(copies)
        return self
