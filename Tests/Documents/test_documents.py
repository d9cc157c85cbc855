"""What the documents show is what happens; what they name is there."""

import os
import pathlib
import re
import subprocess
import unittest

import document
from document import ROOT

DOCUMENTS = sorted(
    path for pattern in ("*.md", "Documentation/*.md", "Keys/*.md", "Tests/*.md", "Tests/*/README.md") for path in ROOT.glob(pattern))
TEST_SOURCES = sorted(path for pattern in ("*.swift", "*.py", "*.sh") for path in (ROOT / "Tests").rglob(pattern))


class Shown(unittest.TestCase):
    """Commands and their output."""

    def check(self, name):
        found, count = document.problems(ROOT / name)
        self.assertGreater(count, 0, "the document shows no command")
        self.assertFalse(found, "\n\n" + "\n\n".join(found))
        print(f"{name}: {count} commands print what is shown")

    def test_readme(self):
        self.check("README.md")

    def test_keys(self):
        self.check("Keys/README.md")


class Demonstration(unittest.TestCase):
    def test_demo(self):
        """It succeeds without a terminal, and leaves nothing behind."""
        before = set(pathlib.Path("/tmp").glob("vnvram-demo.*"))
        result = subprocess.run(
            [ROOT / "Demo/demo.sh", document.PROGRAMS], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT, text=True, timeout=300, env=dict(os.environ, TMPDIR="/tmp"))
        self.assertEqual(result.returncode, 0, result.stdout)
        self.assertIn("All 10 steps went as they should", result.stdout)
        self.assertLessEqual(set(pathlib.Path("/tmp").glob("vnvram-demo.*")), before)


class Named(unittest.TestCase):
    """Files and tests."""

    def test_links(self):
        """Every link within the project leads somewhere, to the right heading where it names one."""
        count = 0
        for path in DOCUMENTS:
            text = re.sub(r"```.*?```", "", path.read_text(), flags=re.S)
            for link in re.findall(r"\]\(([^)\s]+)\)", text):
                if re.match(r"[a-z]+:", link):
                    continue
                target, _, heading = link.partition("#")
                file = (path.parent / target).resolve() if target else path
                self.assertTrue(file.exists(), f"{path}: no {link}")
                if heading:
                    self.assertIn(heading, headings(file), f"{path}: no heading {link}")
                count += 1
        self.assertGreater(count, 0)

    def test_tests(self):
        """Every test that a document names, as `Suite.name`, exists."""
        sources = "\n".join(path.read_text() for path in TEST_SOURCES)
        attribute = r"@\w+(?:\((?:[^()\n]|\([^()\n]*\))*\))?"
        suites = set(re.findall(rf"^\s*(?:{attribute}\s+)*(?:final )?(?:struct|class|enum) (\w+)", sources, re.M))
        tests = set(re.findall(r"\b(?:func|def) (\w+)", sources))
        count = 0
        for path in DOCUMENTS:
            for suite, name in re.findall(r"`([A-Z]\w*[a-z]\w*)\.(\w+)`", path.read_text()):
                if suite + "." + name in {path.name for path in TEST_SOURCES}:
                    continue
                self.assertIn(suite, suites, f"{path}: {suite}.{name}")
                self.assertIn(name, tests, f"{path}: {suite}.{name}")
                count += 1
        self.assertGreater(count, 0)


def headings(path):
    """A Markdown file's headings as they are linked to."""
    lines = re.findall(r"^#+ (.*)$", path.read_text(), re.M)
    return {re.sub(r"[^\w\- ]", "", line.lower()).replace(" ", "-") for line in lines}


if __name__ == "__main__":
    unittest.main()
