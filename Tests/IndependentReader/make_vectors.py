#!/usr/bin/env python3
"""Writes the vectors of Tests/Vectors/images and Tests/Vectors/anchors anew; the same bytes each time.

Every bad vector breaks one rule and is otherwise consistent: where the rule concerns authenticated bytes, the MACs are
right, as one who holds the key could make them.
"""

import pathlib
import sys

import vector_file
import vectors_anchor
import vectors_bad_fields  # noqa: F401  each of these fills GOOD or BAD
import vectors_bad_header  # noqa: F401
import vectors_bad_pair  # noqa: F401
import vectors_bad_stream  # noqa: F401
import vectors_bad_volume  # noqa: F401
import vectors_good  # noqa: F401
import vectors_journal_good  # noqa: F401
import vnvram_format as f
import vnvram_image
import vnvram_reader
from image_builder import ImageBuilder
from vector_parts import BAD, BY_KEY, GOOD
from vnvram_header import Credential
from vnvram_stream import Stream

DIRECTORY = pathlib.Path(__file__).resolve().parent.parent / "Vectors" / "images"
ANCHORS = DIRECTORY.parent / "anchors"


def image_of(made):
    made = made.image if isinstance(made, ImageBuilder) else made
    return bytes(made)


def credential(line):
    kind, text = line
    if kind == "key":
        return Credential(f.KEYRING, bytes.fromhex(text))
    if kind == "recovery":
        return Credential(f.RECOVERY, f.recovery_key(text))
    return Credential(f.PASSPHRASE, text.encode())


def yes(flag):
    return "yes" if flag else "no"


def values_of(volume):
    last = volume.geometry.sector_count - 1
    values = {**vnvram_reader.key_values(volume), **vnvram_reader.tree_values(volume)}
    return {**values, **vnvram_reader.record_values(volume), **vnvram_reader.sector_values(volume, last)}


def good_vector(name, about, make):
    builder, line = make(name)
    image = image_of(builder)
    volume = vnvram_image.Volume(image, credential(line))
    opened = Stream(volume.plaintext())
    found = vnvram_reader.describe(volume, opened)
    fields = {"name": name, "about": about, "expect": "ok", line[0]: line[1], "uuid": found["uuid"]}
    fields |= {"generation": str(volume.generation), "records": str(len(volume.records))}
    fields |= {"clean": yes(volume.header.clean), "copies-differ": yes(volume.copies_differ)}
    content = [(e["name"], e["capacity"], e["size"], e["sha256"]) for e in found["entries"]]
    return vector_file.Vector(fields, image, content, values_of(volume))


def bad_vector(name, reason, about, make):
    made = make(name)
    made, line = made if isinstance(made, tuple) else (made, BY_KEY)
    fields = {"name": name, "about": about, "expect": reason, line[0]: line[1]}
    return vector_file.Vector(fields, image_of(made))


def vectors():
    """Every vector, in order of name."""
    made = [good_vector(name, *what) for name, what in GOOD.items()]
    made += [bad_vector(name, *what) for name, what in BAD.items()]
    return sorted(made, key=lambda vector: vector.name)


def file_name(vector):
    return ("good-" if vector.expect == "ok" else "bad-") + vector.name + ".txt"


def write(directory, wanted):
    directory.mkdir(parents=True, exist_ok=True)
    for stale in set(p.name for p in directory.glob("*.txt")) - set(wanted):
        (directory / stale).unlink()
    for name, text in wanted.items():
        (directory / name).write_text(text, encoding="utf-8")


def main():
    write(DIRECTORY, {file_name(vector): vector_file.write(vector) for vector in vectors()})
    anchors = vectors_anchor.vectors()
    write(ANCHORS, {vector.name + ".txt": vector_file.write(vector) for vector in anchors})
    print(f"{len(GOOD) + len(BAD)} vectors, {len(GOOD)} good, {len(BAD)} bad; {len(anchors)} of anchors")
    return 0


if __name__ == "__main__":
    sys.exit(main())
