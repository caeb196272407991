"""What gates say of a run: pass, fail, or undecided with what would decide.

A gate passes when the whole interval satisfies its bound and fails when none of it does. Against a baseline
that is a test of non-inferiority on the paired difference: with a two-sided interval of confidence c, a gate
passes wrongly in at most (1 − c)/2 of the runs. Whatever a gate names and nobody measured – a tag, a set, an
endpoint, a baseline – makes it undecided, never passed.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from decimal import Decimal
from typing import TYPE_CHECKING, Literal

from evalkit.gate import BASELINE, Gate, Relative
from evalkit.metric import Metric
from evalkit.stats import (
    ALIKE,
    Measured,
    critical,
    least_for_bound,
    samples_to_decide,
    score_interval,
)
from evalkit.stats_cluster import unmet

if TYPE_CHECKING:
    import numpy as np

    from evalkit.columns import Columns

Status = Literal["pass", "fail", "undecided"]

_MOST_MORE = 10_000_000


@dataclass(frozen=True, slots=True)
class Verdict:
    """What a gate says of a measurement.

    `status` goes by the whole interval; `admitted` goes by the value alone (None when nothing was measured).
    `measured` of a gate against a baseline is the difference. `more` estimates how many further samples would
    decide, None where that cannot be said. `sentence` says all of it for people.
    """

    gate: Gate
    status: Status
    measured: Measured | None
    sentence: str
    admitted: bool | None = None
    more: int | None = None


@dataclass(frozen=True, slots=True)
class Decided:
    """A gate's verdict on an arm's rows of a set; both empty where the run has none that the gate means."""

    set: str
    arm: str
    verdict: Verdict

    @property
    def name(self) -> str:
        """Whom it is about, for people."""
        return " on ".join(part for part in (self.arm, self.set) if part) or "the run"

    def under(self, undecided: str) -> Status:
        """The status that counts, under what a suite says of undecided gates."""
        verdict = self.verdict
        if verdict.status != "undecided" or undecided == "report":
            return verdict.status
        return "pass" if undecided == "value" and verdict.admitted else "fail"


STATUSES: tuple[Status, ...] = ("fail", "undecided", "pass")
"""In the order in which people want to see them."""


def urgent(decided: Iterable[Decided]) -> list[Decided]:
    """The failed ones first, then those that are undecided, each in the order of the gates."""
    return sorted(decided, key=lambda each: STATUSES.index(each.verdict.status))


def counted(decided: Sequence[Decided]) -> str:
    """`2 fail, 1 undecided, 9 pass`."""
    found = {status: sum(each.verdict.status == status for each in decided) for status in STATUSES}
    return ", ".join(f"{count:,} {status}" for status, count in found.items() if count)


def decide(gate: Gate, measured: Measured | None) -> Verdict:
    """The verdict on what was measured (against a baseline: the difference, `times` taken into account)."""
    if measured is None:
        return undecided(gate, _nothing(gate.metric))
    ends = (measured.low, measured.high) if gate.upward else (measured.high, measured.low)
    worst, best = ends
    admitted = gate.admits(measured.value)
    status: Status = "pass" if gate.admits(worst) else "undecided" if gate.admits(best) else "fail"
    head = _head(gate, measured)
    if status != "undecided":
        return Verdict(gate, status, measured, f"{status}: {head}", admitted)
    more = _more(gate, measured)
    sentence = f"undecided: {head}; {_advice(gate, measured, more)}"
    return Verdict(gate, status, measured, sentence, admitted, more)


def undecided(gate: Gate, why: str) -> Verdict:
    """The verdict where nothing can be held against the bound."""
    return Verdict(gate, "undecided", None, f"undecided: {gate}: {why}")


def _nothing(metric: Metric) -> str:
    """That nothing was measured, and what the metric needs, as far as that can be said."""
    if metric.k is not None:
        asked = f"`sampling: {{n: {metric.k}}}` or more asks for them"
        needs = f"{metric.name} needs {metric.k} judged answers to a sample; {asked}"
    elif metric.name in ("flake_rate", "majority_rate"):
        needs = f"{metric.name} needs several judged answers to a sample; `sampling: {{n: 5}}` asks for them"
    elif metric.name in ("pii_rate", "toxicity_rate"):
        kind = metric.name.removesuffix("_rate")
        needs = f"no filter scanned the answers; give the endpoint `filters: {{output: [{kind}]}}`"
    elif metric.scorer is not None:
        needs = f"there is no score of {metric.scorer!r}; is a scorer called that?"
    elif metric.unit == "usd":
        needs = "no call has a known cost; give the endpoint a `prices` file"
    else:
        return "nothing was measured"
    return f"nothing was measured: {needs}"


# --- on a run ----------------------------------------------------------------------------------------------


def decide_all(
    gates: Iterable[Gate],
    columns: Columns,
    baseline: Columns | Mapping[str, Columns] | None = None,
    rng: np.random.Generator | None = None,
) -> list[Decided]:
    """Every gate on every set and endpoint that it is meant for, in the order of the gates.

    `baseline` is the run that gates call `baseline`, or runs by the names that gates call them. A gate that
    is meant for nothing in the run is undecided. The same rows give the same verdicts.
    """
    import numpy as np

    rng = rng or np.random.default_rng(0)
    runs = baseline if isinstance(baseline, Mapping) else {} if baseline is None else {BASELINE: baseline}
    groups = [columns.group(number) for number in range(len(columns.groups))]
    return [found for gate in gates for found in _decided(gate, columns, groups, runs, rng)]


def _decided(
    gate: Gate,
    columns: Columns,
    groups: Sequence[Columns],
    runs: Mapping[str, Columns],
    rng: np.random.Generator,
) -> list[Decided]:
    to = gate.bound.to if isinstance(gate.bound, Relative) else None
    meant = [
        number
        for number, group in enumerate(columns.groups)
        if gate.set in (None, group.set) and gate.endpoint in (None, group.arm)
    ]
    if not meant:
        place = " and ".join(f"{what} {name!r}" for what, name in _asked(gate) if name is not None)
        why = f"the run has no rows of {place or 'anything'}"
        return [Decided(gate.set or "", gate.endpoint or "", undecided(gate, why))]
    if gate.tag is not None:  # a tag is gated on the sets that have it, in each of their arms
        having = {columns.groups[number].set for number in meant if len(groups[number].tagged(gate.tag))}
        meant = [number for number in meant if columns.groups[number].set in having] or meant
    found = []
    for number in meant:
        group = columns.groups[number]
        if to is not None and group.arm == to:
            continue  # an endpoint is not held against itself
        verdict = _one(gate, columns, groups, number, runs, rng)
        found.append(Decided(group.set, group.arm, verdict))
    if not found:
        why = f"there is no other endpoint to hold against {to}"
        return [Decided(gate.set or "", gate.endpoint or "", undecided(gate, why))]
    return found


def _asked(gate: Gate) -> tuple[tuple[str, str | None], ...]:
    return ("set", gate.set), ("endpoint", gate.endpoint)


def _one(
    gate: Gate,
    columns: Columns,
    groups: Sequence[Columns],
    number: int,
    runs: Mapping[str, Columns],
    rng: np.random.Generator,
) -> Verdict:
    from evalkit.columns import FAILED
    from evalkit.compare import align
    from evalkit.measure import difference, measure

    rows = groups[number] if gate.tag is None else groups[number].tagged(gate.tag)
    if gate.tag is not None and len(rows) == 0:
        return undecided(gate, f"no sample has the tag {gate.tag!r}")
    if not isinstance(gate.bound, Relative):
        return decide(gate, measure(gate.metric, rows, rng, gate.confidence))
    other = _reference(gate.bound.to, columns, groups, number, runs)
    if isinstance(other, str):
        return undecided(gate, other)
    if other.flagged(FAILED).all():
        return undecided(gate, f"no call of {gate.bound.to} brought an answer")
    if gate.tag is not None:  # whatever tags its samples had then
        other = other.sampled(rows)
    both = align(rows, other)
    if not both.samples:
        return undecided(gate, f"{both.said} are the same in {gate.bound.to}")
    measured = difference(gate.metric, both.a, both.b, rng, times=gate.bound.times, level=gate.confidence)
    verdict = decide(gate, measured)
    if both.whole:
        return verdict
    return replace(verdict, sentence=f"{verdict.sentence} (of {both.said}, those that are the same in both)")


def _reference(
    to: str, columns: Columns, groups: Sequence[Columns], number: int, runs: Mapping[str, Columns]
) -> Columns | str:
    """The rows of what a gate is held against, or why there are none."""
    from evalkit.compare import counterpart

    group = columns.groups[number]
    for other, rows in zip(columns.groups, groups, strict=True):
        if (other.set, other.arm) == (group.set, to):
            return rows
    if to not in runs:
        if to != BASELINE:
            return f"there is no endpoint and no run {to!r} to compare with"
        return "no baseline was given to compare with (`--baseline RUN`, or `baseline:` in the suite)"
    chosen = counterpart(group, runs[to])
    if chosen is None:
        return f"{to} has no rows of {group.arm}" + (f" on {group.set}" if group.set else "")
    return runs[to].group(chosen)


# --- how many more -----------------------------------------------------------------------------------------


def _more(gate: Gate, measured: Measured) -> int | None:
    """Further samples, if the value stays: by the score test for rates, else by how intervals narrow."""
    weight = measured.n / measured.effective if measured.effective else 1.0
    q = gate.metric.quantile
    if q is not None and math.isinf(measured.high) and not gate.upward:
        return max(1, math.ceil(least_for_bound(q, measured.level) * max(1.0, weight)) - measured.n)
    if _alike(gate, measured):
        return max(1, ALIKE - measured.n)
    if not isinstance(gate.bound, Relative) and (gate.metric.unit == "share" or _like_share(measured)):
        needed = samples_to_decide(measured.value, gate.bound, measured.level)
        # With weights, n observations say as much as `effective` equal ones.
        return None if needed is None else max(1, math.ceil(needed * weight) - measured.n)
    side = measured.low if measured.value > gate.limit else measured.high
    reach, gap = abs(side - measured.value), abs(measured.value - gate.limit)
    if gap == 0 or not math.isfinite(reach):
        return None
    if (equal := _without_difference(gate, measured, gap)) is not None:
        return max(1, math.ceil(equal) - measured.n)
    needed_n = measured.n * (reach / gap) ** 2  # a half-width shrinks with the root of n
    return None if needed_n > _MOST_MORE else max(1, math.ceil(needed_n) - measured.n)


def _without_difference(gate: Gate, measured: Measured, gap: float) -> float | None:
    """How many samples without any difference bring the interval within the gap: its ends shrink with n then,
    not with its root. None where there were differences."""
    z, n, reach = critical(measured.level), measured.n, measured.high
    if measured.value != 0 or measured.low != -reach or not 0 < gap < 1:
        return None
    if gate.metric.unit == "share" and math.isclose(reach, z * z / (n + z * z), rel_tol=1e-6):
        return z * z * (1 - gap) / gap
    if gate.metric.unit == "score" and math.isclose(reach, unmet(n, measured.level), rel_tol=1e-6):
        return math.log((1 - measured.level) / 2) / math.log1p(-gap)
    return None


def _like_share(measured: Measured) -> bool:
    """Whether the interval of a mean score is that of a share, as it is of scores in [0, 1]."""
    if measured.effective is not None or not 0 <= measured.value <= 1:
        return measured.effective is not None
    return math.isclose(measured.low, score_interval(measured.value, measured.n, measured.level)[0])


def _alike(gate: Gate, measured: Measured) -> bool:
    """Whether too few values, all the same, left a mean's interval open: a percentile's has other reasons."""
    return gate.metric.quantile is None and math.isinf(measured.high)


def _advice(gate: Gate, measured: Measured, more: int | None) -> str:
    q = gate.metric.quantile
    if q is not None and more is not None and math.isinf(measured.high):
        calls = "1 more call is" if more == 1 else f"{more:,} more calls are"
        return f"at least {calls} needed before this percentile has an upper bound"
    if more is not None and _alike(gate, measured):
        samples = "1 more sample is" if more == 1 else f"{more} more samples are"
        return f"at least {samples} needed: fewer than {ALIKE} values, all the same, prove nothing"
    if more is not None:
        kind = "difference" if isinstance(gate.bound, Relative) else _kind(gate.metric)
        samples = "1 more sample" if more == 1 else f"{more:,} more samples"
        return f"about {samples} would decide if the {kind} stays"
    if gate.metric.unit == "share" and not isinstance(gate.bound, Relative) and not 0 < gate.bound < 1:
        edge = measured.high if gate.bound == 0 else measured.low
        sign = "<=" if gate.bound == 0 else ">="
        return (
            f"no number of samples proves exactly {number(gate.metric, gate.bound)}, and this run supports "
            f"{gate.metric.name} {sign} {number(gate.metric, edge)}"
        )
    if measured.value == gate.limit or gate.metric.unit == "share":
        return "the value is on the bound, where no number of samples decides"
    return "the interval crosses the bound; more samples would narrow it"


def _kind(metric: Metric) -> str:
    return "rate" if metric.unit == "share" else "value"


# --- in words ----------------------------------------------------------------------------------------------


def _head(gate: Gate, measured: Measured) -> str:
    what = gate.target
    if not isinstance(gate.bound, Relative):
        return f"{what} is {_shown(gate.metric, measured)}, the gate asks for {_bound(gate)}"
    times = "" if gate.bound.times == 1 else f"{gate.bound.times:.4g} × "
    shown = _shown(gate.metric, measured, "on the same samples, ")
    return f"{what} less {times}that of {gate.bound.to} is {shown}, the gate asks for {_bound(gate)}"


def _bound(gate: Gate) -> str:
    return f"{gate.op} {_signed(gate, gate.limit)}"


def _signed(gate: Gate, value: float) -> str:
    points = isinstance(gate.bound, Relative) and gate.metric.unit == "share"
    return f"{100 * value:.4g} points" if points else number(gate.metric, value)


def _shown(metric: Metric, measured: Measured, how: str = "") -> str:
    points = bool(how) and metric.unit == "share"
    ends = (measured.value, measured.low, measured.high)
    value, low, high = (f"{100 * x:+.2f}" if points else number(metric, x) for x in ends)
    unit = " points" if points else ""
    count = f"n = {measured.n:,}"
    if measured.effective is not None:
        answers = (
            "1 independent answer"
            if round(measured.effective) == 1
            else (f"{measured.effective:,.0f} independent answers")
        )
        count += f", worth {answers} of equal weight"
    return f"{value}{unit} [{low}, {high}] ({how}{count}, {100 * measured.level:.6g}% interval)"


def brief(verdict: Verdict) -> str:
    """`93.5% [89.2, 96.2]`, or a dash: what was measured, for a cell of a table."""
    if (measured := verdict.measured) is None:
        return "–"
    unit = verdict.gate.metric.unit
    points = unit == "share" and verdict.gate.against is not None
    after = {"share": " points" if points else "%", "ms": " ms", "usd": " USD", "score": ""}[unit]

    def shown(value: float) -> str:
        if math.isinf(value):
            return "∞" if value > 0 else "-∞"
        if unit == "share":
            return f"{100 * value:{'+' if points else ''}.1f}"
        return f"{value:,.0f}" if unit == "ms" and abs(value) >= 100 else _digits(value, 3)

    return f"{shown(measured.value)}{after} [{shown(measured.low)}, {shown(measured.high)}]"


def number(metric: Metric, value: float) -> str:
    """A value in its metric's unit."""
    if math.isinf(value):
        return "no upper bound" if value > 0 else "no lower bound"
    if metric.unit == "share":
        return f"{100 * value:.4g}%"
    if metric.unit == "ms":
        return f"{value:,.0f} ms" if abs(value) >= 100 else f"{value:.3g} ms"
    if metric.unit == "usd":
        return f"{'-' if value < 0 else ''}${_digits(abs(value), 3)}"
    return _digits(value, 4)


def _digits(value: float, digits: int) -> str:
    """So many significant digits, and no exponent where it is short enough without: people read it."""
    short = f"{value:.{digits}g}"
    return format(Decimal(short), "f") if 1e-10 < abs(value) < 1e10 else short
