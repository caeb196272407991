"""A run as one HTML page: no script, no font, no picture from elsewhere, so it can be mailed and archived.

Answers come from models and models are not trusted: every text is escaped, and the page's own policy allows
no script should that ever fail.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING, Any

from evalkit import charts, words
from evalkit.compare import Comparison
from evalkit.gate import Verdict
from evalkit.stats import Measured
from evalkit.summary import Endpoint
from evalkit.trial import Trial
from evalkit.view import notes
from guardrails.errors import ConfigError

if TYPE_CHECKING:
    from jinja2 import Template

MAX_FAILING = 200
"""Samples in the table of failures; the others are in `trials.jsonl`."""
MAX_ANSWER = 1_500
MAX_TAGS = 16


@dataclass(frozen=True, slots=True)
class Content:
    """What a page shows. `banner` is a remark above everything, such as that all of it is simulated."""

    info: Mapping[str, Any]
    rows: Sequence[Trial]
    endpoints: Sequence[Endpoint]
    comparisons: Sequence[Comparison]
    gates: Sequence[tuple[str, Verdict, bool]]
    references: Mapping[str, Sequence[str]]
    banner: str = ""


def write(path: Path, content: Content) -> None:
    """Write the page. Raises `ConfigError` when it cannot be written there."""
    html = render(content)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(html, encoding="utf-8", errors="replace")
    except OSError as error:
        raise ConfigError(f"{path} cannot be written: {error.strerror}") from None


def render(content: Content) -> str:
    """The page's HTML."""
    failing = _failing(content)
    return _template().render(
        info=content.info,
        prices=sorted({version for e in content.endpoints for version in e.cost.versions}),
        banner=content.banner,
        endpoints=content.endpoints,
        verdicts=[each.verdict for each in content.comparisons],
        gates=content.gates,
        table=_table(content.endpoints),
        findings=_findings(content.endpoints),
        notes=notes(content.endpoints),
        pictures=_pictures(content.endpoints),
        failing=failing[:MAX_FAILING],
        more=max(0, len(failing) - MAX_FAILING),
    )


@cache
def _template() -> Template:
    from jinja2 import Environment, StrictUndefined

    environment = Environment(
        autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    return environment.from_string(resources.files("evalkit").joinpath("report.html.j2").read_text("utf-8"))


# --- numbers and pictures ----------------------------------------------------------------------------------


def _table(endpoints: Sequence[Endpoint]) -> list[tuple[str, list[str]]]:
    shown: list[tuple[str, list[str]]] = [
        ("Pass rate", [words.percent(e.pass_rate) for e in endpoints]),
        ("Calls", [f"{e.calls:,}" for e in endpoints]),
        ("Failed calls", [words.counts(e.errors) for e in endpoints]),
    ]
    if any(e.unjudged for e in endpoints):
        shown.append(("Judge errors", [words.counts(e.judge_errors) for e in endpoints]))
        shown.append(("Pass rate if those …", [words.judge_bounds(e) or "–" for e in endpoints]))
    for phase, label in (("ttft", "TTFT"), ("tpot", "TPOT"), ("e2e", "E2E")):
        shown.append((f"{label} p50", [words.ms(e.latency[phase].p50) for e in endpoints]))
        shown.append((f"{label} p99", [words.ms(e.latency[phase].p99) for e in endpoints]))
    shown.append(("Tokens", [words.tokens(e) for e in endpoints]))
    shown.append(("Cost", [words.cost_total(e.cost) for e in endpoints]))
    shown.append(("Cost of 1,000 calls", [words.cost_per_thousand(e.cost) for e in endpoints]))
    return shown


def _findings(endpoints: Sequence[Endpoint]) -> list[tuple[str, str, str, list[int]]]:
    """(direction, kind, action, count by endpoint), the most frequent first."""
    keys = {key for e in endpoints for key in e.findings}
    counted = [(*key, [e.findings.get(key, 0) for e in endpoints]) for key in keys]
    return sorted(counted, key=lambda row: (row[0], -sum(row[3]), row[1]))


def _pictures(endpoints: Sequence[Endpoint]) -> list[tuple[str, str, str]]:
    """(heading, what to look at, SVG). The SVG is ours: it goes into the page as it is."""
    share = "{:.0%}".format
    names = [e.name for e in endpoints]
    tags = _tags(endpoints)
    thousand = [(e.name, [_times(e.cost.per_call, 1000)]) for e in endpoints]
    made = [
        (
            "Pass rate",
            "Further right is better; bars are 95% intervals. The sentence above compares sample by sample.",
            charts.intervals([(e.name, [e.pass_rate]) for e in endpoints], share, top=1.0, title="Pass rate"),
        ),
        (
            "Cost of 1,000 calls",
            "Further left is cheaper.",
            charts.intervals(thousand, words.usd, title="Cost of 1,000 calls"),
        ),
        *(
            (
                f"{label}: share of answers that were faster",
                "A curve further left is faster; a long tail to the right is felt by users.",
                charts.ecdf({e.name: e.latency[phase].values for e in endpoints}, unit=" ms", title=label),
            )
            for phase, label in (("ttft", "Time to first token"), ("tpot", "Time per output token"))
        ),
        (
            "Pass rate by tag",
            f"The {len(tags)} most frequent tags; few samples make wide intervals.",
            charts.intervals(
                [(f"{tag}", [e.tags.get(tag) for e in endpoints]) for tag in tags],
                share,
                top=1.0,
                title=f"Pass rate by tag: {', '.join(names)}",
            ),
        ),
    ]
    return [picture for picture in made if picture[2]]


def _tags(endpoints: Sequence[Endpoint]) -> list[str]:
    counts: dict[str, int] = {}
    for e in endpoints:
        for tag, rate in e.tags.items():
            counts[tag] = counts.get(tag, 0) + rate.n
    return sorted(counts, key=lambda tag: -counts[tag])[:MAX_TAGS]


def _times(m: Measured | None, factor: float) -> Measured | None:
    return None if m is None else Measured(m.value * factor, m.low * factor, m.high * factor, m.n, m.level)


# --- failing samples ---------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Cell:
    """What one endpoint made of a sample. `mark` is `pass`, `fail`, `error`, `unjudged` or `missing`."""

    mark: str
    reason: str = ""
    answer: str = ""


@dataclass(frozen=True, slots=True)
class Failing:
    """A sample that at least one endpoint failed, side by side."""

    sample: str
    tags: tuple[str, ...]
    references: tuple[str, ...]
    cells: tuple[Cell, ...]


def _failing(content: Content) -> list[Failing]:
    """Samples on which the endpoints differ come first: they tell the two apart."""
    names = [e.name for e in content.endpoints]
    by_sample: dict[str, dict[str, Trial]] = {}
    for row in content.rows:
        by_sample.setdefault(row.sample, {})[row.endpoint] = row
    found = []
    for sample, rows in by_sample.items():
        if all(row.passed for row in rows.values()):
            continue
        first = next(iter(rows.values()))
        cells = tuple(_cell(rows.get(name)) for name in names)
        found.append(Failing(sample, first.tags, tuple(content.references.get(sample, ()))[:2], cells))
    return sorted(found, key=lambda each: len({cell.mark for cell in each.cells}) == 1)


def _cell(row: Trial | None) -> Cell:
    if row is None:
        return Cell("missing", "was not asked")
    if row.error is not None:
        return Cell("error", f"{row.error.kind}: {row.error.message}")
    mark = {True: "pass", False: "fail", None: "unjudged"}[row.passed]
    reasons = [f"{name}: {score.reason}" for name, score in row.scores.items() if score.passed is not True]
    answer = row.answer or ""
    cut = answer if len(answer) <= MAX_ANSWER else answer[:MAX_ANSWER] + " … (cut here)"
    return Cell(mark, "; ".join(reasons), cut)
