"""What a gate can be set on: the metrics, by name."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Literal

from guardrails.errors import ConfigError

Unit = Literal["share", "ms", "usd", "score"]

_MAX_K = 100_000


@dataclass(frozen=True, slots=True)
class Metric:
    """Something that a gate can be set on. `rising`: more is better.

    `quantile` is set for latency quantiles, `k` for pass@k and pass^k, `scorer` for one scorer's own numbers.
    """

    name: str
    unit: Unit
    meaning: str
    quantile: float | None = None
    rising: bool = False
    k: int | None = None
    scorer: str | None = None


_PHASES = {
    "ttft": "time to first token, any channel",
    "ttfot": "time to first visible token",
    "tpot": "time per output token after the first",
    "e2e": "time from intended arrival to the end",
    "queue": "time waiting in our own process",
}
_METRICS = (
    Metric("pass_rate", "share", "samples that passed, of all samples that were judged", rising=True),
    Metric("error_rate", "share", "samples whose call or whose judge failed, of all samples"),
    Metric("pii_rate", "share", "answers with personal data in them, of those that a filter scanned"),
    Metric("toxicity_rate", "share", "answers judged toxic, of those that a filter scanned"),
    Metric("flake_rate", "share", "samples that pass sometimes, of those that were asked several times"),
    Metric("majority_rate", "share", "samples whose most frequent answer passes", rising=True),
    Metric("mean_score", "score", "mean of the judges' values", rising=True),
    Metric("cost_per_call_usd", "usd", "mean cost of a call, all its attempts included"),
    *(
        Metric(f"p{percent}_{phase}_ms", "ms", f"{percent}th percentile of {meaning}", percent / 100)
        for phase, meaning in _PHASES.items()
        for percent in (50, 90, 95, 99)
    ),
    *(Metric(f"mean_{phase}_ms", "ms", f"mean of {meaning}") for phase, meaning in _PHASES.items()),
)
METRICS: Mapping[str, Metric] = {metric.name: metric for metric in _METRICS}


def metric(name: str) -> Metric:
    """The metric of a name: one of `METRICS`, `pass@K`, `pass^K`, `SCORER.pass_rate`, `SCORER.mean_score`.

    Raises `ConfigError` naming what there is.
    """
    if name in METRICS:
        return METRICS[name]
    if name[:5] in ("pass@", "pass^") and (k := name[5:]).isascii() and k.isdigit() and 1 <= len(k) <= 6:
        if not 1 <= int(k) <= _MAX_K:
            raise ConfigError(f"{name} needs a number of answers from 1 to {_MAX_K:,}")
        which = "at least one" if name[4] == "@" else "all"
        return Metric(name, "share", f"{which} of {int(k)} answers passes", rising=True, k=int(k))
    scorer, dot, what = name.rpartition(".")
    if dot and scorer and what == "pass_rate":
        return Metric(name, "share", f"answers that {scorer} passed", rising=True, scorer=scorer)
    if dot and scorer and what == "mean_score":
        return Metric(name, "score", f"mean of the values of {scorer}", rising=True, scorer=scorer)
    near = get_close_matches(name[:60], METRICS, n=1)
    meant = f"; did you mean {near[0]}?" if near else ""
    raise ConfigError(
        f"there is no metric {name[:60]!r}{meant}",
        hint=f"the metrics are {', '.join(METRICS)}, pass@K, pass^K, SCORER.pass_rate and SCORER.mean_score",
    )
