"""Vector files as sections 11 and 12 of FORMAT.md define them: written, and read back strictly."""

from dataclasses import dataclass, field

WIDTH = 32

# Names that come once, in this order; those of the second row only in a vector that is expected to be ok.
ONCE = ("name", "about", "expect", "image", "counter", "key", "recovery", "passphrase", "size")
ONCE_OK = ("uuid", "generation", "records", "clean", "copies-differ")
ORDER = ONCE + ONCE_OK + ("content", "value")


@dataclass
class Vector:
    fields: dict
    image: bytes
    content: list = field(default_factory=list)
    values: dict = field(default_factory=dict)

    @property
    def name(self):
        return self.fields["name"]

    @property
    def expect(self):
        return self.fields["expect"]


def write(vector):
    """The text of a vector's file."""
    fields = dict(vector.fields)
    fields["size"] = str(len(vector.image))
    lines = [f"{name}: {fields[name]}" for name in ONCE + ONCE_OK if name in fields]
    lines += [f"content: {capacity} {size} {digest} {name}" for name, capacity, size, digest in vector.content]
    lines += [f"value: {label} {digits}" for label, digits in vector.values.items()]
    lines.append("")
    image = vector.image
    for at in range(0, len(image), WIDTH):
        row = image[at : at + WIDTH]
        if any(row):
            lines.append(f"{at:08x} {row.hex()}")
    return "\n".join(lines) + "\n"


def read(text):
    """The vector in a file; ValueError where it is not as section 11 says."""
    header, separator, body = text.partition("\n\n")
    if not separator or not text.endswith("\n"):
        raise ValueError("no empty line between header and body, or no newline at the end")
    vector = Vector({}, b"")
    reached = 0
    for line in header.split("\n"):
        name, separator, value = line.partition(": ")
        if not separator or name not in ORDER[reached:]:
            raise ValueError(f"not a header line, or one out of order: {line}")
        reached = ORDER.index(name)
        if name == "content":
            capacity, size, digest, entry = value.split(" ", 3)
            vector.content.append((entry, int(capacity), int(size), digest))
        elif name == "value":
            label, digits = value.split(" ")
            vector.values[label] = digits
        elif name not in vector.fields:
            vector.fields[name] = value
        else:
            raise ValueError(f"a header line that comes twice: {line}")
    vector.image = read_image(body, int(vector.fields["size"]))
    return vector


def read_image(body, size):
    image = bytearray(size)
    end = 0
    for line in body.splitlines():
        offset, digits = line.split(" ")
        at, row = int(offset, 16), bytes.fromhex(digits)
        if at < end or at + len(row) > len(image):
            raise ValueError(f"a line out of order or outside the image: {line}")
        image[at : at + len(row)] = row
        end = at + len(row)
    return bytes(image)
