"""Do raters agree? Accuracy, confusion, kappa and alpha, each with an interval.

Pure functions of arrays. Ratings are codes from 0; for `alpha` they are values, and NaN is a missing one.
A row is one rated answer. `items` numbers the rows that belong together (several answers to one question):
those are not independent, and are drawn together or not at all.

All intervals come from one device, the Bayesian bootstrap (Rubin 1981, Ann. Stat. 9:130): every item gets a
weight from an exponential law, and two items' worth of Jeffreys prior is spread over all outcomes, so that an
outcome that was not seen is not taken for impossible: a judge with no mistake in ten labels would else have
the interval [1, 1]. For a share of independent rows it is Jeffreys' interval itself.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from statistics import NormalDist
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    Floats: TypeAlias = npt.NDArray[np.float64]
    Codes: TypeAlias = npt.NDArray[Any]

LEVEL = 0.95
DRAWS = 4_000
PRIOR = 2.0
"""Items' worth of prior over all outcomes: one half in each cell of a 2 × 2 table."""

_AT_ONCE = 2_000_000
_SPREAD_MOST = 20  # values: with more of them, alpha's prior would need a table that nobody can see through

Weights = Literal["none", "linear", "quadratic"]
Metric = Literal["nominal", "ordinal", "interval"]


@dataclass(frozen=True, slots=True)
class Agreement:
    """A value with its interval [low, high] from n items. `rows` were rated."""

    value: float
    low: float
    high: float
    n: int
    rows: int
    level: float = LEVEL


def drawn(
    cells: Codes,
    items: Codes | None,
    shape: int,
    rng: np.random.Generator,
    draws: int,
    prior: float = PRIOR,
) -> Floats:
    """Weights of the `shape` outcomes, one row a draw: what other samples of items could have said.

    `cells` is each row's outcome. Independent rows give Dirichlet(count + prior/shape), up to its sum.
    """
    import numpy as np

    if items is None:  # a sum of gamma variates is one
        return rng.gamma(np.bincount(cells, minlength=shape) + prior / shape, size=(draws, shape))
    before = rng.gamma(prior / shape, size=(draws, shape))
    names, of = np.unique(items, return_inverse=True)
    table = np.bincount(of * shape + cells, minlength=len(names) * shape).reshape(len(names), shape)
    return before + _weighted(table.astype(np.float64), rng, draws)


def _weighted(table: Floats, rng: np.random.Generator, draws: int) -> Floats:
    """Sums of the table's rows, each with an exponential weight, so many times."""
    import numpy as np

    step = max(1, _AT_ONCE // max(1, len(table)))
    parts = [
        rng.exponential(size=(min(step, draws - start), len(table))) @ table
        for start in range(0, draws, step)
    ]
    return np.concatenate(parts)


def interval(value: float, found: Floats, level: float, n: int | None = None) -> tuple[float, float]:
    """The equal-tailed interval of the draws, widened to hold the value itself.

    With `n` the tails are expanded to Student's for so few items: a bootstrap's spread is too small by
    √((n − 1)/n) (Hesterberg 2015, Am. Stat. 69:371). Shares, whose draws are Jeffreys', need none of it.
    """
    import numpy as np

    tail = (1 - level) / 2
    if n is not None and n > 1:
        z, df = NormalDist().inv_cdf(1 - tail), n - 1
        t = z + (z**3 + z) / (4 * df) + (5 * z**5 + 16 * z**3 + 3 * z) / (96 * df**2)
        tail = NormalDist().cdf(-t * math.sqrt(n / df))
    low, high = np.quantile(found[np.isfinite(found)], [tail, 1 - tail])
    return min(value, float(low)), max(value, float(high))


# --- two raters --------------------------------------------------------------------------------------------


def confusion(truth: Codes, judged: Codes, k: int) -> npt.NDArray[np.int64]:
    """How often each of k true codes (rows) was judged as each (columns)."""
    import numpy as np

    return np.bincount(truth * k + judged, minlength=k * k).reshape(k, k)


def accuracy(truth: Codes, judged: Codes, **how: Any) -> Agreement | None:
    """The share of rows on which two raters agree. None without rows. `how` is `estimate`'s."""
    same = (truth == judged).astype(int)
    return estimate(same, 2, lambda w: w[..., 1] / w.sum(-1), prior=1.0, **how)


def kappa(truth: Codes, judged: Codes, k: int, weights: Weights = "none", **how: Any) -> Agreement | None:
    """Cohen's kappa of two raters with k codes; None without rows, NaN where both gave one code only.

    1 − Σ v·p_ij / Σ v·p_i·p_j, with v = 1 off the diagonal, |i − j| (linear) or (i − j)² (quadratic).
    Sources: Cohen (1960), Educ. Psychol. Meas. 20:37; Cohen (1968), Psychol. Bull. 70:213.
    """
    costs = _costs(k, weights)

    def of(w: Floats) -> Floats:
        return kappa_of(w.reshape(*w.shape[:-1], k, k), costs)

    return estimate(truth * k + judged, k * k, of, **how)


def kappa_of(tables: Floats, costs: Floats) -> Floats:
    """Kappa of each table in the last two axes, with what each pair of codes costs."""
    import numpy as np

    total = tables.sum((-2, -1))
    rows, columns = tables.sum(-1), tables.sum(-2)
    seen = (tables * costs).sum((-2, -1)) * total
    chance = np.einsum("...i,ij,...j->...", rows, costs, columns)
    with np.errstate(invalid="ignore", divide="ignore"):
        found: Floats = 1 - seen / np.where(chance == 0, np.nan, chance)
    return found


def _costs(k: int, weights: Weights) -> Floats:
    import numpy as np

    far = np.abs(np.subtract.outer(np.arange(k), np.arange(k))).astype(np.float64)
    return {"none": (far > 0).astype(np.float64), "linear": far, "quadratic": far**2}[weights]


def estimate(
    cells: Codes,
    shape: int,
    of: Callable[[Floats], Floats],
    *,
    rng: np.random.Generator,
    items: Codes | None = None,
    level: float = LEVEL,
    draws: int = DRAWS,
    prior: float = PRIOR,
) -> Agreement | None:
    """Any function `of` the weights of `shape` outcomes, at the counts of `cells` and over their draws."""
    import numpy as np

    if len(cells) == 0:
        return None
    value = float(of(np.bincount(cells, minlength=shape).astype(np.float64)))
    found = of(drawn(cells, items, shape, rng, draws, prior))
    n = len(cells) if items is None else len(np.unique(items))
    if math.isnan(value):
        return Agreement(value, -math.inf, math.inf, n, len(cells), level)
    few = n if shape > 2 else None
    return Agreement(value, *interval(value, found, level, few), n, len(cells), level)


# --- any number of raters ----------------------------------------------------------------------------------


def alpha(
    ratings: Floats,
    metric: Metric = "nominal",
    *,
    rng: np.random.Generator,
    items: Codes | None = None,
    level: float = LEVEL,
    draws: int = DRAWS,
) -> Agreement | None:
    """Krippendorff's alpha of `ratings` (answers × raters, NaN for none): 1 − D_observed / D_expected.

    Answers with one rating say nothing and are left out; None when there are no others, NaN when all ratings
    are one value. Source: Krippendorff (2011), Computing Krippendorff's alpha-reliability.
    """
    import numpy as np

    pairable = np.sum(~np.isnan(ratings), axis=1) >= 2
    ratings = ratings[pairable]
    if len(ratings) == 0:
        return None
    values = np.unique(ratings[~np.isnan(ratings)])
    k = len(values)
    counts = np.stack([(ratings == value).sum(axis=1) for value in values], axis=1).astype(np.float64)
    rated = counts.sum(axis=1)
    # Of each answer: its ratings by value, and those values paired with each other.
    pairs = (counts[:, :, None] * counts[:, None, :] - counts[:, :, None] * np.eye(k)).reshape(-1, k * k)
    pairs /= (rated - 1)[:, None]
    costs = _distances(values, pairs.sum(axis=0).reshape(k, k).sum(axis=0), metric)
    # Only two sums matter: the observed disagreement and the margins.
    table = np.concatenate([pairs @ costs.reshape(-1, 1), counts], axis=1)
    if items is not None:
        _, of = np.unique(items[pairable], return_inverse=True)
        clustered = np.zeros((int(of.max()) + 1, k + 1))
        np.add.at(clustered, of, table)
        table = clustered
    value = float(_alpha(table.sum(axis=0), costs))
    n = len(table)
    if math.isnan(value):
        return Agreement(value, -math.inf, math.inf, n, len(ratings), level)
    found = _weighted(table, rng, draws)
    if k <= _SPREAD_MOST:  # prior answers, each with two ratings
        spread = rng.gamma(PRIOR / k**2, size=(draws, k, k))
        found[:, 0] += 2 * (spread * costs).sum((1, 2))
        found[:, 1:] += spread.sum(1) + spread.sum(2)
    return Agreement(value, *interval(value, _alpha(found, costs), level, n), n, len(ratings), level)


def _alpha(sums: Floats, costs: Floats) -> Floats:
    import numpy as np

    seen, margins = sums[..., 0], sums[..., 1:]
    total = margins.sum(-1)
    expected = np.einsum("...i,ij,...j->...", margins, costs, margins) / (total - 1)
    with np.errstate(invalid="ignore", divide="ignore"):
        found: Floats = 1 - seen / np.where(expected <= 0, np.nan, expected)
    return found


def _distances(values: Floats, margins: Floats, metric: Metric) -> Floats:
    """How much two values differ, squared, for each two of them."""
    import numpy as np

    if metric == "interval":
        return np.subtract.outer(values, values) ** 2
    if metric == "nominal":
        return 1.0 - np.eye(len(values))
    between = np.cumsum(margins) - margins / 2  # ranks of the values' middles
    return np.subtract.outer(between, between) ** 2


# --- biases ------------------------------------------------------------------------------------------------


def position_bias(first_wins: Codes, **how: Any) -> Agreement | None:
    """The share of verdicts that went to the answer shown first, less one half: 0 without bias.

    `first_wins` has 1 for each, else 0; ties are left out before. It says something of the judge only where
    both orders were asked, or where the order was random.
    """
    return estimate(first_wins.astype(int), 2, lambda w: w[..., 1] / w.sum(-1) - 0.5, prior=1.0, **how)


def rank_correlation(a: Floats, b: Floats, level: float = LEVEL) -> Agreement | None:
    """Spearman's correlation, as of a judge's errors with the length of the answer. None below 4 rows.

    Interval: Fisher's z with the variance (1 + r²/2)/(n − 3): Bonett and Wright (2000), Psychometrika 65:23.
    NaN when one of the two does not vary.
    """
    import numpy as np

    n = len(a)
    if n < 4:
        return None
    x, y = (_ranks(side) for side in (a, b))
    spread = float(np.std(x) * np.std(y))
    if spread == 0:
        return Agreement(math.nan, -1.0, 1.0, n, n, level)
    r = float(np.clip(np.mean((x - x.mean()) * (y - y.mean())) / spread, -1, 1))
    reach = NormalDist().inv_cdf((1 + level) / 2) * math.sqrt((1 + r * r / 2) / (n - 3))
    z = math.atanh(min(max(r, -1 + 1e-12), 1 - 1e-12))
    return Agreement(r, min(r, math.tanh(z - reach)), max(r, math.tanh(z + reach)), n, n, level)


def _ranks(values: Floats) -> Floats:
    """Ranks from 0, with the mean rank for equal values."""
    import numpy as np

    _, of, counts = np.unique(values, return_inverse=True, return_counts=True)
    ends = np.cumsum(counts)
    middle: Floats = (ends - (counts + 1) / 2)[of]
    return middle


@dataclass(frozen=True, slots=True)
class Orders:
    """Verdicts on the same pairs in two orders, in terms of the pair: how many of `n` were right and equal.

    A verdict that nobody could read is None in the input: it is neither right nor equal to another verdict.
    """

    n: int
    right: tuple[int, int]
    both_right: int
    equal: int
    kappa: float


def both_orders(gold: Sequence[object], one: Sequence[object], other: Sequence[object]) -> Orders:
    """Compare verdicts `one` (first order) and `other` (second) with each other and with `gold`.

    `kappa` is Cohen's between the two orders, over all codes that occur.
    """
    import numpy as np

    rows = list(zip(gold, one, other, strict=True))
    codes = {word: number for number, word in enumerate(dict.fromkeys([*one, *other]))}
    k = len(codes)
    table = np.zeros((k, k))
    for _, a, b in rows:
        table[codes[a], codes[b]] += 1
    return Orders(
        len(rows),
        (sum(a == g for g, a, _ in rows), sum(b == g for g, _, b in rows)),
        sum(a == b == g for g, a, b in rows),
        sum(a == b for _, a, b in rows),
        float(kappa_of(table, _costs(k, "none"))) if rows else math.nan,
    )
