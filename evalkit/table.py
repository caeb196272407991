"""Tables of numbers that grow at their end and are read a column at a time, from a file once they are large.

A run of 100,000 calls makes 13 MB of numbers, and whatever is said of it needs a few columns at a time. The
rest waits in a temporary file without a name: read, not mapped, for mapped pages count as memory in use.
"""

from __future__ import annotations

import math
import os
import struct
import tempfile
import weakref
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import IO, TYPE_CHECKING, Any, TypeAlias

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    Numbers: TypeAlias = npt.NDArray[Any]
    Mask: TypeAlias = npt.NDArray[np.bool_]

BOUND = 1 << 20
"""So many bytes stay in memory: those of some 8,000 calls."""

CHUNK = 4_096
"""Rows that are turned into columns at once."""


@dataclass(slots=True, weakref_slot=True)
class Spool:
    """Pieces one after the other: in memory, and in a temporary file as often as `bound` bytes have come.

    Where no such file can be made or written, all further pieces stay in memory. The file is in `folder`
    (None: where temporary files are), has no name, and is closed when the spool is forgotten. Once nothing
    is added any more, threads may read at the same time.
    """

    bound: float = BOUND
    folder: str | None = None
    _latest: bytearray = field(default_factory=bytearray, init=False, repr=False)
    _file: IO[bytes] | None = field(default=None, init=False)
    _written: int = field(default=0, init=False)

    @property
    def size(self) -> int:
        """Bytes of all pieces."""
        return self._written + len(self._latest)

    def add(self, piece: bytes) -> int:
        """The place of the piece, by which it can be read."""
        place = self.size
        self._latest += piece
        if len(self._latest) > self.bound:
            self._put_away()
        return place

    def read(self, place: int, size: int) -> bytes | bytearray:
        """So many bytes from there, of one piece or of several that follow each other."""
        if self._file is None or place >= self._written:
            place -= self._written
            return self._latest[place : place + size]
        put_away = min(size, self._written - place)
        read = os.pread(self._file.fileno(), put_away, place)
        return read if put_away == size else read + self._latest[: size - put_away]

    def _put_away(self) -> None:
        if not hasattr(os, "pwrite"):  # Windows
            self.bound = math.inf
            return
        try:
            if self._file is None:
                self._file = tempfile.TemporaryFile(prefix="evalkit-", buffering=0, dir=self.folder)  # noqa: SIM115
                weakref.finalize(self, self._file.close)
            done = 0
            with memoryview(self._latest) as latest:
                while done < len(latest):
                    done += os.pwrite(self._file.fileno(), latest[done:], self._written + done)
        except OSError:  # no folder, or no room in it
            self.bound = math.inf
        else:
            self._written += len(self._latest)
            self._latest.clear()


@dataclass(frozen=True, slots=True)
class Table:
    """Columns of numbers in a spool. `table[name]` reads one anew: keep it while it is used several times.

    `spec` has the columns' names with struct's letters for their types. `places` are where the chunks of
    `chunk` rows begin, each column by column; there are `count` rows in them, of which the table has those
    `picked` (None: all), in their order. `given` are columns that stand in place of what the spool has.
    """

    spool: Spool
    spec: Mapping[str, str]
    places: tuple[int, ...]
    chunk: int
    count: int
    picked: npt.NDArray[np.uint32] | None = field(default=None, repr=False)
    given: Mapping[str, Numbers] = field(default_factory=dict, repr=False)

    def __len__(self) -> int:
        return self.count if self.picked is None else len(self.picked)

    def __getitem__(self, name: str) -> Numbers:
        """A column by its name, to be read only. Raises KeyError."""
        import numpy as np

        if name in self.given:
            return self.given[name]
        kind, before = self._found(name)
        column = np.empty(len(self), kind)
        starts = [min(number * self.chunk, self.count) for number in range(len(self.places) + 1)]
        ends = starts
        if self.picked is not None:
            ends = np.searchsorted(self.picked, np.array(starts, dtype=np.uint32)).tolist()
        for number, place in enumerate(self.places):
            start, first, last = starts[number], ends[number], ends[number + 1]
            if first == last:
                continue
            rows = starts[number + 1] - start
            low, high = start, starts[number + 1]
            if self.picked is not None:
                low, high = int(self.picked[first]), int(self.picked[last - 1]) + 1
            at = place + before * rows + kind.itemsize * (low - start)
            values = np.frombuffer(self.spool.read(at, kind.itemsize * (high - low)), kind)
            if self.picked is not None and len(values) > last - first:
                values = values[self.picked[first:last] - low]
            column[first:last] = values
        return column

    def _found(self, name: str) -> tuple[np.dtype[Any], int]:
        """A column's type, and the bytes a row of those before it."""
        import numpy as np

        kind, names = self.spec[name], list(self.spec)
        before = "".join(self.spec[each] for each in names[: names.index(name)])
        return np.dtype(f"<{kind}"), struct.calcsize(f"<{before}")

    def where(self, kept: Mask) -> Table:
        """The rows that a mask marks; nothing is read."""
        import numpy as np

        picked = np.flatnonzero(kept).astype(np.uint32) if self.picked is None else self.picked[kept]
        given = {name: column[kept] for name, column in self.given.items()}
        return replace(self, picked=picked, given=given)

    def between(self, first: int, last: int) -> Table:
        """The rows from `first` on, up to `last`, of a table that nothing was picked from."""
        import numpy as np

        given = {name: column[first:last] for name, column in self.given.items()}
        return replace(self, picked=np.arange(first, last, dtype=np.uint32), given=given)

    def ordered(self, order: Numbers) -> Table:
        """The rows in another order, written anew: those next to each other are read together."""
        place = self.spool.size
        for name in self.spec:
            column = self[name]
            for start in range(0, len(order), CHUNK):
                self.spool.add(column[order[start : start + CHUNK]].tobytes())
        return Table(self.spool, self.spec, (place,), max(1, len(order)), len(order))


@dataclass(slots=True)
class Growing:
    """A table that rows are added to. `spec` as in `Table`."""

    spec: Mapping[str, str]
    spool: Spool
    chunk: int = CHUNK
    _places: list[int] = field(default_factory=list, init=False)
    _rows: bytearray = field(default_factory=bytearray, init=False)
    _row: struct.Struct = field(init=False)
    _pack: Callable[..., bytes] = field(init=False)

    def __post_init__(self) -> None:
        self._row = struct.Struct("<" + "".join(self.spec.values()))
        self._pack = self._row.pack

    def add(self, *values: Any) -> None:
        """One row. Raises `struct.error` for a value that is not of its column's type."""
        self._rows += self._pack(*values)
        if len(self._rows) == self.chunk * self._row.size:
            self._put_away()

    def done(self) -> Table:
        """The table, once: no row can be added then."""
        full, rest = len(self._places), len(self._rows) // self._row.size
        if rest:
            self._put_away()
        return Table(self.spool, self.spec, tuple(self._places), self.chunk, full * self.chunk + rest)

    def _put_away(self) -> None:
        """Turn the latest rows into columns."""
        import numpy as np

        rows = np.frombuffer(
            bytes(self._rows), np.dtype([(name, f"<{kind}") for name, kind in self.spec.items()])
        )
        self._places.append(self.spool.size)
        for name in self.spec:
            self.spool.add(rows[name].tobytes())
        self._rows.clear()
