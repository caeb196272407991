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
from evalkit.stats_cluster import bounded_mean, share
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
        """The mean of scores, each question counting once."""
        return mean_score(self.value, self.answers, rng, level)

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


def mean_score(
    value: Floats, answers: int, rng: np.random.Generator, level: float = LEVEL
) -> Measured | None:
    """The mean of one score a question: of scores in [0, 1] with the interval of a share.

    Of five full marks, resampling knows nothing but full marks: it would be certain of what they say little.
    """
    import numpy as np

    if bool(np.all((value >= 0) & (value <= 1))):
        return bounded_mean(value, answers, level)
    return stats.mean(value, rng, level)


def score_difference(
    a: Values, b: Values, rng: np.random.Generator, times: float = 1.0, level: float = LEVEL
) -> Measured | None:
    """The mean of a − times·b, values of the questions that both have; None without any.

    Where differences of scores in [0, 1] are all the same, up to 1 − α^(1/n) of all questions may be of
    another kind with the chance α = 1 − level to have met none of them: each differs as much as scores can.
    """
    import numpy as np

    a, b = paired(a, b)
    differences = a.value - times * b.value
    bounded = bool(np.all((a.value >= 0) & (a.value <= 1) & (b.value >= 0) & (b.value <= 1)))
    if len(a) == 0 or not bounded or float(np.ptp(differences)) > _SAME:
        return stats.mean(differences, rng, level)
    unseen, value = 1 - (1 - level) ** (1 / len(a)), float(np.mean(differences))
    low, high = value - unseen * (value + times), value + unseen * (1 - value)
    return Measured(value, min(low, value), max(high, value), len(a), level)


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
    """The mean of a − times·b over the questions that both have, each counting once; None without any.

    With one answer a question this is `stats.paired_rates`. Else the two clustered intervals are joined by
    square-and-add with the correlation r of the questions' shares (Zou and Donner 2008, Stat. Med. 27:1693).
    r of few questions is taken for less than it is, r·(1 − 4/n²): of two it is ±1 whatever they are, which
    would leave next to nothing of two wide intervals. Nor is an end nearer than 0.9·z·s/√n, s the spread of
    the questions' own differences: joined skew intervals cancel too much where r is near 1.
    """
    import numpy as np

    a, b = paired(a, b)
    if len(a) == 0:
        return None
    plain = [bool(np.all((side.value == 0) | (side.value == 1))) for side in (a, b)]
    if all(plain) and times == 1:
        only_a, only_b = int(np.sum(a.value > b.value)), int(np.sum(a.value < b.value))
        return stats.paired_counts(only_a, only_b, len(a), level).difference
    ones = np.ones(len(a))
    one, other = share(a.value, ones, a.answers, level), share(b.value, ones, b.answers, level)
    assert one is not None
    assert other is not None
    n = len(a)
    spread = float(np.std(a.value)) * float(np.std(b.value))
    r = 0.0 if spread <= 0 else float(np.mean((a.value - one.value) * (b.value - other.value))) / spread
    joined = join(one, other, times, min(1.0, max(-1.0, r)) * max(0.0, 1 - 4 / n**2), n)
    if n == 1:
        return joined
    least = _LEAST * stats.critical(level) * float(np.std(a.value - times * b.value, ddof=1)) / math.sqrt(n)
    low, high = max(-times, joined.value - least), min(1.0, joined.value + least)
    return replace(joined, low=min(low, joined.low), high=max(high, joined.high))


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

    `of` are the answers' questions; `first` is a row of each question.
    """

    of: Whole
    first: Whole
    judged: Whole
    passed: Whole
    answer: npt.NDArray[np.uint64]
    right: npt.NDArray[np.bool_]
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
        return cls(
            of=of,
            first=np.flatnonzero(kept)[first],
            judged=np.bincount(of, minlength=len(sample)),
            passed=np.bincount(of[right], minlength=len(sample)),
            answer=judged["answer"],
            right=right,
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

        Those count with the mean of their verdicts. Without any answer a question has not passed.
        """
        import numpy as np

        value = np.zeros(len(self.judged))
        given = self.answer != 0
        if not given.any():
            return self._each(value), 0
        order = np.lexsort((self.answer[given], self.of[given]))
        question, answer = self.of[given][order], self.answer[given][order]
        right = self.right[given][order]
        new = np.r_[True, (question[1:] != question[:-1]) | (answer[1:] != answer[:-1])]
        starts = np.flatnonzero(new)
        votes = np.diff(np.r_[starts, len(answer)])
        # A judge may differ on equal answers: most of its verdicts count, and half where they are balanced.
        yes = np.add.reduceat(right.astype(np.int64), starts)
        verdict = (1 + np.sign(2 * yes - votes)) / 2
        asked = question[starts]
        most = np.zeros(len(value), dtype=np.int64)
        np.maximum.at(most, asked, votes)
        top = votes == most[asked]
        tops = np.bincount(asked[top], minlength=len(value))
        sums = np.bincount(asked[top], verdict[top], minlength=len(value))
        value[tops > 0] = sums[tops > 0] / tops[tops > 0]
        return self._each(value), int(np.sum(tops > 1))

    def _each(self, value: Floats) -> Values:
        """One verdict a question, which counts as one answer however many there were."""
        return Values(self.sample, value, self.weight, len(value))
