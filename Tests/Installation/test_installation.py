"""`make install`, `make install-as-swtpm` and their opposites, into a folder that is a system of its own.

Nothing of the machine's own is touched: dpkg works on the folder's own database, with packages that are made here.
"""

import os
import pathlib
import shutil
import subprocess
import tempfile
import unittest

ROOT = pathlib.Path(__file__).resolve().parents[2]
PROGRAMS = pathlib.Path(os.environ.get("VNVRAM_BIN", ROOT / ".build/programs/release")).resolve()


class Installation(unittest.TestCase):
    def setUp(self):
        folder = tempfile.TemporaryDirectory(prefix="vnvram-install-")
        self.addCleanup(folder.cleanup)
        self.folder = pathlib.Path(folder.name)
        self.root = self.folder / "root"
        self.root.mkdir()
        self.swtpm = self.root / "usr/bin/swtpm"
        self.aside = self.root / "usr/bin/swtpm.distrib"

    def make(self, *targets, prefix="/usr", status=0):
        result = subprocess.run(
            ["sh", "-c", 'umask 077; exec make "$@"', "make", "-s", "-C", ROOT, f"DESTDIR={self.root}", f"PREFIX={prefix}", f"PROGRAMS={PROGRAMS}", *targets],
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=120)
        self.assertEqual(result.returncode != 0, status != 0, result.stdout)
        return result.stdout

    def names(self):
        """Everything but folders and dpkg's own files."""
        found = (path.relative_to(self.root) for path in self.root.rglob("*") if path.is_symlink() or not path.is_dir())
        return sorted(str(path) for path in found if path.parts[0] != "var")

    def add_packages(self):
        """A database of packages."""
        (self.root / "var/lib/dpkg/info").mkdir(parents=True)
        (self.root / "var/lib/dpkg/updates").mkdir()
        for name in ("status", "available"):
            (self.root / "var/lib/dpkg" / name).touch()

    def add_swtpm(self, version):
        """Debian's swtpm, as far as dpkg is concerned."""
        package = self.folder / f"package-{version}"
        (package / "DEBIAN").mkdir(parents=True)
        (package / "usr/bin").mkdir(parents=True)
        (package / "DEBIAN/control").write_text(
            f"Package: swtpm\nVersion: {version}\nArchitecture: all\nMaintainer: nobody\nDescription: a test\n")
        (package / "usr/bin/swtpm").write_text(f"swtpm {version}\n")
        subprocess.run(
            ["dpkg-deb", "--root-owner-group", "--build", package, self.folder / "swtpm.deb"], check=True,
            stdout=subprocess.DEVNULL)
        subprocess.run(
            ["dpkg", "--root", self.root, "--force-not-root,script-chrootless", "--log", self.folder / "log",
             "--install", self.folder / "swtpm.deb"], check=True, stdout=subprocess.DEVNULL)

    def test_programs(self):
        """What is installed runs under both names, and all of it goes again."""
        self.make("install", "install-as-swtpm", prefix="/opt/x")
        self.assertIn("opt/x/share/man/man8/vnvram-swtpm.8", self.names())
        for name in ("vnvram-swtpm", "swtpm"):
            result = subprocess.run(
                [self.root / "opt/x/bin" / name, "socket", "--print-capabilities"], stdout=subprocess.PIPE, text=True)
            self.assertIn('"type": "swtpm"', result.stdout)
        # Users who may not search it could not tell whether there are options in it.
        folder = self.root / "opt/x/etc/vnvram"
        self.assertEqual(folder.stat().st_mode & 0o777, 0o755)
        self.make("uninstall", prefix="/opt/x")
        self.assertEqual(self.names(), [])
        self.assertFalse(folder.exists())

    def test_without_programs(self):
        output = self.make("install-as-swtpm", status=1)
        self.assertIn("make install first", output)
        self.assertEqual(self.names(), [])

    def test_for_packing(self):
        """A folder without packages of its own gets the link and nothing else; what is in its way stays."""
        self.make("install", "install-as-swtpm")
        self.assertEqual(os.readlink(self.swtpm), "vnvram-swtpm")
        self.make("install-as-swtpm", "uninstall-as-swtpm")
        self.assertFalse(os.path.lexists(self.swtpm))
        self.swtpm.write_text("somebody's\n")
        self.assertIn("move it away", self.make("install-as-swtpm", status=1))
        self.make("uninstall-as-swtpm")
        self.assertEqual(self.swtpm.read_text(), "somebody's\n")

    @unittest.skipUnless(shutil.which("dpkg-divert"), "no dpkg here")
    def test_diverts(self):
        """Debian's is put aside, stays so when it is upgraded, and comes back."""
        self.add_packages()
        self.add_swtpm("1")
        self.make("install", "install-as-swtpm")
        for _ in range(2):
            self.assertEqual(os.readlink(self.swtpm), "vnvram-swtpm")
            self.assertEqual(self.aside.read_text(), "swtpm 1\n")
            self.make("install-as-swtpm")
        self.add_swtpm("2")
        self.assertEqual(os.readlink(self.swtpm), "vnvram-swtpm")
        self.assertEqual(self.aside.read_text(), "swtpm 2\n")
        for _ in range(2):
            self.make("uninstall-as-swtpm")
            self.assertEqual(self.swtpm.read_text(), "swtpm 2\n")
            self.assertFalse(self.aside.exists())

    @unittest.skipUnless(shutil.which("dpkg-divert"), "no dpkg here")
    def test_diverts_what_comes_later(self):
        self.add_packages()
        self.make("install", "install-as-swtpm")
        self.add_swtpm("1")
        self.assertEqual(os.readlink(self.swtpm), "vnvram-swtpm")
        self.make("uninstall")
        self.assertEqual(self.names(), ["usr/bin/swtpm"])
        self.assertEqual(self.swtpm.read_text(), "swtpm 1\n")

    @unittest.skipUnless(shutil.which("dpkg-divert"), "no dpkg here")
    def test_nobodys_file(self):
        """A file that no package would bring back isn't put aside."""
        self.add_packages()
        self.make("install")
        self.swtpm.write_text("somebody's\n")
        self.assertIn("move it away", self.make("install-as-swtpm", status=1))
        self.assertEqual(self.swtpm.read_text(), "somebody's\n")
        self.assertFalse(self.aside.exists())


if __name__ == "__main__":
    unittest.main()
