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

    def make(self, *targets, prefix="/usr", status=0, sources=ROOT):
        result = subprocess.run(
            ["sh", "-c", 'umask 077; exec make "$@"', "make", "-s", "-C", sources, f"DESTDIR={self.root}", f"PREFIX={prefix}", f"PROGRAMS={PROGRAMS}", *targets],
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

    def test_other_interfaces(self):
        """What isn't served here is Debian's own still, from where it was put aside."""
        self.make("install", "install-as-swtpm", prefix="/opt/x")
        self.aside = self.root / "opt/x/bin/swtpm.distrib"
        self.aside.write_text('#!/bin/sh\necho "$@"\nexit 7\n')
        self.aside.chmod(0o755)
        for name, status in (("swtpm", 7), ("vnvram-swtpm", 2)):
            result = subprocess.run(
                [self.root / "opt/x/bin" / name, "chardev", "--vtpm-proxy"], stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT, text=True)
            self.assertEqual(result.returncode, status, result.stdout)
            self.assertIn("chardev", result.stdout)

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

    # What an operator may change.

    def add_rule(self):
        """Installs, and returns the rule."""
        self.make("install", prefix="/opt/x")
        return self.root / "opt/x/etc/request-key.d/vnvram.conf"

    def install_newer(self):
        """A version whose rule is another."""
        sources = self.folder / "sources"
        if not sources.exists():
            sources.mkdir()
            for path in ROOT.iterdir():
                if path.name not in ("Keys", ".build", ".git"):
                    (sources / path.name).symlink_to(path)
            shutil.copytree(ROOT / "Keys", sources / "Keys")
            with (sources / "Keys/request-key.d/vnvram.conf").open("a") as rule:
                rule.write("# newer\n")
        return self.make("install", prefix="/opt/x", sources=sources)

    def test_unchanged_rule(self):
        """It follows the version that is installed, without a word."""
        rule = self.add_rule()
        self.assertEqual(rule.stat().st_mode & 0o777, 0o644)
        before = rule.read_text()
        self.assertNotIn("@", before)
        output = self.install_newer()
        self.assertEqual(rule.read_text(), before + "# newer\n")
        self.assertNotIn("somebody", output)
        self.assertEqual([path.name for path in rule.parent.iterdir()], ["vnvram.conf"])

    def test_changed_rule(self):
        """It stays, whatever is installed, and when all else goes."""
        rule = self.add_rule()
        rule.write_text("# ours\n")
        for _ in range(2):
            self.assertIn("was changed by somebody", self.make("install", prefix="/opt/x"))
            self.assertEqual(rule.read_text(), "# ours\n")
        self.assertEqual([path.name for path in rule.parent.iterdir()], ["vnvram.conf"])
        self.assertIn("vnvram.conf.new", self.install_newer())
        self.assertEqual(rule.read_text(), "# ours\n")
        self.assertTrue((rule.parent / "vnvram.conf.new").read_text().endswith("# newer\n"))
        self.assertIn("stays", self.make("uninstall", prefix="/opt/x"))
        self.assertEqual(self.names(), ["opt/x/etc/request-key.d/vnvram.conf"])
        self.assertEqual(rule.read_text(), "# ours\n")

    def test_rule_taken_over(self):
        """Who takes the new one into use has no more of it beside."""
        rule = self.add_rule()
        rule.write_text("# ours\n")
        self.install_newer()
        (rule.parent / "vnvram.conf.new").replace(rule)
        self.assertNotIn("somebody", self.install_newer())
        self.make("uninstall", prefix="/opt/x")
        self.assertEqual(self.names(), [])

    def test_rule_of_somebody_else(self):
        """From before the first installation, or a link: not written to, and nothing that it leads to."""
        rule = self.root / "opt/x/etc/request-key.d/vnvram.conf"
        rule.parent.mkdir(parents=True)
        other = self.folder / "other"
        other.write_text("# theirs\n")
        rule.symlink_to(other)
        self.assertIn("stays as it is", self.make("install", prefix="/opt/x"))
        self.make("uninstall", prefix="/opt/x")
        self.assertEqual(self.names(), ["opt/x/etc/request-key.d/vnvram.conf"])
        self.assertEqual(other.read_text(), "# theirs\n")

    def test_removed_rule(self):
        """Somebody doesn't want the kernel to ask for keys."""
        rule = self.add_rule()
        rule.unlink()
        self.assertIn("isn't put back", self.make("install", prefix="/opt/x"))
        self.assertFalse(rule.exists())
        self.make("uninstall", prefix="/opt/x")
        self.assertEqual(self.names(), [])
        self.add_rule()
        self.assertTrue(rule.exists())

    def test_uninstall_leaves_what_others_added(self):
        self.make("install", prefix="/opt/x")
        theirs = [
            "opt/x/etc/systemd/system/vnvram-key@.service.d/user.conf", "opt/x/etc/vnvram/keys/tss/vm7.key",
            "opt/x/etc/vnvram/vnvram-swtpm.options", "opt/x/libexec/vnvram/our-provider",
            "opt/x/share/doc/vnvram/notes"]
        for name in theirs:
            (self.root / name).parent.mkdir(parents=True, exist_ok=True)
            (self.root / name).write_text("ours\n")
        self.make("uninstall", prefix="/opt/x")
        self.assertEqual(self.names(), theirs)


class Provider(unittest.TestCase):
    """Who provides keys, run by hand."""

    def setUp(self):
        folder = tempfile.TemporaryDirectory(prefix="vnvram-provider-")
        self.addCleanup(folder.cleanup)
        self.folder = pathlib.Path(folder.name)
        self.provider = ROOT / "Keys/providers/vnvram-key-from-file"

    def add(self, name, text):
        path = self.folder / name
        path.write_text(text)
        path.chmod(0o755)
        return path

    def run_it(self, *command):
        return subprocess.run(
            command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, timeout=120)

    def test_names_are_printed_as_they_are(self):
        """echo of a shell that knows \\n makes lines of a name."""
        result = self.run_it(self.provider, "--keys", self.folder, "vnvram:a\\nb\\033[2J\\c", str(os.getuid()))
        self.assertNotEqual(result.returncode, 0)
        # A folder that is called so, in a message.
        keys = self.folder / "k\\nx\\c"
        user = subprocess.run(["id", "-nu"], stdout=subprocess.PIPE, text=True, check=True).stdout.strip()
        (keys / user).mkdir(parents=True)
        keys.chmod(0o755)
        result = self.run_it(self.provider, "--keys", keys, "vnvram:a", str(os.getuid()))
        self.assertEqual(result.stderr.count("\n"), 1, result.stderr)
        self.assertIn("k\\nx\\c: others than its owner may use it", result.stderr)
        self.assertIn("chmod go= it", result.stderr)

    def test_a_stuck_child_is_killed(self):
        """systemd-creds waits for a TPM, and doesn't end on SIGTERM."""
        self.add("systemd-creds", "#!/bin/sh\ntrap '' TERM\nsleep 50 & wait; sleep 50\n")
        text = self.provider.read_text()
        shortened = text.replace("kill-after=2 15", "kill-after=1 1").replace("\nPATH=", f"\nPATH={self.folder}:")
        self.assertNotEqual(shortened, text)
        provider = self.add("provider", shortened)
        user = subprocess.run(["id", "-nu"], stdout=subprocess.PIPE, text=True, check=True).stdout.strip()
        keys = self.folder / "keys"
        (keys / user).mkdir(parents=True)
        for path in (keys, keys / user):
            path.chmod(0o700)
        (keys / user / "vm.cred").touch(0o600)
        result = self.run_it(provider, "--keys", keys, "vnvram:vm", str(os.getuid()))
        self.assertIn(result.returncode, (-9, 137), result.stderr)
        self.assertEqual(result.stdout, "")

    def test_the_rule_kills(self):
        """A provider that doesn't end on SIGTERM is killed by what the kernel runs."""
        rule = (ROOT / "Keys/request-key.d/vnvram.conf").read_text().splitlines()[-1]
        self.assertEqual(rule.split()[:4], ["create", "user", "vnvram:*", "*"])
        program = rule.split("|", 1)[1]
        shortened = program.replace("--kill-after=5 20", "--kill-after=1 1")
        self.assertNotEqual(shortened, program)
        self.add("vnvram-key-from-file", "#!/bin/sh\ntrap '' TERM\nwhile :; do sleep 1; done\n")
        words = shortened.replace("@LIBEXECDIR@", str(self.folder)).replace("%d", "vnvram:x").replace("%u", "0").split()
        self.assertIn(self.run_it(*words).returncode, (-9, 137))


if __name__ == "__main__":
    unittest.main()
