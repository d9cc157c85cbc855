"""Tests of anchors in the independent reader: every vector, and every bit of a record.

Run in this directory: python3 -m unittest -v
"""

import contextlib
import io
import json
import pathlib
import tempfile
import unittest

import anchor_parts
import make_vectors
import vector_file
import vector_parts
import vectors_anchor
import vnvram_anchor as a
import vnvram_reader as r
from vnvram_header import Credential


def vectors():
    return [vector_file.read(p.read_text(encoding="utf-8")) for p in sorted(make_vectors.ANCHORS.glob("*.txt"))]


def outcome(volume, vector):
    counter = vector.fields.get("counter")
    try:
        return a.compare(volume, vector.image, None if counter is None else int(counter))[0]
    except a.Refuse as error:
        return error.reason


class Vectors(unittest.TestCase):
    def test_every_vector_has_its_outcome(self):
        found = vectors()
        self.assertGreaterEqual(len(found), 60)
        volumes = {image: vectors_anchor.volume_of(image) for image in anchor_parts.IMAGES}
        for vector in found:
            with self.subTest(vector.name):
                volume = volumes[vector.fields["image"]]
                self.assertEqual(outcome(volume, vector), vector.expect)
                if vector.expect in ("current", "ahead"):
                    record = a.newest(vector.image, volume.header)
                    mac_input = a.mac_input(volume.header.digest, record.raw)
                    self.assertEqual(mac_input.hex(), vector.values["anchor-mac-input"])
                    self.assertEqual(record.raw[224:].hex(), vector.values["anchor-mac"])

    def test_every_outcome_comes_twice_or_more(self):
        # A file that is missing has no vector.
        count = {reason: 0 for reason in ("current", "ahead", *a.STATUS) if reason != "anchor-missing"}
        for vector in vectors():
            count[vector.expect] += 1
        self.assertEqual([reason for reason, n in count.items() if n < 2], [])

    def test_the_files_are_what_the_builder_makes(self):
        wanted = {v.name + ".txt": vector_file.write(v) for v in vectors_anchor.vectors()}
        found = {p.name: p.read_text(encoding="utf-8") for p in make_vectors.ANCHORS.glob("*.txt")}
        self.assertEqual(wanted, found)


class Bits(unittest.TestCase):
    def test_every_bit_of_a_record(self):
        header = vectors_anchor.volume_of(anchor_parts.CLEAN).header
        good = anchor_parts.record(header)
        for bit in range(8 * len(good)):
            self.assertIsNone(a.parse(anchor_parts.flip(good, bit), header), f"bit {bit}")


class Command(unittest.TestCase):
    def test_json_and_status(self):
        with tempfile.TemporaryDirectory() as name:
            folder = pathlib.Path(name)
            builder = vector_parts.closed("command")
            image, key, anchor = folder / "image", folder / "key", folder / "anchor"
            image.write_bytes(builder.image)
            key.write_text(vector_parts.KEY.hex())
            header = r.Volume(bytes(builder.image), Credential(r.f.KEYRING, vector_parts.KEY)).header

            def run():
                out = io.StringIO()
                with contextlib.redirect_stdout(out):
                    status = r.main(["--json", "--key", str(key), "--anchor", str(anchor), str(image)])
                return status, json.loads(out.getvalue())

            self.assertEqual((run()[0], run()[1]["reason"]), (7, "anchor-missing"))
            anchor.write_bytes(anchor_parts.file(anchor_parts.record(header)))
            self.assertEqual((run()[0], run()[1]["anchor"]), (0, "current"))
            anchor.write_bytes(anchor_parts.file(anchor_parts.record(header, generation=header.generation + 1)))
            self.assertEqual((run()[0], run()[1]["reason"]), (7, "rolled-back"))
            anchor.write_bytes(anchor_parts.file(anchor_parts.record(header, counter=1)))
            self.assertEqual((run()[0], run()[1]["reason"]), (15, "anchor-counter"))


if __name__ == "__main__":
    unittest.main()
