"""Runs of words as numbers: what near-duplicates and overlaps with a corpus are found by.

What is covered: case, punctuation, white space. What is not: inflection, synonyms, translation. Words are
hashed to 32 bits and a run of them to 64, the same in every process.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any, TypeAlias
from zlib import crc32

import numpy as np
import numpy.typing as npt

Hashes: TypeAlias = npt.NDArray[np.uint64]

RUN = 3  # words of a shingle
LETTERS = 5  # characters of one, in texts without spaces
BANDS, ROWS = 20, 6  # two texts of similarity s meet in a band with probability 1 - (1 - s^6)^20
MAX_COMPARED = 200_000  # characters of a text that similarity looks at

_WORD = re.compile(r"\w+")
_BASE = np.uint64(0x9E3779B97F4A7C15)
_BLOCK = 4_096
_HALF = np.uint64(32)


def hashed(text: str) -> list[int]:
    """A number of 32 bits for each word."""
    return [crc32(word.encode("utf-8", "replace")) for word in _WORD.findall(text.casefold())]


def words(text: str) -> Hashes:
    """The same as an array."""
    return np.array(hashed(text), dtype=np.uint64)


def grams(hashes: Hashes, n: int) -> Hashes:
    """A number for each run of `n` words; none when there are fewer."""
    count = len(hashes) - n + 1
    if count < 1:
        return hashes[:0]
    made = np.full(count, n, dtype=np.uint64)
    for offset in range(n):
        made = made * _BASE + hashes[offset : offset + count]  # modulo 2^64, on purpose
    return made ^ (made >> np.uint64(29))


def shingles(text: str) -> Hashes:
    """The distinct runs that a text is compared by, sorted: of words, or of letters where words are few."""
    text = text[:MAX_COMPARED]
    hashes = words(text)
    n = RUN
    if len(text) > 20 * max(len(hashes), 1):  # Chinese, Japanese, Thai, or one long token
        hashes, n = np.fromiter(map(ord, text.casefold()), dtype=np.uint64), LETTERS
    return np.unique(grams(hashes, min(n, max(len(hashes), 1))))


def similarity(one: Hashes, other: Hashes) -> float:
    """Jaccard's: the share of all runs of either that both have."""
    both = len(np.intersect1d(one, other, assume_unique=True))
    return both / max(len(one) + len(other) - both, 1)


_RANDOM: Any = np.random.default_rng(20_261_121)
_FACTORS: Hashes = _RANDOM.integers(1, 2**63, BANDS * ROWS, dtype=np.uint64) * np.uint64(2) + np.uint64(1)
_TERMS: Hashes = _RANDOM.integers(0, 2**63, BANDS * ROWS, dtype=np.uint64)


def bands(runs: Hashes) -> Hashes:
    """`BANDS` numbers: similar texts are likely to have one of them in common (MinHash, Broder 1997)."""
    lowest = np.full(BANDS * ROWS, 2**32, dtype=np.uint64)
    for start in range(0, len(runs), _BLOCK):
        block = runs[start : start + _BLOCK]
        mixed = (np.outer(_FACTORS, block) + _TERMS[:, None]) >> np.uint64(32)
        lowest = np.minimum(lowest, mixed.min(axis=1))
    made = np.zeros(BANDS, dtype=np.uint64)
    for row in lowest.reshape(BANDS, ROWS).T:
        made = made * _BASE + row
    return made


def candidates(table: Hashes) -> Iterator[tuple[int, int]]:
    """Pairs of rows, the earlier one first, that share a band; `table` has a row a text, a column a band.

    In a bucket of many, each meets the first of it and the one before: all pairs would be too many.
    """
    found: list[Hashes] = []
    for column in range(table.shape[1]):
        values = table[:, column]
        order = np.argsort(values, kind="stable").astype(np.uint64)
        ranked = values[order]
        same = np.flatnonzero(ranked[1:] == ranked[:-1]) + 1
        firsts = np.searchsorted(ranked, ranked[same])
        found += [(order[same] << _HALF) | before for before in (order[firsts], order[same - 1])]
    for pair in np.unique(np.concatenate(found)).tolist():
        yield pair & 0xFFFF_FFFF, pair >> 32
