"""Tests of the independent reader: every vector, images of random shapes, and single bits changed.

Run in this directory: python3 -m unittest -v
"""

import contextlib
import hashlib
import io
import json
import pathlib
import tempfile
import unittest

import builder_parts as b
import make_vectors
import random_images
import vector_file
import vector_parts
import vnvram_format as f
import vnvram_reader as r
from vnvram_header import Credential
from vnvram_image import Volume
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
    kind = next(kind for kind in ("key", "recovery", "passphrase") if kind in vector.fields)
    return make_vectors.credential((kind, vector.fields[kind]))


class Vectors(unittest.TestCase):
    def test_every_vector_has_its_outcome(self):
        found = vectors()
        self.assertGreaterEqual(len(found), 340)
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
        self.assertGreaterEqual(len(good), 70)
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
                self.assertEqual(make_vectors.values_of(volume), vector.values)

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

    def test_geometry_holds_two_commits_of_everything(self):
        for block_size in f.BLOCK_SIZES:
            for count in (1, 7, 100, 1000, f.MAX_VOLUME // block_size):
                g = f.Geometry(block_size, count)
                self.assertIsNone(g.fault())
                self.assertEqual([v % block_size for v in (g.ring_size, g.leaf_offset, g.data_offset)], [0, 0, 0])
                self.assertGreaterEqual(g.ring_size, 2 * (160 + count * (40 + block_size)))
                self.assertGreaterEqual(g.leaf_size, 32 * count)
            self.assertIsNotNone(f.Geometry(block_size, f.MAX_VOLUME // block_size + 1).fault())


class RandomImages(unittest.TestCase):
    """Images of random shapes and histories: what the builder meant is what the reader finds, at every step."""

    def check(self, made):
        volume = Volume(bytes(made.builder.image), Credential(f.KEYRING, made.key))
        found = r.describe(volume, Stream(volume.plaintext()))
        expected = made.expected()
        self.assertEqual({name: found[name] for name in expected}, expected)
        return found

    def test_every_step_of_a_history(self):
        for number in range(12):
            made = random_images.RandomImage(f"history {number}")
            for step, _ in enumerate(made.steps()):
                with self.subTest(number=number, step=step):
                    self.check(made)

    def test_100_images(self):
        seen = set()
        for number in range(100):
            with self.subTest(number):
                found = self.check(random_images.random_image(f"image {number}"))
                seen |= {f"clean {found['clean']}", f"differ {found['copiesDiffer']}", f"block {found['blockSize']}"}
                seen |= {f"replayed {found['recordsReplayed'] > 0}", f"bound {found['vm'] is not None}"}
        both = {f"{what} {state}" for what in ("clean", "differ", "replayed", "bound") for state in (True, False)}
        self.assertEqual(seen, both | {f"block {size}" for size in f.BLOCK_SIZES})

    def test_command(self):
        with tempfile.TemporaryDirectory() as name:
            for folder in ("first", "second"):
                random_images.main(["--random", "3", "--seed", "command", f"{name}/{folder}"])
            first, second = (pathlib.Path(name) / folder for folder in ("first", "second"))
            for file in sorted(first.iterdir()):
                self.assertEqual(file.read_bytes(), (second / file.name).read_bytes())
            rows = [json.loads(line) for line in (first / "images.jsonl").read_text(encoding="utf-8").splitlines()]
            self.assertEqual(len(rows), 3)
            for row in rows:
                credential = Credential(f.KEYRING, bytes.fromhex(row["key"]))
                found = [e for _, _, e in open_image((first / row["image"]).read_bytes(), credential)[1]]
                self.assertEqual([hashlib.sha256(e).hexdigest() for e in found], [e["sha256"] for e in row["entries"]])

    def test_large(self):
        content = b.Seeded("large").bytes(1 << 20)
        entries = [("big", 20 << 20, content), ("after", 9, b"small")]
        stream = b.encode_stream(entries)
        builder = vector_parts.small("large", sector_count=-(-len(stream) // 4096)).format(stream)
        self.assertEqual(open_image(bytes(builder.image))[1], entries)


class Bits(unittest.TestCase):
    """One bit changed anywhere: rejected, or reported, or in space that section 7 calls unused."""

    def test_closed_cleanly(self):
        builder = vector_parts.closed("bits", sector_count=2)
        image, entries = bytearray(builder.image), open_image(bytes(builder.image))[1]
        rejected = {True: 0, False: 0}
        headers = [range(start, start + f.HEADER_SIZE, 61) for start in f.HEADER_OFFSETS]
        for offset in sorted(set(range(0, len(image), 257)).union(*headers, range(0, 560, 7))):
            image[offset] ^= 1 << offset % 8
            in_b = f.HEADER_OFFSETS[1] <= offset < f.HEADER_OFFSETS[1] + f.HEADER_SIZE
            try:
                volume, found = open_image(bytes(image))
                self.assertEqual(found, entries)
                self.assertEqual(volume.copies_differ, in_b, offset)
                self.assertTrue(in_b or not self.used(builder.geometry, offset), offset)
                rejected[False] += 1
            except f.Reject:
                self.assertTrue(self.used(builder.geometry, offset), offset)
                rejected[True] += 1
            image[offset] ^= 1 << offset % 8
        self.assertGreater(min(rejected.values()), 50)

    def used(self, g, offset):
        in_header = any(start <= offset < start + f.HEADER_SIZE for start in f.HEADER_OFFSETS)
        return in_header or g.leaf_offset <= offset < g.table_offset(1) or offset >= g.data_offset

    def test_records_but_the_last(self):
        """Any bit of a record that counts and is not the last is noticed; in the last it undoes that commit at most."""
        builder = vector_parts.opened("bits")
        first = vector_parts.change(builder)
        self.assertEqual(outcome(bytes(builder.image)), "ok")
        second = vector_parts.change(builder)
        image = bytearray(builder.image)
        places = [*range(0, 200, 7), *range(4096, 8192, 211)]
        for start, expected in ((first, "journal"), (second, "ok")):
            for at in places:
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
        status, text = self.run_command("--json", "--keys", "--explain", "0", "--key", self.key, self.image)
        self.assertEqual(status, 0)
        found = json.loads(text)
        self.assertEqual([e["name"] for e in found["entries"]], ["tpm-00.permall", "uefi", "filler"])
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
