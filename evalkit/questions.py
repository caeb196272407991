"""One value a question: what rows become before anything is said of them.

Several answers to one question are not independent. Every rate, mean and difference is taken over questions,
each of which gives the mean of its answers; with one answer a question that is the answer itself.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, TypeAlias

from evalkit import stats
from evalkit.columns import Columns
from evalkit.stats import LEVEL, Measured
from evalkit.stats_cluster import bounded_mean, kish, share, unmet, weighted_mean
from evalkit.stats_passk import pass_all_k, pass_at_k

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    Floats: TypeAlias = npt.NDArray[np.float64]
    Whole: TypeAlias = npt.NDArray[np.int64]
    Mask: TypeAlias = npt.NDArray[np.bool_]


_SAME = 1e-9  # scores that differ by less are the same
_LEAST = 0.9  # of the normal interval: enough where joined ones cancel, and seldom felt elsewhere


@dataclass(frozen=True, slots=True)
class Values:
    """`value` and `weight` by question, in rising order of `sample`, its hash; `answers` in all gave them."""

    sample: npt.NDArray[np.uint64]
    value: Floats
    weight: Floats
    answers: int

    def __len__(self) -> int:
        return len(self.value)

    def share(self, level: float = LEVEL) -> Measured | None:
        """The weighted mean of shares, with its clustered interval."""
        return share(self.value, self.weight, self.answers, level)

    def mean(self, rng: np.random.Generator, level: float = LEVEL) -> Measured | None:
        """The mean, each question counting once."""
        return stats.mean(self.value, rng, level)

    def score(self, rng: np.random.Generator, level: float = LEVEL) -> Measured | None:
        """The weighted mean of scores."""
        return mean_score(self, rng, level)

    def take(self, kept: Any) -> Values:
        """The questions that a mask or their places pick."""
        value = self.value[kept]
        answers = round(self.answers * len(value) / max(1, len(self)))
        return Values(self.sample[kept], value, self.weight[kept], answers)


def values_of(columns: Columns, values: Floats | Mask, rows: npt.NDArray[Any] | None = None) -> Values:
    """The mean by question of `values`, one a row; or they belong to `rows`, which may name one repeatedly.

    There may be a million: a column is read when it is needed, and forgotten as soon as it is not.
    """
    import numpy as np

    weight = columns.rows["weight"]
    if bool(np.all(weight == weight[:1])):
        weight = weight[:1].copy()  # one number for all
    asked = columns.rows["sample"]
    asked = asked if rows is None else asked[rows]
    order = np.argsort(asked, kind="stable")
    asked = asked[order]
    new = np.ones(len(asked), dtype=np.bool_)
    np.not_equal(asked[1:], asked[:-1], out=new[1:])
    if new.all():
        first, mean = order, values[order].astype(np.float64)
    else:
        of, ordered = np.cumsum(new) - 1, values[order]
        asked, first = asked[new], order[new]
        mean = np.bincount(of, ordered, minlength=len(asked)) / np.bincount(of, minlength=len(asked))
    if len(weight) == 1:
        weight = np.broadcast_to(weight, len(asked))
    else:
        weight = weight[first if rows is None else rows[first]]
    return Values(asked, mean, weight, len(values))


def mean_score(of: Values, rng: np.random.Generator, level: float = LEVEL) -> Measured | None:
    """The weighted mean of one score a question: of scores in [0, 1] with the interval of a share.

    Of five full marks, resampling knows nothing but full marks: it would be certain of what they say little.
    """
    import numpy as np

    if bool(np.all((of.value >= 0) & (of.value <= 1))):
        return bounded_mean(of.value, of.weight, of.answers, level)
    return _weighted(of.value, of.weight, rng, level)


def _weighted(
    value: Floats, weight: Floats, rng: np.random.Generator, level: float = LEVEL
) -> Measured | None:
    """A mean of values that may be any numbers, by weight."""
    if len(value) == 0 or weight.min() == weight.max():
        return stats.mean(value, rng, level)
    return weighted_mean(value, weight, level)


def score_difference(
    a: Values, b: Values, rng: np.random.Generator, times: float = 1.0, level: float = LEVEL
) -> Measured | None:
    """The weighted mean of a − times·b, values of the questions that both have; None without any.

    Of scores in [0, 1] the interval leaves in what questions that were not met may hide: an `unmet` part of
    all of them, each of which differs as much as scores can.
    """
    import numpy as np

    a, b = paired(a, b)
    if len(a) == 0:
        return None
    differences = a.value - times * b.value
    if not bool(np.all((a.value >= 0) & (a.value <= 1) & (b.value >= 0) & (b.value <= 1))):
        return _weighted(differences, a.weight, rng, level)
    if float(np.ptp(differences)) > _SAME:
        found = _weighted(differences, a.weight, rng, level)
        assert found is not None
    else:
        value = float(np.mean(differences))
        found = Measured(value, value, value, len(a), level)
    return _unmet_left_in(found, times, kish(a.weight))


def _unmet_left_in(found: Measured, times: float, n: float) -> Measured:
    """A difference's interval that goes as far as what n did not meet may draw it."""
    hidden = unmet(n, found.level)
    low, high = found.value - hidden * (found.value + times), found.value + hidden * (1 - found.value)
    return replace(found, low=min(found.low, low), high=max(found.high, high))


def paired(a: Values, b: Values) -> tuple[Values, Values]:
    """The questions that both have, in the same order."""
    import numpy as np

    if np.array_equal(a.sample, b.sample):
        return a, b
    at, there = found_in(b.sample, a.sample)
    return a.take(there), b.take(at[there])


def found_in(ordered: npt.NDArray[Any], values: npt.NDArray[Any]) -> tuple[Whole, Mask]:
    """Where values are among others, which rise without repeats, and which of them are there at all."""
    import numpy as np

    at = np.searchsorted(ordered, values)
    at[at == len(ordered)] = 0
    return at, ordered[at] == values if len(ordered) else np.zeros(len(values), dtype=np.bool_)


def share_difference(a: Values, b: Values, times: float = 1.0, level: float = LEVEL) -> Measured | None:
    """The weighted mean of a − times·b over the questions that both have; None without any.

    With one answer a question and equal weights this is `stats.paired_rates`. Else the two clustered
    intervals are joined by square-and-add with the correlation r of the questions' shares (Zou and Donner
    2008, Stat. Med. 27:1693). r of few questions is taken for less than it is, r·(1 − 4/n²): of two it is ±1
    whatever they are, which would leave next to nothing of two wide intervals. Nor is an end nearer than
    0.9·z·s/√n, s the spread of the questions' own differences (joined skew intervals cancel too much where r
    is near 1), nor than answers that were not met may draw it. With weights, n is `kish`'s.
    """
    import numpy as np

    a, b = paired(a, b)
    if len(a) == 0:
        return None
    weight = a.weight
    even = bool(weight.min() == weight.max())
    plain = [bool(np.all((side.value == 0) | (side.value == 1))) for side in (a, b)]
    if all(plain) and even and times == 1:
        only_a, only_b = int(np.sum(a.value > b.value)), int(np.sum(a.value < b.value))
        return stats.paired_counts(only_a, only_b, len(a), level).difference
    one, other = share(a.value, weight, a.answers, level), share(b.value, weight, b.answers, level)
    assert one is not None
    assert other is not None
    n, part = kish(weight), weight / float(np.sum(weight))
    of_a, of_b = a.value - one.value, b.value - other.value
    spread = math.sqrt(float(part @ of_a**2) * float(part @ of_b**2))
    r = 0.0 if spread <= 0 else float(part @ (of_a * of_b)) / spread
    joined = join(one, other, times, min(1.0, max(-1.0, r)) * max(0.0, 1 - 4 / n**2), len(a))
    if len(a) == 1:
        return joined
    squared = float(part @ (of_a - times * of_b) ** 2) / max(n - 1, 1e-9)
    least = _LEAST * stats.critical(level) * math.sqrt(squared)
    low, high = max(-times, joined.value - least), min(1.0, joined.value + least)
    found = replace(joined, low=min(low, joined.low), high=max(high, joined.high))
    return _unmet_left_in(found, times, n * min(a.answers, b.answers) / len(a))


def join(a: Measured, b: Measured, times: float, r: float, n: int) -> Measured:
    """The interval of a − times·b from those of a and b, correlated by r; an open side stays open."""
    value = a.value - times * b.value

    def half(one: float, other: float) -> float:
        if math.isinf(one) or math.isinf(other):
            return math.inf
        return math.sqrt(max(0.0, one * one - 2 * r * one * other + other * other))

    low = value - half(a.value - a.low, times * (b.high - b.value))
    high = value + half(a.high - a.value, times * (b.value - b.low))
    return Measured(value, low, high, n, a.level)


# --- several answers ---------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Questions:
    """The judged answers of one group by question, in the order of their hashes.

    `of` are the answers' questions; `first` is a row of each question. `open_of` and `open_answer` are the
    answers that a judge failed on, to questions of which others were judged.
    """

    of: Whole
    first: Whole
    judged: Whole
    passed: Whole
    answer: npt.NDArray[np.uint64]
    right: npt.NDArray[np.bool_]
    open_of: Whole
    open_answer: npt.NDArray[np.uint64]
    sample: npt.NDArray[np.uint64]
    weight: Floats

    @classmethod
    def of_rows(cls, columns: Columns) -> Questions:
        """Of the rows of one group."""
        import numpy as np

        kept = columns.rows["passed"] >= 0
        judged = columns.take(kept).rows
        sample, first, of = np.unique(judged["sample"], return_index=True, return_inverse=True)
        right = judged["passed"] == 1
        unjudged = columns.take(~kept).rows
        open_of, known = found_in(sample, unjudged["sample"])
        open_of = open_of[known]
        return cls(
            of=of,
            first=np.flatnonzero(kept)[first],
            judged=np.bincount(of, minlength=len(sample)),
            passed=np.bincount(of[right], minlength=len(sample)),
            answer=judged["answer"],
            right=right,
            open_of=open_of,
            open_answer=unjudged["answer"][known],
            sample=sample,
            weight=judged["weight"][first],
        )

    @property
    def most(self) -> int:
        """The most judged answers of a question."""
        return int(self.judged.max()) if len(self.judged) else 0

    def _values(self, value: Floats, kept: Any = slice(None)) -> Values:
        answers = int(self.judged[kept].sum())
        return Values(self.sample[kept], value[kept], self.weight[kept], answers)

    def pass_at(self, k: int) -> Values:
        """pass@k of each question with k answers at least; `answers` counts draws of k."""
        return self._drawn(k, pass_at_k)

    def pass_all(self, k: int) -> Values:
        """pass^k of each question with k answers at least."""
        return self._drawn(k, pass_all_k)

    def _drawn(self, k: int, chance: Callable[[Any, Any, int], Floats]) -> Values:
        enough = self.judged >= k
        judged = self.judged[enough]
        value = chance(judged, self.passed[enough], k)
        return Values(self.sample[enough], value, self.weight[enough], int(judged.sum()) // k)

    def flaky(self) -> Values:
        """1 for a question whose answers pass sometimes, else 0, of those with two answers and more."""
        import numpy as np

        mixed = (self.passed > 0) & (self.passed < self.judged)
        return self._values(mixed.astype(np.float64), self.judged >= 2)

    def majority(self) -> tuple[Values, int]:
        """Whether a question's most frequent answer passes, and how many questions have several of them.

        Those count with the mean of their verdicts. A failed call has no vote, and without any answer a
        question has not passed. Where judges failed on all of the most frequent answers, nothing is known of
        the question.
        """
        import numpy as np

        given = self.answer != 0
        of, answers = np.r_[self.of[given], self.open_of], np.r_[self.answer[given], self.open_answer]
        said = np.r_[self.right[given], np.full(len(self.open_of), -1)]
        order = np.lexsort((answers, of))
        question, answer, said = of[order], answers[order], said[order]
        value = np.zeros(len(self.judged))
        if not len(question):
            return self._each(value, value == 0), 0
        new = np.r_[True, (question[1:] != question[:-1]) | (answer[1:] != answer[:-1])]
        starts = np.flatnonzero(new)
        votes = np.diff(np.r_[starts, len(answer)])
        # A judge may differ on equal answers: most of its verdicts count, and half where they are balanced.
        yes = np.add.reduceat((said == 1).astype(np.int64), starts)
        judged = np.add.reduceat((said >= 0).astype(np.int64), starts)
        verdict = np.where(judged > 0, (1 + np.sign(2 * yes - judged)) / 2, np.nan)
        asked = question[starts]
        most = np.zeros(len(value), dtype=np.int64)
        np.maximum.at(most, asked, votes)
        top = votes == most[asked]
        tops = np.bincount(asked[top], minlength=len(value))
        known = top & ~np.isnan(verdict)
        judged = np.bincount(asked[known], minlength=len(value))
        sums = np.bincount(asked[known], verdict[known], minlength=len(value))
        value[judged > 0] = sums[judged > 0] / judged[judged > 0]
        value[(tops > 0) & (judged == 0)] = np.nan
        return self._each(value, ~np.isnan(value)), int(np.sum(tops > 1))

    def _each(self, value: Floats, known: Mask) -> Values:
        """One verdict a question, which counts as one answer however many there were."""
        return Values(self.sample[known], value[known], self.weight[known], int(known.sum()))
