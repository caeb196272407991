"""A gate's metric on the rows of one arm, and the difference of two arms in it.

- Rates and means are over questions (`evalkit.questions`); percentiles are over calls. Rates and mean scores
  count a question by its weight; times and costs do not, as they are those of calls.
- Differences are paired: only samples that both arms have take part, with the weights of the first one.
- A percentile's interval assumes no distribution. Where samples were asked several times, it is that of
  fewer, independent calls: as many as these are worth by how alike a sample's times are. The difference of
  two percentiles takes them as uncorrelated, which makes its interval too wide rather than too narrow.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, TypeAlias

from evalkit import stats
from evalkit.columns import FAILED, MISJUDGED, PRICED, RECORDED, SCANNED, Columns, distinct
from evalkit.metric import Metric
from evalkit.questions import (
    Questions,
    Values,
    join,
    paired,
    score_difference,
    share_difference,
    values_of,
)
from evalkit.stats import LEVEL, Measured
from evalkit.stats_cluster import ranks, worth

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    Floats: TypeAlias = npt.NDArray[np.float64]
    Whole: TypeAlias = npt.NDArray[np.int64]

FOUND: Mapping[str, frozenset[str]] = {
    "pii_rate": frozenset(),  # the kinds that the detector of personal data knows
    "toxicity_rate": frozenset({"TOXICITY"}),
}


def measure(
    metric: Metric, columns: Columns, rng: np.random.Generator, level: float = LEVEL
) -> Measured | None:
    """The metric with its interval; None when the rows say nothing about it."""
    if metric.quantile is not None:
        return percentile(columns, _phase(metric), metric.quantile, level)
    values = values_by_question(metric, columns)
    if metric.unit == "share":
        return values.share(level)
    if metric.unit == "score":
        return values.score(rng, level)
    found = values.mean(rng, level)  # of money or time, neither of which is below nothing
    return None if found is None else replace(found, low=max(0.0, found.low))


def difference(
    metric: Metric,
    a: Columns,
    b: Columns,
    rng: np.random.Generator,
    *,
    times: float = 1.0,
    level: float = LEVEL,
) -> Measured | None:
    """The metric's a − times·b on aligned rows (`evalkit.compare.align`); None when nothing can be said."""
    if metric.quantile is not None:
        one, other = (percentile(side, _phase(metric), metric.quantile, level) for side in (a, b))
        if one is None or other is None:
            return None
        return join(one, other, times, 0.0, min(one.n, other.n))
    of_a, of_b = values_by_question(metric, a), values_by_question(metric, b)
    if metric.unit == "share":
        return share_difference(of_a, of_b, times, level)
    if metric.unit == "score":
        return score_difference(of_a, of_b, rng, times, level)
    of_a, of_b = paired(of_a, of_b)
    return stats.mean(of_a.value - times * of_b.value, rng, level)


def percentile(columns: Columns, phase: str, q: float, level: float = LEVEL) -> Measured | None:
    """A phase's q-quantile in milliseconds, of the calls of this run that brought a whole answer."""
    import numpy as np

    times = columns.rows[phase]
    known = ~np.isnan(times)
    times = times[known]
    if len(times) == 0:
        return None
    effective = None
    calls = columns.take(known)
    if distinct(calls.rows["sample"]) < len(times):
        effective = _worth(calls, times, q, level)
    times.sort()
    return stats.quantile_of(times, q, level, effective)


def _worth(calls: Columns, times: Floats, q: float, level: float) -> float:
    """As how many independent calls those of some questions count for a percentile of their times.

    By the clustered spread of "below the percentile", and no more than by that of the times' ranks: of the
    few values beyond a high percentile one question's may be all.
    """
    import numpy as np

    below = values_of(calls, times <= np.quantile(times, q)).share(level)
    ranked = ranks(times)
    most = worth(values_of(calls, ranked).value, float(np.var(ranked)), len(times), level)
    return most if below is None else min(most, below.effective or float(below.n))


def values_by_question(metric: Metric, columns: Columns) -> Values:
    """What each question says of a metric that is no percentile."""
    import numpy as np

    if metric.k is not None:
        questions = Questions.of_rows(columns)
        return questions.pass_at(metric.k) if "@" in metric.name else questions.pass_all(metric.k)
    if metric.name in ("flake_rate", "majority_rate"):
        questions = Questions.of_rows(columns)
        return questions.flaky() if metric.name == "flake_rate" else questions.majority()[0]
    if metric.name == "pass_rate":
        judged = columns.take(columns.rows["passed"] >= 0)
        return values_of(judged, judged.rows["passed"] == 1)
    if metric.unit == "score" or metric.scorer is not None:
        return _scored(metric, columns)
    if metric.name == "error_rate":
        return values_of(columns, columns.flagged(FAILED | MISJUDGED))
    if metric.name in FOUND:
        return _found(metric.name, columns)
    column = "cost" if metric.unit == "usd" else _phase(metric)
    known = columns.take(_priced(columns) if metric.unit == "usd" else ~np.isnan(columns.rows[column]))
    return values_of(known, known.rows[column])


def _priced(columns: Columns) -> npt.NDArray[np.bool_]:
    """The rows that say what a call costs.

    A failed call is known to cost nothing even where no price is: where answers have no known cost, the
    failed calls say nothing of what one costs.
    """
    flags = columns.rows["flags"]
    priced, failed = (flags & PRICED) != 0, (flags & FAILED) != 0
    lacking = ((flags & RECORDED) != 0) & ~priced & ~failed
    known: npt.NDArray[np.bool_] = priced & ~failed if lacking.any() else priced
    return known


def _phase(metric: Metric) -> str:
    return metric.name.removesuffix("_ms").split("_", 1)[1]


def _scored(metric: Metric, columns: Columns) -> Values:
    """The verdicts or the values of one scorer, or the values of all."""
    import numpy as np

    scores = columns.scores
    meant = np.ones(len(scores), dtype=np.bool_)
    if metric.scorer is not None:
        names = columns.words.scorers
        meant = scores["scorer"] == (names.index(metric.scorer) if metric.scorer in names else len(names))
    if metric.unit == "share":
        verdict = scores["verdict"]
        meant &= verdict >= 0
        return values_of(columns, verdict[meant] == 1, scores["row"][meant])
    value = scores["value"]
    meant &= ~np.isnan(value)
    return values_of(columns, value[meant], scores["row"][meant])


def _found(metric: str, columns: Columns) -> Values:
    """Whether the output filters found such a thing, of the answers that they scanned."""
    import numpy as np

    kinds = FOUND[metric] or _pii_kinds()
    meant = [
        number
        for number, (direction, kind, _) in enumerate(columns.words.findings)
        if direction == "output" and kind in kinds
    ]
    found, findings = np.zeros(len(columns), dtype=np.bool_), columns.findings
    found[findings["row"][np.isin(findings["what"], meant)]] = True
    scanned = columns.flagged(SCANNED)
    return values_of(columns.take(scanned), found[scanned])


def _pii_kinds() -> frozenset[str]:
    from guardrails.filters.pii import ENTITIES

    return frozenset(ENTITIES)
