"""No copy of a key or of the content outside the protected area while a store is in use, and none anywhere after it is locked or closed.

    VNVRAM_BIN=.build/debug python3 -m unittest discover --start-directory Tests/MemoryScan
"""

import hashlib
import os
import secrets
import shutil
import socket
import subprocess
import tempfile
import time
import unittest
from pathlib import Path

import needles
import process
import scanner

BIN = Path(os.environ.get("VNVRAM_BIN", Path(__file__).parents[2] / ".build/debug")).resolve()

# What must be found while a store is open, or the scan can't find anything: what is kept all the time.
KEPT = {
    "store key",
    "sector cipher key, data half: round keys 2 and 3",
    "sector cipher key, tweak half: round keys 2 and 3",
    "sector cipher key, data half: round key 13, inverse",
    "sector tag key: round keys 2 and 3",
    "sector tag key: K1",
    "sector tag key: K2",
    "structure key: inner state",
    "structure key: outer state",
}

# A part of what the helper writes last, which the store remembers from commit to commit.
CONTENT = ("content", bytes((i * i + i // 8 + 59) & 0xFF for i in range(6000, 6064)))


class Places(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        process.join_session()

    def setUp(self):
        if os.geteuid() != 0:
            self.skipTest("only root can read the memory of a process that can't be traced")
        self.folder = Path(tempfile.mkdtemp(prefix="vnvram-memory-"))
        self.addCleanup(shutil.rmtree, self.folder, ignore_errors=True)
        self.name = f"memory-{secrets.token_hex(4)}"
        self.key = secrets.token_bytes(32)
        self.serial = process.add_key(self.name, self.key)
        self.image = self.folder / "store.vnvram"

    def scan(self, pid, what, at):
        result = scanner.scan(pid, list(what))
        print(f"memory scan, {at}: {result}", flush=True)
        return result

    def assert_nothing_outside(self, result, at):
        self.assertEqual(result.places, [], at)

    def assert_nothing(self, result, at):
        self.assert_nothing_outside(result, at)
        self.assertEqual(dict(result.inside), {}, at)


class LifeOfAStore(Places):
    """Format, work, lock, open again, slots of each kind, in a process that says when to look."""

    def live(self, readable):
        passphrase = secrets.token_hex(12).encode()
        recovery = secrets.token_bytes(32)
        child = process.start(
            [BIN / "MemoryScanHelper", self.image, self.name], readable, stdin=subprocess.PIPE, stdout=subprocess.PIPE
        )
        self.addCleanup(child.wait)
        self.addCleanup(child.stdout.close)
        self.addCleanup(child.stdin.close)
        child.stdin.write(passphrase + b"\n" + needles.f.recovery_text(recovery).encode() + b"\n")
        child.stdin.flush()
        known = [CONTENT]
        steps = []
        for line in child.stdout:
            self.assertFalse(line.startswith(b"failed"), line)
            step, protection, used, not_zero = line.decode().split()
            image = self.image.read_bytes() if self.image.exists() else b""
            if step == "working":
                known += needles.of_store(image, self.key)
            if step in ("working", "reopened"):
                known += needles.of_sectors(image, self.key)
            if step == "slots":
                known += needles.of_passphrase(image, passphrase)
                known += needles.of_recovery_key(image, recovery)
            # The passphrase and the recovery key belong to the helper, which keeps both in the arena to the end.
            own = [n for n in known if n[1] not in (passphrase, recovery, needles.swapped(recovery))]
            result = self.scan(child.pid, known if step == "slots" else own, f"{protection}, {step}")
            self.look(step, protection, int(used), int(not_zero), result, readable)
            steps.append(step)
            child.stdin.write(b"\n")
            child.stdin.flush()
        self.assertEqual(child.wait(), 0)
        expected = "begun working locked reopened closed slots passphrase recovery-key planted ended".split()
        self.assertEqual(steps, expected)

    def look(self, step, protection, used, not_zero, result, readable):
        if readable:
            self.assertEqual(protection, "mlock")
            self.assertEqual(result.unreadable, [])
        if step == "planted":
            self.assertEqual(result.outside["key-encryption key"], 1, "the scan doesn't find a copy that lies about")
            return
        self.assert_nothing_outside(result, step)
        if step == "begun":
            type(self).at_rest = used
        if step in ("locked", "closed", "ended"):
            self.assertEqual(dict(result.inside), {}, step)
            # The passphrase and the recovery key, which are the helper's own, and nothing else; after scrypt also what
            # libcrypto remembers of algorithms that were asked for.
            self.assertLessEqual(used, self.at_rest + (512 if step == "ended" else 0), step)
            self.assertLessEqual(not_zero, used)
        if step in ("working", "reopened", "slots") and readable:
            kept = KEPT if step == "slots" else KEPT | {CONTENT[0]}
            self.assertLessEqual(kept, set(result.inside), "the scan doesn't find what must be there")

    def test_in_locked_memory(self):
        """The arena can be read from outside."""
        self.live(readable=True)

    def test_as_the_kernel_has_it(self):
        """With memfd_secret, where there is one: nothing at all can be read from outside; the arena tells of itself."""
        self.live(readable=False)


class Server(Places):
    """vnvram-swtpm, with libtpms at work, until its key is revoked."""

    def run_server(self, readable):
        made = subprocess.run(
            [BIN / "vnvram", "format", self.image, "--key", self.name, "--profile", "tpm2"],
            env={**os.environ, **self.environment()}, capture_output=True, text=True, check=False,
        )  # fmt: skip
        self.assertEqual(made.returncode, 0, made.stderr)
        server, log = self.start(readable, "--tpmstate", f"backend-uri=vnvram://{self.image}")
        known = list(needles.of_store(self.image.read_bytes(), self.key))
        worker = self.worker(server)
        running = self.scan(worker, known, f"worker, readable {readable}, running")
        self.assert_nothing_outside(running, "running")
        if readable:
            self.assertEqual(running.unreadable, [])
            self.assertLessEqual(KEPT, set(running.inside), "the scan doesn't find what must be there")
        self.assert_no_slot_key(running)
        # The monitor has handed the store key over, and has read the kernel key to compare it, and neither any more.
        self.assert_nothing(self.scan(server.pid, known, f"monitor, readable {readable}, running"), "running")
        process.revoke(self.serial)
        self.wait_for(lambda: "is locked and waits" in log.read_text(), log)
        for name, pid in (("worker", worker), ("monitor", server.pid)):
            locked = self.scan(pid, known, f"{name}, readable {readable}, locked")
            self.assert_nothing(locked, f"{name}, locked")

    def worker(self, server):
        """The process that has libtpms; the other one is the monitor."""
        children = Path(f"/proc/{server.pid}/task/{server.pid}/children").read_text().split()
        self.assertEqual(len(children), 1, children)
        return int(children[0])

    def assert_no_slot_key(self, result):
        """No key that opens a slot, in no form."""
        given = [n for n in result.inside if "key-encryption" in n or "passphrase" in n]
        self.assertEqual(given, [], "in the worker")

    def environment(self):
        return {"VNVRAM_AUDIT_LOG": str(self.folder / "audit" / "log.jsonl"), "LC_ALL": "C.UTF-8"}

    def start(self, readable, *arguments):
        """A server that has been at work."""
        log = self.folder / "log"
        address = self.folder / "tpm"
        with open(log, "wb") as output:
            server = process.start(
                [BIN / "vnvram-swtpm", "socket", "--tpm2", *arguments, "--server", f"type=unixio,path={address}",
                 "--ctrl", f"type=unixio,path={address}.ctrl", "--flags", "not-need-init,startup-clear"],
                readable, self.environment(), stdout=output, stderr=output,
            )  # fmt: skip
        self.addCleanup(self.stop, server)
        self.wait_for(address.exists, log)
        tools = {**os.environ, "TPM2TOOLS_TCTI": f"swtpm:path={address}"}
        for command in (
            "tpm2_getrandom --hex 16",
            "tpm2_nvdefine 0x1500001 -s 32 -C o",
            f"tpm2_nvwrite 0x1500001 -C o -i {self.write(b'x' * 32)}",
            "tpm2_createprimary -C o -c primary.ctx",
            "tpm2_nvread 0x1500001 -C o",
        ):
            done = subprocess.run(command.split(), env=tools, cwd=self.folder, capture_output=True, check=False)
            self.assertEqual(done.returncode, 0, (command, done.stderr, log.read_text()))
        return server, log

    def write(self, content):
        path = self.folder / "content"
        path.write_bytes(content)
        return path

    def stop(self, server):
        server.terminate()
        server.wait(timeout=30)

    def wait_for(self, condition, log):
        for _ in range(3000):
            if condition():
                return
            time.sleep(0.01)
        self.fail(log.read_text())

    def test_in_locked_memory(self):
        self.run_server(readable=True)

    def test_as_the_kernel_has_it(self):
        self.run_server(readable=False)

    def test_handed_over(self):
        """What --key hands over: what opens the image is nowhere once the image is made and open. What swtpm makes of it, under
        which states go over the control channel, is the monitor's, in protected memory, and never the worker's. Where a raw key
        of 32 bytes is handed over the two are the same."""
        passphrase = secrets.token_hex(12).encode()
        derived = hashlib.pbkdf2_hmac("sha512", passphrase, b"swtpm", 1000, 32)
        for form, content, state_key in (
            ("file=KEY,format=binary,mode=aes-256-cbc", self.key, self.key),
            ("pwdfile=KEY,mode=aes-256-cbc", passphrase, derived),
        ):
            with self.subTest(form):
                folder = self.folder / form[0]
                folder.mkdir()
                key = self.folder / f"{form[0]}.key"
                key.write_bytes(content)
                server, log = self.start(
                    True, "--tpmstate", f"dir={folder}", "--key", form.replace("KEY", f"{key},remove")
                )
                self.hand_out_and_take()
                image = (folder / "tpm2-00.permall").read_bytes()
                is_raw = content == self.key
                known = list(needles.of_store(image, content) if is_raw else needles.of_passphrase(image, content))
                of_state_key = list(needles.of_state_key(state_key))
                running = self.scan(self.worker(server), known + of_state_key, f"worker, {form}, running")
                self.assert_nothing_outside(running, "running")
                self.assert_no_slot_key(running)
                self.assertEqual([name for name in running.inside if "state key" in name], [], "in the worker")
                monitor = self.scan(server.pid, known + of_state_key, f"monitor, {form}, running")
                self.assert_nothing_outside(monitor, "running")
                self.assertTrue(monitor.inside, "the scan doesn't find what must be there")
                self.assertLessEqual(set(monitor.inside), {"state key", "key-encryption key" if is_raw else "state key"})
                if is_raw:
                    self.assertLessEqual(KEPT, set(running.inside), "the scan doesn't find what must be there")
                self.stop(server)

    def hand_out_and_take(self):
        """GET_STATEBLOB, not in clear, and SET_STATEBLOB of what came."""
        with socket.socket(socket.AF_UNIX) as control:
            control.connect(str(self.folder / "tpm.ctrl"))

            def ask(*words, more=b""):
                control.sendall(b"".join(word.to_bytes(4, "big") for word in words) + more)
                return control.recv(1 << 20)

            answer = ask(0xC, 0, 1, 0)
            self.assertEqual(answer[:8], bytes(7) + b"\2")
            blob = answer[16:]
            self.assertEqual(len(blob), int.from_bytes(answer[12:16], "big"))
            for answer in (ask(0xE), ask(0xD, 2, 1, len(blob), more=blob), ask(2, 0)):
                self.assertEqual(answer, bytes(4))


class Needles(unittest.TestCase):
    """What is searched for is what it is called."""

    def test_key_expansion(self):
        # FIPS 197, A.3.
        key = bytes.fromhex("603deb1015ca71be2b73aef0857d77811f352c073b6108d72d9810a30914dff4")
        rounds = needles.expand(key)
        self.assertEqual(b"".join(rounds[:2]), key)
        self.assertEqual(rounds[2].hex(), "9ba354118e6925afa51a8b5f2067fcde")
        self.assertEqual(rounds[14].hex(), "fe4890d1e6188d0b046df344706c631e")

    def test_state_of_sha256(self):
        # FIPS 180-4's example "abc": one block, whose state is the digest.
        block = b"abc\x80".ljust(63, b"\0") + b"\x18"
        digest = b"".join(word.to_bytes(4, "big") for word in needles.compress(block))
        self.assertEqual(digest, needles.f.hashlib.sha256(b"abc").digest())

    def test_subkeys(self):
        # SP 800-38B, D.3.
        key = bytes.fromhex("603deb1015ca71be2b73aef0857d77811f352c073b6108d72d9810a30914dff4")
        found = [value.hex() for _, value in needles.subkeys("", key)]
        self.assertEqual(found, ["cad1ed03299eedac2e9a99808621502f", "95a3da06533ddb585d3533010c42a0d9"])

    def test_chaining_values(self):
        # SP 800-38B, D.3, example 16: the tag is what the last state gives.
        key = bytes.fromhex("603deb1015ca71be2b73aef0857d77811f352c073b6108d72d9810a30914dff4")
        message = bytes.fromhex(
            "6bc1bee22e409f96e93d7e117393172aae2d8a571e03ac9c9eb76fac45af8e51"
            "30c81c46a35ce411e5fbc1191a0a52eff69f2445df4f9b17ad2b417be66c3710"
        )
        found = dict(needles.chaining_values("", key, message))
        self.assertEqual(len(found), 7)
        encryptor = needles.Cipher(needles.algorithms.AES(key), needles.modes.ECB()).encryptor()
        for before, after in ((2, 2), (3, 3)):
            self.assertEqual(encryptor.update(found[f": before block {before}"]), found[f": after block {after}"])
        self.assertEqual(encryptor.update(message[:16]), found[": after block 1"])
        self.assertEqual(encryptor.update(found[": before the end"]).hex(), "e1992190549f6ed5696a2c056c315410")


if __name__ == "__main__":
    unittest.main()
