"""Opens an image: header pair, slots, journal, tree, sectors. Written from sections 1 to 7 of FORMAT.md alone; it never writes."""

import hashlib
from dataclasses import dataclass, field

import vnvram_format as f
from vnvram_format import Reject, get, is_zero

KIND_NAMES = {f.KEYRING: "keyring", f.RECOVERY: "recovery", f.PASSPHRASE: "passphrase"}


class Credential:
    """What opens slots of one kind: a keyring key or recovery key of 32 bytes, or a passphrase."""

    def __init__(self, kind, secret):
        self.kind = kind
        self.secret = secret
        self._stretched = {}

    def key_encryption_key(self, slot):
        """The slot's key-encryption key, or None where the slot is of another kind or its costs are not allowed."""
        if get(slot, 0, 4) != self.kind:
            return None
        if self.kind != f.PASSPHRASE:
            return self.secret
        costs = (get(slot, 8, 4), get(slot, 12, 4), get(slot, 16, 4))
        if not f.costs_allowed(*costs):
            return None
        # Both copies have the same slots: stretching each once keeps the work at 16 times the largest cost.
        at = (bytes(slot[24:56]), costs)
        if at not in self._stretched:
            self._stretched[at] = f.scrypt(self.secret, bytes(slot[24:56]), *costs)
        return self._stretched[at]


# Sections 2 and 3: the header


class HeaderCopy:
    """One copy of the header as it lies in the image; nothing in it is believed before its MAC is."""

    def __init__(self, image, index):
        offset = f.HEADER_OFFSETS[index]
        self.index = index
        self.raw = bytes(image[offset : offset + f.HEADER_SIZE])
        self.has_magic = self.raw[:8] == f.MAGIC
        self.complete = len(self.raw) == f.HEADER_SIZE

    @property
    def supported(self):
        raw = self.raw
        return (
            self.has_magic
            and get(raw, 8, 4) == f.VERSION
            and get(raw, 12, 4) == f.SUITE
            and get(raw, 16, 4) == f.HEADER_SIZE
            and get(raw, 20, 4) == f.SLOT_COUNT
            and get(raw, 104, 8) == 0
        )

    @property
    def geometry(self):
        return f.Geometry(get(self.raw, 40, 4), get(self.raw, 44, 4), get(self.raw, 48, 8))

    def geometry_fault(self, image_length):
        geometry = self.geometry
        fault = geometry.fault()
        if fault:
            return fault
        for name, offset, length, value in geometry.header_fields():
            if get(self.raw, offset, length) != value:
                return f"{name} is {get(self.raw, offset, length)}, section 1 gives {value}"
        if image_length < geometry.image_size:
            return f"the file has {image_length} bytes, the image {geometry.image_size}"
        return None

    def slot(self, index):
        return self.raw[f.SLOTS_AT + f.SLOT_SIZE * index :][: f.SLOT_SIZE]


@dataclass(frozen=True)
class Slot:
    index: int
    kind: int
    name: str
    created: int
    costs: tuple


def parse_slot(index, slot):
    """A slot of an authenticated header, or None where it is empty."""

    def check(good, what):
        if not good:
            raise Reject("header", f"slot {index}: {what}")

    kind = get(slot, 0, 4)
    if kind == 0:
        check(is_zero(slot), "empty, and not zero")
        return None
    check(kind in KIND_NAMES, f"kind {kind}")
    for offset in (4, 20, 116, 252):
        check(is_zero(slot[offset : offset + 4]), f"reserved bytes at {offset}")
    costs = (get(slot, 8, 4), get(slot, 12, 4), get(slot, 16, 4))
    if kind == f.PASSPHRASE:
        check(f.costs_allowed(*costs), f"scrypt costs {costs}")
    else:
        check(costs == (0, 0, 0), "scrypt costs in a slot without a passphrase")
    length = get(slot, 128, 4)
    check(1 <= length <= 120, f"a name of {length} bytes")
    raw = slot[132 : 132 + length]
    check(f.name_fault(raw) is None, f.name_fault(raw))
    check(is_zero(slot[132 + length : 252]), "bytes after the name")
    return Slot(index, kind, raw.decode(), get(slot, 120, 8), costs)


class Header:
    """A header copy whose MAC has been verified, and whose fields are as section 2 says."""

    def __init__(self, copy, keys):
        raw = copy.raw
        self.copy = copy.index
        self.raw = raw
        self.keys = keys
        self.geometry = copy.geometry
        self.uuid = raw[24:40]
        self.digest = hashlib.sha256(raw[0:128]).digest()
        self.clean = get(raw, 132, 4) == f.FLAG_CLEAN
        self.sequence = get(raw, 136, 8)
        self.generation = get(raw, 144, 8)
        self.epoch = raw[152:168]
        self.ring_position = get(raw, 168, 8)
        self.next_sequence = get(raw, 176, 8)
        self.chain = raw[192:224]
        self.root = raw[224:256]
        self._check(raw)
        self.slot = copy.slot
        self.slots = [s for s in (parse_slot(i, copy.slot(i)) for i in range(f.SLOT_COUNT)) if s]
        names = [s.name.encode() for s in self.slots]
        if len(set(names)) != len(names):
            raise Reject("header", "two slots have the same name")

    def _check(self, raw):
        for start, end in ((112, 128), (188, 192), (256, 512), (4608, 8160)):
            if not is_zero(raw[start:end]):
                raise Reject("header", f"copy {'AB'[self.copy]}: reserved bytes {start} to {end}")
        if get(raw, 132, 4) & ~f.FLAG_CLEAN:
            raise Reject("header", f"flags {get(raw, 132, 4):#x}")
        if get(raw, 184, 4) != f.KEY_EPOCH:
            raise Reject("header", f"keyEpoch {get(raw, 184, 4)}")
        if self.ring_position % self.geometry.block_size or self.ring_position >= self.geometry.ring_size:
            raise Reject("header", f"ringPosition {self.ring_position}")

    @property
    def content(self):
        return self.raw[:128] + self.raw[132:8160]


def verify_copy(copy, store_key):
    """The header in a copy, or None where it does not verify under this store key."""
    keys = f.Keys(store_key, copy.raw[24:40])
    if get(copy.raw, 128, 4) != copy.index or keys.header_mac(copy.raw) != copy.raw[8160:]:
        return None
    return Header(copy, keys)


def choose(a, b):
    """The copy that counts, of the two that verified (None where one did not), and whether the copies differ."""
    if a and b:
        if a.content == b.content:
            return a, False
        if a.raw[:128] != b.raw[:128]:
            raise Reject("header-pair", "the copies belong to different stores or layouts")
        if a.sequence == b.sequence + 1 and a.clean and not b.clean:
            return a, True
        if b.sequence == a.sequence + 1 and not b.clean:
            return b, True
        raise Reject(
            "header-pair",
            f"A has sequence {a.sequence}{' clean' if a.clean else ''}, B {b.sequence}{' clean' if b.clean else ''}",
        )
    if a:
        return a, True
    if b.clean:
        raise Reject("header-pair", "only copy B is valid, and it is clean")
    return b, True


def open_header(image, credential):
    """Section 2: the header that counts, whether the copies differ, and what opened it: a slot's index and key."""
    copies = [HeaderCopy(image, index) for index in (0, 1)]
    with_magic = [c for c in copies if c.has_magic]
    if not with_magic:
        raise Reject("not-an-image", "no header copy has the magic")
    if not any(c.supported for c in with_magic):
        if all(len(c.raw) < 112 for c in with_magic):
            raise Reject("geometry", "the file ends within the header")
        raise Reject("unsupported-version", "version, suite, header size, slot count or features")
    supported = [c for c in with_magic if c.supported]
    faults = [c.geometry_fault(len(image)) for c in supported]
    sound = [c for c, fault in zip(supported, faults) if fault is None]
    if not sound:
        raise Reject("geometry", faults[0])

    found = {}
    for copy in supported:
        for index in range(f.SLOT_COUNT):
            slot = copy.slot(index)
            key = credential.key_encryption_key(slot) if len(slot) == f.SLOT_SIZE else None
            store_key = f.unwrap(key, copy.raw, index, slot) if key else None
            if store_key:
                found.setdefault(store_key, (index, key))
    if not found:
        raise Reject("wrong-key", "no slot opens")
    for store_key, opened in found.items():
        valid = {c.index: verify_copy(c, store_key) for c in sound}
        if any(valid.values()):
            return *choose(valid.get(0), valid.get(1)), opened
    raise Reject("header", "a slot opened, and no copy verifies")


# Section 7: the journal


@dataclass
class Record:
    """A record whose own MAC has been verified; whether it counts is another matter."""

    position: int
    kind: int
    count: int
    sequence: int
    generation: int
    epoch: bytes
    previous: bytes
    payload_size: int
    root: bytes
    reserved: bytes
    entries: list
    mac: bytes
    authenticated: bytes
    payloads: dict = field(default_factory=dict)

    @property
    def payload_at(self):
        return 192 + 40 * self.count


class Journal:
    """The records of the ring that count."""

    def __init__(self, image, header):
        self.image = image
        self.header = header
        self.keys = header.keys
        self.geometry = header.geometry
        self.records = []

    def read(self, position, length):
        """Bytes of the ring, which goes on at its start where it ends."""
        size = self.geometry.ring_size
        position %= size
        first = min(length, size - position)
        at = f.RING_OFFSET + position
        return bytes(self.image[at : at + first]) + bytes(self.image[f.RING_OFFSET : f.RING_OFFSET + length - first])

    def frame(self, position):
        """The record at a position, where there is one with a valid MAC and its own position in it; else None."""
        if bytes(self.image[f.RING_OFFSET + position : f.RING_OFFSET + position + 8]) != f.RECORD_MAGIC:
            return None
        head = self.read(position, 160)
        kind, count = get(head, 8, 4), get(head, 12, 4)
        most = {f.COMMIT: self.geometry.sector_count, f.IMAGES: self.geometry.image_blocks}.get(kind, 0)
        if not 1 <= count <= most or get(head, 80, 8) != position:
            return None
        raw = self.read(position, 192 + 40 * count)
        authenticated, mac = raw[:-32], raw[-32:]
        if self.keys.record_mac(self.header.digest, authenticated) != mac:
            return None
        entries = [authenticated[at : at + 40] for at in range(160, len(authenticated), 40)]
        return Record(
            position, kind, count, get(head, 16, 8), get(head, 24, 8), head[32:48], head[48:80],
            get(head, 88, 8), head[96:128], head[128:160], entries, mac, authenticated,
        )  # fmt: skip

    def unit(self, record):
        return self.geometry.sector_size if record.kind == f.COMMIT else self.geometry.block_size

    def size(self, record):
        return self.geometry.record_size(record.count, self.unit(record))

    def fault(self, record, previous, generation, room):
        """What no writer puts in a record that has the header's epoch and the expected sequence, or None."""
        if record.previous != previous:
            return "the MAC of the record before is another"
        if record.generation != generation + (1 if record.kind == f.COMMIT else 0):
            return f"generation {record.generation} after {generation}"
        if record.payload_size != record.count * self.unit(record):
            return f"payloadSize {record.payload_size}"
        if not is_zero(record.reserved) or (record.kind == f.COMMIT and not is_zero(record.root)):
            return "reserved bytes, or a root in a commit"
        if self.size(record) + (self.geometry.most_images if record.kind == f.COMMIT else 0) > room:
            return "longer than the rest of the ring, or no room for a checkpoint after it"
        places = [get(entry, 0, 8) for entry in record.entries]
        if any(first >= second for first, second in zip(places, places[1:])):
            return "entries that don't ascend"
        for place, entry in zip(places, record.entries):
            if record.kind == f.COMMIT:
                if place >= self.geometry.sector_count:
                    return f"sector {place}"
                if get(entry, 32, 4) != f.KEY_EPOCH or not is_zero(entry[36:40]):
                    return f"the leaf of sector {place}"
            elif not self.may_be_image(place):
                return f"an image of the block at {place}"
        return None

    def may_be_image(self, offset):
        g = self.geometry
        end = g.data_offset if g.sector_size >= g.block_size else g.image_size
        return offset % g.block_size == 0 and g.leaf_offset <= offset < end

    def payloads_verify(self, record):
        """Whether every payload fits its entry; keeps them in the record, by their place."""
        unit = self.unit(record)
        for index, entry in enumerate(record.entries):
            payload = self.read(record.position + record.payload_at + index * unit, unit)
            place = get(entry, 0, 8)
            if record.kind == f.COMMIT:
                good = self.keys.tag(place, entry[24:32], payload) == entry[8:24]
            else:
                good = self.keys.image_mac(self.header.digest, place, payload) == entry[8:40]
            if not good:
                return False
            record.payloads[place] = payload
        return True

    def replay(self):
        """Steps 2 and 3 of what a reader does."""
        size = self.geometry.ring_size
        sequence, previous, generation = self.header.next_sequence, self.header.chain, self.header.generation
        used = 0
        while used < size:
            position = (self.header.ring_position + used) % size
            record = self.frame(position)
            if record is None or record.epoch != self.header.epoch or record.sequence < sequence:
                break
            if record.sequence > sequence:
                raise Reject("journal", f"at {position}: record {record.sequence}, expected {sequence}")
            fault = self.fault(record, previous, generation, size - used)
            if fault:
                raise Reject("journal", f"record {sequence} at {position}: {fault}")
            if not self.payloads_verify(record):
                break
            self.records.append(record)
            used += self.size(record)
            sequence, previous, generation = sequence + 1, record.mac, record.generation
        for skipped in range(used, size, self.geometry.block_size):
            position = (self.header.ring_position + skipped) % size
            record = self.frame(position)
            if record and record.epoch == self.header.epoch and record.sequence > sequence:
                raise Reject("journal", f"record {record.sequence} at {position}, after the end at {sequence}")
        return generation


# Sections 5 and 6: the tree and the sectors


class Volume:
    """An image that has been opened: header chosen, journal replayed, tree verified."""

    def __init__(self, image, credential):
        self.image = image
        self.header, self.copies_differ, self.opened = open_header(image, credential)
        self.keys = self.header.keys
        self.geometry = self.header.geometry
        self.generation = self.header.generation
        self.records = []
        if not self.header.clean:
            journal = Journal(image, self.header)
            self.generation = journal.replay()
            self.records = journal.records
        self.newer = {}  # the last version that the journal has of a sector, of those it has
        self.table = self._leaf_table()

    def _leaf_table(self):
        """Steps 4 and 5: the verified leaf table, with the leaves of the commits over it."""
        g = self.geometry
        table = bytearray(self.image[g.leaf_offset : g.data_offset])
        root, generation, last = self.header.root, self.header.generation, -1
        for at, record in enumerate(self.records):
            if record.kind == f.COMMIT:
                self.newer.update(record.payloads)
                continue
            root, generation, last = record.root, record.generation, at
            for offset, block in record.payloads.items():
                if offset < g.data_offset:
                    table[offset - g.leaf_offset : offset - g.leaf_offset + g.block_size] = block
                else:
                    self._take_data_block(offset, block)
        if self.keys.root(self.header.digest, generation, table, g.block_size) != root:
            raise Reject("tree", "the root is not the expected one")
        if not is_zero(table[g.sector_count * f.LEAF_SIZE :]):
            raise Reject("tree", "bytes after the last leaf")
        for record in self.records[last + 1 :]:
            for entry in record.entries:
                at = get(entry, 0, 8) * f.LEAF_SIZE
                table[at : at + f.LEAF_SIZE] = entry[8:40]
        return table

    def _take_data_block(self, offset, block):
        """The block is a newer version of every sector in it; the last block may have bytes after the last sector."""
        g = self.geometry
        first = (offset - g.data_offset) // g.sector_size
        for sector in range(first, min(first + g.block_size // g.sector_size, g.sector_count)):
            at = (sector - first) * g.sector_size
            self.newer[sector] = block[at : at + g.sector_size]

    def leaf(self, sector):
        return bytes(self.table[sector * f.LEAF_SIZE : (sector + 1) * f.LEAF_SIZE])

    def ciphertext(self, sector):
        """The sector's newest ciphertext."""
        g = self.geometry
        if sector in self.newer:
            return self.newer[sector]
        offset = g.data_offset + sector * g.sector_size
        return bytes(self.image[offset : offset + g.sector_size])

    def sector(self, sector):
        """A sector, verified and decrypted."""
        leaf = self.leaf(sector)
        if get(leaf, 24, 4) != f.KEY_EPOCH or not is_zero(leaf[28:32]):
            raise Reject("sector", f"the leaf of sector {sector}")
        ciphertext = self.ciphertext(sector)
        if self.keys.tag(sector, leaf[16:24], ciphertext) != leaf[:16]:
            raise Reject("sector", f"sector {sector} does not verify")
        return self.keys.decrypt(sector, leaf[16:24], ciphertext)

    def plaintext(self):
        return b"".join(self.sector(i) for i in range(self.geometry.sector_count))
