#!/usr/bin/env python3
"""Reads many images in one process, for property tests: every line of standard input is `IMAGE KEYHEX`, and answered
by one line of JSON: what vnvram_reader.py --json prints, or {"reason": …, "message": …}."""

import json
import sys

from vnvram_format import KEYRING, Reject
from vnvram_header import Credential
from vnvram_image import Volume
from vnvram_reader import describe
from vnvram_stream import Stream


def read(path, key):
    with open(path, "rb") as file:
        raw = file.read()
    try:
        volume = Volume(raw, Credential(KEYRING, key))
        return describe(volume, Stream(volume.plaintext()))
    except Reject as reject:
        return {"reason": reject.reason, "message": reject.where}


for line in sys.stdin:
    image, key = line.split()
    print(json.dumps(read(image, bytes.fromhex(key))), flush=True)
