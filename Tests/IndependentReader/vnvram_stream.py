"""The stream within the sectors: strict DER, and the one layout of names and capacities (section 8 of FORMAT.md)."""

from dataclasses import dataclass

import vnvram_format as f
from vnvram_format import Reject, is_zero


@dataclass(frozen=True)
class Entry:
    name: str
    capacity: int
    size: int
    content: bytes


class Stream:
    """Strict DER, no more of it than section 8 needs."""

    def __init__(self, data):
        self.data = data
        self.shapes = []
        self.paddings = []
        self.entries = []
        start, end = self.element(0, len(data), 0x30, "the stream")
        if not is_zero(data[end:]):
            raise Reject("stream", f"bytes after the stream's end at {end}")
        at = self.magic(start, end)
        names = set()
        while at < end:
            if len(self.entries) == f.MAX_ENTRIES:
                raise Reject("stream", "more than 1024 entries")
            at = self.entry(at, end, names)
        self.check_layout(start, end)

    def element(self, at, end, tag, what):
        """The start and end of an element's content; it must have this tag and end by `end`."""

        def check(good, fault):
            if not good:
                raise Reject("stream", f"{what} at {at}: {fault}")

        check(end - at >= 2, "cut short")
        check(self.data[at] == tag, f"tag {self.data[at]:#04x}, expected {tag:#04x}")
        length, start = self.data[at + 1], at + 2
        if length >= 128:
            digits = length - 128
            check(1 <= digits <= 4, "indefinite or longer than four bytes of length")
            check(end - start >= digits, "cut short")
            length = int.from_bytes(self.data[start : start + digits], "big")
            start += digits
        check(f.header_length(length) == start - at, "a length that is not minimal")
        check(length <= end - start, "longer than what encloses it")
        return start, start + length

    def magic(self, at, end):
        start, end = self.element(at, end, 0x0C, "the magic")
        if self.data[start:end] != f.STREAM_MAGIC:
            raise Reject("stream", "the magic is another")
        return end

    def entry(self, at, end, names):
        start, after = self.element(at, end, 0x30, "an entry")
        name_start, name_end = self.element(start, after, 0x0C, "a name")
        raw = self.data[name_start:name_end]
        fault = f.text_fault(raw, 1, f.MAX_NAME) or ("a name that comes twice" if raw in names else None)
        if fault:
            raise Reject("stream", f"at {name_start}: {fault}")
        names.add(raw)
        start, blob_end = self.element(name_end, after, 0x30, "a blob")
        if blob_end != after:
            raise Reject("stream", f"an entry has more than a name and a blob at {blob_end}")
        self.blob(raw, start, blob_end)
        return after

    def blob(self, name, at, end):
        start, at = self.element(at, end, 0x04, "a size")
        if at - start != 8:
            raise Reject("stream", f"a size of {at - start} bytes at {start}")
        size = int.from_bytes(self.data[start:at], "big")
        padding = None
        if at < end and self.data[at] == 0x80:
            start, at = self.element(at, end, 0x80, "padding")
            padding = at - start
            if not is_zero(self.data[start:at]):
                raise Reject("stream", f"padding that is not zero at {start}")
        start, at = self.element(at, end, 0x04, "a content")
        if at != end:
            raise Reject("stream", f"a blob has more than its content at {at}")
        capacity = at - start
        if not 1 <= capacity <= f.MAX_CAPACITY:
            raise Reject("stream", f"a capacity of {capacity} at {start}")
        if size > capacity:
            raise Reject("stream", f"a size of {size} above the capacity of {capacity} at {start}")
        if not is_zero(self.data[start + size : at]):
            raise Reject("stream", f"bytes beyond the real size at {start + size}")
        self.shapes.append((len(name), capacity))
        self.paddings.append(padding)
        self.entries.append(Entry(name.decode(), capacity, size, self.data[start : start + size]))

    def check_layout(self, start, end):
        try:
            layout = f.stream_layout(self.shapes)
        except ValueError as error:
            raise Reject("stream", str(error)) from None
        if layout != (start, end, self.paddings):
            raise Reject("stream", "the layout is not the one of these names and capacities")
