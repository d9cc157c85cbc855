"""Processes under test: their keys in a session keyring of their own, and, if asked for, a kernel without memfd_secret."""

import ctypes
import ctypes.util
import os
import struct
import subprocess

C = ctypes.CDLL(None, use_errno=True)
KEYUTILS = ctypes.CDLL(ctypes.util.find_library("keyutils") or "libkeyutils.so.1", use_errno=True)

PR_SET_SECCOMP, SECCOMP_MODE_FILTER = 22, 2
MEMFD_SECRET = 447
KEYCTL_SESSION = -3


def join_session():
    """A session keyring of this process's own, which children inherit."""
    if KEYUTILS.keyctl_join_session_keyring(None) < 0:
        raise OSError(ctypes.get_errno(), "joining a session keyring")


def add_key(name, content):
    serial = KEYUTILS.add_key(b"user", f"vnvram:{name}".encode(), content, ctypes.c_size_t(len(content)), KEYCTL_SESSION)
    if serial <= 0:
        raise OSError(ctypes.get_errno(), "adding a key")
    return serial


def revoke(serial):
    if KEYUTILS.keyctl_revoke(serial) < 0:
        raise OSError(ctypes.get_errno(), "revoking a key")


def without_secret_memory():
    """In the child: memfd_secret fails with ENOSYS, so that its arena is locked memory, which root can look into."""
    # Load the call's number; where it is memfd_secret's return ENOSYS, else allow (seccomp(2), linux/filter.h).
    program = b"".join(
        struct.pack("HBBI", *step)
        for step in ((0x20, 0, 0, 0), (0x15, 0, 1, MEMFD_SECRET), (0x06, 0, 0, 0x00050000 | 38), (0x06, 0, 0, 0x7FFF0000))
    )
    buffer = ctypes.create_string_buffer(program, len(program))
    filter_program = ctypes.create_string_buffer(struct.pack("HxxxxxxP", 4, ctypes.addressof(buffer)))
    # Root needs no "no new privileges" for it, and whether the program sets that by itself is not to be hidden.
    if C.prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, filter_program, 0, 0) != 0:
        os._exit(99)


def start(arguments, readable, environment=None, **options):
    """Starts a process; with `readable`, one whose arena can be read."""
    return subprocess.Popen(
        arguments, env={**os.environ, **(environment or {})}, preexec_fn=without_secret_memory if readable else None, **options
    )
