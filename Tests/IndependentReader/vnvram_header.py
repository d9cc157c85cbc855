"""Chooses the header: both copies, the slots, the key. Written from sections 2 and 3 of FORMAT.md alone."""

import hashlib
from dataclasses import dataclass

import vnvram_format as f
from vnvram_format import Reject, get, is_zero

KIND_NAMES = {f.KEYRING: "keyring", f.RECOVERY: "recovery", f.PASSPHRASE: "passphrase"}


class Credential:
    """What opens slots of one kind: a keyring key or recovery key of 32 bytes, or a passphrase."""

    def __init__(self, kind, secret):
        self.kind = kind
        self.secret = secret
        self._stretched = {}

    def key_encryption_key(self, slot):
        """The slot's key-encryption key, or None where the slot is of another kind or its costs are not allowed."""
        if get(slot, 0, 4) != self.kind:
            return None
        if self.kind != f.PASSPHRASE:
            return self.secret
        costs = f.slot_costs(slot)
        if not f.costs_allowed(*costs):
            return None
        # Both copies have the same slots: stretching each once keeps the work at the limit of one copy.
        at = (f.slot_salt(slot), costs)
        if at not in self._stretched:
            self._stretched[at] = f.scrypt(self.secret, f.slot_salt(slot), *costs)
        return self._stretched[at]


@dataclass(frozen=True)
class Opened:
    """What a slot gave: its index, the key-encryption key, the store key."""

    index: int
    key_encryption_key: bytes
    store_key: bytes


class HeaderCopy:
    """One copy of the header as it lies in the image; nothing in it is believed before its MAC is."""

    def __init__(self, image, index):
        offset = f.HEADER_OFFSETS[index]
        self.index = index
        self.name = "AB"[index]
        self.raw = bytes(image[offset : offset + f.HEADER_SIZE]).ljust(f.HEADER_SIZE, b"\0")
        self.uuid = self.raw[f.UUID_AT : f.UUID_AT + 16]
        self.geometry = f.Geometry(get(self.raw, 56, 4), get(self.raw, 64, 8))
        self.has_magics = self.raw[:17] == f.MAGICS
        self.readable = self.has_magics and self._is_readable()

    def _is_readable(self):
        known = ((20, f.VERSION), (24, f.SUITE), (28, f.HEADER_SIZE), (32, f.SLOT_COUNT), (36, f.SLOT_SIZE))
        return all(get(self.raw, at, 4) == value for at, value in known) and get(self.raw, f.FEATURES_AT, 8) == 0

    def sizes_fault(self):
        """Where the sizes are not those of section 1, or None."""
        fault = self.geometry.fault()
        if fault:
            return fault
        for name, offset, length, value in self.geometry.header_fields():
            if get(self.raw, offset, length) != value:
                return f"{name} is {get(self.raw, offset, length)}, section 1 gives {value}"
        return None

    def slot(self, index):
        at = f.SLOTS_AT + index * f.SLOT_SIZE
        return self.raw[at : at + f.SLOT_SIZE]

    @property
    def cost(self):
        """The work of trying a passphrase on all slots."""
        slots = map(self.slot, range(f.SLOT_COUNT))
        return sum(f.cost(*f.slot_costs(slot)) for slot in slots if get(slot, 0, 4) == f.PASSPHRASE)

    def open_slot(self, index, credential):
        """What a slot gives to the key, or None."""
        if credential.kind == f.PASSPHRASE and self.cost > f.MAX_COST:
            return None
        slot = self.slot(index)
        key = credential.key_encryption_key(slot)
        store_key = f.unwrap(key, self.raw, index, slot) if key else None
        return Opened(index, key, store_key) if store_key else None

    def verifies(self, keys):
        return self.has_magics and keys.header_mac(self.raw) == self.raw[f.HEADER_MAC_AT :]

    def is_authentic(self, keys):
        return self.verifies(keys) and get(self.raw, f.COPY_AT, 4) == self.index

    def is_a_store_of(self, credential):
        """Whether the copy, with its own slots and UUID, is a header of a store that the key opens."""
        if not self.readable:
            return False
        found = (self.open_slot(index, credential) for index in range(f.SLOT_COUNT))
        return any(self.is_authentic(f.Keys(opened.store_key, self.uuid)) for opened in found if opened)


@dataclass(frozen=True)
class Slot:
    index: int
    kind: int
    label: str
    maker: str
    created: int
    costs: tuple


def check(good, what):
    if not good:
        raise Reject("header", what)


def text_field(raw, at, length, shortest, longest, what):
    """The text of `length` bytes at `at`, in a field of `longest` bytes whose rest must be zeros."""
    check(length <= longest, f"{what}: {length} bytes")
    text = raw[at : at + length]
    fault = f.text_fault(text, shortest, longest)
    check(fault is None, f"{what}: {fault}")
    check(is_zero(raw[at + length : at + longest]), f"{what}: bytes after it")
    return text.decode()


def parse_slot(index, slot):
    """The slot, None where it is empty; rejects what section 3 does not allow."""
    kind, what = get(slot, 0, 4), f"slot {index}"
    if kind == 0:
        check(is_zero(slot), f"{what}: empty, and not zero")
        return None
    check(kind in KIND_NAMES, f"{what}: kind {kind}")
    check(get(slot, 4, 4) == 1, f"{what}: algorithm {get(slot, 4, 4)}")
    check(get(slot, 8, 4) == 1, f"{what}: state {get(slot, 8, 4)}")
    costs = f.slot_costs(slot)
    if kind == f.PASSPHRASE:
        check(f.costs_allowed(*costs), f"{what}: scrypt costs {costs}")
    else:
        check(costs == (0, 0, 0), f"{what}: scrypt costs in a slot without a passphrase")
    label = text_field(slot, f.LABEL_AT + 4, get(slot, f.LABEL_AT, 4), 1, 120, f"{what}: label")
    maker = text_field(slot, f.MAKER_AT + 4, get(slot, f.MAKER_AT, 4), 0, 120, f"{what}: maker")
    check(is_zero(slot[372:]), f"{what}: bytes for wrapping to public keys, or reserved ones")
    return Slot(index, kind, label, maker, get(slot, f.CREATED_AT, 8), costs)


@dataclass(frozen=True)
class LineageEntry:
    """The value of an epoch, and the generation of its last header; 0 in the newest."""

    value: bytes
    ended: int


def lineage_entry(raw, at):
    entry = LineageEntry(raw[at : at + 32], get(raw, at + 32, 8))
    check(entry.ended < f.LIMIT, f"the generation of the lineage entry at {at}")
    return entry


def parse_lineage(raw):
    count = get(raw, 296, 4)
    check(1 <= count <= f.MAX_LINEAGE, f"lineageCount {count}")
    end = f.LINEAGE_AT + count * f.LINEAGE_SIZE
    check(is_zero(raw[end : f.AUDIT_AT]), "bytes after the newest lineage entry")
    entries = [lineage_entry(raw, at) for at in range(f.LINEAGE_AT, end, f.LINEAGE_SIZE)]
    check(entries[-1].ended == 0, "the newest lineage entry says that its epoch ended")
    return entries


def check_audit_heads(raw):
    used = True
    for index in range(f.AUDIT_HEADS):
        head = raw[f.AUDIT_AT + index * f.AUDIT_HEAD_SIZE :][: f.AUDIT_HEAD_SIZE]
        check(used or is_zero(head), f"audit head {index} behind an unused one")
        used = not is_zero(head)
        check(get(head, 16, 8) < f.LIMIT and is_zero(head[56:]), f"audit head {index}")


def parse_binding(raw):
    """UUID and name of the VM that the store is bound to, or None."""
    binding = raw[f.BINDING_AT : f.BINDING_AT + f.BINDING_SIZE]
    name = text_field(binding, 20, get(binding, 16, 4), 0, f.MAX_VM_NAME, "the VM's name")
    return None if is_zero(binding) else (binding[:16], name)


class Header:
    """A header copy whose MAC has been verified, and whose fields are as sections 2 and 3 say."""

    def __init__(self, copy, keys):
        raw = copy.raw
        self.copy = copy.index
        self.raw = raw
        self.keys = keys
        self.geometry = copy.geometry
        self.uuid = copy.uuid
        self.slot = copy.slot
        self.digest = hashlib.sha256(raw[0:128]).digest()
        self.clean = get(raw, 132, 4) == f.FLAG_CLEAN
        self.sequence = get(raw, 136, 8)
        self.generation = get(raw, 144, 8)
        self.epoch = raw[152:168]
        self.ring_position = get(raw, 168, 8)
        self.next_sequence = get(raw, 176, 8)
        self.leaf_table = get(raw, 188, 4)
        self.chain = raw[192:224]
        self.root = raw[224:256]
        self._check(raw)
        self.lineage = parse_lineage(raw)
        anchored = lineage_entry(raw, f.ANCHORED_AT)
        self.anchored = None if is_zero(anchored.value) else anchored
        check(self.anchored or anchored.ended == 0, "a generation without a value in anchored")
        check_audit_heads(raw)
        self.binding = parse_binding(raw)
        self.slots = [s for s in (parse_slot(i, copy.slot(i)) for i in range(f.SLOT_COUNT)) if s]
        check(len({s.label for s in self.slots}) == len(self.slots), "two slots have the same label")
        check(copy.cost <= f.MAX_COST, f"scrypt costs {copy.cost} in all")

    def _check(self, raw):
        for start, end in ((17, 20), (60, 64), (300, 304), (3760, f.SLOTS_AT)):
            check(is_zero(raw[start:end]), f"copy {'AB'[self.copy]}: reserved bytes {start} to {end}")
        check(not get(raw, 132, 4) & ~f.FLAG_CLEAN, f"flags {get(raw, 132, 4):#x}")
        check(get(raw, 184, 4) == f.KEY_EPOCH, f"keyEpoch {get(raw, 184, 4)}")
        check(self.leaf_table <= 1, f"leafTable {self.leaf_table}")
        in_ring = self.ring_position % self.geometry.block_size == 0 and self.ring_position < self.geometry.ring_size
        check(in_ring, f"ringPosition {self.ring_position}")
        numbers = (self.sequence, self.generation, self.next_sequence)
        check(max(numbers) < f.LIMIT, f"headerSequence, generation, nextSequence {numbers}")
        check(self.next_sequence > 0, "nextSequence 0")

    @property
    def content(self):
        """What both copies have alike."""
        return self.raw[: f.COPY_AT] + self.raw[f.COPY_AT + 4 : f.HEADER_MAC_AT]

    @property
    def rotates(self):
        return not is_zero(self.raw[f.PREVIOUS_KEY_AT : f.PREVIOUS_KEY_AT + 128])


# Section 2: which copy counts


def look(image):
    """Steps 1 to 3: both copies, of which one is worth trying the key on."""
    copies = [HeaderCopy(image, index) for index in (0, 1)]
    if not any(c.has_magics for c in copies):
        if image[:8] == f.MAGIC:
            raise Reject("unsupported-version", "the magic of version 1")
        raise Reject("not-an-image", "no header copy has the magics")
    if len(image) < 128:
        raise Reject("geometry", "the file ends within the header")
    readable = [c for c in copies if c.readable]
    if not readable:
        raise Reject("unsupported-version", "version, suite, sizes of header and slots, or features")
    faults = [c.sizes_fault() for c in readable]
    if not any(not fault and len(image) >= c.geometry.image_size for c, fault in zip(readable, faults)):
        raise Reject("geometry", next(filter(None, faults), f"the file has {len(image)} bytes"))
    return copies


def try_key(copies, credential):
    """Step 4: what the first slot that opens gives, and the copy that it is in."""
    for index in range(f.SLOT_COUNT):
        for copy in copies:
            opened = copy.open_slot(index, credential) if copy.readable else None
            if opened:
                return opened, copy
    raise Reject("wrong-key", "no slot opens")


def authenticate(copies, keys, credential):
    """Step 5: the headers in the authentic copies, by their index."""
    authentic = [c for c in copies if c.is_authentic(keys)]
    if not authentic:
        raise Reject("header", "a slot opened, and no copy verifies")
    first = authentic[0]
    if len(authentic) == 1 and copies[1 - first.index].is_a_store_of(credential):
        raise Reject("header-pair", "the copies belong to different stores")
    if any(c.raw[:128] != first.raw[:128] for c in authentic):
        raise Reject("header-pair", "the copies have different layouts")
    if not first.readable:
        raise Reject("unsupported-version", "an authentic header of another version, or with other features")
    if first.sizes_fault():
        raise Reject("geometry", first.sizes_fault())
    headers = {c.index: Header(c, keys) for c in authentic}
    if any(header.rotates for header in headers.values()):
        raise Reject("unsupported-version", "a rotation of the store key is under way")
    return headers


def choose(a, b):
    """Step 6: the copy that counts, of those that are valid (None where one isn't), and whether the copies differ."""
    if a and b:
        if a.content == b.content:
            return a, False
        if a.sequence == b.sequence + 1 and a.clean and not b.clean:
            return a, True
        if b.sequence == a.sequence + 1 and not b.clean:
            return b, True
        states = [f"{h.sequence}{' clean' if h.clean else ''}" for h in (a, b)]
        raise Reject("header-pair", f"A has sequence {states[0]}, B {states[1]}")
    if a:
        return a, True
    if b.clean:
        raise Reject("header-pair", "only copy B is valid, and it is clean")
    return b, True


def open_header(image, credential):
    """The header that counts, whether the copies differ, and what opened it."""
    copies = look(image)
    opened, copy = try_key(copies, credential)
    headers = authenticate(copies, f.Keys(opened.store_key, copy.uuid), credential)
    header, differ = choose(headers.get(0), headers.get(1))
    if len(image) < header.geometry.image_size:
        raise Reject("geometry", f"the file has {len(image)} bytes, the image {header.geometry.image_size}")
    return header, differ, opened
