"""Which of two endpoints is better, by how much, and how sure is that?

Both answered the same samples, so each difference is taken sample by sample: what makes a sample hard is hard
for both and cancels. Every sample counts once here, whatever its weight.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from evalkit import stats
from evalkit.stats import Measured, PairedRates
from evalkit.summary import cost_of
from evalkit.trial import Trial

if TYPE_CHECKING:
    import numpy as np


@dataclass(frozen=True, slots=True)
class Comparison:
    """Endpoint `a` against endpoint `b`, on the samples that both have a row for.

    `rates` is of the samples judged on both sides, a failed call having failed. `ttft_ms` is the mean of
    a − b over samples that both answered; `cost_ratio` is cost(a) / cost(b) over samples whose cost is known
    for both. None where nothing can be said.
    """

    a: str
    b: str
    rates: PairedRates | None
    ttft_ms: Measured | None
    cost_ratio: Measured | None

    @property
    def verdict(self) -> str:
        """One sentence, with its uncertainty."""
        return verdict(self)


def compare(rows: Sequence[Trial], rng: np.random.Generator) -> list[Comparison]:
    """Every later endpoint against the first one."""
    names = list(dict.fromkeys(row.endpoint for row in rows))
    return [compare_two(rows, names[0], other, rng) for other in names[1:]]


def compare_two(rows: Sequence[Trial], a: str, b: str, rng: np.random.Generator) -> Comparison:
    """The comparison of two endpoints by name."""
    by_sample: dict[tuple[str, int], dict[str, Trial]] = {}
    for row in rows:
        by_sample.setdefault((row.sample, row.k), {})[row.endpoint] = row
    pairs = [(found[a], found[b]) for found in by_sample.values() if a in found and b in found]
    judged = [(x.passed, y.passed) for x, y in pairs if x.passed is not None and y.passed is not None]
    return Comparison(
        a=a,
        b=b,
        rates=stats.paired_rates([x for x, _ in judged], [y for _, y in judged]),
        ttft_ms=stats.paired_means(*_both(pairs, _ttft), rng),
        cost_ratio=_ratio(*_both(pairs, _cost), rng),
    )


def _ttft(row: Trial) -> float | None:
    return row.number("ttft_ms") if row.error is None else None


def _cost(row: Trial) -> float | None:
    cost = cost_of(row)
    return None if cost is None else float(cost)


def _both(
    pairs: Sequence[tuple[Trial, Trial]], value: Callable[[Trial], float | None]
) -> tuple[list[float], list[float]]:
    found = [(value(x), value(y)) for x, y in pairs]
    known = [(x, y) for x, y in found if x is not None and y is not None]
    return [x for x, _ in known], [y for _, y in known]


def _ratio(a: Sequence[float], b: Sequence[float], rng: np.random.Generator) -> Measured | None:
    """Σa / Σb with a percentile bootstrap interval over pairs. None when either side cost nothing."""
    import numpy as np

    if not a or sum(a) <= 0 or sum(b) <= 0:
        return None
    n = len(a)
    above, below = np.asarray(a), np.asarray(b)
    drawn = rng.integers(0, n, size=(stats.RESAMPLES, n))
    sums = below[drawn].sum(axis=1)
    ratios = above[drawn].sum(axis=1)[sums > 0] / sums[sums > 0]
    low, high = (float(bound) for bound in np.quantile(ratios, [0.025, 0.975]))
    value = sum(a) / sum(b)
    return Measured(value, min(low, value), max(high, value), n)


# --- in words ----------------------------------------------------------------------------------------------


def verdict(c: Comparison) -> str:
    """`vendor answers better by 6.1 points [1.2, 11.0] (n = 96, paired). vendor costs 3.4× as much …`."""
    if c.rates is None:
        return f"{c.a} and {c.b} have no judged sample in common: nothing can be compared"
    difference = c.rates.difference
    shown, decided = _points(difference)
    first = c.a if difference.value >= 0 or not decided else c.b
    swap = first == c.b
    if not decided:
        head = f"no difference in pass rate between {c.a} and {c.b} could be shown: {shown}"
    else:
        head = f"{first} answers better by {shown}"
    rest = [part for part in (_cost_words(c, swap), _ttft_words(c, swap)) if part]
    if not rest:
        return f"{head}."
    return f"{head}. {first} {' and '.join(rest)}."


def _points(d: Measured) -> tuple[str, bool]:
    """The difference in percentage points, and whether its interval leaves out 0; shown positive if so."""
    decided = d.low > 0 or d.high < 0
    value, low, high = 100 * d.value, 100 * d.low, 100 * d.high
    if decided and d.value < 0:
        value, low, high = -value, -high, -low
    sign = "" if decided else "+"
    numbers = f"{value:{sign}.1f} points [{low:{sign}.1f}, {high:{sign}.1f}]"
    return f"{numbers} (n = {d.n:,}, paired)", decided


def _cost_words(c: Comparison, swap: bool) -> str:
    ratio = c.cost_ratio
    if ratio is None:
        return ""
    value, low, high = ratio.value, ratio.low, ratio.high
    if swap:
        value, low, high = 1 / value, 1 / high, 1 / low
    if low <= 1 <= high:
        return f"costs about the same ({value:.2f}× [{low:.2f}, {high:.2f}])"
    return f"costs {value:.3g}× as much [{low:.3g}, {high:.3g}]"


def _ttft_words(c: Comparison, swap: bool) -> str:
    ttft = c.ttft_ms
    if ttft is None:
        return ""
    value, low, high = ttft.value, ttft.low, ttft.high
    if swap:
        value, low, high = -value, -high, -low
    if low <= 0 <= high:
        return f"shows no different time to first token ({value:+,.0f} ms [{low:+,.0f}, {high:+,.0f}])"
    if value < 0:
        return f"gives its first token {-value:,.0f} ms earlier [{-high:,.0f}, {-low:,.0f}]"
    return f"gives its first token {value:,.0f} ms later [{low:,.0f}, {high:,.0f}]"
