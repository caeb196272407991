"""Several answers to one question: shares, and where their spread comes from.

Answers to one question are not independent, so the question is the unit: every question gives one value, the
share of its answers that passed, and the interval is that of a mean over questions.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, TypeAlias

from evalkit.stats import (
    LEVEL,
    RESAMPLES,
    Measured,
    accelerated,
    critical,
    score_interval,
    weighted_rate,
    wilson,
)
from evalkit.stats_student import student

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    Floats: TypeAlias = npt.NDArray[np.float64]
    Whole: TypeAlias = npt.NDArray[np.int64]

_DRAWN = 10_000_000  # questions × resamples at most: half a second
_AT_ONCE = 500_000
_SAME = 1e-9  # scores that differ by less are the same
_CERTAIN = 1e12  # answers, more than which nothing is worth


def share(values: Floats, weights: Floats, answers: float, level: float = LEVEL) -> Measured | None:
    """The weighted mean of one share a question, each in [0, 1]; `answers` in all gave them. None: no values.

    `n` is the number of questions. The interval is Wilson's for n_eff answers, n_eff = p(1−p)/SE², with the
    clustered SE² = Q/(Q−1) · Σ w²(x−p)² / (Σw)² and Student's quantile in place of the normal one: the
    effective sample size of Korn and Graubard (1998), Surv. Methodol. 24:193, in the interval that Dean and
    Pagano (2015), J. Surv. Stat. Methodol. 3:484, found to cover best. n_eff is never more than `answers`.
    Where every question's share is 0 or 1, the answers of a question told nothing apart and n_eff is that of
    the questions, as in `weighted_rate`.
    """
    import numpy as np

    n = len(values)
    if n == 0:
        return None
    if bool(np.all((values == 0) | (values == 1))):
        if weights.min() == weights.max():  # the same as below, without lists of all of them
            return wilson(int(values.sum()), n, level)
        return weighted_rate(values == 1, weights, level)
    scaled = weights / weights.max()
    total = float(scaled.sum())
    rate = min(1.0, max(0.0, float(scaled @ values) / total))
    if n == 1:
        effective = 1.0
    else:
        variance = n / (n - 1) * float(np.sum((scaled * (values - rate)) ** 2)) / total**2
        wider = (critical(level) / student(n - 1, level)) ** 2
        most = min(answers, _CERTAIN) * kish(weights) / n
        # Of scores that are the same but for rounding, neither spread nor distance from 1 can be trusted.
        plain = float(np.ptp(values)) <= _SAME or not 0 < rate < 1 or variance <= 0
        effective = most if plain else min(most, wider * rate * (1 - rate) / variance)
    low, high = score_interval(rate, effective, level)
    return Measured(rate, low, high, n, level, effective)


def worth(means: Floats, variance: float, answers: int, level: float = LEVEL) -> float:
    """How many independent answers the `answers` of some questions are worth, by one mean a question: the
    answers' `variance` over that of the mean of means, with Student's quantile as in `share`."""
    import numpy as np

    n = len(means)
    if n < 2:
        return 1.0
    squared = float(np.var(means, ddof=1)) / n
    wider = (critical(level) / student(n - 1, level)) ** 2
    return float(answers) if squared <= 0 else min(float(answers), max(1.0, wider * variance / squared))


def ranks(values: Floats) -> Floats:
    """The values' ranks, between 0 and 1; equal ones share theirs."""
    import numpy as np

    _, of, counts = np.unique(values, return_inverse=True, return_counts=True)
    return ((np.cumsum(counts) - counts / 2) / len(values))[of]


def bounded_mean(values: Floats, weights: Floats, answers: int, level: float = LEVEL) -> Measured | None:
    """The weighted mean of one score a question, each in [0, 1]; `answers` in all gave them. None: no values.

    `share`'s interval without its limit on n_eff, since scores that differ little say more than as many yeses
    and noes. It leaves in what questions that were not met may hide: an `unmet` part of all, scored 0, or 1.
    Scores that are all the same say nothing by their spread, and count as so many answers. It holds the mean
    of few scores near 1 where resampling does not: `tests/bench/coverage.py`.
    """
    import numpy as np

    n = len(values)
    if n == 0:
        return None
    if float(np.ptp(values)) <= _SAME or bool(np.all((values == 0) | (values == 1))):
        return share(values, weights, answers, level)
    found = share(values, weights, math.inf, level)
    if found is None or found.effective is None:
        return found
    hidden, mean = unmet(kish(weights), level), found.value
    ends = mean * (1 - hidden), mean + hidden * (1 - mean)
    apart = [(end, (mean - end) ** 2) for end in ends]  # next to 1, rounding may leave no distance
    # So many answers would make Wilson's interval end there.
    most = [critical(level) ** 2 * end * (1 - end) / squared for end, squared in apart if squared > 0]
    return replace(
        found,
        low=min(found.low, ends[0]),
        high=max(found.high, ends[1]),
        effective=min(found.effective, *most),
    )


def weighted_mean(values: Floats, weights: Floats, level: float = LEVEL) -> Measured | None:
    """The weighted mean of values that may be any numbers; None without values.

    x̄ ± t·s/√k with k = `kish` and Student's t of ⌊k⌋ − 1 degrees of freedom, s² the weighted variance times
    k/(k−1). Where k is below 2, as when one question has most of the weight, the interval is open: by itself
    it says nothing of its spread.
    """

    n = len(values)
    if n == 0:
        return None
    part = weights / weights.max()
    part /= part.sum()
    mean, k = float(part @ values), kish(weights)
    if k < 2:
        return Measured(mean, -math.inf, math.inf, n, level, k)
    variance = float(part @ (values - mean) ** 2) * k / (k - 1)
    half = student(math.floor(k) - 1, level) * math.sqrt(variance / k)
    return Measured(mean, mean - half, mean + half, n, level, k)


def unmet(n: float, level: float = LEVEL) -> float:
    """The largest part of all questions of which n may well have met none: 1 − (α/2)^(1/n), α = 1 − level."""
    return float(1 - ((1 - level) / 2) ** (1 / n))


def kish(weights: Floats) -> float:
    """As many questions of equal weight say as much: (Σw)² / Σw² (Kish 1965, Survey Sampling, 11.7)."""
    scaled = weights / weights.max()
    return float(scaled.sum()) ** 2 / float(scaled @ scaled)


# --- where the spread comes from ---------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Variance:
    """Unbiased parts of the variance of one judged answer; an estimate may come out below 0, which means 0.

    `question`: how much questions differ, `generation`: how much answers to one question do, `judge`: how
    much the judge's scores of one answer do – None when no answer was judged twice, and `generation` then
    holds the judge's part too. `n` of each counts questions.
    """

    question: Measured
    generation: Measured
    judge: Measured | None

    @property
    def shares(self) -> tuple[float, float, float | None] | None:
        """Each part of the sum, with parts below 0 as 0; None when nothing varies."""
        parts = [max(0.0, part.value) for part in (self.question, self.generation)]
        judge = None if self.judge is None else max(0.0, self.judge.value)
        total = sum(parts) + (judge or 0.0)
        if total <= 0:
            return None
        return parts[0] / total, parts[1] / total, None if judge is None else judge / total


def split_variance(
    values: Floats, question: Whole, answer: Whole, rng: np.random.Generator, level: float = LEVEL
) -> Variance | None:
    """Split the variance of `values` by the question and the answer that each belongs to (numbers from 0).

    Nested analysis of variance for unequal counts (Searle, Casella and McCulloch 1992, Variance Components):
    unbiased whatever the law. Intervals are `stats.mean`'s, over resampled questions; of 20 questions they
    hold the truth nine times in ten rather than 19 in 20. None when there are fewer than two questions, or
    none has two answers.
    """
    import numpy as np

    sums = _sums(values, question, answer)
    point = _parts(sums.sum(axis=0)[None, :])
    if point is None:
        return None
    n = len(sums)
    resamples = min(RESAMPLES, max(200, _DRAWN // n))
    at_once = max(1, _AT_ONCE // n)
    drawn = []
    for start in range(0, resamples, at_once):
        size = min(at_once, resamples - start)
        counts = rng.multinomial(n, np.full(n, 1 / n), size=size).astype(np.float64)
        if (parts := _parts(counts @ sums)) is not None:
            drawn.append(parts)
    spread = np.concatenate(drawn) if drawn else point
    without = _parts(sums.sum(axis=0)[None, :] - sums)  # each question left out

    def measured(part: int) -> Measured:
        value, found = float(point[0, part]), spread[:, part]
        # A resample of too few distinct answers leaves a part unknown: it takes no part.
        left = np.zeros(n) if without is None or len(without) < n else without[:, part]
        influence = np.nan_to_num(np.nanmean(left) - left)
        low, high = accelerated(found[~np.isnan(found)], value, influence, level)
        return Measured(value, low, high, n, level)

    judge = None if bool(np.isnan(point[0, 2])) else measured(2)
    return Variance(measured(0), measured(1), judge)


def _sums(values: Floats, question: Whole, answer: Whole) -> Floats:
    """What the analysis needs of each question, as sums that add up over questions."""
    import numpy as np

    centred = values - values.mean()  # the sums of squares would cancel otherwise
    of_answer = np.zeros(int(answer.max()) + 1, dtype=np.int64)
    of_answer[answer] = question
    per_answer = np.bincount(answer).astype(np.float64)
    totals = np.bincount(answer, centred)
    seen = per_answer > 0
    of_answer, per_answer, totals = of_answer[seen], per_answer[seen], totals[seen]
    m = np.bincount(question).astype(np.float64)
    count = np.bincount(of_answer).astype(np.float64)
    squares = np.bincount(of_answer, per_answer**2)
    sums = np.bincount(question, centred)
    between = np.bincount(of_answer, totals**2 / per_answer)
    columns = (
        *(np.ones_like(m), count, m, m**2, squares, squares / m),
        *(np.bincount(question, centred**2), between, sums**2 / m, sums),
    )
    return np.stack(columns, axis=1)


def _parts(sums: Floats) -> Floats | None:
    """Question, generation and judge of each row of totals; NaN for an unknown judge."""
    import numpy as np

    q, n, m, m2, g2, g2m, y2, a, d, t = sums.T
    with np.errstate(divide="ignore", invalid="ignore"):
        judge = np.where(m > n, (y2 - a) / (m - n), 0.0)
        generation = (a - d - (n - q) * judge) / (m - g2m)
        rest = (q - 1) * judge + (g2m - g2 / m) * generation
        question = (d - t * t / m - rest) / (m - m2 / m)
    known = np.isfinite(generation) & np.isfinite(question) & (n > q) & (m - m2 / m > 1e-9)
    if not known.any():
        return None
    judge = np.where(m > n, judge, np.nan)
    found: Floats = np.stack([question, generation, judge], axis=1)[known]
    return found
