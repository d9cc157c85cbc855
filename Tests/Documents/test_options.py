"""Every option of vnvram-swtpm is in its help, in the manual page and in README.md's table, and nothing else is; every command
of vnvram is in its manual page."""

import re
import shutil
import subprocess
import unittest

import document
from document import ROOT

PAGE = ROOT / "man/vnvram-swtpm.8"
SOURCE = (ROOT / "Sources/vnvram-swtpm/OptionName.swift").read_text()
OPTIONS = dict(re.findall(r'^  case (\w+) = "(--[\w-]+)"$', SOURCE, re.M))
LETTERS = {OPTIONS[name]: letter for name, letter in re.findall(r'^    case \.(\w+): "(\w)"$', SOURCE, re.M)}


class Options(unittest.TestCase):
    def test_source(self):
        self.assertGreater(len(OPTIONS), 30)
        self.assertEqual(LETTERS["--terminate"], "t")

    def test_help(self):
        text = subprocess.run(
            [document.PROGRAMS / "vnvram-swtpm", "--help"], stdout=subprocess.PIPE, text=True, check=True).stdout
        text = text[:text.index("Example:")]
        self.assertEqual(set(re.findall(r"(?<![\w-])--[a-z][\w-]*", text)), set(OPTIONS.values()))
        for option, letter in LETTERS.items():
            self.assertIn(f"-{letter}, {option}", text)

    def test_page(self):
        items = [line for line in PAGE.read_text().splitlines() if line.startswith(".It Fl")]
        found = {f"--{name}" for line in items for name in re.findall(r"Fl -([\w-]+)|, -([\w-]+)", line) for name in name if name}
        self.assertEqual(found, set(OPTIONS.values()))
        for option, letter in LETTERS.items():
            self.assertTrue(any(f"Fl {letter} , Fl {option[1:]}" in line for line in items), option)

    def test_readme(self):
        text = (ROOT / "README.md").read_text()
        section = text[text.index("\n## The command line"):text.index("\n## The control channel")]
        cells = [line.split("|")[1] for line in section.splitlines() if line.startswith("| `-")]
        found = [option for cell in cells for option in re.findall(r"--[a-z][\w-]*", cell)]
        self.assertEqual(set(found), set(OPTIONS.values()))
        for option, letter in LETTERS.items():
            self.assertTrue(any(f"`-{letter}`, `{option}" in cell for cell in cells), option)

    def test_commands(self):
        text = subprocess.run(
            [document.PROGRAMS / "vnvram", "--help"], stdout=subprocess.PIPE, text=True, check=True).stdout
        named = set(re.findall(r"^  ([a-z-]+)  ", text[text.index(" SUBCOMMANDS:"):], re.M))
        listed = set(re.findall(r"^\.It Ic ([a-z-]+)$", (ROOT / "man/vnvram.1").read_text(), re.M))
        self.assertGreater(len(named), 15)
        self.assertEqual(named, listed)

    @unittest.skipUnless(shutil.which("mandoc"), "no mandoc here")
    def test_pages_are_well_formed(self):
        result = subprocess.run(
            ["mandoc", "-Tlint", "-Wwarning", *(ROOT / "man").glob("*.[18]")], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        self.assertEqual((result.returncode, result.stdout), (0, ""))


if __name__ == "__main__":
    unittest.main()
