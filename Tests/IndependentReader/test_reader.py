"""Tests of the independent reader: every vector, images of random shapes, and single bits changed.

Run in this directory: python3 -m unittest -v
"""

import contextlib
import io
import json
import pathlib
import tempfile
import unittest

import image_builder as b
import make_vectors
import vector_file
import vector_parts
import vnvram_format as f
import vnvram_reader as r
from vnvram_image import Credential, Volume
from vnvram_stream import Stream

KEY = vector_parts.KEY


def by_key():
    return Credential(f.KEYRING, KEY)


def open_image(image, credential=None):
    """The volume and its entries as (name, capacity, content), or a Reject."""
    volume = Volume(image, credential or by_key())
    return volume, [(e.name, e.capacity, e.content) for e in Stream(volume.plaintext()).entries]


def outcome(image, credential=None):
    try:
        open_image(image, credential)
        return "ok"
    except f.Reject as error:
        return error.reason


def vectors():
    return [vector_file.read(p.read_text(encoding="utf-8")) for p in sorted(make_vectors.DIRECTORY.glob("*.txt"))]


def credential_of(vector):
    return make_vectors.credential(next((k, vector.fields[k]) for k in ("key", "recovery", "passphrase") if k in vector.fields))


class Vectors(unittest.TestCase):
    def test_every_vector_has_its_outcome(self):
        found = vectors()
        self.assertGreaterEqual(len(found), 150)
        for vector in found:
            with self.subTest(vector.name):
                self.assertEqual(outcome(vector.image, credential_of(vector)), vector.expect)

    def test_every_reason_comes_twice_or_more(self):
        count = {reason: 0 for reason in f.STATUS}
        for vector in vectors():
            if vector.expect != "ok":
                count[vector.expect] += 1
        self.assertEqual([reason for reason, n in count.items() if n < 2], [])

    def test_good_vectors_have_their_content_and_values(self):
        good = [v for v in vectors() if v.expect == "ok"]
        self.assertGreaterEqual(len(good), 8)
        for vector in good:
            with self.subTest(vector.name):
                volume = Volume(vector.image, credential_of(vector))
                found = r.describe(volume, Stream(volume.plaintext()))
                entries = [(e["name"], e["capacity"], e["size"], e["sha256"]) for e in found["entries"]]
                self.assertEqual(entries, vector.content)
                self.assertEqual(found["uuid"], vector.fields["uuid"])
                self.assertEqual(str(found["generation"]), vector.fields["generation"])
                self.assertEqual(str(found["recordsReplayed"]), vector.fields["records"])
                self.assertEqual(found["clean"], vector.fields["clean"] == "yes")
                self.assertEqual(found["copiesDiffer"], vector.fields["copies-differ"] == "yes")
                last = volume.geometry.sector_count - 1
                values = {**r.key_values(volume), **r.tree_values(volume), **r.record_values(volume), **r.sector_values(volume, last)}
                self.assertEqual(values, vector.values)

    def test_the_files_are_what_the_builder_makes(self):
        wanted = {make_vectors.file_name(v): vector_file.write(v) for v in make_vectors.vectors()}
        found = {p.name: p.read_text(encoding="utf-8") for p in make_vectors.DIRECTORY.glob("*.txt")}
        self.assertEqual(sorted(wanted), sorted(found))
        self.assertEqual([name for name, text in wanted.items() if found[name] != text], [])


class Layout(unittest.TestCase):
    def test_paddings_that_one_element_can_not_fill(self):
        # Gaps of 1, 130 and 259 bytes go to the next multiple of 4096; those beside them don't.
        plain = 4096 - f.entry_length(1, 4096, None)[1]
        for gap, padding in ((0, None), (2, 0), (129, 127), (131, 128), (258, 255), (260, 256)):
            self.assertEqual(f.entry_padding(plain - gap, 1, 4096), padding)
        for gap in (1, 130, 259):
            self.assertEqual(f.entry_padding(plain - gap, 1, 4096), gap + 4096 - 4)

    def test_padding_is_the_shortest(self):
        random = b.Seeded("shortest")
        for _ in range(100):
            start, name, capacity = random.below(9000), 1 + random.below(120), 4096 + random.below(70000)
            found = f.entry_padding(start, name, capacity)
            shorter = [None] + list(range(found or 0)) if found is not None else []
            self.assertEqual([p for p in shorter if (start + f.entry_length(name, capacity, p)[1]) % 4096 == 0], [])
            self.assertEqual((start + f.entry_length(name, capacity, found)[1]) % 4096, 0)

    def test_two_outer_headers_fit_and_the_shorter_counts(self):
        self.assertEqual(f.stream_layout([(1, 3770), (1, 61000)])[:2], (4, 65096))

    def test_the_aligned_entry_moves_on_where_no_outer_header_fits(self):
        header, length, paddings = f.stream_layout([(1, 3771), (1, 61000)])
        self.assertEqual((header, length), (5, 69192))
        self.assertGreater(paddings[1], 4096)

    def test_geometry_holds_a_commit_of_everything_and_its_images(self):
        for sector_size in (512, 4096):
            for block_size in (4096, 8192, 16384):
                for count in (1, 7, 100, 5000, f.MAX_SECTORS):
                    g = f.Geometry(sector_size, block_size, count)
                    self.assertIsNone(g.fault())
                    self.assertEqual([v % block_size for v in (g.ring_size, g.leaf_offset, g.data_offset)], [0, 0, 0])
                    self.assertGreaterEqual(g.ring_size, 192 + count * (40 + sector_size) + 192 + g.image_blocks * (40 + block_size))


class Shapes(unittest.TestCase):
    """Images of random shapes and histories: what the builder meant is what the reader finds, at every step."""

    def entries(self, random):
        entries = []
        for index in range(random.below(6)):
            capacity = (1 + random.below(200), 1 + random.below(4095), 4096 + random.below(9000))[random.below(3)]
            name = f"entry-{index}" + "é" * random.below(40)
            entries.append((name, capacity, random.bytes(random.below(capacity + 1))))
        return entries

    def changed(self, random, entries):
        return [(name, capacity, random.bytes(random.below(capacity + 1))) for name, capacity, _ in entries]

    def check(self, builder, entries):
        volume, found = open_image(bytes(builder.image))
        self.assertEqual(found, entries)
        self.assertEqual(volume.generation, builder.generation)
        self.assertEqual(volume.header.clean, builder.clean)

    def commit(self, builder, random, entries):
        """Commits new contents in one record, as sectors that differ and a few that don't."""
        entries = self.changed(random, entries)
        volume, _ = open_image(bytes(builder.image))
        sectors = builder.sectors_of(b.encode_stream(entries))
        changes = {i: s for i, s in sectors.items() if s != volume.sector(i) or random.below(8) == 0}
        if changes:
            builder.commit(changes)
        return entries

    def history(self, seed):
        random = b.Seeded(seed)
        entries = self.entries(random)
        sector_size = (512, 4096)[random.below(2)]
        block_size = (4096, 8192, 16384)[random.below(3)]
        count = -(-len(b.encode_stream(entries)) // sector_size) + random.below(4)
        g = f.Geometry(sector_size, block_size, count)
        position = random.below(g.ring_size // block_size) * block_size
        slots = [b.SlotSpec(f.KEYRING, "vm", KEY, index=random.below(16))]
        builder = b.ImageBuilder(seed, slots, sector_size, block_size, count, ring_position=position)
        builder.format(b.encode_stream(entries))
        self.check(builder, entries)
        builder.open()
        for _ in range(1 + random.below(3)):
            for _ in range(1 + random.below(3)):
                entries = self.commit(builder, random, entries)
                self.check(builder, entries)
            if builder.pending:
                builder.images()
                self.check(builder, entries)
                self.tear(builder, random)
                self.check(builder, entries)
                builder.overwrite()
                self.check(builder, entries)
                builder.adopt()
                builder.write_headers((1,))
                self.check(builder, entries)
                builder.write_headers((0,))
        builder.close()
        self.check(builder, entries)

    def tear(self, builder, random):
        """Garbage in some of what the checkpoint is about to overwrite."""
        for sector in builder.pending:
            if random.below(2):
                builder.put_leaf(sector, random.bytes(32))
                builder.put_data(sector, random.bytes(builder.geometry.sector_size))

    def test_random_histories(self):
        for number in range(60):
            with self.subTest(number):
                self.history(f"history {number}")

    def test_large(self):
        content = b.Seeded("large").bytes(1 << 20)
        entries = [("big", 20 << 20, content), ("after", 9, b"small")]
        stream = b.encode_stream(entries)
        builder = b.ImageBuilder("large", [b.SlotSpec(f.KEYRING, "vm", KEY)], 4096, 4096, -(-len(stream) // 4096))
        builder.format(stream)
        self.check(builder, entries)


class Bits(unittest.TestCase):
    """One bit changed anywhere: rejected, or reported, or in space that section 7 calls unused."""

    def setUp(self):
        entries = [("a", 700, b"content"), ("b", 4096, b"more")]
        stream = b.encode_stream(entries)
        self.builder = b.ImageBuilder("bits", [b.SlotSpec(f.KEYRING, "vm", KEY)], 512, 4096, -(-len(stream) // 512))
        self.builder.format(stream)
        self.entries = entries

    def used(self, offset):
        g = self.builder.geometry
        in_header = any(start <= offset < start + 8192 for start in f.HEADER_OFFSETS)
        return in_header or g.leaf_offset <= offset < g.data_offset + g.sector_count * g.sector_size

    def test_closed_cleanly(self):
        image = bytearray(self.builder.image)
        rejected = {True: 0, False: 0}
        for offset in sorted(set(range(0, len(image), 257)) | set(range(0, 520, 7)) | set(range(16384, 16384 + 520, 7))):
            image[offset] ^= 1 << offset % 8
            try:
                volume, found = open_image(bytes(image))
                self.assertEqual(found, self.entries)
                in_b = 16384 <= offset < 16384 + 8192
                self.assertEqual(volume.copies_differ, in_b, offset)
                self.assertTrue(in_b or not self.used(offset), offset)
                rejected[False] += 1
            except f.Reject:
                self.assertTrue(self.used(offset), offset)
                rejected[True] += 1
            image[offset] ^= 1 << offset % 8
        self.assertGreater(min(rejected.values()), 50)

    def test_records_but_the_last(self):
        """Any bit of a record that counts and is not the last is noticed; in the last it undoes that commit at most."""
        self.builder.open()
        other = [("a", 700, b"changed"), ("b", 4096, b"more and more")]
        first = self.builder.commit({0: self.builder.sectors_of(b.encode_stream(other))[0]})
        middle = bytes(self.builder.image)
        self.assertEqual(outcome(middle), "ok")
        second = self.builder.commit({0: self.builder.sectors_of(b.encode_stream(self.entries))[0]})
        image = bytearray(self.builder.image)
        for start, expected in ((first, "journal"), (second, "ok")):
            for at in range(0, 192 + 40 + 512, 13):
                image[f.RING_OFFSET + start + at] ^= 0x10
                self.assertEqual(outcome(bytes(image)), expected, at)
                image[f.RING_OFFSET + start + at] ^= 0x10


class Command(unittest.TestCase):
    def run_command(self, *arguments):
        out = io.StringIO()
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(io.StringIO()):
            status = r.main([str(a) for a in arguments])
        return status, out.getvalue()

    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.folder = pathlib.Path(folder.name)
        self.image, self.key = self.folder / "image", self.folder / "key"
        self.image.write_bytes(vector_parts.closed("command").image)
        self.key.write_text(KEY.hex() + "\n")

    def test_json(self):
        status, text = self.run_command("--json", "--keys", "--explain", "1", "--key", self.key, self.image)
        self.assertEqual(status, 0)
        found = json.loads(text)
        self.assertEqual([e["name"] for e in found["entries"]], ["tpm-00.permall", "uefi"])
        self.assertIn("structure-key", found["values"])
        self.assertEqual(len(found["explain"]["sector-tweak"]), 32)

    def test_statuses(self):
        self.key.write_text("00" * 32)
        status, text = self.run_command("--key", self.key, self.image)
        self.assertEqual((status, json.loads(text)["reason"]), (4, "wrong-key"))
        self.key.write_text("00")
        self.assertEqual(self.run_command("--key", self.key, self.image)[0], 2)
        self.assertEqual(self.run_command("--key", self.key, self.folder / "absent")[0], 11)
        self.assertEqual(self.run_command("--recovery", "0" * 68, self.image)[0], 2)
        self.image.write_bytes(b"")
        self.key.write_text(KEY.hex())
        self.assertEqual(self.run_command("--key", self.key, self.image)[0], 8)


class RecoveryKeys(unittest.TestCase):
    def test_text(self):
        text = f.recovery_text(KEY)
        self.assertEqual(f.recovery_key(text), KEY)
        self.assertEqual(f.recovery_key(text.upper().replace("-", " ")), KEY)
        for at in range(len(text)):
            if text[at] != "-":
                slip = text[:at] + ("0" if text[at] != "0" else "1") + text[at + 1 :]
                with self.assertRaises(ValueError):
                    f.recovery_key(slip)


if __name__ == "__main__":
    unittest.main()
