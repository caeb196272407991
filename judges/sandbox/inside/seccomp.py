"""The system calls that a shut-in process may make: a list of what is allowed, all else is refused.

Programs in classic BPF (`struct sock_filter`, linux/filter.h), written by hand. A zygote puts on the long
list once, and its forks inherit it; a fork for a candidate adds a short one that takes away what only a
zygote needs, so that a candidate in Python may start threads and nothing else. A command may start
processes. Calls that name another process (tracing, limits, priorities) are in no list. A refused call fails
with EPERM, which Python shows as PermissionError.
"""

from __future__ import annotations

import ctypes
import platform
import struct
from collections.abc import Iterable

# name: (x86_64, aarch64). None where the architecture never had it.
_ALLOWED: dict[str, tuple[int | None, int | None]] = {
    # reading, writing, and what is already open
    "read": (0, 63),
    "write": (1, 64),
    "close": (3, 57),
    "lseek": (8, 62),
    "pread64": (17, 67),
    "pwrite64": (18, 68),
    "readv": (19, 65),
    "writev": (20, 66),
    "dup": (32, 23),
    "dup2": (33, None),
    "dup3": (292, 24),
    "pipe": (22, None),
    "pipe2": (293, 59),
    "fsync": (74, 82),
    "fdatasync": (75, 83),
    "ftruncate": (77, 46),
    "fallocate": (285, 47),
    "close_range": (436, 436),
    "fadvise64": (221, 223),
    "copy_file_range": (326, 285),
    "sendfile": (40, 71),
    # files by name: what may be opened is Landlock's and the mounts' business
    "open": (2, None),
    "openat": (257, 56),
    "stat": (4, None),
    "fstat": (5, 80),
    "lstat": (6, None),
    "newfstatat": (262, 79),
    "statx": (332, 291),
    "access": (21, None),
    "faccessat": (269, 48),
    "faccessat2": (439, 439),
    "readlink": (89, None),
    "readlinkat": (267, 78),
    "getdents64": (217, 61),
    "getdents": (78, None),
    "getcwd": (79, 17),
    "chdir": (80, 49),
    "fchdir": (81, 50),
    "umask": (95, 166),
    "mkdir": (83, None),
    "mkdirat": (258, 34),
    "rmdir": (84, None),
    "unlink": (87, None),
    "unlinkat": (263, 35),
    "rename": (82, None),
    "renameat": (264, 38),
    "renameat2": (316, 276),
    "link": (86, None),
    "linkat": (265, 37),
    "symlink": (88, None),
    "symlinkat": (266, 36),
    "creat": (85, None),
    "statfs": (137, 43),
    "fstatfs": (138, 44),
    # memory
    "mmap": (9, 222),
    "mprotect": (10, 226),
    "munmap": (11, 215),
    "brk": (12, 214),
    "mremap": (25, 216),
    "madvise": (28, 233),
    "msync": (26, 227),
    "mincore": (27, 232),
    "membarrier": (324, 283),
    "mlock": (149, 228),
    "munlock": (150, 229),
    "get_mempolicy": (239, 236),
    # time and waiting
    "nanosleep": (35, 101),
    "clock_nanosleep": (230, 115),
    "clock_gettime": (228, 113),
    "clock_getres": (229, 114),
    "gettimeofday": (96, 169),
    "time": (201, None),
    "times": (100, 153),
    "poll": (7, None),
    "ppoll": (271, 73),
    "select": (23, None),
    "pselect6": (270, 72),
    "epoll_create": (213, None),
    "epoll_create1": (291, 20),
    "epoll_ctl": (233, 21),
    "epoll_wait": (232, None),
    "epoll_pwait": (281, 22),
    "epoll_pwait2": (441, 441),
    "eventfd": (284, None),
    "eventfd2": (290, 19),
    "futex": (202, 98),
    "futex_waitv": (449, 449),
    "timerfd_create": (283, 85),
    "timerfd_settime": (286, 86),
    "timerfd_gettime": (287, 87),
    "setitimer": (38, 103),
    "getitimer": (36, 102),
    "alarm": (37, None),
    "pause": (34, None),
    # itself
    "rt_sigaction": (13, 134),
    "rt_sigprocmask": (14, 135),
    "rt_sigreturn": (15, 139),
    "rt_sigpending": (127, 136),
    "rt_sigtimedwait": (128, 137),
    "rt_sigsuspend": (130, 133),
    "sigaltstack": (131, 132),
    "restart_syscall": (219, 128),
    "signalfd4": (289, 74),
    "getpid": (39, 172),
    "getppid": (110, 173),
    "gettid": (186, 178),
    "getuid": (102, 174),
    "geteuid": (107, 175),
    "getgid": (104, 176),
    "getegid": (108, 177),
    "getgroups": (115, 158),
    "getresuid": (118, 148),
    "getresgid": (120, 150),
    "getpgrp": (111, None),
    "getpgid": (121, 155),
    "getsid": (124, 156),
    "uname": (63, 160),
    "sysinfo": (99, 179),
    "getrusage": (98, 165),
    "getrlimit": (97, 163),
    "getrandom": (318, 278),
    "getcpu": (309, 168),
    "sched_yield": (24, 124),
    "sched_getaffinity": (204, 123),
    "sched_getparam": (143, 121),
    "sched_getscheduler": (145, 120),
    "sched_get_priority_max": (146, 125),
    "sched_get_priority_min": (147, 126),
    "getpriority": (140, 141),
    "set_tid_address": (218, 96),
    "set_robust_list": (273, 99),
    "get_robust_list": (274, 100),
    "rseq": (334, 293),
    "arch_prctl": (158, None),
    "capget": (125, 90),
    "exit": (60, 93),
    "exit_group": (231, 94),
    # talking on a socket that it was given, or to itself
    "sendto": (44, 206),
    "recvfrom": (45, 207),
    "sendmsg": (46, 211),
    "recvmsg": (47, 212),
    "shutdown": (48, 210),
    "socketpair": (53, 199),
    "getsockopt": (55, 209),
    "setsockopt": (54, 208),
    "getsockname": (51, 204),
    "getpeername": (52, 205),
}
# For commands, which run among mounts of their own, where only the scratch folder can be changed.
_PROCESSES: dict[str, tuple[int | None, int | None]] = {
    "chmod": (90, None),
    "fchmod": (91, 52),
    "fchmodat": (268, 53),
    "fchmodat2": (452, 452),
    "utimensat": (280, 88),
    "getxattr": (191, 8),
    "lgetxattr": (192, 9),
    "fgetxattr": (193, 10),
    "listxattr": (194, 11),
    "llistxattr": (195, 12),
    "flistxattr": (196, 13),
    "fork": (57, None),
    "vfork": (58, None),
    "execve": (59, 221),
    "execveat": (322, 281),
    "wait4": (61, 260),
    "waitid": (247, 95),
}
# What a zygote needs beyond that: to fork, to wait, to kill; its forks, to restrict themselves further.
_ZYGOTE: dict[str, tuple[int | None, int | None]] = {
    "fork": (57, None),
    "wait4": (61, 260),
    "kill": (62, 129),
    "pidfd_open": (434, 434),
}
# Looked at by their arguments, below.
_CLONE, _CLONE3, _PRLIMIT64, _PRCTL = (56, 220), (435, 435), (302, 261), (157, 167)
_FCNTL, _IOCTL = (72, 25), (16, 29)

CLONE_THREAD = 0x0001_0000
CLONE_NAMESPACES = 0x7E02_0080  # NEWNS, NEWCGROUP, NEWUTS, NEWIPC, NEWUSER, NEWPID, NEWNET, NEWTIME
# F_SETLEASE and F_NOTIFY watch others; F_SETOWN, F_SETSIG and F_SETOWN_EX send signals to others.
_FCNTL_REFUSED = (1024, 1026, 8, 10, 15)
# TCGETS, TIOCGWINSZ, FIONREAD, FIONBIO, FIONCLEX, FIOCLEX
_IOCTL_ALLOWED = (0x5401, 0x5413, 0x541B, 0x5421, 0x5450, 0x5451)
_SET_SECCOMP = 22
_PRCTL_ALLOWED = (15, 16, 3)  # PR_SET_NAME, PR_GET_NAME, PR_GET_DUMPABLE

_LD, _JEQ, _JGE, _JGT, _JSET, _RET = 0x20, 0x15, 0x35, 0x25, 0x45, 0x06
_ALLOW, _KILL, _EPERM, _ENOSYS = 0x7FFF0000, 0x80000000, 0x00050001, 0x00050026
_NR, _ARCH = 0, 4
_MACHINES = {"x86_64": (0, 0xC000003E), "aarch64": (1, 0xC00000B7)}

Instruction = tuple[int, int, int, int]


class Unsupported(OSError):
    """This machine cannot filter system calls, or its architecture is not in the table."""


def long_list(*, processes: bool, machine: str | None = None) -> bytes:
    """What a zygote and its forks may do, with `processes` those of commands; 8 bytes an instruction."""
    column, code = _opening(machine or platform.machine())
    listed = {**_ALLOWED, **_ZYGOTE, **(_PROCESSES if processes else {})}
    code += _ranges(numbers[column] for numbers in listed.values())
    # glibc falls back to clone, whose flags can be seen, when clone3 is not there.
    code += [(_JEQ, 0, 1, _CLONE3[column]), (_RET, 0, 0, _ENOSYS)]
    code += _when(_CLONE[column], [_argument(0), (_JSET, 0, 1, CLONE_NAMESPACES), *_refuse_or_allow()])
    code += _prlimit(_PRLIMIT64[column], any_limit=True)
    code += _by_word(_PRCTL[column], 0, (*_PRCTL_ALLOWED, _SET_SECCOMP), found=_ALLOW, other=_EPERM)
    code += _by_word(_FCNTL[column], 1, _FCNTL_REFUSED, found=_EPERM, other=_ALLOW)
    code += _by_word(_IOCTL[column], 1, _IOCTL_ALLOWED, found=_ALLOW, other=_EPERM)
    return _packed([*code, (_RET, 0, 0, _EPERM)])


def short_list(*, processes: bool, machine: str | None = None) -> bytes:
    """What the forks may not do of that: the zygote's own calls, and without `processes` any process."""
    column, code = _opening(machine or platform.machine())
    for name, numbers in _ZYGOTE.items():
        number = numbers[column]
        if number is not None and not (processes and name in _PROCESSES):
            code += [(_JEQ, 0, 1, number), (_RET, 0, 0, _EPERM)]
    if not processes:
        code += _when(_CLONE[column], [_argument(0), (_JSET, 1, 0, CLONE_THREAD), *_refuse_or_allow()])
    code += _prlimit(_PRLIMIT64[column], any_limit=False)
    code += _by_word(_PRCTL[column], 0, _PRCTL_ALLOWED, found=_ALLOW, other=_EPERM)
    return _packed([*code, (_RET, 0, 0, _ALLOW)])


def _opening(machine: str) -> tuple[int, list[Instruction]]:
    """The column of the tables, and the instructions that every filter begins with."""
    if machine not in _MACHINES:
        raise Unsupported(f"no system call table for {machine}")
    column, audit = _MACHINES[machine]
    code: list[Instruction] = [
        (_LD, 0, 0, _ARCH),
        (_JEQ, 1, 0, audit),  # another calling convention has other numbers
        (_RET, 0, 0, _KILL),
        (_LD, 0, 0, _NR),
    ]
    if machine == "x86_64":
        code += [(_JGE, 0, 1, 0x4000_0000), (_RET, 0, 0, _KILL)]  # the x32 convention
    return column, code


def _packed(code: list[Instruction]) -> bytes:
    return b"".join(struct.pack("<HBBI", *each) for each in code)


def _refuse_or_allow() -> list[Instruction]:
    return [(_RET, 0, 0, _EPERM), (_RET, 0, 0, _ALLOW)]


def _ranges(numbers: Iterable[int | None]) -> list[Instruction]:
    """Allow these numbers, a run of neighbours in three instructions."""
    runs: list[list[int]] = []
    for number in sorted({each for each in numbers if each is not None}):
        if runs and number == runs[-1][1] + 1:
            runs[-1][1] = number
        else:
            runs.append([number, number])
    code: list[Instruction] = []
    for first, last in runs:
        if first == last:
            code += [(_JEQ, 0, 1, first), (_RET, 0, 0, _ALLOW)]
        else:
            code += [(_JGE, 0, 2, first), (_JGT, 1, 0, last), (_RET, 0, 0, _ALLOW)]
    return code


def _argument(index: int, *, high: bool = False) -> Instruction:
    """Load half of an argument. Both architectures are little-endian."""
    return (_LD, 0, 0, 16 + 8 * index + (4 if high else 0))


def _when(number: int, body: list[Instruction]) -> list[Instruction]:
    """Run `body`, which ends in a return on every path, when this is the call."""
    return [(_JEQ, 0, len(body), number), *body]


def _prlimit(number: int, *, any_limit: bool) -> list[Instruction]:
    """Only one's own limits: pid 0; without `any_limit` only to read them, with no new limit given."""
    body: list[Instruction] = []
    for index in (0,) if any_limit else (0, 2):
        for high in (False, True):
            body += [_argument(index, high=high), (_JEQ, 1, 0, 0), (_RET, 0, 0, _EPERM)]
    return _when(number, [*body, (_RET, 0, 0, _ALLOW)])


def _by_word(number: int, index: int, words: tuple[int, ...], *, found: int, other: int) -> list[Instruction]:
    """Decide by the lower half of one argument, all that the kernel looks at for these calls."""
    body = [_argument(index)]
    for word in words:
        body += [(_JEQ, 0, 1, word), (_RET, 0, 0, found)]
    return _when(number, [*body, (_RET, 0, 0, other)])


class _Program(ctypes.Structure):
    _fields_ = (("length", ctypes.c_ushort), ("filter", ctypes.c_void_p))


class Filter:
    """A filter ready to be put on: made once, before forking. Making it costs more than putting it on."""

    def __init__(self, code: bytes) -> None:
        self._buffer = ctypes.create_string_buffer(code, len(code))
        self._program = _Program(len(code) // 8, ctypes.addressof(self._buffer))
        self._prctl = ctypes.CDLL(None, use_errno=True).prctl
        self._prctl.argtypes = (ctypes.c_int, *(ctypes.c_ulong,) * 4)

    def apply(self) -> None:
        """Shut this process in, for good. Needs no_new_privs."""
        mode_filter = 2
        address = ctypes.addressof(self._program)
        if self._prctl(_SET_SECCOMP, mode_filter, address, 0, 0) != 0:
            raise Unsupported(ctypes.get_errno(), "the kernel refused the system call filter")
