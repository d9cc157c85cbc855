#!/usr/bin/env python3
"""Prints what llvm-cov export says as tables: lines and regions of each module of Sources, and of each file.

    coverage.py SUMMARY.json ROOT ASKED MODULE...

Status 1 where a MODULE has less than ASKED percent of its lines."""

import json
import sys
from collections import defaultdict


def percent(counted):
    count, covered = counted
    return 100.0 * covered / count if count else 100.0


def row(name, lines, regions):
    return f"{name:<44} {lines[1]:>6} of {lines[0]:>6} {percent(lines):6.1f} %  {regions[1]:>6} of {regions[0]:>6} {percent(regions):6.1f} %"


def main(path, root, asked, *modules):
    with open(path, encoding="utf-8") as file:
        files = json.load(file)["data"][0]["files"]
    found = defaultdict(dict)
    for entry in files:
        if not entry["filename"].startswith(root + "/Sources/"):
            continue
        module, name = entry["filename"][len(root) + 9 :].split("/", 1)
        summary = entry["summary"]
        found[module][name] = [(summary[kind]["count"], summary[kind]["covered"]) for kind in ("lines", "regions")]
    head = f"{'':<44} {'lines':>23}  {'regions':>25}"
    sums = {m: [tuple(map(sum, zip(*(f[i] for f in fs.values())))) for i in (0, 1)] for m, fs in found.items()}
    for module in sorted(found):
        print(f"\n{head}\n{row(module, *sums[module])}")
        for name, counted in sorted(found[module].items(), key=lambda item: percent(item[1][0])):
            print(row("  " + name, *counted))
    print(f"\n{head}")
    for module in sorted(sums):
        print(row(module, *sums[module]))
    print(row("all", *(tuple(map(sum, zip(*(s[i] for s in sums.values())))) for i in (0, 1))))
    short = [m for m in modules if percent(sums[m][0]) < float(asked)]
    print(f"\ncoverage: {asked} % of lines are asked of {', '.join(modules)}; below: {', '.join(short) or 'none'}")
    return 1 if short else 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
