"""What is a run's pass rate, if its judge errs? The judge's verdicts corrected by some human labels.

Two ways. **Prediction-powered inference** takes labels of rows of this run: it is unbiased whatever the judge
does, and the better the judge, the narrower. **Rogan–Gladen** takes the judge's sensitivity and specificity
from labels of any rows: it is right only if the judge errs as often here as there.

Labels must be of rows drawn at random, not of those that looked odd.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeAlias

from evalkit.stats import LEVEL, Measured, critical, score_interval, wilson
from evalkit.stats_student import student
from judges.agreement import DRAWS, drawn, interval

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    Floats: TypeAlias = npt.NDArray[np.float64]

_TINY = 1e-12


@dataclass(frozen=True, slots=True)
class Errors:
    """How a judge's verdicts on labelled rows fell: counts of human yes/no against judged yes/no."""

    yes_yes: int
    yes_no: int
    no_yes: int
    no_no: int

    @classmethod
    def of(cls, truth: Any, judged: Any) -> Errors:
        """From two arrays of 0 and 1: what people said and what the judge said."""
        counts = [int(((truth == t) & (judged == j)).sum()) for t in (1, 0) for j in (1, 0)]
        return cls(*counts)

    @property
    def n(self) -> int:
        """Labelled rows."""
        return self.yes_yes + self.yes_no + self.no_yes + self.no_no

    def sensitivity(self, level: float = LEVEL) -> Measured | None:
        """The share of good answers that the judge passes, with Wilson's interval. None without any."""
        return wilson(self.yes_yes, self.yes_yes + self.yes_no, level)

    def specificity(self, level: float = LEVEL) -> Measured | None:
        """The share of bad answers that the judge fails, with Wilson's interval. None without any."""
        return wilson(self.no_no, self.no_yes + self.no_no, level)


@dataclass(frozen=True, slots=True)
class Corrected:
    """A pass rate that a judge's errors were taken out of.

    `rate.n` counts the rows that it is about. `more_labels` is an estimate of how many more labels, of the
    same kind, would halve the interval: None when no number does.
    """

    rate: Measured
    method: str
    labels: int
    more_labels: int | None
    power: float | None = None
    """PPI's λ: how much of the judge is used. 0 is the labels alone."""


# --- Rogan–Gladen ------------------------------------------------------------------------------------------


def rogan_gladen(
    errors: Errors,
    passed: float,
    n: float,
    *,
    rng: np.random.Generator,
    level: float = LEVEL,
    draws: int = DRAWS,
) -> Corrected | None:
    """(q + specificity − 1) / (sensitivity + specificity − 1), q = passed/n the judge's own rate, in [0, 1].

    The rows of q are others than the labelled ones; with clustered rows, n is their effective number. The
    interval is that of the same formula over draws of the three rates from their Jeffreys posteriors, which
    holds the uncertainty of all of them; it is [0, 1] where a judge no better than chance cannot be ruled
    out. None without labels of both kinds, without rows, or when the judge is no better than chance. Source:
    Rogan and Gladen (1978), Am. J. Epidemiol. 107:71.
    """
    import numpy as np

    good, bad = errors.yes_yes + errors.yes_no, errors.no_yes + errors.no_no
    if not good or not bad or n <= 0:
        return None
    youden = errors.yes_yes / good + errors.no_no / bad - 1
    if youden <= _TINY:
        return None
    value = min(1.0, max(0.0, (passed / n + errors.no_no / bad - 1) / youden))
    counts = (passed, n - passed), (errors.yes_yes, errors.yes_no), (errors.no_no, errors.no_yes)
    q, sens, spec = (rng.beta(yes + 0.5, max(0.0, no) + 0.5, draws) for yes, no in counts)
    gap = sens + spec - 1
    low, high = 0.0, 1.0
    if float(np.mean(gap <= _TINY)) <= (1 - level) / 2:
        found = (q + spec - 1)[gap > _TINY] / gap[gap > _TINY]
        low, high = interval(value, np.clip(found, 0.0, 1.0), level)
    by_labels, by_rows = _shares_of_variance(errors, passed, n)
    more = _more_labels(by_labels, by_rows, errors.n)
    return Corrected(Measured(value, low, high, round(n), level), "rogan-gladen", errors.n, more)


def _shares_of_variance(errors: Errors, passed: float, n: float) -> tuple[float, float]:
    """The variance that labels take away and the one that rows do, to first order, times the gap squared."""
    q, q_var = _jeffreys(passed, n)
    sens, sens_var = _jeffreys(errors.yes_yes, errors.yes_yes + errors.yes_no)
    spec, spec_var = _jeffreys(errors.no_no, errors.no_yes + errors.no_no)
    rate = min(1.0, max(0.0, (q + spec - 1) / max(_TINY, sens + spec - 1)))
    return rate**2 * sens_var + (1 - rate) ** 2 * spec_var, q_var


def _jeffreys(count: float, n: float) -> tuple[float, float]:
    """Mean and variance of a rate."""
    share = (count + 0.5) / (n + 1)
    return share, share * (1 - share) / (n + 2)


def _more_labels(by_labels: float, rest: float, n: int, most: float = math.inf) -> int | None:
    """Labels to add so that by_labels·n/(n + more) + rest is a quarter of what it is now."""
    left = (by_labels + rest) / 4 - rest
    if left <= 0:
        return None
    more = math.ceil(by_labels * n / left) - n
    return more if n + more <= most else None


# --- prediction-powered inference --------------------------------------------------------------------------


def ppi(
    truth: Floats,
    judged: Floats,
    rest: Floats,
    *,
    rng: np.random.Generator,
    items: tuple[Any, Any] | None = None,
    level: float = LEVEL,
    draws: int = DRAWS,
) -> Corrected | None:
    """The pass rate from labels `truth` (0 or 1), the judge's values on the same rows, and on all the `rest`.

    mean(truth) + λ·(mean(rest) − mean(judged)), λ = cov/((1 + n/N)·var) clipped to [0, 1]: PPI++ with power
    tuning (Angelopoulos, Duchi and Zrnic 2023, arXiv 2311.01453). None without labels.

    Where the judge says yes or no the interval is that of the rate within its yeses and its noes, weighted by
    how often it says either (to which PPI++ comes in the limit), under Jeffreys' priors: the normal one is a
    point when ten labels agree with the judge. Where it gives values, it is Wilson's of n_eff = p(1−p)/SE²
    with Student's quantile, the residuals' variance held off zero by one observation. `items` number the rows
    of `truth` and of `rest` that belong together.
    """
    import numpy as np

    n, others = len(truth), len(rest)
    if n == 0:
        return None
    every = np.concatenate([judged, rest])
    spread = float(np.var(every))
    power = 0.0
    if spread > 0 and n > 1 and others:
        covariance = float(np.cov(truth, judged)[0, 1])
        power = min(1.0, max(0.0, covariance / ((1 + n / others) * spread)))
    gap = float(rest.mean() - judged.mean()) if others else 0.0
    value = min(1.0, max(0.0, float(truth.mean()) + power * gap))
    whole = np.concatenate([every, truth])
    binary = bool(np.all((whole == 0) | (whole == 1)))
    by_labels, by_rows = _parts(truth, judged, every, power, binary)
    if binary:
        low, high = interval(value, _strata(truth, judged, rest, rng, items, draws), level)
    else:
        wider = (student(n - 1, level) / critical(level)) ** 2 if n > 1 else math.inf
        variance = (by_labels + by_rows) * wider * _design(items, truth - power * judged)
        effective = value * (1 - value) / variance if 0 < value < 1 else n
        low, high = score_interval(value, max(1.0, min(effective, n + others)), level)
    rate = Measured(value, low, high, n + others, level)
    return Corrected(rate, "ppi", n, _more_labels(by_labels, by_rows, n, n + others), power)


def _parts(truth: Floats, judged: Floats, every: Floats, power: float, binary: bool) -> tuple[float, float]:
    """The variance that labels take away, and the one that only more rows do."""
    import numpy as np

    n = len(truth)
    if not binary:
        scale = power * len(every) / max(1, len(every) - n)  # the slope that λ stands for
        residual = truth - scale * judged
        left = (float(((residual - residual.mean()) ** 2).sum()) + 0.25) / n
        return left / n, scale**2 * float(np.var(every)) / len(every)
    left, rates = 0.0, []
    for said in (0, 1):
        inside = truth[judged == said]
        rate = (float(inside.sum()) + 0.5) / (len(inside) + 1)
        rates.append(rate)
        left += float(np.mean(every == said)) * rate * (1 - rate)
    share = float(every.mean())
    return left / n, share * (1 - share) * (rates[1] - rates[0]) ** 2 / len(every)


def _strata(
    truth: Floats,
    judged: Floats,
    rest: Floats,
    rng: np.random.Generator,
    items: tuple[Any, Any] | None,
    draws: int,
) -> Floats:
    import numpy as np

    cells = (2 * judged + truth).astype(np.int64)
    labelled, whole = (None, None) if items is None else (items[0], np.concatenate(items))
    of_label = drawn(cells, labelled, 4, rng, draws)
    said = np.concatenate([judged, rest]).astype(np.int64)
    of_row = drawn(said, whole, 2, rng, draws, prior=1.0)
    found: Floats = sum(
        of_row[:, j] / of_row.sum(1) * of_label[:, 2 * j + 1] / (of_label[:, 2 * j] + of_label[:, 2 * j + 1])
        for j in (0, 1)
    )
    return found


def _design(items: tuple[Any, Any] | None, residual: Floats) -> float:
    """By how much rows that belong together say less: clustered over plain variance, 1 at least."""
    import numpy as np

    if items is None or len(residual) < 2:
        return 1.0
    centred = residual - residual.mean()
    _, of = np.unique(items[0], return_inverse=True)
    plain, k = float((centred**2).sum()), int(of.max()) + 1
    if plain <= 0 or k < 2:
        return 1.0
    return max(1.0, float((np.bincount(of, centred) ** 2).sum()) / plain * k / (k - 1))
