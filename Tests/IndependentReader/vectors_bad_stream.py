"""Bad vectors: the stream is wrong, and everything around it is right."""

import image_builder as b
import vnvram_format as f
from image_builder import der
from vector_parts import BAD, small


def wrong_stream(name, about, make_stream, sector_size=512, sectors=None):
    def make(seed):
        stream = make_stream()
        count = sectors or -(-len(stream) // sector_size)
        return small(seed, sector_size=sector_size, sector_count=count).format(stream)

    BAD["stream-" + name] = ("stream", about, make)


def entry(name=b"a", size=(3).to_bytes(8, "big"), extra=b"", content=b"abc\x00\x00", after=b"", last=b""):
    blob = der(0x30, der(0x04, size) + extra + der(0x04, content) + after)
    return der(0x30, der(0x0C, name) + blob + last)


def stream(*entries, magic=b"qemu-nvram"):
    return der(0x30, der(0x0C, magic) + b"".join(entries))


def aligned(padding, name=b"a", capacity=4096, before=b""):
    return stream(*([before] if before else []), b.encode_entry(name, capacity, b"content", padding))


_P = f.stream_layout([(1, 4096)])[2][0]
_GOOD = stream(entry())
assert _GOOD == b.encode_stream([("a", 5, b"abc")])

wrong_stream("zeros", "nothing but zeros", lambda: bytes(512))
wrong_stream("magic", "another magic", lambda: stream(magic=b"qemu-nvraM"))
wrong_stream("magic-type", "the magic as an octet string", lambda: der(0x30, der(0x04, f.STREAM_MAGIC)))
wrong_stream("no-magic", "an entry without the magic before it", lambda: der(0x30, entry()))
wrong_stream("length-not-minimal", "a length of one digit more than it needs", lambda: b"\x30\x81" + _GOOD[1:])
wrong_stream("length-indefinite", "an indefinite length", lambda: b"\x30\x80" + _GOOD[2:] + b"\x00\x00")
wrong_stream("length-past-end", "a stream that is longer than the volume", lambda: der(0x30, bytes(600))[:512])
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
wrong_stream("padding-small", "padding in an entry of less than 4096 bytes", lambda: stream(entry(extra=der(0x80, b"\x00"))))
wrong_stream("padding-order", "padding after the content", lambda: stream(entry(after=der(0x80, b""))))
wrong_stream("padding-missing", "an entry of 4096 bytes that is not aligned", lambda: aligned(None), 4096)
wrong_stream("padding-short", "one byte of padding less", lambda: aligned(_P - 1), 4096)
wrong_stream("padding-long", "padding to the multiple of 4096 after the next", lambda: aligned(_P + 4096), 4096)


def _padding_filled():
    return aligned(_P).replace(bytes(64), bytes(63) + b"\x01", 1)


wrong_stream("padding-filled", "padding that is not zero", _padding_filled, 4096)


def _many():
    return stream(*(entry(name=b"%d" % i, size=bytes(8), content=b"\x00") for i in range(1025)))


wrong_stream("entries-1025", "1025 entries", _many, 4096)
