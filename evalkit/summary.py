"""What do the rows of a run say? Pure functions from trials to numbers, each with its n and its interval.

How rows are counted:

- A **failed call** counts as a sample that did not pass: the user of that endpoint got no answer.
- A row that a **judge failed** on is left out of the pass rate and reported apart, with the pass rates that
  would come out if all such rows had failed and if all had passed.
- **Latencies** are those of complete answers, on our side of the connection; failed calls have none. TPOT
  is missing where an answer came in one piece.
- **Cost** counts every attempt. A call without a known price is left out and counted in `cost.unknown`,
  never as 0.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from typing import TYPE_CHECKING

from evalkit import stats
from evalkit.gate import Metric
from evalkit.stats import Measured
from evalkit.trial import Trial

if TYPE_CHECKING:
    import numpy as np

PHASES = ("ttft", "tpot", "e2e")


@dataclass(frozen=True, slots=True)
class Latency:
    """One phase's quantiles in milliseconds, and all values for a picture."""

    p50: Measured | None
    p99: Measured | None
    values: tuple[float, ...] = field(repr=False)


@dataclass(frozen=True, slots=True)
class Cost:
    """USD. `total` is the sum of the `known` calls; `per_call` is their mean, None when there are none.

    `estimated`: at least one of them was priced by token counts that were estimated.
    """

    total: Decimal
    known: int
    unknown: int
    per_call: Measured | None
    estimated: bool
    versions: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Endpoint:
    """What the rows of one endpoint say. `calls` = passed + failed + errors + unjudged."""

    name: str
    model: str
    calls: int
    passed: int
    failed: int
    errors: Mapping[str, int]
    unjudged: int
    judge_errors: Mapping[str, int]
    pass_rate: Measured | None
    pass_rate_worst: float | None
    pass_rate_best: float | None
    scorers: Mapping[str, Measured | None]
    latency: Mapping[str, Latency]
    input_tokens: int
    output_tokens: int
    token_sources: Mapping[str, int]
    cost: Cost
    findings: Mapping[tuple[str, str, str], int]
    not_scanned: Mapping[str, int]
    tags: Mapping[str, Measured]
    weighted: bool

    @property
    def failures(self) -> int:
        """Calls that brought no answer."""
        return sum(self.errors.values())


def summarise(rows: Sequence[Trial], rng: np.random.Generator) -> list[Endpoint]:
    """One summary per endpoint, in the order in which the rows name them."""
    return [
        endpoint(name, [row for row in rows if row.endpoint == name], rng)
        for name in dict.fromkeys(row.endpoint for row in rows)
    ]


def endpoint(name: str, rows: Sequence[Trial], rng: np.random.Generator) -> Endpoint:
    """The summary of one endpoint's rows."""
    judged = [row for row in rows if row.passed is not None]
    unjudged = len(rows) - len(judged)
    sources = Counter(str(row.record["token_source"]) for row in rows if row.record and row.error is None)
    worst, best = _bounds(rows)
    return Endpoint(
        name=name,
        model=_model(rows),
        calls=len(rows),
        passed=sum(row.passed is True for row in rows),
        failed=sum(row.passed is False and row.error is None for row in rows),
        errors=dict(Counter(row.error.kind for row in rows if row.error).most_common()),
        unjudged=unjudged,
        judge_errors=dict(Counter(kind for row in rows for kind in row.judge_errors).most_common()),
        pass_rate=pass_rate(rows),
        pass_rate_worst=worst,
        pass_rate_best=best,
        scorers=_scorers(rows),
        latency={phase: _latency(rows, phase) for phase in PHASES},
        input_tokens=sum(int(row.number("input_tokens") or 0) for row in rows),
        output_tokens=sum(int(row.number("output_tokens") or 0) for row in rows),
        token_sources=dict(sources.most_common()),
        cost=_cost(rows, rng),
        findings=_findings(rows),
        not_scanned=dict(
            Counter(what for row in rows if row.record for what in row.record["not_scanned"]).most_common()
        ),
        tags=_tags(rows),
        weighted=len({row.weight for row in rows}) > 1,
    )


def pass_rate(rows: Sequence[Trial]) -> Measured | None:
    """The share of samples that passed, weighted as the golden set says, of those counted (see above)."""
    judged = [(row.passed, row.weight) for row in rows if row.passed is not None]
    return stats.weighted_rate([bool(passed) for passed, _ in judged], [weight for _, weight in judged])


def _bounds(rows: Sequence[Trial]) -> tuple[float | None, float | None]:
    weights = [row.weight for row in rows]
    worst = stats.weighted_rate([row.passed is True for row in rows], weights)
    best = stats.weighted_rate([row.passed is not False for row in rows], weights)
    return (worst.value if worst else None), (best.value if best else None)


def _model(rows: Sequence[Trial]) -> str:
    """The model as the endpoint reports it, else as it was asked for."""
    records = [row.record for row in rows if row.record]
    named = Counter(str(record["model_reported"] or record["model"]) for record in records)
    return named.most_common(1)[0][0] if named else ""


def _scorers(rows: Sequence[Trial]) -> dict[str, Measured | None]:
    """Each scorer's own pass rate, of the answers that it judged."""
    verdicts: dict[str, list[tuple[bool, float]]] = {}
    for row in rows:
        for name, score in row.scores.items():
            seen = verdicts.setdefault(name, [])
            if score.passed is not None:
                seen.append((score.passed, row.weight))
    return {
        name: stats.weighted_rate([passed for passed, _ in seen], [weight for _, weight in seen])
        for name, seen in verdicts.items()
    }


def times(rows: Sequence[Trial], phase: str) -> list[float]:
    """A phase's milliseconds, of the calls that brought a whole answer; a cached one has no pace."""
    measured = (row for row in rows if row.error is None and not (row.record or {}).get("cached"))
    values = (row.number(f"{phase}_ms") for row in measured)
    return [value for value in values if value is not None]


def _latency(rows: Sequence[Trial], phase: str) -> Latency:
    values = times(rows, phase)
    return Latency(stats.quantile(values, 0.5), stats.quantile(values, 0.99), tuple(values))


def cost_of(row: Trial) -> Decimal | None:
    """What a row's call cost, all its attempts included; None when that is not known."""
    if row.record is None or row.record["cost_usd"] is None:
        return None
    return Decimal(str(row.record["cost_usd"])) + Decimal(str(row.record["wasted_usd"]))


def _cost(rows: Sequence[Trial], rng: np.random.Generator) -> Cost:
    known = [(row, cost) for row in rows if (cost := cost_of(row)) is not None]
    records = [row.record for row, _ in known if row.record]
    return Cost(
        total=sum((cost for _, cost in known), Decimal(0)),
        known=len(known),
        unknown=sum(row.record is not None for row in rows) - len(known),
        per_call=stats.mean([float(cost) for _, cost in known], rng),
        estimated=any("estimate" in record["token_source"] for record in records),
        versions=tuple(sorted({str(r["price_version"]) for r in records if r["price_version"]})),
    )


def _findings(rows: Sequence[Trial]) -> dict[tuple[str, str, str], int]:
    """(direction, kind, action) → how many, the most frequent first."""
    counts: Counter[tuple[str, str, str]] = Counter()
    for row in rows:
        for found in row.record["findings"] if row.record else ():
            counts[found["direction"], found["kind"], found["action"]] += found["count"]
    return dict(counts.most_common())


def _tags(rows: Sequence[Trial]) -> dict[str, Measured]:
    """Pass rates by tag, the most frequent tag first."""
    counts = Counter(tag for row in rows for tag in set(row.tags))
    rates = ((tag, pass_rate([row for row in rows if tag in row.tags])) for tag, _ in counts.most_common())
    return {tag: rate for tag, rate in rates if rate is not None}


# --- for gates ---------------------------------------------------------------------------------------------


def measure(metric: Metric, rows: Sequence[Trial], rng: np.random.Generator) -> Measured | None:
    """A gate's metric on one endpoint's rows; None when they say nothing about it."""
    weights = [row.weight for row in rows]
    if metric.name == "pass_rate":
        return pass_rate(rows)
    if metric.name == "error_rate":
        return stats.weighted_rate([row.error is not None or bool(row.judge_errors) for row in rows], weights)
    if metric.name in FOUND:
        return _found_rate(rows, metric.name)
    if metric.name == "mean_score":
        values = [score.value for row in rows for score in row.scores.values()]
        return stats.mean([value for value in values if value is not None], rng)
    if metric.name == "cost_per_call_usd":
        return _cost(rows, rng).per_call
    phase = metric.name.removesuffix("_ms").split("_", 1)[1]
    values_ms = times(rows, phase)
    if metric.quantile is not None:
        return stats.quantile(values_ms, metric.quantile)
    return stats.mean(values_ms, rng)


def _found_rate(rows: Sequence[Trial], metric: str) -> Measured | None:
    """Answers in which the output filters found such a thing, of those that they scanned."""
    scanned = [row for row in rows if row.record and "output" in row.record["scanned"]]
    kinds = FOUND[metric] or _pii_kinds()
    found = [
        any(f["direction"] == "output" and f["kind"] in kinds for f in row.record["findings"])
        for row in scanned
        if row.record
    ]
    return stats.weighted_rate(found, [row.weight for row in scanned])


FOUND: Mapping[str, frozenset[str]] = {
    "pii_rate": frozenset(),  # the kinds that the detector of personal data knows
    "toxicity_rate": frozenset({"TOXICITY"}),
}


def _pii_kinds() -> frozenset[str]:
    from guardrails.filters.pii import ENTITIES

    return frozenset(ENTITIES)
