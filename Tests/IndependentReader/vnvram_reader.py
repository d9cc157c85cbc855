#!/usr/bin/env python3
"""An independent reader of vnvram images, written from FORMAT.md alone.

It opens an image with a key, checks all that FORMAT.md says a reader checks, and prints what is in it as JSON. It
never writes to the image. Exit statuses are those of sections 10 and 12; 0 when all is well, 2 for wrong usage, 11 for
a failed read.
"""

import argparse
import hashlib
import json
import mmap
import os
import sys
import uuid as uuid_module

import vnvram_anchor
import vnvram_format as f
from vnvram_format import Reject
from vnvram_header import KIND_NAMES, Credential
from vnvram_image import Volume
from vnvram_stream import Stream


def slot_json(slot):
    row = {"index": slot.index, "kind": KIND_NAMES[slot.kind], "label": slot.label}
    row |= {"maker": slot.maker, "created": slot.created}
    if slot.kind == f.PASSPHRASE:
        row["log2N"], row["r"], row["p"] = slot.costs
    return row


def entry_json(entry):
    digest = hashlib.sha256(entry.content).hexdigest()
    return {"name": entry.name, "capacity": entry.capacity, "size": entry.size, "sha256": digest}


def vm_json(binding):
    return binding and {"uuid": str(uuid_module.UUID(bytes=binding[0])), "name": binding[1]}


def describe(volume, stream):
    """The JSON object that the command prints for an image that is good."""
    g = volume.geometry
    return {
        "uuid": str(uuid_module.UUID(bytes=volume.header.uuid)),
        "generation": volume.generation,
        "clean": volume.header.clean,
        "copiesDiffer": volume.copies_differ,
        "recordsReplayed": len(volume.records),
        "blockSize": g.block_size,
        "sectorCount": g.sector_count,
        "imageSize": g.image_size,
        "vm": vm_json(volume.header.binding),
        "slots": [slot_json(s) for s in volume.header.slots],
        "entries": [entry_json(e) for e in stream.entries],
    }


def key_values(volume):
    """Every derived key, by name, in hexadecimal: for vectors, and to decrypt with another implementation."""
    keys, header = volume.keys, volume.header
    index, key_encryption_key = volume.opened.index, volume.opened.key_encryption_key
    slot = header.slot(index)
    return {
        "slot-key-encryption-key": key_encryption_key.hex(),
        "slot-wrapping-key": f.hkdf(key_encryption_key, f.slot_salt(slot), b"slot", 32).hex(),
        "slot-associated-data": f.slot_associated_data(header.raw, index, slot).hex(),
        "store-key": keys.store_key.hex(),
        "sector-cipher-data-key": keys.sector_cipher[:32].hex(),
        "sector-cipher-tweak-key": keys.sector_cipher[32:].hex(),
        "sector-tag-key": keys.sector_tag.hex(),
        "structure-key": keys.structure.hex(),
        "audit-key": keys.audit.hex(),
        "geometry-digest": header.digest.hex(),
        "header-mac-input-sha256": hashlib.sha256(keys.header_input(header.raw)).hexdigest(),
        "header-mac": header.raw[f.HEADER_MAC_AT :].hex(),
        "header-root": header.root.hex(),
        "lineage": header.lineage[-1].value.hex(),
    }


def sector_values(volume, sector):
    """What it takes to verify and decrypt one sector with another implementation, in hexadecimal."""
    leaf = volume.leaf(sector)
    nonce = leaf[16:24]
    ciphertext = volume.ciphertext(sector)
    prefix = volume.keys.tag_prefix(len(ciphertext), sector, nonce)
    return {
        "sector-nonce": nonce.hex(),
        "sector-tweak": volume.keys.tweak(sector, nonce).hex(),
        "sector-ciphertext-sha256": hashlib.sha256(ciphertext).hexdigest(),
        "sector-plaintext-sha256": hashlib.sha256(volume.sector(sector)).hexdigest(),
        "sector-tag-input-prefix": prefix.hex(),
        "sector-tag-input-sha256": hashlib.sha256(prefix + ciphertext).hexdigest(),
        "sector-tag": leaf[:16].hex(),
    }


def record_values(volume):
    """The MAC of the first record that counts, with what it is computed over."""
    if not volume.records:
        return {}
    record = volume.records[0]
    return {
        "record-mac-input": volume.keys.record_input(volume.header.digest, record.authenticated).hex(),
        "record-mac": record.mac.hex(),
    }


def tree_values(volume):
    """The root of the leaf table in the image, without any journal: only for an image closed cleanly."""
    g, keys, digest = volume.geometry, volume.keys, volume.header.digest
    if not volume.header.clean:
        return {}
    table = bytes(volume.table)
    blocks = [table[at : at + g.block_size] for at in range(0, len(table), g.block_size)]
    macs = [keys.leaf_mac(digest, j, block) for j, block in enumerate(blocks)]
    return {"leaf-mac-0": macs[0].hex(), "root-input": keys.root_input(digest, volume.generation, macs).hex()}


def load(path):
    """The image's bytes, mapped where they can be."""
    with open(path, "rb") as file:
        if os.fstat(file.fileno()).st_size == 0:
            return file.read()
        return mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)


def credential_of(arguments):
    if arguments.key:
        with open(arguments.key, "r", encoding="ascii") as file:
            secret = bytes.fromhex(file.read().strip())
        if len(secret) != 32:
            raise ValueError("a keyring key has 64 hexadecimal digits")
        return Credential(f.KEYRING, secret)
    if arguments.recovery:
        return Credential(f.RECOVERY, f.recovery_key(arguments.recovery))
    with open(arguments.passphrase_file, "rb") as file:
        secret = file.read()
    return Credential(f.PASSPHRASE, secret[:-1] if secret.endswith(b"\n") else secret)


def parse_arguments(arguments):
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    by = parser.add_mutually_exclusive_group(required=True)
    by.add_argument("--key", metavar="HEXFILE", help="a file of the 64 hexadecimal digits of a keyring key")
    by.add_argument("--recovery", metavar="TEXT", help="a recovery key as it was printed")
    by.add_argument("--passphrase-file", metavar="FILE", help="a passphrase; one newline at its end doesn't count")
    parser.add_argument("--json", action="store_true", help="one line of JSON instead of indented JSON")
    parser.add_argument("--entry", metavar="NAME", help="write this entry's content to standard output instead")
    parser.add_argument("--dump", action="store_true", help="write the decrypted volume to standard output instead")
    parser.add_argument("--keys", action="store_true", help="add the derived keys (secret!) to the JSON")
    parser.add_argument("--anchor", metavar="FILE", help="compare the image with this anchor file first")
    parser.add_argument("--counter", metavar="N", type=int, help="the value of the counter that the anchor goes with")
    parser.add_argument("--explain", metavar="SECTOR", type=int, help="add a sector's tweak, tag and tag input")
    parser.add_argument("image")
    return parser.parse_args(arguments)


def compare(volume, arguments):
    """`current` or `ahead`; refuses what the anchor refuses."""
    if not os.path.exists(arguments.anchor):
        raise vnvram_anchor.Refuse("anchor-missing", arguments.anchor)
    return vnvram_anchor.compare(volume, load(arguments.anchor), arguments.counter)[0]


def run(arguments):
    volume = Volume(load(arguments.image), credential_of(arguments))
    verdict = compare(volume, arguments) if arguments.anchor else None
    plaintext = volume.plaintext()
    if arguments.dump:
        sys.stdout.buffer.write(plaintext)
        return 0
    stream = Stream(plaintext)
    if arguments.entry is not None:
        found = [e for e in stream.entries if e.name == arguments.entry]
        if not found:
            print(f"no entry is called {arguments.entry}", file=sys.stderr)
            return 14
        sys.stdout.buffer.write(found[0].content)
        return 0
    result = describe(volume, stream)
    if verdict:
        result["anchor"] = verdict
    if arguments.keys:
        result["values"] = {**key_values(volume), **record_values(volume), **tree_values(volume)}
    if arguments.explain is not None:
        if not 0 <= arguments.explain < volume.geometry.sector_count:
            raise ValueError(f"there is no sector {arguments.explain}")
        result["explain"] = sector_values(volume, arguments.explain)
    print(json.dumps(result, indent=None if arguments.json else 2, ensure_ascii=False))
    return 0


def main(arguments=None):
    arguments = parse_arguments(arguments)
    try:
        return run(arguments)
    except Reject as error:
        print(json.dumps({"reason": error.reason, "message": error.where}, ensure_ascii=False))
        return f.STATUS[error.reason]
    except vnvram_anchor.Refuse as error:
        print(json.dumps({"reason": error.reason, "message": error.where}, ensure_ascii=False))
        return vnvram_anchor.STATUS[error.reason]
    except ValueError as error:
        print(error, file=sys.stderr)
        return 2
    except OSError as error:
        print(error, file=sys.stderr)
        return 11


if __name__ == "__main__":
    sys.exit(main())
