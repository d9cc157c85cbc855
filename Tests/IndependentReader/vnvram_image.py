"""Opens an image: header, tree, journal, sectors. Written from sections 5 to 7 of FORMAT.md alone; it never writes."""

from dataclasses import dataclass, field

import vnvram_format as f
from vnvram_format import Reject, get, is_zero
from vnvram_header import open_header


@dataclass
class Record:
    """A record whose own MAC has been verified; whether it counts is another matter."""

    position: int
    count: int
    sequence: int
    generation: int
    previous: bytes
    reserved: bytes
    entries: list
    mac: bytes
    authenticated: bytes
    payloads: dict = field(default_factory=dict)


def leaf_fault(leaf):
    return get(leaf, 24, 4) != f.KEY_EPOCH or not is_zero(leaf[28:32])


class Journal:
    """The records of the ring that count."""

    def __init__(self, image, header):
        self.image = image
        self.header = header
        self.keys = header.keys
        self.geometry = header.geometry
        self.records = []
        self.may_hash = self.geometry.ring_size

    def read(self, position, length):
        """Bytes of the ring, which goes on at its start where it ends."""
        size = self.geometry.ring_size
        position %= size
        first = min(length, size - position)
        at = f.RING_OFFSET + position
        return bytes(self.image[at : at + first]) + bytes(self.image[f.RING_OFFSET : f.RING_OFFSET + length - first])

    def frame(self, position):
        """The record at a position, or None where there is none."""
        at = f.RING_OFFSET + position
        if bytes(self.image[at : at + 8]) != f.RECORD_MAGIC:
            return None
        head = self.read(position, 128)
        count = get(head, 12, 4)
        if get(head, 8, 4) != f.COMMIT or not 1 <= count <= self.geometry.sector_count:
            return None
        if head[32:48] != self.header.epoch or get(head, 80, 8) != position:
            return None
        length = 128 + 40 * count
        self.may_hash -= length
        if self.may_hash < 0:
            raise Reject("journal", "more looks like records than the ring can hold")
        raw = self.read(position, length + 32)
        authenticated, mac = raw[:-32], raw[-32:]
        if self.keys.record_mac(self.header.digest, authenticated) != mac:
            return None
        entries = [authenticated[at : at + 40] for at in range(128, length, 40)]
        sequence, generation = get(head, 16, 8), get(head, 24, 8)
        return Record(position, count, sequence, generation, head[48:80], head[88:128], entries, mac, authenticated)

    def size(self, record):
        return self.geometry.record_size(record.count)

    def fault(self, record, previous, generation, room):
        """What no writer puts in a record that has the expected sequence, or None."""
        if record.previous != previous:
            return "the MAC of the record before is another"
        if record.generation != generation + 1:
            return f"generation {record.generation} after {generation}"
        if max(record.generation, record.sequence) >= f.LIMIT:
            return "a number of 2^63"
        if not is_zero(record.reserved):
            return "reserved bytes"
        if self.size(record) > min(room, self.geometry.ring_size // 2):
            return "longer than half the ring, or than the rest of it"
        sectors = [get(entry, 0, 8) for entry in record.entries]
        if any(first >= second for first, second in zip(sectors, sectors[1:])):
            return "entries that don't ascend"
        if sectors[-1] >= self.geometry.sector_count:
            return f"sector {sectors[-1]}"
        if any(leaf_fault(entry[8:]) for entry in record.entries):
            return "a leaf"
        return None

    def payloads_verify(self, record):
        """Whether every payload fits its entry; keeps them in the record, by their sector."""
        unit = self.geometry.block_size
        start = record.position + self.geometry.payload_offset(record.count)
        for index, entry in enumerate(record.entries):
            payload = self.read(start + index * unit, unit)
            sector = get(entry, 0, 8)
            if self.keys.tag(sector, entry[24:32], payload) != entry[8:24]:
                return False
            record.payloads[sector] = payload
        return True

    def replay(self):
        """Steps 2 and 3 of what a reader does; the generation afterwards."""
        size, start = self.geometry.ring_size, self.header.ring_position
        sequence, previous, generation = self.header.next_sequence, self.header.chain, self.header.generation
        used = 0
        while used < size:
            record = self.frame((start + used) % size)
            if record is None or record.sequence != sequence:
                break
            fault = self.fault(record, previous, generation, size - used)
            if fault:
                raise Reject("journal", f"record {sequence} at {record.position}: {fault}")
            if not self.payloads_verify(record):
                break
            self.records.append(record)
            used += self.size(record)
            sequence, previous, generation = sequence + 1, record.mac, record.generation
        self.check_rest(used, sequence)
        return generation

    def check_rest(self, used, expected):
        """No record from the end on has a sequence above the expected one."""
        size = self.geometry.ring_size
        for skipped in range(used, size, self.geometry.block_size):
            record = self.frame((self.header.ring_position + skipped) % size)
            if record and record.sequence > expected:
                raise Reject("journal", f"record {record.sequence} at {record.position}, after the end at {expected}")


class Volume:
    """An image that has been opened: header chosen, tree verified, journal replayed."""

    def __init__(self, image, credential):
        self.image = image
        self.header, self.copies_differ, self.opened = open_header(image, credential)
        self.keys = self.header.keys
        self.geometry = self.header.geometry
        self.table = self._leaf_table()
        self.generation = self.header.generation
        self.records = []
        if not self.header.clean:
            journal = Journal(image, self.header)
            self.generation = journal.replay()
            self.records = journal.records
        self.newer = {}  # the last version that the journal has of a sector, of those it has
        for record in self.records:
            self.newer.update(record.payloads)
            for entry in record.entries:
                at = get(entry, 0, 8) * f.LEAF_SIZE
                self.table[at : at + f.LEAF_SIZE] = entry[8:40]

    def _leaf_table(self):
        """The leaf table that the header names, verified (section 6)."""
        g, header = self.geometry, self.header
        at = g.table_offset(header.leaf_table)
        table = bytearray(self.image[at : at + g.leaf_size])
        if self.keys.root(header.digest, header.generation, table, g.block_size) != header.root:
            raise Reject("tree", "the root is not the expected one")
        if not is_zero(table[g.sector_count * f.LEAF_SIZE :]):
            raise Reject("tree", "bytes after the last leaf")
        for sector in range(g.sector_count):
            if leaf_fault(table[sector * f.LEAF_SIZE : (sector + 1) * f.LEAF_SIZE]):
                raise Reject("sector", f"the leaf of sector {sector}")
        return table

    def leaf(self, sector):
        return bytes(self.table[sector * f.LEAF_SIZE : (sector + 1) * f.LEAF_SIZE])

    def ciphertext(self, sector):
        """The sector's newest ciphertext."""
        g = self.geometry
        if sector in self.newer:
            return self.newer[sector]
        offset = g.data_offset + sector * g.block_size
        return bytes(self.image[offset : offset + g.block_size])

    def sector(self, sector):
        """A sector, verified and decrypted."""
        leaf = self.leaf(sector)
        ciphertext = self.ciphertext(sector)
        if self.keys.tag(sector, leaf[16:24], ciphertext) != leaf[:16]:
            raise Reject("sector", f"sector {sector} does not verify")
        return self.keys.decrypt(sector, leaf[16:24], ciphertext)

    def plaintext(self):
        return b"".join(self.sector(i) for i in range(self.geometry.sector_count))
