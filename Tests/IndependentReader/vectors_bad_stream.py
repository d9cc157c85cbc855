"""Bad vectors: the stream is wrong, and everything around it is right."""

import vnvram_format as f
from builder_parts import der, encode_entry, encode_stream
from vector_parts import bad, register_bad, small


def wrong_stream(name, about, make_stream):
    def make(seed):
        stream = make_stream()
        return small(seed, sector_count=-(-len(stream) // 4096)).format(stream)

    register_bad("stream-" + name, "stream", about, make)


def entry(name=b"a", size=(3).to_bytes(8, "big"), extra=b"", content=b"abc\x00\x00", after=b"", last=b""):
    blob = der(0x30, der(0x04, size) + extra + der(0x04, content) + after)
    return der(0x30, der(0x0C, name) + blob + last)


def stream(*entries, magic=b"qemu-nvram"):
    return der(0x30, der(0x0C, magic) + b"".join(entries))


def aligned(padding, name=b"a", capacity=4096, before=b""):
    return stream(*([before] if before else []), encode_entry(name, capacity, b"content", padding))


_P = f.stream_layout([(1, 4096)])[2][0]
_GOOD = stream(entry())
assert _GOOD == encode_stream([("a", 5, b"abc")])

wrong_stream("zeros", "nothing but zeros", lambda: bytes(4096))
wrong_stream("magic", "another magic", lambda: stream(magic=b"qemu-nvraM"))
wrong_stream("magic-type", "the magic as an octet string", lambda: der(0x30, der(0x04, f.STREAM_MAGIC)))
wrong_stream("no-magic", "an entry without the magic before it", lambda: der(0x30, entry()))
wrong_stream("length-not-minimal", "a length of one digit more than it needs", lambda: b"\x30\x81" + _GOOD[1:])
wrong_stream("length-indefinite", "an indefinite length", lambda: b"\x30\x80" + _GOOD[2:] + b"\x00\x00")
wrong_stream("length-past-end", "a stream that is longer than the volume", lambda: der(0x30, bytes(5000))[:4096])
wrong_stream("entry-past-stream", "an entry that is longer than the stream", lambda: stream(entry()[:-1]))
wrong_stream("cut-header", "a stream that ends within an entry's header", lambda: stream(b"\x30"))
wrong_stream("after-end", "a byte after the stream's end", lambda: _GOOD + bytes(3) + b"\x01")
wrong_stream("name-twice", "a name that comes twice", lambda: stream(entry(), entry()))
wrong_stream("name-empty", "a name of no bytes", lambda: stream(entry(name=b"")))
wrong_stream("name-long", "a name of 121 bytes", lambda: stream(entry(name=b"n" * 121)))
wrong_stream("name-control", "a control character in a name", lambda: stream(entry(name=b"a\nb")))
wrong_stream("name-del", "U+007F in a name", lambda: stream(entry(name=b"a\x7fb")))
wrong_stream("name-not-utf8", "an overlong encoding in a name", lambda: stream(entry(name=b"a\xc0\xaf")))
wrong_stream("name-surrogate", "a surrogate in a name", lambda: stream(entry(name=b"\xed\xa0\x80")))
wrong_stream("size-above", "a real size above the capacity", lambda: stream(entry(size=(6).to_bytes(8, "big"))))
wrong_stream("size-huge", "a real size of 2^64 - 1", lambda: stream(entry(size=b"\xff" * 8)))
wrong_stream("size-narrow", "a size of seven bytes", lambda: stream(entry(size=(3).to_bytes(7, "big"))))
wrong_stream("beyond-size", "a byte beyond the real size", lambda: stream(entry(content=b"abc\x00\x01")))
wrong_stream("capacity-0", "a capacity of no bytes", lambda: stream(entry(size=bytes(8), content=b"")))
wrong_stream("blob-more", "a second content in a blob", lambda: stream(entry(after=der(0x04, b""))))
wrong_stream("entry-more", "an element after the blob", lambda: stream(entry(last=der(0x05, b""))))
wrong_stream("entry-type", "an entry that is a SET", lambda: stream(b"\x31" + entry()[1:]))
wrong_stream("padding-small", "padding in an entry below 4096 bytes", lambda: stream(entry(extra=der(0x80, b"\x00"))))
wrong_stream("padding-order", "padding after the content", lambda: stream(entry(after=der(0x80, b""))))
wrong_stream("padding-missing", "an entry of 4096 bytes that is not aligned", lambda: aligned(None))
wrong_stream("padding-short", "one byte of padding less", lambda: aligned(_P - 1))
wrong_stream("padding-long", "padding to the multiple of 4096 after the next", lambda: aligned(_P + 4096))


def _padding_filled():
    return aligned(_P).replace(bytes(64), bytes(63) + b"\x01", 1)


wrong_stream("padding-filled", "padding that is not zero", _padding_filled)


def _many():
    return stream(*(entry(name=b"%d" % i, size=bytes(8), content=b"\x00") for i in range(1025)))


wrong_stream("entries-1025", "1025 entries", _many)


# The layout follows from names and capacities: another one that is valid DER, too.

wrong_stream("tail-sector", "a byte in the sector after the stream's end", lambda: _GOOD.ljust(8191, b"\0") + b"\1")
wrong_stream("tail-last", "the last byte of the volume", lambda: _GOOD.ljust(4095, b"\0") + b"\1")


def _turned():
    blob = der(0x04, b"abc\x00\x00") + der(0x04, (3).to_bytes(8, "big"))
    return stream(der(0x30, der(0x0C, b"a") + der(0x30, blob)))


wrong_stream("size-after", "the size after the content", _turned)


def _other_header(shapes, header, last):
    """The stream with another of the outer headers with which all lengths agree, and the last entry's content."""
    at, entries = header + f.element_length(len(f.STREAM_MAGIC)), []
    for index, (name_length, capacity) in enumerate(shapes):
        padding = f.entry_padding(at, name_length, capacity)
        content = last if index == len(shapes) - 1 else b""
        entries.append(encode_entry(bytes([0x61 + index]) * name_length, capacity, content, padding))
        at += f.entry_length(name_length, capacity, padding)[0]
    assert f.header_length(at - header) == header
    return stream(*entries)


@bad("stream", "of two outer headers with which all lengths agree, the longer")
def stream_longer_header(seed):
    shapes = [(1, 3770), (1, 61000)]  # as in good-stream-two-headers
    length = len(_other_header(shapes, 5, b""))
    builder = small(seed, sector_count=-(-length // 4096))
    volume, nonces = builder.hollow_volume()
    content = volume[length - 61000 : length]
    return builder.format_sectors(builder.sectors_of(_other_header(shapes, 5, content)), nonces)
