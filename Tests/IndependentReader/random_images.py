"""Images of random shapes and histories, and what is in each: for this reader's tests and for another's.

`image_builder.py --random N --seed S DIRECTORY` writes N images of valid stores, and `images.jsonl`: one line of JSON
an image, with its file's name, the keyring key that opens it, and what a reader should find. The same seed gives the
same bytes.
"""

import argparse
import hashlib
import json
import pathlib
import uuid as uuid_module

import vnvram_format as f
from builder_parts import Seeded, SlotSpec, encode_stream, vm_binding
from image_builder import ImageBuilder

# Capacities around the places where DER lengths grow, and where padding begins.
CAPACITIES = (1, 100, 127, 255, 300, 3800, 4095, 4096, 5000, 20000, 65535)
NAMES = ("", "é", " with spaces", ".permall", "n" * 100)
# Large blocks make large images: they come less often.
BLOCK_SIZES = (4096, 4096, 4096, 4096, 8192, 8192, 16384, 32768, 65536)


class RandomImage:
    """A builder in a random state, and the entries that are in its store."""

    def __init__(self, seed):
        self.random = Seeded(seed)
        self.key = self.random.bytes(32)
        self.entries = [self._entry(i) for i in range(self.random.below(6))]
        self.copies_differ = False
        self.builder = self._builder(seed)
        self.builder.format(encode_stream(self.entries))

    def _pick(self, choices):
        return choices[self.random.below(len(choices))]

    def _content(self, capacity):
        return self.random.bytes(self._pick((0, capacity, self.random.below(capacity + 1))))

    def _entry(self, index):
        capacity = max(1, self._pick(CAPACITIES) + self.random.below(7) - 3)
        return f"entry{index}{self._pick(NAMES)}", capacity, self._content(capacity)

    def _builder(self, seed):
        block_size = self._pick(BLOCK_SIZES)
        count = -(-len(encode_stream(self.entries)) // block_size) + self.random.below(self._pick((1, 4, 200)))
        count = max(1, min(count, 1 + (1 << 22) // block_size))
        blocks = f.Geometry(block_size, count).ring_size // block_size
        binding = vm_binding(self.random.bytes(16), self._pick(NAMES)) if self.random.below(2) else b""
        heads = b"".join(map(self._audit_head, range(self._pick((0, 8)))))
        position = self.random.below(blocks) * block_size
        return ImageBuilder(seed + " builder", self._slots(), block_size, count, position, binding, heads)

    def _audit_head(self, sequence):
        return self.random.bytes(16) + f.u64(sequence) + self.random.bytes(32) + bytes(8)

    def _slots(self):
        free = list(range(f.SLOT_COUNT))
        slots = [SlotSpec(f.KEYRING, "vm", self.key)]
        slots += [SlotSpec(f.KEYRING, f"other {i}", self.random.bytes(32)) for i in range(self.random.below(3))]
        slots += [SlotSpec(f.RECOVERY, "drawer", self.random.bytes(32))] * self.random.below(2)
        slots += [SlotSpec(f.PASSPHRASE, "admin", b"passphrase", costs=(10, 1, 1), maker="")] * self.random.below(2)
        for slot in slots:
            slot.index = free.pop(self.random.below(len(free)))
        return slots

    # What a writer does, in random order

    def steps(self):
        """Goes through the history; yields after each step, at which a reader must find what `expected` says."""
        yield
        for _ in range(self.random.below(5)):
            yield from self._opening()

    def _opening(self):
        builder = self.builder
        builder.recover()
        self.copies_differ = False
        if self.random.below(3) == 0:
            builder.hand_over()
        yield
        for _ in range(self.random.below(6)):
            self._commit()
            yield
            if builder.pending and self.random.below(3) == 0:
                yield from self._checkpoint()
        if builder.pending and self.random.below(3) == 0:
            yield from self._torn_commit()
        elif self.random.below(2):
            self.copies_differ = self.random.below(2) == 0
            builder.close((0,) if self.copies_differ else (0, 1))
            yield
            # An opener makes both copies durable before it goes on.
            builder.write_headers()
            self.copies_differ = False

    def _commit(self):
        """New contents in one record, as the sectors that differ and a few that don't."""
        builder, before = self.builder, self.builder.sectors_of(encode_stream(self.entries))
        self.entries = [
            (name, capacity, self._content(capacity) if self.random.below(2) else content)
            for name, capacity, content in self.entries
        ]
        after = builder.sectors_of(encode_stream(self.entries))
        changes = {i: s for i, s in after.items() if s != before[i] or self.random.below(40) == 0}
        if not changes:
            return
        if self._in_use() + builder.geometry.record_size(len(changes)) > builder.geometry.ring_size // 2:
            if builder.pending:
                builder.checkpoint()
        builder.commit(changes)

    def _in_use(self):
        return sum(self.builder.geometry.record_size(len(commit.sealed)) for commit in self.builder.pending)

    def _checkpoint(self):
        """Of some of the records, with every step at which power can go."""
        builder = self.builder
        count = 1 + self.random.below(len(builder.pending))
        self._tear(count)
        yield
        builder.put_in_place(count)
        yield
        builder.adopt(count)
        builder.write_headers((1,))
        self.copies_differ = True
        yield
        builder.write_headers((0,))
        self.copies_differ = False
        yield

    def _tear(self, count):
        """Garbage in some of what the checkpoint is about to overwrite."""
        builder = self.builder
        for commit in builder.pending[:count]:
            for sector in commit.sealed:
                if self.random.below(2):
                    builder.put_leaf(sector, self.random.bytes(32), 1 - builder.leaf_table)
                    builder.put_data(sector, self.random.bytes(builder.geometry.block_size))

    def _torn_commit(self):
        """A commit that power cut off: it is not there. The writer goes on as if it had never begun."""
        builder, entries = self.builder, self.entries
        kept = (builder.write_position, builder.sequence, builder.last_mac, builder.generation, list(builder.pending))
        changes = {0: builder.sectors_of(encode_stream(entries))[0]}
        if self._in_use() + builder.geometry.record_size(1) > builder.geometry.ring_size:
            return
        start = builder.commit(changes)
        torn = start + self._pick((0, 20, 140, 170, builder.geometry.block_size + 5))
        builder.image[f.RING_OFFSET + torn % builder.geometry.ring_size] ^= 0x10
        builder.write_position, builder.sequence, builder.last_mac, builder.generation, builder.pending = kept
        yield

    def expected(self):
        """What a reader should find."""
        builder = self.builder
        return {
            "uuid": str(uuid_module.UUID(bytes=builder.uuid)),
            "blockSize": builder.geometry.block_size,
            "sectorCount": builder.geometry.sector_count,
            "generation": builder.generation,
            "recordsReplayed": len(builder.pending),
            "clean": builder.clean,
            "copiesDiffer": self.copies_differ,
            "entries": [self._entry_json(*entry) for entry in self.entries],
        }

    @staticmethod
    def _entry_json(name, capacity, content):
        digest = hashlib.sha256(content).hexdigest()
        return {"name": name, "capacity": capacity, "size": len(content), "sha256": digest}


def random_image(seed):
    """An image that stopped at a random step of its history."""
    made = RandomImage(seed)
    steps = made.steps()
    for _ in range(1 + Seeded(seed + " stop").below(30)):
        next(steps, None)
    return made


def write(count, seed, directory):
    directory.mkdir(parents=True, exist_ok=True)
    with open(directory / "images.jsonl", "w", encoding="utf-8") as lines:
        for number in range(count):
            made = random_image(f"{seed} {number}")
            name = f"image-{number:05}"
            (directory / name).write_bytes(made.builder.image)
            row = {"image": name, "key": made.key.hex(), **made.expected()}
            lines.write(json.dumps(row, ensure_ascii=False) + "\n")


def main(arguments=None):
    parser = argparse.ArgumentParser(description="Makes images of random shapes, and says what is in them.")
    parser.add_argument("--random", metavar="N", type=int, required=True, help="how many images")
    parser.add_argument("--seed", metavar="S", default="0", help="the same seed gives the same images")
    parser.add_argument("directory", type=pathlib.Path)
    arguments = parser.parse_args(arguments)
    write(arguments.random, arguments.seed, arguments.directory)
    return 0
