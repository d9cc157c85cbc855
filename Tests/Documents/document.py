"""Runs what a document shows.

A ```console block has commands in lines that begin with `$ ` (and go on in lines that begin with `> `), each followed by
what it prints, standard error included. All blocks of a document run in order in one bash, in an empty directory, with a
keyrings of its own and the programs under test on the path.

What differs from run to run (serial numbers, UUIDs, times, keys, generations, header numbers, process numbers) and how many blanks a table has are
not compared. A line `…` stands for any number of lines. A command has to succeed, unless the next one is `echo $?`.

    VNVRAM_BIN=.build/programs/release python3 Tests/Documents/document.py FILE...

writes what the commands really print into the documents. Read the difference before you commit it.
"""

import os
import pathlib
import re
import subprocess
import sys
import tempfile

ROOT = pathlib.Path(__file__).resolve().parents[2]
PROGRAMS = pathlib.Path(os.environ.get("VNVRAM_BIN", ROOT / ".build/programs/release")).resolve()
# A user namespace has user keyrings of its own: none of the developer's keys are seen, or in the way.
OWN_KEYRINGS = ["unshare", "--user", "--map-root-user", "keyctl", "session", "-"]
if subprocess.run(OWN_KEYRINGS + ["true"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL).returncode != 0:
    OWN_KEYRINGS = OWN_KEYRINGS[3:]  # Not permitted here; then the documents' names have to be free.
TIME_LIMIT = 60  # seconds, for a whole document

VARIABLE = [
    (r" +", " "),
    (r"[0-9a-f]{8}(-[0-9a-f]{8}){7}-[0-9a-f]{4}", "RECOVERY-KEY"),
    (r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}", "UUID"),
    (r"\d{4}-\d\d-\d\d[T ]\d\d:\d\d:\d\d(\.\d+)?(Z| UTC)", "TIME"),
    (r"\bserial \d+", "serial N"),
    (r"\bgeneration \d+", "generation N"),
    (r"\bheader \d+", "header N"),
    (r"\b\d+ records of the journal", "N records of the journal"),
    # Nobody logged in, where a service runs the tests.
    (r'"login_uid":\d+,', ""),
    (r'"(serial|pid|uid)":\d+', r'"\1":N'),
    (r'"program":"[^"]*"', '"program":"P"'),
    (r"\b\d{6,}\b(?= (in|-) )", "SERIAL"),
]


class Command:
    """A command of a document: what it is, what it is said to print, and where."""

    def __init__(self, text, line):
        self.text = text
        self.line = line
        self.expected = []
        self.end = line + 1  # the line after the last one of what it prints

    @property
    def is_last_status(self):
        return self.text == "echo $?"


def commands(lines):
    """The commands of all console blocks."""
    found, inside = [], False
    for number, line in enumerate(lines):
        if line.startswith("```"):
            inside = line == "```console"
            last = None
        elif inside and line.startswith("$ "):
            last = Command(line[2:], number)
            found.append(last)
        elif inside and line.startswith("> ") and last and not last.expected:
            last.text += "\n" + line[2:]
            last.end = number + 1
        elif inside and last:
            last.expected.append(line)
            last.end = number + 1
    return found


def script(listed, out):
    """A bash script that runs them and leaves what each printed, and its status, in `out`."""
    parts = ["trap 'kill $(jobs -p) 2>/dev/null' EXIT", "last=0"]
    for number, command in enumerate(listed):
        parts.append(f"(exit $last); {{ {command.text}\n}} >{out}/{number} 2>&1 </dev/null; last=$?")
        parts.append(f"echo $last >{out}/{number}.status")
        if not (number + 1 < len(listed) and listed[number + 1].is_last_status):
            parts.append("[ $last -eq 0 ] || exit 0")
    return "\n".join(parts) + "\n"


def run(listed):
    """Runs them; for each that was reached, its status and the lines it printed."""
    results = []
    if not (PROGRAMS / "vnvram").exists():
        sys.exit(f"no programs in {PROGRAMS}: build them, or say with VNVRAM_BIN where they are")
    with tempfile.TemporaryDirectory(prefix="vnvram-document-") as directory:
        place = pathlib.Path(directory)
        (place / "out").mkdir()
        (place / "work").mkdir()
        (place / "script").write_text(script(listed, place / "out"))
        environment = dict(
            os.environ, PATH=f"{PROGRAMS}:{os.environ['PATH']}", VNVRAM_AUDIT_LOG="audit.jsonl", HOME=directory,
            LC_ALL="C.UTF-8", COLUMNS="80", TSS2_LOG="all+NONE")
        # In a process group of its own, so that nothing that it starts outlives it.
        child = subprocess.Popen(
            OWN_KEYRINGS + ["bash", str(place / "script")], cwd=place / "work", env=environment,
            stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True)
        try:
            child.wait(timeout=TIME_LIMIT)
        except subprocess.TimeoutExpired:
            pass  # What it didn't come to counts as never reached.
        finally:
            try:
                os.killpg(child.pid, 9)
            except ProcessLookupError:
                pass
            child.wait()
        for number in range(len(listed)):
            status = place / "out" / f"{number}.status"
            if not status.exists():
                break
            printed = (place / "out" / str(number)).read_text(errors="backslashreplace")
            printed = printed.replace(str(PROGRAMS), "/usr/local/bin").replace(str(place / "work"), "/home/you")
            results.append((int(status.read_text()), [line.rstrip() for line in printed.splitlines()]))
    return results


def normalised(line):
    for pattern, replacement in VARIABLE:
        line = re.sub(pattern, replacement, line)
    return line.strip()


def agrees(expected, actual):
    """Whether the lines agree, where `…` stands for any number of them."""
    if not expected:
        return not actual
    if expected[0].strip() == "…":
        return any(agrees(expected[1:], actual[skipped:]) for skipped in range(len(actual) + 1))
    return bool(actual) and normalised(expected[0]) == normalised(actual[0]) and agrees(expected[1:], actual[1:])


def problems(path):
    """What is wrong with a document, in sentences; and how many commands it has."""
    listed = commands(path.read_text().splitlines())
    results = run(listed)
    found = []
    for number, (status, printed) in enumerate(results):
        command = listed[number]
        where = f"{path.name}:{command.line + 1}: {command.text}"
        is_checked_next = number + 1 < len(listed) and listed[number + 1].is_last_status
        if status != 0 and not is_checked_next:
            found.append(f"{where}\nended with status {status}:\n" + "\n".join(printed))
        elif not agrees([line for line in command.expected if line.strip()], [line for line in printed if line.strip()]):
            found.append(f"{where}\nprints\n" + "\n".join(printed) + "\nand not\n" + "\n".join(command.expected))
    if len(results) < len(listed) and not found:
        found.append(f"{path.name}:{listed[len(results)].line + 1}: was never reached")
    return found, len(listed)


def update(path):
    """Writes what the commands print into the document."""
    lines = path.read_text().splitlines()
    listed = commands(lines)
    results = run(listed)
    for number in reversed(range(len(results))):
        command, (_, printed) = listed[number], results[number]
        # What agrees stays: or every run would change every number.
        if not agrees(command.expected, printed):
            first = command.line + 1 + command.text.count("\n")
            lines[first:command.end] = printed
    path.write_text("\n".join(lines) + "\n")
    print(f"{path}: {len(results)} of {len(listed)} commands were run")


if __name__ == "__main__":
    for name in sys.argv[1:]:
        update(pathlib.Path(name))
