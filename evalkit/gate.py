"""Gates: what must hold before something ships, and whether it does.

A gate is one line, `METRIC OP NUMBER[UNIT]`: `pass_rate >= 90%`, `p99_ttft_ms <= 800`. It is decided on the
interval of what was measured, not on the value alone: a value on the right side of the bound with an interval
that crosses it is undecided, and the verdict says what would decide it.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from evalkit.stats import Measured, least_for_bound, samples_to_decide
from guardrails.errors import ConfigError

Op = Literal[">=", "<=", ">", "<"]
Status = Literal["pass", "fail", "undecided"]
Unit = Literal["share", "ms", "usd", "score"]


@dataclass(frozen=True, slots=True)
class Metric:
    """Something that a gate can be set on. `quantile` is set for latency quantiles."""

    name: str
    unit: Unit
    meaning: str
    quantile: float | None = None


_PHASES = {
    "ttft": "time to first token, any channel",
    "ttfot": "time to first visible token",
    "tpot": "time per output token after the first",
    "e2e": "time from intended arrival to the end",
    "queue": "time waiting in our own process",
}
_METRICS = (
    Metric("pass_rate", "share", "samples that passed, of all samples that were judged"),
    Metric("error_rate", "share", "samples whose call or whose judge failed, of all samples"),
    Metric("pii_rate", "share", "answers with personal data in them, of those that a filter scanned"),
    Metric("toxicity_rate", "share", "answers judged toxic, of those that a filter scanned"),
    Metric("mean_score", "score", "mean of the judge's values"),
    Metric("cost_per_call_usd", "usd", "mean cost of a call, all its attempts included"),
    *(
        Metric(f"p{percent}_{phase}_ms", "ms", f"{percent}th percentile of {meaning}", percent / 100)
        for phase, meaning in _PHASES.items()
        for percent in (50, 90, 95, 99)
    ),
    *(Metric(f"mean_{phase}_ms", "ms", f"mean of {meaning}") for phase, meaning in _PHASES.items()),
)
METRICS: Mapping[str, Metric] = {metric.name: metric for metric in _METRICS}

# What a number may be followed by, and what that multiplies it with.
_SUFFIXES: Mapping[Unit, Mapping[str, float]] = {
    "share": {"": 1.0, "%": 0.01},
    "ms": {"": 1.0, "ms": 1.0, "s": 1000.0},
    "usd": {"": 1.0, "usd": 1.0},
    "score": {"": 1.0},
}
_MAX_GATE = 200
_GATE = re.compile(
    r"([A-Za-z]\w*)\s*(>=|<=|≥|≤|>|<)\s*([-+]?(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?)\s*(%|[A-Za-z]*)"
)
_SIGNS: Mapping[str, Op] = {">=": ">=", "<=": "<=", ">": ">", "<": "<", "≥": ">=", "≤": "<="}


@dataclass(frozen=True, slots=True)
class Gate:
    """A bound on a metric. `bound` is in the metric's unit: a share in [0, 1], milliseconds or USD."""

    metric: Metric
    op: Op
    bound: float

    def __str__(self) -> str:
        return f"{self.metric.name} {self.op} {self.bound!r}"

    def admits(self, value: float) -> bool:
        """Whether a value satisfies the bound."""
        if self.op == ">=":
            return value >= self.bound
        if self.op == "<=":
            return value <= self.bound
        return value > self.bound if self.op == ">" else value < self.bound

    @property
    def upward(self) -> bool:
        """Whether more is better."""
        return self.op in (">=", ">")


def parse(text: str) -> Gate:
    """Read a gate such as `pass_rate >= 0.90` or `p99_ttft_ms <= 0.8s`. Raises `ConfigError`."""
    match = _GATE.fullmatch(text.strip()) if len(text) <= _MAX_GATE else None
    if match is None:
        raise ConfigError(
            f"cannot read the gate {text[:60]!r}",
            hint="write METRIC OP NUMBER, such as `pass_rate >= 0.90` or `p99_ttft_ms <= 800`",
        )
    name, sign, digits, suffix = match.groups()
    if name not in METRICS:
        raise ConfigError(f"there is no metric {name!r}", hint=f"the metrics are {', '.join(METRICS)}")
    metric = METRICS[name]
    scales = _SUFFIXES[metric.unit]
    if suffix.lower() not in scales:
        fitting = ", ".join(repr(unit) for unit in scales if unit) or "no unit"
        raise ConfigError(f"the unit {suffix!r} does not fit {name}", hint=f"it takes {fitting}")
    # Divided, not multiplied by 0.01: 29 / 100 is 0.29, and 29 * 0.01 is not.
    bound = float(digits) / 100 if suffix == "%" else float(digits) * scales[suffix.lower()]
    if not math.isfinite(bound):
        raise ConfigError(f"the bound of {name} is too large to be a number")
    if metric.unit == "share" and not 0 <= bound <= 1:
        meant = f"; did you mean {digits}%?" if 1 < bound <= 100 and not suffix else ""
        raise ConfigError(f"{name} is a share between 0 and 1, and {digits}{suffix} is not{meant}")
    return Gate(metric, _SIGNS[sign], bound)


@dataclass(frozen=True, slots=True)
class Verdict:
    """What a gate says of a measurement.

    `status` goes by the whole interval; `admitted` goes by the value alone (None when nothing was measured).
    `more` estimates how many further samples would decide, None where that cannot be said. `sentence` says
    all of it for people.
    """

    gate: Gate
    status: Status
    measured: Measured | None
    sentence: str
    admitted: bool | None = None
    more: int | None = None


def decide(gate: Gate, measured: Measured | None) -> Verdict:
    """Pass when the whole interval satisfies the bound, fail when none of it does, else undecided."""
    if measured is None:
        return Verdict(gate, "undecided", None, f"{gate}: undecided, nothing was measured")
    ends = (measured.low, measured.high) if gate.upward else (measured.high, measured.low)
    worst, best = ends
    admitted = gate.admits(measured.value)
    status: Status = "pass" if gate.admits(worst) else "undecided" if gate.admits(best) else "fail"
    head = f"{gate.metric.name} is {_shown(gate.metric, measured)}, the gate asks for {_bound(gate)}"
    if status != "undecided":
        return Verdict(gate, status, measured, f"{status}: {head}", admitted)
    more = _more(gate, measured)
    sentence = f"undecided: {head}; {_advice(gate, measured, more)}"
    return Verdict(gate, status, measured, sentence, admitted, more)


def _more(gate: Gate, measured: Measured) -> int | None:
    """Further samples: by the score test for rates, by what bounds the interval at all for quantiles."""
    if gate.metric.unit == "share":
        needed = samples_to_decide(measured.value, gate.bound, measured.level)
        if needed is None:
            return None
        # With weights, n observations say as much as `effective` equal ones.
        weight = measured.n / measured.effective if measured.effective else 1.0
        return max(1, math.ceil(needed * weight) - measured.n)
    q = gate.metric.quantile
    if q is not None and not gate.upward and measured.high == math.inf:
        return max(1, least_for_bound(q, measured.level) - measured.n)
    return None


def _advice(gate: Gate, measured: Measured, more: int | None) -> str:
    if gate.metric.unit == "share":
        if more is not None:
            return f"about {more:,} more samples would decide if the rate stays"
        if 0 < gate.bound < 1:
            return "the value is on the bound, where no number of samples decides"
        edge = measured.high if gate.bound == 0 else measured.low
        sign = "<=" if gate.bound == 0 else ">="
        return (
            f"no number of samples proves exactly {_number(gate.metric, gate.bound)}, and this run supports "
            f"{gate.metric.name} {sign} {_number(gate.metric, edge)}"
        )
    if more is not None:
        return f"at least {more:,} more samples are needed before this percentile has an upper bound"
    return "the interval crosses the bound; more samples would narrow it"


def _bound(gate: Gate) -> str:
    return f"{gate.op} {_number(gate.metric, gate.bound)}"


def _shown(metric: Metric, measured: Measured) -> str:
    low, high = (_number(metric, end) for end in (measured.low, measured.high))
    count = f"n = {measured.n:,}"
    if measured.effective is not None:
        count += f", worth {measured.effective:,.0f} of equal weight"
    return f"{_number(metric, measured.value)} [{low}, {high}] ({count}, {measured.level:.0%} interval)"


def _number(metric: Metric, value: float) -> str:
    if math.isinf(value):
        return "no upper bound" if value > 0 else "no lower bound"
    if metric.unit == "share":
        return f"{100 * value:.4g}%"
    if metric.unit == "ms":
        return f"{value:,.0f} ms" if abs(value) >= 100 else f"{value:.3g} ms"
    return f"${value:.3g}" if metric.unit == "usd" else f"{value:.4g}"
