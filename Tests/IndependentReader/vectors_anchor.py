"""The vectors of anchors: files made from the headers of good images, right and wrong."""

import vector_file
import vnvram_anchor as a
import vnvram_format as f
from vector_parts import GOOD, OTHER_KEY

CLEAN, RECORDS = "clean-512", "three-records"
VECTORS = {}


def record(header, sequence=5, edit=None, digest=None, kind=6, key=None, **fields):
    """A sealed record of a header; `fields` replace what it says, `edit` changes bytes under the right MAC."""
    says = {"header_sequence": header.sequence, "generation": header.generation, "counter": 0}
    says |= {"epoch": header.epoch, "root": header.root, "uuid": header.uuid} | fields
    raw = bytearray(224)
    raw[0:8], raw[8:12], raw[16:32] = a.MAGIC, f.u32(1), says["uuid"]
    numbers = {32: sequence, 40: says["header_sequence"], 48: says["generation"], 72: says["counter"]}
    for at, number in numbers.items():
        raw[at : at + 8] = f.u64(number)
    raw[56:72], raw[80:112] = says["epoch"], says["root"]
    if edit:
        raw[edit[0] : edit[0] + len(edit[1])] = edit[1]
    keys = key or header.keys
    return bytes(raw) + keys.mac(f.u32(kind), f.u32(0), digest or header.digest, raw)


def file(first=b"", second=b""):
    made = bytearray(a.FILE_SIZE)
    for at, raw in zip(a.PLACES, (first, second)):
        made[at : at + len(raw)] = raw
    return bytes(made)


def vector(expect, image, about, counter=None):
    def register(make):
        VECTORS[make.__name__.replace("_", "-")] = (expect, image, about, counter, make)
        return make

    return register


def flip(raw, bit):
    raw = bytearray(raw)
    raw[bit // 8] ^= 1 << bit % 8
    return bytes(raw)


def other(value):
    return bytes(byte ^ 0xA5 for byte in value)


# What is accepted.


@vector("current", CLEAN, "the image's own header")
def current(h):
    return file(record(h))


@vector("current", CLEAN, "in the second place, beside something else")
def current_in_the_second_place(h):
    return file(bytes(range(256)), record(h))


@vector("current", CLEAN, "two records, of which the later is the image's")
def current_later_of_two(h):
    return file(record(h, 5), record(h, 4, header_sequence=h.sequence - 1, generation=h.generation - 1))


@vector("current", CLEAN, "a later record that was torn, which says more")
def current_beside_a_torn_one(h):
    return file(flip(record(h, 6, generation=h.generation + 1), 1999), record(h, 5))


@vector("current", CLEAN, "with the counter's value", 7)
def current_with_counter(h):
    return file(record(h, counter=7))


@vector("current", CLEAN, "one before the counter is incremented", 6)
def current_before_the_increment(h):
    return file(record(h, counter=7))


@vector("ahead", RECORDS, "the header's, and commits after it")
def ahead_by_records(h):
    return file(record(h))


@vector("ahead", CLEAN, "an earlier header, of an earlier generation")
def ahead_by_a_header(h):
    return file(record(h, header_sequence=h.sequence - 1, generation=h.generation - 1, root=other(h.root)))


@vector("ahead", CLEAN, "an earlier header of the same content, in another opening")
def ahead_by_an_opening(h):
    return file(record(h, header_sequence=h.sequence - 2, epoch=other(h.epoch)))


# What is refused.


@vector("rolled-back", CLEAN, "a later header of the same generation")
def rolled_back_by_a_header(h):
    return file(record(h, header_sequence=h.sequence + 1))


@vector("rolled-back", CLEAN, "an earlier header with a later generation")
def rolled_back_by_a_generation(h):
    return file(record(h, header_sequence=h.sequence - 1, generation=h.generation + 1))


@vector("rolled-back", RECORDS, "a generation that only the records reach")
def rolled_back_by_headers_alone(h):
    return file(record(h, header_sequence=h.sequence + 1, generation=h.generation + 3))


@vector("rolled-back", CLEAN, "two records, of which the later says more")
def rolled_back_by_the_later(h):
    return file(record(h, 5), record(h, 6, header_sequence=h.sequence + 1))


@vector("forked", CLEAN, "the same header and generation with another root")
def forked_root(h):
    return file(record(h, root=other(h.root)))


@vector("forked", CLEAN, "the same header and generation in another epoch")
def forked_epoch(h):
    return file(record(h, epoch=other(h.epoch)))


@vector("forked", CLEAN, "the same header with an earlier generation")
def forked_generation(h):
    return file(record(h, generation=h.generation - 1))


@vector("forked", CLEAN, "an earlier header of the same generation with another root")
def forked_content(h):
    return file(record(h, header_sequence=h.sequence - 1, root=other(h.root)))


@vector("anchor-damaged", CLEAN, "another magic")
def damaged_magic(h):
    return file(record(h, edit=(0, b"vnvram-B")))


@vector("anchor-damaged", CLEAN, "another version")
def damaged_version(h):
    return file(record(h, edit=(8, f.u32(2))))


@vector("anchor-damaged", CLEAN, "reserved bytes after the version")
def damaged_reserved_12(h):
    return file(record(h, edit=(15, b"\x01")))


@vector("anchor-damaged", CLEAN, "reserved bytes after the root")
def damaged_reserved_112(h):
    return file(record(h, edit=(112, b"\x01")))


@vector("anchor-damaged", CLEAN, "reserved bytes before the MAC")
def damaged_reserved_223(h):
    return file(record(h, edit=(223, b"\x01")))


@vector("anchor-damaged", CLEAN, "a number that no store reaches by counting")
def damaged_number(h):
    return file(record(h, 1 << 63))


@vector("anchor-damaged", CLEAN, "another store's UUID")
def damaged_uuid(h):
    return file(record(h, uuid=other(h.uuid)))


@vector("anchor-damaged", CLEAN, "a MAC over another kind of input")
def damaged_kind(h):
    return file(record(h, kind=4))


@vector("anchor-damaged", CLEAN, "a MAC over another geometry")
def damaged_geometry(h):
    return file(record(h, digest=other(h.digest)))


@vector("anchor-damaged", CLEAN, "a MAC under another store's key")
def damaged_key(h):
    return file(record(h, key=f.Keys(OTHER_KEY, h.uuid)))


@vector("anchor-damaged", CLEAN, "a MAC with one bit flipped")
def damaged_mac(h):
    return file(flip(record(h), 2047))


@vector("anchor-damaged", CLEAN, "records in the wrong places")
def damaged_places(h):
    return file(bytes(256) + record(h), bytes(256) + record(h))


@vector("anchor-damaged", CLEAN, "nothing but zeros")
def damaged_empty(h):
    return file()


@vector("anchor-damaged", CLEAN, "cut short by a byte")
def damaged_short(h):
    return file(record(h))[:-1]


@vector("anchor-rolled-back", CLEAN, "behind its counter", 8)
def counter_behind(h):
    return file(record(h, counter=7))


@vector("anchor-rolled-back", CLEAN, "without a counter, beside one", 1)
def counter_absent(h):
    return file(record(h))


@vector("anchor-damaged", CLEAN, "two ahead of its counter", 5)
def counter_two_ahead(h):
    return file(record(h, counter=7))


def volume_of(image):
    """The volume of a good image vector, as its builder makes it."""
    import make_vectors
    from vnvram_image import Volume

    builder, line = GOOD[image](image)
    return Volume(make_vectors.image_of(builder), make_vectors.credential(line))


def vectors():
    """Every anchor's vector, in order of name."""
    volumes = {image: volume_of(image) for image in (CLEAN, RECORDS)}
    made = []
    for name, (expect, image, about, counter, make) in sorted(VECTORS.items()):
        header = volumes[image].header
        content = make(header)
        fields = {"name": name, "about": about, "expect": expect, "image": image}
        if counter is not None:
            fields["counter"] = str(counter)
        values = {}
        if expect in ("current", "ahead"):
            found = a.newest(content, header)
            values = {"anchor-mac-input": a.mac_input(header.digest, found.raw).hex(), "anchor-mac": found.raw[224:].hex()}
        made.append(vector_file.Vector(fields, content, [], values))
    return made
