"""Which of two arms is better, by how much, and how sure is that?

Both answered the same samples, so each difference is taken sample by sample: what makes a sample hard is hard
for both and cancels. Every sample counts once, however often it was asked: in pass rates by its weight.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias

from evalkit import stats
from evalkit.columns import FAILED, Columns, Group
from evalkit.measure import difference, values_by_question
from evalkit.metric import METRICS
from evalkit.questions import found_in, paired, share_difference
from evalkit.stats import Measured, PairedRates

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    Floats: TypeAlias = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Comparison:
    """Arm `a` against arm `b` on a set, on the samples that both have a row for.

    `rates` is of the samples judged on both sides, a failed call having failed; where samples were asked
    several times, its counts are of the samples that one side passed more often. `ttft_ms` is the mean of
    a − b and `cost_ratio` cost(a) / cost(b), of the answers to samples that both answered (and whose cost is
    known): a side is not cheap by failing. None where nothing can be said. `note` says of how many samples it
    speaks, if not of all.
    """

    a: str
    b: str
    rates: PairedRates | None
    ttft_ms: Measured | None
    cost_ratio: Measured | None
    set: str = ""
    note: str = ""

    @property
    def verdict(self) -> str:
        """One sentence, with its uncertainty."""
        return verdict(self)


@dataclass(frozen=True, slots=True)
class Aligned:
    """The rows of two arms on the samples that both have, with the same content as far as that is known."""

    a: Columns
    b: Columns
    samples: int
    of_a: int
    of_b: int
    changed: int

    @property
    def whole(self) -> bool:
        """Whether no sample of either side was left out."""
        return self.samples == self.of_a == self.of_b

    @property
    def said(self) -> str:
        """`40 of 50 samples (3 have changed)`."""
        of = f"{self.of_a:,}" if self.of_a == self.of_b else f"{self.of_a:,} and {self.of_b:,}"
        changed = f" ({self.changed:,} have changed)" if self.changed else ""
        return f"{self.samples:,} of {of} samples{changed}"


def align(a: Columns, b: Columns) -> Aligned:
    """The samples of the same set and id, without those whose content differs between the two."""
    import numpy as np

    (of_a, first_a), (of_b, first_b) = (np.unique(side.rows["sample"], return_index=True) for side in (a, b))
    at, there = found_in(of_b, of_a)
    content_a = a.rows["content"][first_a[there]]
    content_b = b.rows["content"][first_b[at[there]]]
    changed = (content_a != content_b) & (content_a != 0) & (content_b != 0)
    kept = of_a[there][~changed]
    a, b = (
        side if len(kept) == len(of_side) else side.take(found_in(kept, side.rows["sample"])[1])
        for side, of_side in ((a, of_a), (b, of_b))
    )
    return Aligned(a, b, len(kept), len(of_a), len(of_b), int(changed.sum()))


def compare(columns: Columns, rng: np.random.Generator | None = None) -> list[Comparison]:
    """On each set, every later arm against the first one."""
    first: dict[str, int] = {}
    found = []
    for number, group in enumerate(columns.groups):
        if group.set not in first:
            first[group.set] = number
            continue
        a, b = columns.group(first[group.set]), columns.group(number)
        names = columns.groups[first[group.set]].arm, group.arm
        found.append(compare_two(a, b, names, group.set, rng))
    return found


def compare_runs(
    columns: Columns, baseline: Columns, name: str = "baseline", rng: np.random.Generator | None = None
) -> list[Comparison]:
    """Each arm against its counterpart in an earlier run, called `name` here."""
    found = []
    for number, group in enumerate(columns.groups):
        if (other := counterpart(group, baseline)) is not None:
            names = group.arm, f"{baseline.groups[other].arm} in {name}"
            a, b = columns.group(number), baseline.group(other)
            found.append(compare_two(a, b, names, group.set, rng))
    return found


def counterpart(group: Group, run: Columns) -> int | None:
    """The number of the arm that a group is held against in another run.

    It is that of the same set and name, else the only one on that set.
    """
    same_set = [number for number, each in enumerate(run.groups) if each.set == group.set]
    same = [number for number in same_set if run.groups[number].arm == group.arm]
    chosen = same or (same_set if len(same_set) == 1 else [])
    return chosen[0] if chosen else None


def changed(a: Columns, b: Columns) -> tuple[list[str], list[str]]:
    """The samples that pass less often in `a` than in `b`, and those that pass more often, by id in order."""
    import numpy as np

    both = align(a, b)
    one, other = paired(*(values_by_question(METRICS["pass_rate"], side) for side in (both.a, both.b)))
    sample, row = np.unique(both.a.rows["sample"], return_index=True)

    def ids(which: npt.NDArray[np.bool_]) -> list[str]:
        return both.a.sample_ids(np.sort(row[found_in(one.sample[which], sample)[1]]))

    return ids(one.value < other.value), ids(one.value > other.value)


def compare_two(
    a: Columns, b: Columns, names: tuple[str, str], at: str = "", rng: np.random.Generator | None = None
) -> Comparison:
    """The comparison of the rows of two arms on the set `at`."""
    import numpy as np

    rng = rng or np.random.default_rng(0)
    both = align(a, b)
    return Comparison(
        a=names[0],
        b=names[1],
        rates=_rates(both),
        ttft_ms=difference(METRICS["mean_ttft_ms"], both.a, both.b, rng),
        cost_ratio=_cost_ratio(both, rng),
        set=at,
        note="" if both.whole else f"{both.said} are compared",
    )


def _rates(both: Aligned) -> PairedRates | None:
    a, b = paired(*(values_by_question(METRICS["pass_rate"], side) for side in (both.a, both.b)))
    found = share_difference(a, b)
    if found is None:
        return None
    only_a, only_b = int((a.value > b.value).sum()), int((a.value < b.value).sum())
    return PairedRates(found, only_a, only_b, stats.mcnemar(only_a, only_b))


def _cost_ratio(both: Aligned, rng: np.random.Generator) -> Measured | None:
    answered = (side.take(~side.flagged(FAILED)) for side in (both.a, both.b))
    a, b = paired(*(values_by_question(METRICS["cost_per_call_usd"], side) for side in answered))
    return _ratio(a.value, b.value, rng)


def _ratio(a: Floats, b: Floats, rng: np.random.Generator) -> Measured | None:
    """Σa / Σb with a percentile bootstrap interval over pairs. None of one pair, or when a side cost nothing.

    Of 5,000 pairs and more the interval is the normal one of ln(Σa / Σb): Var ≈ Σ(aᵢ/Σa − bᵢ/Σb)².
    """
    import numpy as np

    n = len(a)
    if n < 2 or a.sum() <= 0 or b.sum() <= 0:
        return None
    value = float(a.sum() / b.sum())
    if n >= stats.LARGE:
        spread = math.sqrt(float(np.sum((a / a.sum() - b / b.sum()) ** 2)))
        factor = math.exp(stats.critical() * spread)
        return Measured(value, value / factor, value * factor, n)
    at_once = max(1, 250_000 // n)
    pieces = []
    for start in range(0, stats.RESAMPLES, at_once):
        drawn = rng.integers(0, n, size=(min(at_once, stats.RESAMPLES - start), n))
        above, below = a[drawn].sum(axis=1), b[drawn].sum(axis=1)
        pieces.append(above[below > 0] / below[below > 0])
    low, high = (float(bound) for bound in np.quantile(np.concatenate(pieces), [0.025, 0.975]))
    return Measured(value, min(low, value), max(high, value), n)


# --- in words ----------------------------------------------------------------------------------------------


def verdict(c: Comparison) -> str:
    """`vendor answers better than own by 6.1 points [1.2, 11.0] (n = 96, paired). vendor costs …`."""
    note = f" ({c.note})" if c.note else ""
    if c.rates is None:
        return f"{c.a} and {c.b} have no judged sample in common: nothing can be compared{note}"
    difference = c.rates.difference
    shown, decided = _points(difference)
    swap = decided and difference.value < 0
    first, second = (c.b, c.a) if swap else (c.a, c.b)
    if not decided:
        head = f"no difference in pass rate between {c.a} and {c.b} could be shown: {shown}"
    else:
        head = f"{first} answers better than {second} by {shown}"
    rest = [part for part in (_cost_words(c, swap), _ttft_words(c, swap)) if part]
    said = f"{head}." if not rest else f"{head}. {first} {' and '.join(rest)}."
    return said + (f" {c.note[0].upper()}{c.note[1:]}." if c.note else "")


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
    if math.isinf(high):
        samples = "1 sample" if ttft.n == 1 else f"{ttft.n} samples, all alike"
        when = f"{abs(value):,.0f} ms {'earlier' if value < 0 else 'later'}" if value else "at the same time"
        return f"gave its first token {when} on {samples}: too few to say anything"
    if low <= 0 <= high:
        return f"shows no different time to first token ({value:+,.0f} ms [{low:+,.0f}, {high:+,.0f}])"
    if value < 0:
        return f"gives its first token {-value:,.0f} ms earlier [{-high:,.0f}, {-low:,.0f}]"
    return f"gives its first token {value:,.0f} ms later [{low:,.0f}, {high:,.0f}]"
