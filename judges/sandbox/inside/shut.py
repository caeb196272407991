"""Give up every power that running a stranger's code does not need: identity, capabilities, limits."""

from __future__ import annotations

import contextlib
import ctypes
import os
import resource
import struct
import time
from collections.abc import Iterable
from pathlib import Path

_NO_NEW_PRIVS, _SET_DUMPABLE, _CAPBSET_DROP = 38, 4, 24
_NEWUSER = 0x1000_0000
_MiB = 1 << 20
_libc = ctypes.CDLL(None, use_errno=True)
_prctl = _libc.prctl
_prctl.argtypes = (ctypes.c_int, *(ctypes.c_ulong,) * 4)


def become(uid: int, *, namespace: bool) -> None:
    """From root to `uid`, a user who owns nothing; with a user namespace of its own if asked for and allowed.

    A process that stays user 0 on the machine, whatever it is called inside, would be exempt from the limit
    on processes and would own root's files.
    """
    os.setgroups([])
    if namespace:
        _own_namespace(uid)
    os.setresgid(uid, uid, uid)
    os.setresuid(uid, uid, uid)


def _own_namespace(uid: int) -> None:
    """Enter a user namespace in which only `uid` exists. A helper outside of it writes the map."""
    ready, go = os.pipe()
    me = os.getpid()
    helper = os.fork()
    if helper == 0:
        status = 1
        try:
            os.close(go)
            os.read(ready, 1)
            for name in ("uid_map", "gid_map"):
                with open(f"/proc/{me}/{name}", "w") as file:  # noqa: PTH123 (a special file)
                    file.write(f"{uid} {uid} 1\n")
            status = 0
        finally:
            os._exit(status)
    os.close(ready)
    if _libc.unshare(_NEWUSER) != 0:
        raise OSError(ctypes.get_errno(), "no user namespace may be made")
    os.write(go, b".")
    os.close(go)
    if os.waitpid(helper, 0)[1] != 0:
        raise OSError("the user namespace's map could not be written")


def powerless() -> None:
    """Drop all capabilities for good; no program started from here can gain any; nobody may trace this."""
    if _prctl(_NO_NEW_PRIVS, 1, 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), "no_new_privs was refused")
    for capability in range(64):
        if _prctl(_CAPBSET_DROP, capability, 0, 0, 0) != 0:
            break  # past the last one, or without the right to drop: nothing is held then
    header = struct.pack("=Ii", 0x2008_0522, 0)
    _libc.capset(header, bytes(24))
    _prctl(_SET_DUMPABLE, 0, 0, 0, 0)


FOR_ALL = (
    (resource.RLIMIT_NOFILE, 64),
    (resource.RLIMIT_CORE, 0),
    (resource.RLIMIT_MEMLOCK, 0),
    (resource.RLIMIT_MSGQUEUE, 0),
    (resource.RLIMIT_SIGPENDING, 64),
)
"""Limits that every process here has, whatever it runs."""


def limit(limits: Iterable[tuple[int, int]]) -> None:
    """Set limits of this process, and of all that it will fork. None can be raised again."""
    for what, most in limits:
        try:
            resource.setrlimit(what, (most, most))
        except ValueError:  # it is lower already, and may not be raised
            least = min(most, resource.getrlimit(what)[1])
            resource.setrlimit(what, (least, least))


def processor_time(pid: int) -> float:
    """Seconds of processor time that a process has taken, as the scheduler counts them."""
    return time.clock_gettime(~pid << 3 | 2)  # clock_getcpuclockid(3): the number of its clock


def tasks_of(uid: int) -> int:
    """How many threads the user `uid` has on this machine, as far as /proc shows."""
    count = 0
    for process in Path("/proc").iterdir():
        with contextlib.suppress(OSError):  # it has ended
            if process.name.isdigit() and process.stat().st_uid == uid:
                count += sum(1 for _ in (process / "task").iterdir())
    return count
