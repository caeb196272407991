"""What do the rows of a run say? From columns to numbers, each with its n and its interval.

How rows are counted:

- A **failed call** counts as an answer that did not pass: the user of that endpoint got no answer.
- A row that a **judge failed** on is left out of the pass rate and reported apart, with the pass rates that
  would come out if all such rows had failed and if all had passed.
- **Several answers** to a sample are one observation: the share of them that passed (`evalkit.questions`).
- **Latencies** are those of complete answers, on our side of the connection; failed calls have none, and an
  answer taken from an earlier call has none of its own. TPOT is missing where an answer came in one piece.
- **Cost** counts every attempt. An answer taken from an earlier call costs this run nothing, and what it cost
  then is one of the costs per call. A call without a known price is left out and counted in `cost.unknown`,
  never as 0.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from decimal import Decimal
from typing import TYPE_CHECKING, Any, TypeAlias

from evalkit.columns import (
    CACHED,
    ESTIMATED,
    FAILED,
    PRICED,
    RECORDED,
    UNJUDGED,
    Columns,
    Group,
    distinct,
)
from evalkit.measure import measure, percentile
from evalkit.metric import METRICS, metric
from evalkit.questions import values_of
from evalkit.repeats import Repeats, repeats
from evalkit.stats import Measured
from guardrails.record import total

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    Whole: TypeAlias = npt.NDArray[np.int64]

SHOWN = ("ttft", "tpot", "e2e")
"""Phases that a summary has."""

MAX_TAGS = 1_000
"""The most frequent tags, which a summary has; a gate can be set on any."""

_POINTS = 400


@dataclass(frozen=True, slots=True)
class Latency:
    """A phase's quantiles in milliseconds, of `n` calls; `values` are at most 400 of them, evenly ranked."""

    p50: Measured | None
    p99: Measured | None
    n: int
    values: tuple[float, ...]


@dataclass(frozen=True, slots=True)
class Cost:
    """USD. `total` is what this run paid for the `known` calls: nothing for answers of earlier calls.

    `per_call` is the mean cost of the known ones, whoever paid them; None when there are none. `judging` is
    what judges paid, as far as they say; it is in neither. `replaced` was paid for earlier tries, in whose
    place the run has other rows now.

    `unknown` calls have a cost that is not known, or one of their attempts has; what is known of it is in
    `total`. `unknown_judgings` and `unknown_users` are how many judgings and simulated users were paid nobody
    knows what.

    `estimated`: at least one of them was priced by token counts that were estimated.
    """

    total: Decimal
    known: int
    unknown: int
    per_call: Measured | None
    estimated: bool
    versions: tuple[str, ...]
    judging: Decimal = Decimal(0)
    replaced: Decimal = Decimal(0)
    unknown_judgings: int = 0
    unknown_users: int = 0

    @property
    def paid(self) -> Decimal:
        """What is known to have been paid, for calls, for judging and for what had to be done again."""
        return total([self.total, self.judging, self.replaced])

    @property
    def whole(self) -> bool:
        """Whether that is all."""
        return not (self.unknown or self.unknown_judgings or self.unknown_users)


@dataclass(frozen=True, slots=True)
class Endpoint:
    """What the rows of one arm (an endpoint, with its prompt where there are several) on one set say.

    `calls` = passed + failed + errors + unjudged, on so many `samples`; `cached` of them were answered by an
    earlier call. `scores` are the mean values of scorers that give more than yes or no. `repeats` is None
    where every sample was judged once. `sandboxes` are what the answers' code was run in, if it was run.
    """

    set: str
    name: str
    model: str
    calls: int
    samples: int
    passed: int
    failed: int
    errors: Mapping[str, int]
    unjudged: int
    judge_errors: Mapping[str, int]
    cached: int
    pass_rate: Measured | None
    pass_rate_worst: float | None
    pass_rate_best: float | None
    scorers: Mapping[str, Measured | None]
    scores: Mapping[str, Measured]
    latency: Mapping[str, Latency]
    input_tokens: int
    output_tokens: int
    token_sources: Mapping[str, int]
    cost: Cost
    findings: Mapping[tuple[str, str, str], int]
    not_scanned: Mapping[str, int]
    tags: Mapping[str, Measured]
    weighted: bool
    repeats: Repeats | None
    sandboxes: tuple[str, ...] = ()

    @property
    def failures(self) -> int:
        """Calls that brought no answer."""
        return sum(self.errors.values())


def summarise(
    columns: Columns,
    rng: np.random.Generator | None = None,
    sandboxes: Mapping[tuple[str, str], tuple[str, ...]] | None = None,
    replaced: Mapping[tuple[str, str], Decimal] | None = None,
) -> list[Endpoint]:
    """One summary per set and arm, in the order in which the rows name them.

    By set and arm: `sandboxes` are what code was run in (`evalkit.tiers`), `replaced` is what rows cost that
    are no longer there (`Store.replaced`).

    The same rows give the same numbers: without a generator, each arm's intervals are drawn with one seed.
    """
    import numpy as np

    made = [
        endpoint(group, columns.group(number), rng or np.random.default_rng(0))
        for number, group in enumerate(columns.groups)
    ]
    found = []
    for each in made:
        arm = (each.set, each.name)
        cost = replace(each.cost, replaced=(replaced or {}).get(arm, Decimal(0)))
        found.append(replace(each, sandboxes=(sandboxes or {}).get(arm, ()), cost=cost))
    return found


def endpoint(group: Group, columns: Columns, rng: np.random.Generator) -> Endpoint:
    """The summary of one group's rows."""
    import numpy as np

    rows = columns.rows
    passed = rows["passed"]
    failed = columns.flagged(FAILED)
    worst, best = _bounds(columns)
    return Endpoint(
        set=group.set,
        name=group.arm,
        model=group.model,
        calls=len(rows),
        samples=distinct(rows["sample"]),
        passed=int(np.sum(passed == 1)),
        failed=int(np.sum((passed == 0) & ~failed)),
        errors=_counted(columns.words.errors, rows["error"][failed]),
        unjudged=int(np.sum(passed == UNJUDGED)),
        judge_errors=_counted(columns.words.errors, columns.scores["error"]),
        cached=int(np.sum(columns.flagged(CACHED))),
        pass_rate=measure(METRICS["pass_rate"], columns, rng),
        pass_rate_worst=worst,
        pass_rate_best=best,
        scorers=_scorers(columns, rng),
        scores=_scores(columns, rng),
        latency={phase: _latency(columns, phase) for phase in SHOWN},
        input_tokens=int(rows["input_tokens"].sum(dtype=np.uint64)),
        output_tokens=int(rows["output_tokens"].sum(dtype=np.uint64)),
        token_sources=_counted(columns.words.sources, rows["source"]),
        cost=_cost(group, columns, rng),
        findings=_counted(columns.words.findings, columns.findings["what"], columns.findings["count"]),
        not_scanned=_counted(columns.words.not_scanned, columns.not_scanned["what"]),
        tags=_tags(columns),
        weighted=distinct(rows["weight"]) > 1,
        repeats=repeats(columns, rng),
    )


def _counted(words: Sequence[Any], numbers: Whole, counts: Whole | None = None) -> dict[Any, int]:
    """How often each word occurs, the most frequent first; the empty one is none."""
    import numpy as np

    found = np.bincount(numbers, counts, minlength=len(words)).astype(np.int64)
    order = np.argsort(-found, kind="stable")
    return {words[number]: int(found[number]) for number in order if found[number] and words[number]}


def _bounds(columns: Columns) -> tuple[float | None, float | None]:
    """The pass rates if every row that a judge failed on had failed, and if it had passed."""
    import numpy as np

    passed = columns.rows["passed"]
    if len(passed) == 0:
        return None, None

    def rate(kind: npt.NDArray[np.bool_]) -> float:
        values = values_of(columns, kind)
        return float(np.average(values.value, weights=values.weight))

    return rate(passed == 1), rate(passed != 0)


def _used(columns: Columns) -> Whole:
    """The scorers, by number, that judged any of the rows."""
    import numpy as np

    return np.flatnonzero(np.bincount(columns.scores["scorer"]))


def _scorers(columns: Columns, rng: np.random.Generator) -> dict[str, Measured | None]:
    """Each scorer's own pass rate, of the answers that it judged."""

    names = [columns.words.scorers[number] for number in _used(columns)]
    return {name: measure(metric(f"{name}.pass_rate"), columns, rng) for name in names}


def _scores(columns: Columns, rng: np.random.Generator) -> dict[str, Measured]:
    import numpy as np

    found, scores = {}, columns.scores
    for number in _used(columns):
        values = scores["value"][scores["scorer"] == number]
        name = columns.words.scorers[number]
        if bool(np.all(np.isnan(values) | (values == 0) | (values == 1))):
            continue
        if (mean := measure(metric(f"{name}.mean_score"), columns, rng)) is not None:
            found[name] = mean
    return found


def _latency(columns: Columns, phase: str) -> Latency:
    import numpy as np

    times = columns.rows[phase]
    times = times[~np.isnan(times)]
    times.sort()
    ranks = np.linspace(0, len(times) - 1, min(_POINTS, len(times))).round().astype(int)
    drawn = tuple(float(value) for value in times[ranks])
    count = len(times)
    del times  # the percentiles have their own
    return Latency(percentile(columns, phase, 0.5), percentile(columns, phase, 0.99), count, drawn)


def _cost(group: Group, columns: Columns, rng: np.random.Generator) -> Cost:
    import numpy as np

    known = columns.flagged(PRICED)
    return Cost(
        total=group.spent,
        known=int(known.sum()),
        unknown=int(np.sum(columns.flagged(RECORDED) & ~known)),
        per_call=measure(METRICS["cost_per_call_usd"], columns, rng),
        estimated=bool(columns.flagged(ESTIMATED).any()),
        versions=group.prices,
        judging=group.judging,
        unknown_judgings=group.unknown_judgings,
        unknown_users=group.unknown_users,
    )


def _tags(columns: Columns) -> dict[str, Measured]:
    """Pass rates by tag, the most frequent tag first."""
    import numpy as np

    table = columns.tags
    tags = table["tag"]
    counts = np.bincount(tags)
    ends = np.cumsum(counts)
    rows = table["row"][np.argsort(tags, kind="stable")]
    del table, tags  # two and more a row
    passed = columns.rows["passed"]
    found = {}
    for tag in np.argsort(-counts, kind="stable")[:MAX_TAGS]:
        if not counts[tag]:
            break
        of_tag = rows[ends[tag] - counts[tag] : ends[tag]]
        verdicts = passed[of_tag]
        rate = values_of(columns, verdicts[verdicts >= 0] == 1, of_tag[verdicts >= 0]).share()
        if rate is not None:
            found[columns.words.tags[tag]] = rate
    return found
