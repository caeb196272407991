"""How well does a detector tell two kinds of text apart, and find the right places in a text? Pure functions.

Scores order texts: higher is surer. Everything is a `Measured` with its interval (see `evalkit.stats`), and
None where there is nothing to measure: no false positives without negatives, no precision without findings.

What is not covered: several texts made from one template, or several places of one text, are not independent,
and the intervals here take them as if they were. They are too narrow by as much as such texts are alike.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from evalkit.stats import LEVEL, Measured, critical, quantile_ranks, wilson

# --- scores ------------------------------------------------------------------------------------------------


def auc(positives: Sequence[float], negatives: Sequence[float], level: float = LEVEL) -> Measured | None:
    """The area under the ROC curve: how often a positive scores above a negative; a tie counts half.

    Interval: DeLong's, area ± z·√(s²₊/m + s²₋/n), where s² are the variances of each text's share of wins.
    Where all pairs are ordered alike (an area of 0 or 1) both are 0, which would claim to know the area
    exactly: the inner bound is then Wilson's for as many texts as the smaller side has. A side with one text
    has no variance, and the interval is [0, 1]. `n` is the number of texts. None when a side is empty.
    Source: DeLong, DeLong and Clarke-Pearson (1988), Biometrics 44:837.
    """
    import numpy as np

    if not positives or not negatives:
        return None
    above, below = np.sort(_numbers(positives)), np.sort(_numbers(negatives))
    m, n = len(above), len(below)
    wins = (below.searchsorted(above, "left") + below.searchsorted(above, "right")) / (2 * n)
    losses = (above.searchsorted(below, "left") + above.searchsorted(below, "right")) / (2 * m)
    area = min(1.0, float(wins.mean()))
    if min(m, n) == 1:
        return Measured(area, 0.0, 1.0, m + n, level)
    spread = critical(level) * math.sqrt(float(wins.var(ddof=1)) / m + float(losses.var(ddof=1)) / n)
    if area in (0.0, 1.0):
        least = min(m, n)
        sure = wilson(round(area) * least, least, level)
        assert sure is not None, "neither side is empty"
        return Measured(area, sure.low, sure.high, m + n, level)
    return Measured(area, max(0.0, area - spread), min(1.0, area + spread), m + n, level)


def cutoff(negatives: Sequence[float], rate: float) -> float:
    """The lowest score that at most `rate` of the negatives lie above; −∞ when all of them may."""
    _check_rate(rate)
    ordered = sorted(negatives, reverse=True)
    allowed = math.floor(rate * len(ordered))
    return ordered[allowed] if allowed < len(ordered) else -math.inf


def recall_at(
    positives: Sequence[float], negatives: Sequence[float], rate: float = 0.01, level: float = LEVEL
) -> Measured | None:
    """The share of positives above the `cutoff` that lets `rate` of the negatives through.

    Two things are uncertain: the recall at a cutoff, and the cutoff itself, which few negatives say little
    about. The interval allows for both: Wilson's bounds at the ends of the distribution-free interval of the
    negatives' (1 − rate)-quantile, each at 1 − (1 − level)/2, so that together they hold `level`. With fewer
    than 437 negatives nothing is known about 1 % of them, and the lower bound is 0. `n` is the number of
    positives. None when a side is empty.
    """
    if not positives or not negatives:
        return None
    _numbers(positives), _numbers(negatives)
    each = 1 - (1 - level) / 2
    ordered, n = sorted(negatives), len(negatives)
    lower, upper = quantile_ranks(n, 1 - rate, each)
    here = _above(positives, cutoff(negatives, rate), each)
    low = _above(positives, ordered[upper - 1], each).low if upper <= n else 0.0
    high = _above(positives, ordered[lower - 1], each).high if lower >= 1 else 1.0
    return Measured(here.value, min(low, here.low), max(high, here.high), len(positives), level)


def _above(scores: Sequence[float], least: float, level: float) -> Measured:
    share = wilson(sum(score > least for score in scores), len(scores), level)
    assert share is not None, "there are scores"
    return share


def _numbers(scores: Sequence[float]) -> Sequence[float]:
    if any(math.isnan(score) for score in scores):
        raise ValueError("a score is not a number")
    return scores


def _check_rate(rate: float) -> None:
    if not 0 < rate < 1:
        raise ValueError("a rate of false positives is between 0 and 1, such as 0.01")


# --- verdicts and places -----------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Counts:
    """How many there were to be found, how many of these were, how many were said, how many of these rightly.

    For verdicts on texts `found` and `right` are the same number. For places they may differ: one finding can
    cover two places, and two findings one.
    """

    wanted: int = 0
    found: int = 0
    said: int = 0
    right: int = 0

    def __post_init__(self) -> None:
        if not 0 <= self.found <= self.wanted or not 0 <= self.right <= self.said:
            raise ValueError("more found than there was to find, or more right than was said")

    def __add__(self, other: Counts) -> Counts:
        return Counts(
            self.wanted + other.wanted,
            self.found + other.found,
            self.said + other.said,
            self.right + other.right,
        )

    def recall(self, level: float = LEVEL) -> Measured | None:
        """The share of what there was that was found, with Wilson's interval."""
        return wilson(self.found, self.wanted, level)

    def precision(self, level: float = LEVEL) -> Measured | None:
        """The share of what was said that was right, with Wilson's interval."""
        return wilson(self.right, self.said, level)


def verdicts(pairs: Iterable[tuple[bool, bool]]) -> Counts:
    """The counts of (is one, said to be one) pairs."""
    seen = list(pairs)
    both = sum(truth and said for truth, said in seen)
    return Counts(sum(truth for truth, _ in seen), both, sum(said for _, said in seen), both)


@dataclass(frozen=True, slots=True)
class Place:
    """`text[start:end]` is a `kind`."""

    kind: str
    start: int
    end: int


def places(wanted: Sequence[Place], said: Sequence[Place]) -> Mapping[str, Counts]:
    """The counts of one text by kind. A place is found by a finding of its kind that shares a character.

    Overlap is the lenient measure: half of an address found is an address found. Time is that of sorting.
    """
    kinds = sorted({place.kind for place in (*wanted, *said)})
    return {kind: _of_kind(_spans(wanted, kind), _spans(said, kind)) for kind in kinds}


def _spans(all_places: Sequence[Place], kind: str) -> list[tuple[int, int]]:
    return [(p.start, p.end) for p in all_places if p.kind == kind]


def _of_kind(wanted: list[tuple[int, int]], said: list[tuple[int, int]]) -> Counts:
    return Counts(len(wanted), _touching(wanted, said), len(said), _touching(said, wanted))


def _touching(these: list[tuple[int, int]], those: list[tuple[int, int]]) -> int:
    """How many of these share a character with any of those."""
    from bisect import bisect_left

    ordered = sorted(span for span in those if span[0] < span[1])
    starts = [start for start, _ in ordered]
    reached: list[int] = []  # the furthest end so far: spans may lie in one another
    for _, end in ordered:
        reached.append(max(end, reached[-1]) if reached else end)
    count = 0
    for start, end in these:
        before = bisect_left(starts, end)  # those that start before this one ends
        count += start < end and before > 0 and reached[before - 1] > start
    return count
