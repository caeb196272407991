"""Whether a golden set's texts stand in a training corpus: runs of 13 words that both have.

The measure is that of the GPT-3 paper (Brown et al. 2020, appendix C): lower case, no punctuation, runs of 13
words; a shorter text of 8 words or more is looked for whole; a run that more than 10 samples share is
boilerplate and does not count. Prompts and references are looked for, passages of context are not: they are
often public on purpose. The corpus is streamed; memory goes with the golden set alone.
"""

from __future__ import annotations

import zlib
from array import array
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import numpy.typing as npt

from evalkit.sets.corpus import Health, files_of, texts_of
from evalkit.sets.grams import Hashes, grams, hashed, words
from guardrails.errors import ConfigError

LONGEST, SHORTEST = 13, 8  # words
BOILERPLATE = 10  # samples
MAX_RUNS = 20_000  # of one sample
_WORDS = 2**16
_BREAK = 2**40  # no word has this number
_LINE_BITS = 40


@dataclass(frozen=True, slots=True)
class Overlap:
    """How many of a sample's runs stand in the corpus, of how many, and where the first one does."""

    sample: int
    found: int
    runs: int
    place: str


@dataclass(slots=True)
class Runs:
    """The runs of a golden set, by their length in words."""

    checkable: int = 0
    short: int = 0
    _runs: dict[int, array[int]] = field(default_factory=dict)
    _owners: dict[int, array[int]] = field(default_factory=dict)

    def add(self, sample: int, texts: Sequence[str]) -> None:
        """A sample's texts; those of fewer than 8 words are too short to say anything."""
        added = 0
        for text in texts:
            hashes = words(text)
            n = min(len(hashes), LONGEST)
            if n < SHORTEST:
                continue
            made = np.unique(grams(hashes, n)[:MAX_RUNS])
            self._runs.setdefault(n, array("Q")).frombytes(made.tobytes())
            self._owners.setdefault(n, array("Q")).extend([sample] * len(made))
            added += 1
        self.checkable += bool(added)
        self.short += not added

    def tables(self) -> list[_Table]:
        """What a corpus is held against."""
        return [_Table.of(n, self._runs[n], self._owners[n]) for n in sorted(self._runs)]


@dataclass(slots=True)
class _Table:
    """Runs of one length: sorted and distinct, with who has them, and where each was found first."""

    n: int
    runs: Hashes
    starts: npt.NDArray[np.int64]
    owners: npt.NDArray[np.uint64]
    places: npt.NDArray[np.int64]
    sieve: npt.NDArray[np.bool_]  # by the first bits of a run: most of a corpus need not be looked up

    @classmethod
    def of(cls, n: int, runs: array[int], owners: array[int]) -> _Table:
        every = np.frombuffer(runs, dtype=np.uint64)
        order = np.argsort(every, kind="stable")
        distinct, starts = np.unique(every[order], return_index=True)
        who = np.frombuffer(owners, dtype=np.uint64)[order]
        bits = (4 * len(distinct)).bit_length()
        sieve = np.zeros(1 << bits, dtype=np.bool_)
        sieve[distinct >> np.uint64(64 - bits)] = True
        return cls(n, distinct, np.append(starts, len(who)), who, np.full(len(distinct), -1), sieve)

    def look(self, hashes: Hashes, places: npt.NDArray[np.int64]) -> None:
        """Note which runs of a corpus' words are ours; `places` are those of the words."""
        made = grams(hashes, self.n)
        bits = len(self.sieve).bit_length() - 1
        likely = np.flatnonzero(self.sieve[made >> np.uint64(64 - bits)])
        at = np.searchsorted(self.runs, made[likely])
        at[at == len(self.runs)] = 0
        same = self.runs[at] == made[likely]
        where = likely[same]
        hits, first = np.unique(at[same], return_index=True)
        fresh = self.places[hits] < 0
        self.places[hits[fresh]] = places[where[first[fresh]]]

    def found(self) -> Iterator[tuple[int, int]]:
        """Each sample with a run that was found, and the place, run by run."""
        counts = np.diff(self.starts)
        for number in np.flatnonzero((self.places >= 0) & (counts <= BOILERPLATE)).tolist():
            for owner in self.owners[self.starts[number] : self.starts[number + 1]].tolist():
                yield owner, int(self.places[number])

    def sizes(self) -> Counter[int]:
        """How many runs each sample has that are no boilerplate."""
        kept = np.repeat(np.diff(self.starts) <= BOILERPLATE, np.diff(self.starts))
        owners, counts = np.unique(self.owners[kept], return_counts=True)
        return Counter(dict(zip(owners.tolist(), counts.tolist(), strict=True)))


@dataclass(frozen=True, slots=True)
class Compared:
    """What a comparison found: the samples that overlap, how much was read, and the files with flaws."""

    overlaps: tuple[Overlap, ...]
    documents: int
    words: int
    flawed: tuple[Health, ...] = ()


def compare(runs: Runs, corpora: Sequence[Path]) -> Compared:
    """Stream the corpora past the runs. Raises `ConfigError` for a file that cannot be read as text."""
    tables, files = runs.tables(), [file for corpus in corpora for file in files_of(corpus)]
    documents = total = 0
    flawed: list[Health] = []
    for number, file in enumerate(files):
        health = Health(file)
        try:
            for piece in _pieces(health):
                documents += piece.documents
                total += piece.fresh
                places = piece.lines + (number << _LINE_BITS)
                for table in tables:
                    table.look(piece.hashes, places)
        except (OSError, EOFError, zlib.error) as error:
            said = getattr(error, "strerror", None) or type(error).__name__
            raise ConfigError(f"{file} cannot be read: {said}") from None
        if any(health.said()):
            flawed.append(health)
    found: Counter[int] = Counter()
    first: dict[int, int] = {}
    sizes: Counter[int] = Counter()
    for table in tables:
        sizes += table.sizes()
        for owner, place in table.found():
            found[owner] += 1
            first[owner] = min(place, first.get(owner, place))
    overlaps = (
        Overlap(owner, count, sizes[owner], _place(files, first[owner]))
        for owner, count in sorted(found.items())
    )
    return Compared(tuple(overlaps), documents, total, tuple(flawed))


def _place(files: Sequence[Path], place: int) -> str:
    return f"{files[place >> _LINE_BITS]}:{place & ((1 << _LINE_BITS) - 1)}"


# --- reading a corpus --------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Piece:
    """Some words of a corpus and their lines. `fresh` of them were not in the piece before."""

    hashes: Hashes
    lines: npt.NDArray[np.int64]
    fresh: int
    documents: int


def _pieces(health: Health) -> Iterator[_Piece]:
    """A file's words, so many at a time; a run across two pieces is in the second one."""
    hashes, lines = array("Q"), array("Q")
    fresh = documents = 0

    def piece() -> _Piece:
        at = np.array(lines, dtype=np.int64)
        return _Piece(np.array(hashes, dtype=np.uint64), at, fresh, documents)

    for line, text, begins in texts_of(health):
        if begins:  # no run goes on from one document to the next
            documents += 1
            hashes.append(_BREAK)
            lines.append(line)
        found = hashed(text)
        fresh += len(found)
        hashes.extend(found)
        lines.extend([line] * len(found))
        if len(hashes) > _WORDS:
            yield piece()
            del hashes[: 1 - LONGEST], lines[: 1 - LONGEST]
            fresh = documents = 0
    yield piece()
