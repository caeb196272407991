"""Many samples in little memory: where each row lies in a file, and the row itself only while it is used.

The first rows are the exception, as many as make up a small set: they stay as they were made.
"""

from __future__ import annotations

import os
import weakref
from array import array
from bisect import bisect_right
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import NoReturn, overload

from evalkit.rows import Problems, value_of
from evalkit.sample import GoldenSetError, Sample
from evalkit.sets.row import parsed

Order = Sequence[int]

KEPT = 128 * 1024
"""Bytes of rows whose samples stay in memory: some 1,500 of one line."""


@dataclass(frozen=True, slots=True)
class File:
    """One of a set's files: the number of its first row in the index, and where its attachments lie."""

    first: int
    name: str
    folder: Path | None


@dataclass(slots=True)
class Index:
    """Where every good row lies: its bytes and line. `first` are the samples of the first `most` bytes."""

    starts: array[int] = field(default_factory=lambda: array("Q"))
    ends: array[int] = field(default_factory=lambda: array("Q"))
    lines: array[int] = field(default_factory=lambda: array("Q"))
    files: list[File] = field(default_factory=list)
    first: list[Sample] = field(default_factory=list, repr=False)
    most: int = KEPT

    def __len__(self) -> int:
        return len(self.starts)

    def add(self, start: int, end: int, line: int, sample: Sample) -> None:
        """The next row, and the sample that it is."""
        self.most -= end - start
        if self.most >= 0:
            self.first.append(sample)
        self.starts.append(start)
        self.ends.append(end)
        self.lines.append(line)

    def file(self, number: int) -> File:
        """The file that a row came from."""
        return self.files[bisect_right(self.files, number, key=lambda file: file.first) - 1]


class Store:
    """An open file whose rows have been validated. It is closed when nobody holds it any more.

    Any thread may read. Raises `GoldenSetError` when the file was changed since it was validated: what was
    hashed and checked is what has to be asked.
    """

    def __init__(self, descriptor: int, index: Index, path: Path) -> None:
        self._descriptor = descriptor
        self._stamp = _stamp(descriptor)
        self._path = path
        self.index = index
        weakref.finalize(self, os.close, descriptor)

    def __reduce__(self) -> NoReturn:
        raise TypeError(
            "a golden set holds an open file: send its spec, or single samples, and load it there"
        )

    def read(self, number: int) -> Sample:
        """The sample in that row."""
        index, problems = self.index, Problems()
        if number < len(index.first):
            return index.first[number]
        start, end = index.starts[number], index.ends[number]
        raw = os.pread(self._descriptor, end - start, start)
        sample = None
        if _stamp(self._descriptor) == self._stamp:
            sample = parsed(value_of(raw), index.lines[number], problems, index.file(number).folder)
        if sample is None:
            problems = problems if problems.count else Problems()
            if not problems.count:
                problems.add(0, "file", "was changed after it was checked")
            raise GoldenSetError(self._path, problems, hint="run again, on a file that nobody writes to")
        return sample


def _stamp(descriptor: int) -> tuple[int, int]:
    found = os.fstat(descriptor)
    return found.st_size, found.st_mtime_ns


class Samples(Sequence[Sample]):
    """The chosen rows of a store. Each look makes a sample anew: 25 bytes a row are all that is kept."""

    __slots__ = ("_order", "_store")

    def __init__(self, store: Store, order: Order) -> None:
        self._store = store
        self._order = order

    def __len__(self) -> int:
        return len(self._order)

    @overload
    def __getitem__(self, at: int) -> Sample: ...
    @overload
    def __getitem__(self, at: slice) -> Samples: ...
    def __getitem__(self, at: int | slice) -> Sample | Samples:
        if isinstance(at, slice):
            return Samples(self._store, self._order[at])
        return self._store.read(self._order[at])

    def __iter__(self) -> Iterator[Sample]:
        return map(self._store.read, self._order)

    def __repr__(self) -> str:
        return f"<{len(self):,} samples>"

    def place(self, at: int) -> str:
        """Where a sample stands: `file:line`, or `file:row` where the format has no lines."""
        number = self._order[at]
        return f"{self._store.index.file(number).name}:{self._store.index.lines[number]}"
