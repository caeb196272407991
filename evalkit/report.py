"""A run as one HTML page: no script, no font, no picture from elsewhere, so it can be mailed and archived.

Answers come from models and models are not trusted: every text is escaped, and the page's own policy allows
no script should that ever fail.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING, Any

from evalkit import charts, words
from evalkit.columns import MISJUDGED, UNJUDGED, Columns, distinct, hash64
from evalkit.compare import Comparison
from evalkit.files import placed
from evalkit.questions import found_in, values_of
from evalkit.report_end import remarks
from evalkit.stats import Measured
from evalkit.summary import Endpoint
from evalkit.trial import Trial
from evalkit.trouble import Trouble
from evalkit.verdict import Decided, Verdict, brief, counted, urgent
from evalkit.view import by_set, cost, frequent_tags, notes
from judges.judge import Question

if TYPE_CHECKING:
    from jinja2 import Template

MAX_FAILING = 200
"""Samples in the table of failures; the others are in the store."""
MAX_ANSWER = 1_500
MAX_TAGS = 16
MAX_DOTS = 32
"""In the picture of tags, a dot for each tag and arm; at least five tags are shown."""

MAX_QUESTION = 1_500

Asked = Callable[[str, str], Question | None]
"""What a sample asks and what is expected, by its set and its id; None where nobody knows."""


@dataclass(frozen=True, slots=True)
class Content:
    """What a page shows. `banner` is a remark above everything, such as that all of it is simulated.

    `info` is the run's lineage with `run`, `started_at` and `status`. `rows` are read once, and only those
    of the samples shown are kept: the store's rows, or those that failed (the others' answers are then not
    shown).
    """

    info: Mapping[str, Any]
    columns: Columns
    endpoints: Sequence[Endpoint]
    comparisons: Sequence[Comparison] = ()
    gates: Sequence[Decided] = ()
    rows: Iterable[Trial] = ()
    asked: Asked = lambda at, sample: None
    banner: str = ""
    warnings: Sequence[str] = ()
    trouble: Trouble | None = None


def write(path: Path, content: Content) -> None:
    """Write the page. Raises `ConfigError` when it cannot be written there."""
    page = render(content).encode("utf-8", "replace")
    with placed(path) as file:
        file.write(page)


def render(content: Content) -> str:
    """The page's HTML."""
    sets = by_set(content.endpoints)
    failing, more = _failing(content)
    info = content.info
    goldens = _goldens(info)
    return _template().render(
        info={name: info.get(name) for name in _INFO},
        title=", ".join(name for name in sets if name) or ", ".join(name for name, _ in goldens) or "run",
        goldens=goldens,
        samples=distinct(content.columns.rows["sample"]),
        prices=sorted({version for e in content.endpoints for version in e.cost.versions}),
        banners=[content.banner, *remarks(info, len(content.columns), content.trouble)],
        sets=[_Set(name, arms, bool(info.get("rescored"))) for name, arms in sets.items()],
        several=len(sets) > 1,
        verdicts=[(each.set, each.verdict) for each in content.comparisons],
        tables=_gate_tables(content.gates),
        counted=counted(content.gates),
        gates=urgent(content.gates),
        warnings=content.warnings,
        notes=notes(content.endpoints),
        failing=failing,
        more=more,
    )


_INFO = ("run", "started_at", "status", "evalkit", "python", "git_commit", "suite_sha256")


def _goldens(info: Mapping[str, Any]) -> list[tuple[str, str]]:
    """(name, hash) of the run's golden sets."""
    return [(str(each.get("name", "")), str(each.get("sha256", ""))) for each in info.get("golden") or ()]


@dataclass(frozen=True, slots=True)
class _Set:
    """The part of a page that is about one set."""

    name: str
    endpoints: Sequence[Endpoint]
    rescored: bool

    @property
    def table(self) -> list[tuple[str, list[str]]]:
        shown = _table(self.endpoints, self.rescored)
        return [(label, [unbroken(value) for value in values]) for label, values in shown]

    @property
    def findings(self) -> list[tuple[str, str, str, list[int]]]:
        return _findings(self.endpoints)

    @property
    def pictures(self) -> list[tuple[str, str, str]]:
        return _pictures(self.endpoints)

    @property
    def flaky(self) -> list[tuple[str, str]]:
        """The samples nearest to a coin, by arm."""
        return [
            (
                e.name,
                ", ".join(f"{each.sample} ({each.passed} of {each.judged})" for each in e.repeats.flakiest),
            )
            for e in self.endpoints
            if e.repeats is not None and e.repeats.flakiest
        ]


@dataclass(frozen=True, slots=True)
class _GateTable:
    """Gates by arms of one set. A cell is a verdict with its number; None where the gate does not mean it."""

    set: str
    arms: Sequence[str]
    rows: Sequence[tuple[str, Sequence[tuple[Verdict, str] | None]]]


def _gate_tables(decided: Sequence[Decided]) -> list[_GateTable]:
    """A table for each set of several arms; none where a list of sentences says all."""
    sets: dict[str, dict[str, dict[str, Verdict]]] = {}
    for each in decided:
        gates = sets.setdefault(each.set, {})
        gates.setdefault(str(each.verdict.gate), {})[each.arm] = each.verdict
    tables = []
    for name, gates in sets.items():
        arms = list(dict.fromkeys(arm for verdicts in gates.values() for arm in verdicts))
        rows = [(gate, [_cell_of(verdicts.get(arm)) for arm in arms]) for gate, verdicts in gates.items()]
        tables.append(_GateTable(name, arms, rows))
    return tables if any(len(table.arms) > 1 for table in tables) else []


def _cell_of(verdict: Verdict | None) -> tuple[Verdict, str] | None:
    return None if verdict is None else (verdict, unbroken(brief(verdict)))


_INTERVAL = re.compile(r"\[[^\[\]]{1,60}\]")


def unbroken(text: str) -> str:
    """Text in which no line ends within an interval."""
    return _INTERVAL.sub(lambda found: found[0].replace(" ", "\u00a0"), text)


@cache
def _template() -> Template:
    from jinja2 import Environment, StrictUndefined

    environment = Environment(
        autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    return environment.from_string(resources.files("evalkit").joinpath("report.html.j2").read_text("utf-8"))


# --- numbers and pictures ----------------------------------------------------------------------------------


def _table(endpoints: Sequence[Endpoint], rescored: bool) -> list[tuple[str, list[str]]]:
    shown: list[tuple[str, list[str]]] = [
        ("Pass rate", [words.pass_rate(e) for e in endpoints]),
        ("Calls", [words.calls(e) for e in endpoints]),
        ("Failed calls", [words.counts(e.errors) for e in endpoints]),
    ]
    if any(e.judge_errors for e in endpoints):
        shown.append(("Judge errors", [words.counts(e.judge_errors) for e in endpoints]))
        shown.append(("Pass rate if those …", [words.judge_bounds(e) or "–" for e in endpoints]))
    if any(e.sandboxes for e in endpoints):
        shown.append(("Code run in", [words.sandboxes(e) for e in endpoints]))
    shown += _repeated(endpoints)
    names = list(dict.fromkeys(name for e in endpoints for name, rate in e.scorers.items() if rate))
    if len(names) > 1:
        shown += [(f"Passed {name}", [words.scorer_rate(e, name) for e in endpoints]) for name in names]
    for name in dict.fromkeys(name for e in endpoints for name in e.scores):
        shown.append((f"Mean of {name}", [words.scorer_mean(e, name) for e in endpoints]))
    for phase, label in (("ttft", "TTFT"), ("tpot", "TPOT"), ("e2e", "E2E")):
        shown.append((f"{label} p50", [words.time(e, phase, "p50") for e in endpoints]))
        shown.append((f"{label} p99", [words.time(e, phase, "p99") for e in endpoints]))
    shown.append(("Tokens", [words.tokens(e) for e in endpoints]))
    shown.append(("Cost", [cost(e, rescored) for e in endpoints]))
    shown.append(("Cost of 1,000 calls", [words.cost_per_thousand(e.cost) for e in endpoints]))
    if any(e.not_scanned for e in endpoints):
        shown.append(("Not scanned", [words.counts(e.not_scanned) for e in endpoints]))
    return shown


def _repeated(endpoints: Sequence[Endpoint]) -> list[tuple[str, list[str]]]:
    """Lines for samples that were asked several times."""
    found = [e.repeats for e in endpoints]
    known = [r for r in found if r is not None]
    if not known:
        return []
    shown = []
    for k in sorted({k for r in known for k in words.steps(r.at_least)}):
        shown.append((f"pass@{k}", [words.pass_at(e, k) for e in endpoints]))
        shown.append((f"pass^{k}", [words.pass_all(e, k) for e in endpoints]))
    shown.append(("Majority passes", [words.majority(r) if r else "–" for r in found]))
    shown += [
        (f"Best of {name}", [words.decimal(r.best.get(name)) if r else "–" for r in found])
        for name in dict.fromkeys(name for r in known for name in r.best)
    ]
    shown.append(("Flaky samples", [words.flakes(r) if r else "–" for r in found]))
    shown.append(("Verdicts vary by", [words.spread(r) if r else "–" for r in found]))
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
    tags = frequent_tags(endpoints, max(5, min(MAX_TAGS, MAX_DOTS // len(endpoints))))
    thousand = [(e.name, [_times(e.cost.per_call, 1000)]) for e in endpoints]
    made = [
        (
            "Pass rate",
            "Further right is better; bars are 95% intervals."
            + (" The sentences above compare sample by sample." if len(endpoints) > 1 else ""),
            charts.intervals(
                [(e.name, [e.pass_rate]) for e in endpoints], share, top=1.0, title="Pass rate", by_row=True
            ),
        ),
        (
            "Cost of 1,000 calls",
            "Further left is cheaper.",
            charts.intervals(thousand, words.usd, title="Cost of 1,000 calls", by_row=True),
        ),
        *(
            (
                f"{label}: share of answers that were faster",
                "A curve further left is faster; a long tail to the right is felt by users.",
                charts.ecdf(
                    {e.name: (e.latency[phase].n, e.latency[phase].values) for e in endpoints},
                    unit=" ms",
                    title=label,
                ),
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


def _times(m: Measured | None, factor: float) -> Measured | None:
    return None if m is None else Measured(m.value * factor, m.low * factor, m.high * factor, m.n, m.level)


# --- failing samples ---------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Cell:
    """What one arm made of a sample. `mark` is `pass`, `fail`, `flaky`, `error`, `unjudged` or `missing`."""

    arm: str
    mark: str
    reason: str = ""
    answer: str = ""


@dataclass(frozen=True, slots=True)
class Failing:
    """A sample that at least one arm failed, side by side."""

    set: str
    sample: str
    tags: tuple[str, ...]
    question: str
    references: tuple[str, ...]
    cells: tuple[Cell, ...]


def _failing(content: Content) -> tuple[list[Failing], int]:
    """The samples to show, those on which arms differ first, and how many more failed."""
    chosen, more = _chosen(content.columns)
    kept: dict[int, dict[str, Trial]] = {number: {} for number in chosen}
    for row in content.rows:
        number = hash64(row.set, row.sample)
        if number in kept:
            seen = kept[number].get(row.arm)
            if seen is None or (seen.passed is True and row.passed is not True):
                kept[number][row.arm] = row
    marks = _marks(content.columns, chosen)
    return [_shown(content, marks[number], kept[number]) for number in chosen if marks[number]], more


def _chosen(columns: Columns) -> tuple[list[int], int]:
    """Hashes of at most `MAX_FAILING` samples that something failed on, those that tell arms apart first."""
    import numpy as np

    passed = columns.rows["passed"]
    right = (passed == 1) | ((passed == UNJUDGED) & ~columns.flagged(MISJUDGED))  # no verdict is no failure
    samples = values_of(columns, right)
    wrong = samples.take(samples.value < 1)
    at, there = found_in(wrong.sample, columns.rows["sample"])
    place = np.full(len(wrong), len(columns), dtype=np.int64)
    np.minimum.at(place, at[there], np.flatnonzero(there))
    order = np.lexsort((place, wrong.value == 0))
    return [int(number) for number in wrong.sample[order[:MAX_FAILING]]], max(0, len(order) - MAX_FAILING)


@dataclass(frozen=True, slots=True)
class _Mark:
    """What the columns say of an arm on a sample."""

    set: str
    sample: str
    arm: str
    mark: str
    said: str


def _marks(columns: Columns, chosen: Sequence[int]) -> dict[int, list[_Mark]]:
    import numpy as np

    found: dict[int, list[_Mark]] = {number: [] for number in chosen}
    _, meant = found_in(np.array(sorted(chosen), dtype=np.uint64), columns.rows["sample"])
    these = columns.take(meant)
    passed, error = these.rows["passed"], these.rows["error"]
    by_arm: dict[tuple[int, int], list[int]] = {}
    for row, at in enumerate(zip(these.rows["sample"].tolist(), these.rows["arm"].tolist(), strict=True)):
        by_arm.setdefault(at, []).append(row)
    samples = these.sample_ids([places[0] for places in by_arm.values()])
    for sample, ((number, arm), places) in zip(samples, by_arm.items(), strict=True):
        verdicts = passed[places]
        yes, judged = int((verdicts == 1).sum()), int((verdicts >= 0).sum())
        mark = "pass" if yes == judged else "flaky" if yes else "fail"
        mark = "unjudged" if judged == 0 else "error" if (error[places] > 0).all() else mark
        said = f"{yes} of {len(places)} answers passed" if len(places) > 1 else ""
        group = columns.groups[arm]
        found[number].append(_Mark(group.set, sample, group.arm, mark, said))
    return found


def _shown(content: Content, marks: Sequence[_Mark], rows: Mapping[str, Trial]) -> Failing:
    at, sample = marks[0].set, marks[0].sample
    by_arm = {mark.arm: mark for mark in marks}
    arms = [e.name for e in content.endpoints if e.set == at]
    tags = next((row.tags for row in rows.values()), ())
    cells = tuple(_cell(arm, by_arm.get(arm), rows.get(arm)) for arm in arms)
    asked = content.asked(at, sample) or Question()
    return Failing(at, sample, tags, _cut(asked.prompt, MAX_QUESTION), asked.references[:2], cells)


def _cut(text: str, most: int) -> str:
    return text if len(text) <= most else text[:most] + " … (cut here)"


def _cell(arm: str, mark: _Mark | None, row: Trial | None) -> Cell:
    if mark is None:
        return Cell(arm, "missing", "was not asked")
    if row is None:
        return Cell(arm, mark.mark, mark.said)
    said = [mark.said] if mark.said else []
    if row.error is not None:
        said.append(f"{row.error.kind}: {row.error.message}")
    said += [f"{name}: {score.reason}" for name, score in row.scores.items() if score.passed is not True]
    answer = row.answer.text if row.answer else ""
    return Cell(arm, mark.mark, "; ".join(said), _cut(answer, MAX_ANSWER))
