"""Landlock: which files a process may touch, and that it may signal nobody outside. By ctypes.

A ruleset handles every right that the kernel knows, and grants only those named. Source: the kernel's
Documentation/userspace-api/landlock.rst; the numbers are the same on every architecture.
"""

from __future__ import annotations

import ctypes
import os
import stat
import struct
from collections.abc import Iterable

_CREATE, _ADD, _RESTRICT = 444, 445, 446
_EXECUTE, _WRITE_FILE, _READ_FILE, _READ_DIR = 1 << 0, 1 << 1, 1 << 2, 1 << 3
_TRUNCATE, _IOCTL_DEV = 1 << 14, 1 << 15
_ON_FILES = _EXECUTE | _WRITE_FILE | _READ_FILE | _TRUNCATE | _IOCTL_DEV
_RIGHTS = {1: 13, 2: 14, 3: 15, 4: 15, 5: 16}  # how many rights an ABI version knows
_MAKE_SPECIAL = 1 << 6 | 1 << 9 | 1 << 10 | 1 << 11  # character devices, sockets, pipes, block devices

_libc = ctypes.CDLL(None, use_errno=True)


def abi() -> int:
    """The kernel's version of Landlock; 0 where there is none."""
    return max(0, int(_libc.syscall(_CREATE, None, ctypes.c_size_t(0), ctypes.c_uint32(1))))


class Ruleset:
    """Rights to files, for this process and all that it will start.

    `read` and `execute` are files and folders, `write` are folders whose content may be made and removed.
    What does not exist is passed over.
    """

    def __init__(
        self,
        *,
        read: Iterable[str] = (),
        write: Iterable[str] = (),
        execute: Iterable[str] = (),
        devices: Iterable[str] = (),
    ) -> None:
        version = abi()
        if version == 0:
            raise OSError("the kernel has no Landlock, or it is turned off")
        every = (1 << _RIGHTS.get(version, 16)) - 1
        network = 0b11 if version >= 4 else 0  # bind and connect
        scoped = 0b11 if version >= 6 else 0  # abstract unix sockets and signals
        attributes = struct.pack("=QQQ", every, network, scoped)
        size = 24 if version >= 6 else 16 if version >= 4 else 8
        self.descriptor = int(
            _libc.syscall(_CREATE, attributes, ctypes.c_size_t(size), ctypes.c_uint32(0)),
        )
        if self.descriptor < 0:
            raise OSError(ctypes.get_errno(), "the kernel refused a Landlock ruleset")
        for path in read:
            self._allow(path, _READ_FILE | _READ_DIR)
        for path in execute:
            self._allow(path, _READ_FILE | _READ_DIR | _EXECUTE)
        for path in devices:
            self._allow(path, _READ_FILE | _WRITE_FILE)
        for path in write:
            self._allow(path, every & ~_MAKE_SPECIAL & ~_EXECUTE)

    def _allow(self, path: str, rights: int) -> None:
        try:
            place = os.open(path, os.O_PATH | os.O_CLOEXEC)
        except (FileNotFoundError, PermissionError, NotADirectoryError):
            return
        try:
            if not stat.S_ISDIR(os.fstat(place).st_mode):
                rights &= _ON_FILES
            rule = struct.pack("=Qi", rights, place)
            if _libc.syscall(_ADD, ctypes.c_int(self.descriptor), ctypes.c_int(1), rule, ctypes.c_uint32(0)):
                raise OSError(ctypes.get_errno(), f"the kernel refused a Landlock rule for {path}")
        finally:
            os.close(place)

    def apply(self) -> None:
        """Restrict this process, for good, and let go of the ruleset. Needs no_new_privs."""
        try:
            if _libc.syscall(_RESTRICT, ctypes.c_int(self.descriptor), ctypes.c_uint32(0)):
                raise OSError(ctypes.get_errno(), "the kernel refused to apply a Landlock ruleset")
        finally:
            os.close(self.descriptor)
