"""Prints how many lines of each parser the corpora cover: `coverage.py PROGRAM PROFILE…`, with the tools of Swift's toolchain."""

import json
import pathlib
import shutil
import subprocess
import sys
import tempfile

# All files that read what comes from outside: from images, streams, the server's clients and the kernel.
PARSERS = {
    "SecureVolume": "AnchorRecord Geometry Header HeaderCopy HeaderPair Journal JournalRecord KeySlot LeafTable RecoveryKey Recovery SealedVolume",
    "BlobStore": "BlobStore DERContent DERHeader DERInputVisitor DERInteger EntryName ImportedStream StreamLayout StreamParser "
    "VisitorFrames",
    "VTPM": "BigEndian ChannelOptions Connection ControlChannel ControlChannel+States ControlCommand DataChannel "
    "DataChannel+Commands",
    "SwtpmFormat": "KeyValueList SwtpmContainer SwtpmKey SwtpmKeyOption SwtpmSingleFile",
    "Keyring": "KeyDescription KeyName KeyPermissions ProcKeys",
}
ASKED = 90


def tool(name):
    """The toolchain's own: another version's would not read the profiles."""
    swift = pathlib.Path(shutil.which("swift")).resolve()
    beside = swift.parent / name
    return str(beside) if beside.exists() else name


def main(program, profiles):
    with tempfile.TemporaryDirectory() as scratch:
        merged = f"{scratch}/profile"
        subprocess.run([tool("llvm-profdata"), "merge", "-o", merged, *profiles], check=True)
        exported = subprocess.run(
            [tool("llvm-cov"), "export", "-summary-only", program, f"-instr-profile={merged}"],
            check=True, capture_output=True, text=True)
    lines = {file["filename"]: file["summary"]["lines"] for file in json.loads(exported.stdout)["data"][0]["files"]}
    low = []
    print("\nLines of the parsers that the corpora cover")
    for module, names in PARSERS.items():
        for name in names.split():
            found = [value for path, value in lines.items() if path.endswith(f"/Sources/{module}/{name}.swift")]
            if not found:
                sys.exit(f"coverage.py: there is no Sources/{module}/{name}.swift; is it called otherwise now?")
            count, covered = found[0]["count"], found[0]["covered"]
            percent = 100 * covered / count
            if percent < ASKED:
                low.append(name)
            print(f"  {module + '/' + name:32} {covered:4} of {count:4}  {percent:5.1f} %")
    print(f"below {ASKED} %: {', '.join(low)}" if low else f"none is below {ASKED} %")


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2:])
