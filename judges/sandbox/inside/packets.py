"""What the pool and a zygote say to each other: small packets of a fixed form.

A zygote shares its memory with its forks, so each page that it writes to between two of them has to be
copied. Reading and writing JSON there would touch as many of them as all the rest of its work.
"""

from __future__ import annotations

import struct
from typing import NamedTuple

_ORDER = struct.Struct("=?Id5Q")
_REPORT = struct.Struct("=IBidB?")
LONGEST_ORDER = _ORDER.size

KILLED = ("", "wall", "cpu", "stop")
"""Why an execution was killed, if it was: its time was up, or the pool asked for it."""
DOUBTS = ("", "files were left in the scratch folder", "a process was left behind")
"""Why nothing more may be run in a zygote, if nothing may."""


class Order(NamedTuple):
    """Start execution number `seq` within these limits; with `go` false, end it.

    `wall` is in seconds, `cpu` in whole seconds of processor time, `memory`, `file` and `message` in bytes.
    Beside the packet come a descriptor of the line to the other side and, when it is another one than last
    time, the job as a file in memory.
    """

    go: bool
    seq: int
    wall: float = 0.0
    cpu: int = 0
    memory: int = 0
    file: int = 0
    processes: int = 0
    message: int = 0

    def packed(self) -> bytes:
        """As a packet."""
        return _ORDER.pack(*self)

    @classmethod
    def of(cls, packet: bytes) -> Order:
        """From a packet. Raises `struct.error`."""
        return cls._make(_ORDER.unpack(packet))


class Report(NamedTuple):
    """How execution number `seq` ended: the exit status as `wait` gives it, `cpu` in seconds.

    `verdict` is what a fork for tests said, as JSON; None when a fork ended without a word.
    """

    seq: int
    killed: str
    status: int
    cpu: float
    doubt: str
    verdict: bytes | None = None

    def packed(self) -> bytes:
        """As a packet."""
        seq, killed, status, cpu, doubt, verdict = self
        head = _REPORT.pack(seq, KILLED.index(killed), status, cpu, DOUBTS.index(doubt), verdict is not None)
        return head + verdict if verdict is not None else head

    @classmethod
    def of(cls, packet: bytes) -> Report:
        """From a packet. Raises `struct.error` or `IndexError`."""
        seq, killed, status, cpu, doubt, told = _REPORT.unpack_from(packet)
        return cls(seq, KILLED[killed], status, cpu, DOUBTS[doubt], packet[_REPORT.size :] if told else None)
