"""What many answers say, with how sure that is.

Every function returns a `Measured`: a value, its interval, and how many observations it stands on. Intervals
are two-sided at `level` (0.95 unless said otherwise). No observations give None, never 0. A side on which the
data say nothing is infinite: the p99 of 50 latencies has no upper bound, whatever a plot may suggest.

The observations are taken as independent. Several answers to one question are not: average them within the
question first, and give one value a question to `mean`.
"""

from __future__ import annotations

import math
from array import array
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from statistics import NormalDist
from typing import TYPE_CHECKING, Any, TypeAlias, cast

from evalkit.stats_student import student

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    Floats: TypeAlias = npt.NDArray[np.float64]

LEVEL = 0.95
RESAMPLES = 2_000
_CHUNK = 250_000  # indices drawn at a time: 2 MB
LARGE = 5_000  # so many values, and the bootstrap's interval is its own expansion
FEW = 10  # of fewer values resampling, which never leaves their range, is held too seldom
ALIKE = 5
"""So many values, all the same, are taken for a constant, such as a fixed price: two may be it by chance."""


@dataclass(frozen=True, slots=True)
class Measured:
    """A value with its interval [low, high] from n observations, in the unit of the observations.

    `effective` is how many equally weighted observations would say as much; None when that is n.
    """

    value: float
    low: float
    high: float
    n: int
    level: float = LEVEL
    effective: float | None = None


@dataclass(frozen=True, slots=True)
class PairedRates:
    """Two pass rates on the same samples: `difference` is a − b, in [−1, 1].

    `only_a` and `only_b` count the samples that one passed and the other failed; only these tell the two
    apart. `p_value` is the exact two-sided McNemar test's, of no difference.
    """

    difference: Measured
    only_a: int
    only_b: int
    p_value: float


def critical(level: float = LEVEL) -> float:
    """The standard normal's (1 + level)/2 quantile: 1.96 for 0.95."""
    if not 0 < level < 1:
        raise ValueError("a level is between 0 and 1, such as 0.95")
    return NormalDist().inv_cdf((1 + level) / 2)


# --- rates -------------------------------------------------------------------------------------------------


def wilson(passed: int, n: int, level: float = LEVEL) -> Measured | None:
    """A pass rate p = passed/n with Wilson's score interval, as shares in [0, 1]. None when n is 0.

    (p + z²/2n ± z·√(p(1−p)/n + z²/4n²)) / (1 + z²/n); the bounds are exactly 0 and 1 where p is.
    Source: Wilson (1927), JASA 22:209; recommended by Brown, Cai and DasGupta (2001), Stat. Sci. 16:101.
    """
    if not 0 <= passed <= n:
        raise ValueError("passed is between 0 and n")
    if n == 0:
        return None
    low, high = _wilson(passed / n, n, critical(level))
    return Measured(passed / n, low, high, n, level)


def _wilson(p: float, n: float, z: float) -> tuple[float, float]:
    centre = p + z * z / (2 * n)
    spread = z * math.sqrt(p * (1 - p) / n + z * z / (4 * n * n))
    scale = 1 + z * z / n
    # Rounding must not put the bound past the rate itself.
    low = 0.0 if p == 0 else min(p, max(0.0, (centre - spread) / scale))
    high = 1.0 if p == 1 else max(p, min(1.0, (centre + spread) / scale))
    return low, high


def score_interval(p: float, n: float, level: float = LEVEL) -> tuple[float, float]:
    """The ends of Wilson's interval of a rate p of n observations, which may be an effective number."""
    return _wilson(p, n, critical(level))


def weighted_rate(
    passed: Sequence[bool] | npt.NDArray[np.bool_], weights: Sequence[float] | Floats, level: float = LEVEL
) -> Measured | None:
    """A pass rate in which sample i counts w_i: Σ w·x / Σ w, a share in [0, 1]. None when there are none.

    The interval is Wilson's with n_eff = (Σw)² / Σw² in place of n (Kish 1965, Survey Sampling, 11.7):
    uneven weights make a sample say less. `effective` is n_eff; equal weights give exactly `wilson`.
    """
    if len(passed) != len(weights):
        raise ValueError("one weight a sample")
    if not all(0 < weight < math.inf for weight in weights):
        raise ValueError("weights are positive and finite")
    if len(passed) == 0:
        return None
    heaviest = max(weights)  # scaled first: the squares of large weights would overflow
    scaled = array("d", (weight / heaviest for weight in weights))
    if min(scaled) == 1.0:
        return wilson(int(sum(passed)), len(passed), level)
    total = math.fsum(scaled)
    yes = math.fsum(weight for weight, ok in zip(scaled, passed, strict=True) if ok)
    effective = total * total / math.fsum(weight * weight for weight in scaled)
    rate = 1.0 if all(passed) else yes / total
    low, high = _wilson(rate, effective, critical(level))
    return Measured(rate, low, high, len(passed), level, effective)


def paired_rates(a: Sequence[bool], b: Sequence[bool], level: float = LEVEL) -> PairedRates | None:
    """The difference of two pass rates on the same samples, in the same order. None when there are none.

    Interval: Tango's, the score test of p₁₀ − p₀₁ turned round (Tango 1998, Stat. Med. 17:891). A gate on
    its lower end passes wrongly about as seldom as said even where only one side ever loses: in 3.5 to 6 %
    at worst of n = 5 to 40 pairs where 2.5 % are meant. Test: McNemar's exact one,
    p = min(1, 2·P(Bin(only_a + only_b, ½) ≤ min(only_a, only_b))).
    """
    if len(a) != len(b):
        raise ValueError("paired rates need the same samples on both sides")
    n = len(a)
    if n == 0:
        return None
    pairs = list(zip(a, b, strict=True))
    return paired_counts(pairs.count((True, False)), pairs.count((False, True)), n, level)


def paired_counts(only_a: int, only_b: int, n: int, level: float = LEVEL) -> PairedRates:
    """`paired_rates` of n pairs, by how many of them only one side passed."""
    difference = (only_a - only_b) / n
    z = critical(level)
    low = -_highest(only_b, only_a, n, z)
    high = _highest(only_a, only_b, n, z)
    found = Measured(difference, min(low, difference), max(high, difference), n, level)
    return PairedRates(found, only_a, only_b, mcnemar(only_a, only_b))


def _highest(more: int, less: int, n: int, z: float) -> float:
    """The largest difference Δ that the score test of (more − less)/n does not reject:
    |more − less − nΔ| ≤ z·√(n·(2q + Δ(1 − Δ))), q being p₀₁'s likeliest value if the difference is Δ."""

    def far(delta: float) -> bool:
        b = (2 * n - more + less) * delta - more - less
        c = -less * delta * (1 - delta)
        q = (math.sqrt(max(0.0, b * b - 8 * n * c)) - b) / (4 * n)
        return n * delta - (more - less) > z * math.sqrt(max(0.0, n * (2 * q + delta * (1 - delta))))

    low, high = (more - less) / n, 1.0
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (low, middle) if far(middle) else (middle, high)
    return high


def mcnemar(only_a: int, only_b: int) -> float:
    """The exact two-sided p-value of McNemar's test, from the counts of the samples that differ.

    Source: McNemar (1947), Psychometrika 12:153, with the binomial in place of its normal approximation.
    """
    n, least = only_a + only_b, min(only_a, only_b)
    return min(1.0, 2 * _binomial_cdf(least, n, 0.5))


def pass_at_k(n: int, correct: int, k: int) -> float:
    """The chance that at least one of k answers is right, from `correct` of n answers. Unbiased.

    1 − C(n−c, k)/C(n, k) = 1 − Π_{i=n−c+1}^{n} (1 − k/i); the product neither overflows nor cancels.
    Source: Chen et al. (2021), arXiv 2107.03374. The mean over tasks is `mean`'s business.
    """
    if not 0 <= correct <= n:
        raise ValueError("correct is between 0 and n")
    if not 1 <= k <= n:
        raise ValueError("pass@k needs at least k answers a task, and k of at least 1")
    if n - correct < k:
        return 1.0
    return 1.0 - math.prod(1.0 - k / i for i in range(n - correct + 1, n + 1))


def samples_to_decide(rate: float, bound: float, level: float = LEVEL) -> int | None:
    """How many samples in all make Wilson's interval leave `bound`, if the rate stays. None: no number does.

    n = z²·b(1−b) / (p−b)², the score test's own formula (Wilson's interval is that test turned round).
    An estimate: the rate will not stay exactly as it is.
    """
    gap = (rate - bound) ** 2
    if gap < 1e-300 or not 0 < bound < 1:
        return None
    return math.floor(critical(level) ** 2 * bound * (1 - bound) / gap) + 1


# --- quantiles ---------------------------------------------------------------------------------------------


def quantile(
    values: Sequence[float], q: float, level: float = LEVEL, effective: float | None = None
) -> Measured | None:
    """The q-quantile, in the unit of the values, with an interval that assumes no distribution.

    Value: linear interpolation between order statistics (type 7 of Hyndman and Fan 1996, numpy's default).
    Interval: [x_(l), x_(u)] with l the largest and u the smallest rank for which P(B < l) ≤ α/2 and
    P(B ≥ u) ≤ α/2, B ~ Bin(n, q); its coverage is at least `level`. Where there is no such rank the side is
    infinite; where few values put the interpolated value outside, the interval is widened to hold it.
    Source: David and Nagaraja (2003), Order Statistics, 7.1. None when there are no values.
    `effective`: so many independent values say as much as these; the ranks are those of that many, spread
    over all (Woodruff 1952, JASA 47:635).
    """
    if any(math.isnan(value) for value in values):
        raise ValueError("a value is not a number")
    return quantile_of(sorted(values), q, level, effective)


def quantile_of(
    ordered: Sequence[float] | Floats, q: float, level: float = LEVEL, effective: float | None = None
) -> Measured | None:
    """`quantile` of values that rise already and hold no NaN; an array needs no list of all its values."""
    if not 0 < q < 1:
        raise ValueError("a quantile is between 0 and 1, such as 0.99")
    n = len(ordered)
    if n == 0:
        return None
    if effective is not None and effective >= n:
        effective = None
    lower, upper = quantile_ranks(n, q, level) if effective is None else _spread_ranks(n, effective, q, level)
    low = float(ordered[lower - 1]) if lower >= 1 else -math.inf
    high = float(ordered[upper - 1]) if upper <= n else math.inf
    value = _interpolated(ordered, q)
    return Measured(value, min(low, value), max(high, value), n, level, effective)


def _spread_ranks(n: int, effective: float, q: float, level: float) -> tuple[int, int]:
    few = min(n, max(1, math.floor(effective)))
    lower, upper = quantile_ranks(few, q, level)
    above = n + 1 if upper > few else min(n, math.ceil(upper * n / few))
    return math.floor(lower * n / few), above


def quantile_ranks(n: int, q: float, level: float = LEVEL) -> tuple[int, int]:
    """The ranks (l, u), counted from 1, of `quantile`'s interval; 0 and n + 1 stand for an open side."""
    tail = (1 - level) / 2
    return _largest_rank(n, q, tail), n + 1 - _largest_rank(n, 1 - q, tail)


def least_for_bound(q: float, level: float = LEVEL) -> int:
    """How many values the q-quantile needs before its interval is bounded above: ⌈ln(α/2) / ln q⌉."""
    return math.ceil(math.log((1 - level) / 2) / math.log(q))


def _interpolated(ordered: Sequence[float] | Floats, q: float) -> float:
    place = (len(ordered) - 1) * q
    below = math.floor(place)
    above = min(below + 1, len(ordered) - 1)
    first, second, share = float(ordered[below]), float(ordered[above]), place - below
    return first if share == 0 or first == second else first + (second - first) * share


def _largest_rank(n: int, q: float, tail: float) -> int:
    """The largest l in 0..n with P(Bin(n, q) ≤ l − 1) ≤ tail."""
    mean, spread = n * q, math.sqrt(n * q * (1 - q))
    start = max(0, math.floor(mean - 12 * spread - 30))  # what lies before weighs less than 1e-30
    rank, below = start, _binomial_pmf(start, n, q)
    while below <= tail and rank < n:
        rank += 1
        below += _binomial_pmf(rank, n, q)
    return rank


def _binomial_pmf(k: int, n: int, q: float) -> float:
    log_ways = math.lgamma(n + 1) - math.lgamma(k + 1) - math.lgamma(n - k + 1)
    return math.exp(log_ways + k * math.log(q) + (n - k) * math.log1p(-q))


def _binomial_cdf(k: int, n: int, q: float) -> float:
    return math.fsum(_binomial_pmf(i, n, q) for i in range(k + 1))


# --- means -------------------------------------------------------------------------------------------------


def seeded(seed: int) -> np.random.Generator:
    """numpy's generator, loaded with the first draw: it takes 7 MiB, and large runs draw nothing."""
    return cast("np.random.Generator", _Later(seed))


@dataclass(frozen=True)
class _Later:
    seed: int

    @cached_property
    def made(self) -> np.random.Generator:
        import numpy as np

        return np.random.default_rng(self.seed)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.made, name)


def mean(
    values: Sequence[float] | Floats,
    rng: np.random.Generator,
    level: float = LEVEL,
    resamples: int = RESAMPLES,
) -> Measured | None:
    """The mean, in the unit of the values, with a bias-corrected and accelerated (BCa) bootstrap interval.

    z₀ = Φ⁻¹(share of resampled means below the mean), a = Σ(x−x̄)³ / (6·(Σ(x−x̄)²)^1.5), and the interval
    runs between the resampled means' Φ(z₀ + (z₀+z)/(1 − a(z₀+z))) quantiles. Source: Efron (1987), JASA
    82:171. For z stands t·√(n/(n−1)): resampling sees too little spread in few values (Hesterberg 2015, Am.
    Stat. 69:371), and fewer than `FEW` values get at least Student's own interval x̄ ± t·s/√n. Of fewer than
    50 very skewed values the truth is held less often than said, and what is rare and large has to be among
    the values at all: where one call in a hundred costs fifty times the others, 100 calls hold the mean in
    62 %, 300 in 93 %. Of 5,000 values and more, the ends are those of its expansion, without resamples:
    x̄ + s/√n · (±z + γ(2z²+1)/(6√n)), γ the skewness (Hall 1992, The Bootstrap and Edgeworth Expansion,
    ch. 3). The same generator state gives the same interval. None when there are no values. One value says
    nothing of its spread, nor do fewer than `ALIKE` equal ones: their interval is open. Of more equal values
    it is a point.
    """
    import numpy as np

    if len(values) == 0:
        return None
    data = np.asarray(values, dtype=np.float64)
    if not np.isfinite(data).all():
        raise ValueError("a value is not a finite number")
    centre = float(np.mean(data))
    if float(np.ptp(data)) <= 1e-12 * float(np.max(np.abs(data))):  # but for rounding, all the same
        reach = math.inf if len(data) < ALIKE else 0.0
        return Measured(centre, centre - reach, centre + reach, len(data), level)
    deviations = data - centre
    if len(data) >= LARGE:
        low, high = _expanded(deviations, level)
        return Measured(centre, min(centre, centre + low), max(centre, centre + high), len(data), level)
    means = _resampled_means(data, rng, resamples)
    low, high = accelerated(means, centre, deviations, level)
    if len(data) < FEW:
        half = student(len(data) - 1, level) * float(np.std(data, ddof=1)) / math.sqrt(len(data))
        low, high = min(low, centre - half), max(high, centre + half)
    return Measured(centre, low, high, len(data), level)


def accelerated(drawn: Floats, value: float, influence: Floats, level: float = LEVEL) -> tuple[float, float]:
    """The BCa ends of `value` from its resamples, as `mean` says; they hold the value itself.

    `influence` is how far each observation draws the value up, in any unit.
    """
    import numpy as np

    below = float(np.mean(drawn < value) + np.mean(drawn <= value)) / 2  # ties count half
    normal, least, n = NormalDist(), 1 / (len(drawn) + 1), len(influence)
    bias = normal.inv_cdf(min(max(below, least), 1 - least))
    largest = float(np.max(np.abs(influence)))
    scaled = influence / largest if largest > 0 else influence  # the powers of tiny values would vanish
    squares = float(np.sum(scaled**2))
    acceleration = float(np.sum(scaled**3)) / (6 * squares**1.5) if squares > 0 else 0.0
    t = student(n - 1, level) * math.sqrt(n / (n - 1))
    shares = [
        normal.cdf(bias + (bias + side) / max(1 - acceleration * (bias + side), 1e-9)) for side in (-t, t)
    ]
    low, high = (float(bound) for bound in np.quantile(drawn, shares))
    return min(low, value), max(high, value)


def _expanded(
    deviations: np.ndarray[tuple[int, ...], np.dtype[np.float64]], level: float
) -> tuple[float, float]:
    """The ends of a large sample's interval, from the mean."""
    import numpy as np

    n, z, largest = len(deviations), critical(level), float(np.max(np.abs(deviations)))
    scaled = deviations / largest
    spread = math.sqrt(float(np.sum(scaled**2)) / (n - 1))
    skew = float(np.mean(scaled**3)) / spread**3
    shift = skew * (2 * z * z + 1) / (6 * math.sqrt(n))
    unit = largest * spread / math.sqrt(n)
    return unit * (shift - z), unit * (shift + z)


def _resampled_means(
    data: np.ndarray[tuple[int, ...], np.dtype[np.float64]], rng: np.random.Generator, resamples: int
) -> np.ndarray[tuple[int, ...], np.dtype[np.float64]]:
    import numpy as np

    n = len(data)
    rows = max(1, _CHUNK // n)
    chunks = [
        data[rng.integers(0, n, size=(min(rows, resamples - start), n))].mean(axis=1)
        for start in range(0, resamples, rows)
    ]
    return np.concatenate(chunks)


def paired_means(
    a: Sequence[float],
    b: Sequence[float],
    rng: np.random.Generator,
    level: float = LEVEL,
    resamples: int = RESAMPLES,
) -> Measured | None:
    """The mean of a − b over the same samples, with `mean`'s interval: pairs are resampled, not sides.

    What the two sides share (a hard sample is hard for both) cancels, so the interval is narrower than that
    of two separate means.
    """
    if len(a) != len(b):
        raise ValueError("a paired difference needs the same samples on both sides")
    return mean([one - other for one, other in zip(a, b, strict=True)], rng, level, resamples)
