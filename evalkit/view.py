"""What a run looks like on a terminal: a bar while it runs, a table at its end, hints for its failures.

Without a terminal (CI, a pipe) the bar is a plain line every few seconds.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any

from rich import box
from rich.console import Console
from rich.markup import escape as _escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeRemainingColumn
from rich.table import Table

from evalkit import words
from evalkit.compare import Comparison
from evalkit.gate import Verdict
from evalkit.runner import HINTS
from evalkit.stats import least_for_bound, wilson
from evalkit.summary import Endpoint, cost_of
from evalkit.trial import Trial
from guardrails.clock import SYSTEM, Clock


def escape(text: str) -> str:
    """Text of others (a model's name, a message) as it may go to a terminal: no markup, no control codes."""
    return _escape("".join(character if character.isprintable() else "?" for character in text))


EVERY = 5.0
"""Seconds between two plain lines."""


# --- while it runs -----------------------------------------------------------------------------------------


@dataclass(slots=True)
class Tally:
    """What has come in so far for one endpoint."""

    total: int
    done: int = 0
    judged: int = 0
    passed: int = 0
    errors: int = 0
    tokens: float = 0.0
    cost: Decimal = Decimal(0)
    priced: bool = False

    def add(self, row: Trial) -> None:
        """Count a row."""
        self.done += 1
        self.judged += row.passed is not None
        self.passed += row.passed is True
        self.errors += row.error is not None
        self.tokens += row.number("output_tokens") or 0.0
        cost = cost_of(row)
        if cost is not None:
            self.cost += cost
            self.priced = True

    def shown(self, seconds: float) -> dict[str, Any]:
        """The numbers of the bar."""
        rate = wilson(self.passed, self.judged)
        passed = (
            "" if rate is None else f"{100 * rate.value:.0f}% [{100 * rate.low:.0f},{100 * rate.high:.0f}]"
        )
        speed = f"{self.tokens / seconds:,.0f} tok/s" if seconds > 0 else ""
        cost = words.usd(float(self.cost)) if self.priced else "cost ?"
        errors = f"{self.errors} err" if self.errors else ""
        return {"rate": passed, "speed": speed, "cost": cost, "errors": errors}


@contextmanager
def progress(
    console: Console, totals: Mapping[str, int], *, clock: Clock = SYSTEM
) -> Iterator[Callable[[Trial], None]]:
    """Show a run as its rows come in: call what this gives with each. `totals`: calls by endpoint."""
    tallies = {name: Tally(total) for name, total in totals.items()}
    if console.is_terminal:
        with _bar(console) as bar:
            tasks = {name: bar.add_task(escape(name), total=t, **_BLANK) for name, t in totals.items()}
            yield _Live(bar, tasks, tallies, clock).add
    else:
        plain = _Plain(console, tallies, clock)
        yield plain.add
        plain.say()


_BLANK: dict[str, Any] = {"rate": "", "speed": "", "cost": "", "errors": ""}


def _bar(console: Console) -> Progress:
    columns = [
        TextColumn("{task.description}"),
        BarColumn(bar_width=None),
        MofNCompleteColumn(),
        TextColumn("[green]{task.fields[rate]}[/]"),
        TextColumn("[red]{task.fields[errors]}[/]"),
    ]
    if console.width >= 78:
        columns += [TextColumn("{task.fields[speed]}"), TextColumn("{task.fields[cost]}")]
    return Progress(*columns, TimeRemainingColumn(compact=True), console=console, expand=True)


@dataclass(slots=True)
class _Live:
    bar: Progress
    tasks: Mapping[str, TaskID]
    tallies: Mapping[str, Tally]
    clock: Clock
    began: float = field(init=False)

    def __post_init__(self) -> None:
        self.began = self.clock.now()

    def add(self, row: Trial) -> None:
        tally = self.tallies[row.endpoint]
        tally.add(row)
        shown = tally.shown(self.clock.now() - self.began)
        self.bar.update(self.tasks[row.endpoint], completed=tally.done, **shown)


@dataclass(slots=True)
class _Plain:
    console: Console
    tallies: Mapping[str, Tally]
    clock: Clock
    began: float = field(init=False)
    said: float = field(init=False)
    news: bool = False

    def __post_init__(self) -> None:
        self.began = self.said = self.clock.now()

    def add(self, row: Trial) -> None:
        self.tallies[row.endpoint].add(row)
        self.news = True
        if self.clock.now() - self.said >= EVERY:
            self.say()

    def say(self) -> None:
        if not self.news:
            return
        self.said, self.news = self.clock.now(), False
        for name, tally in self.tallies.items():
            parts = [part for part in tally.shown(self.said - self.began).values() if part]
            line = f"{escape(name)}: {tally.done}/{tally.total}  {'  '.join(parts)}"
            self.console.print(line, markup=False, highlight=False, soft_wrap=True)


# --- at its end --------------------------------------------------------------------------------------------

Row = tuple[str, Callable[[Endpoint], str]]


def _calls(e: Endpoint) -> str:
    parts = [f"{e.passed:,} passed", f"{e.failed:,} not"]
    if e.failures:
        parts.append(f"{e.failures:,} failed calls")
    if e.unjudged:
        parts.append(f"{e.unjudged:,} unjudged")
    return f"n = {e.calls:,}: {', '.join(parts)}"


_ROWS: Sequence[Row] = (
    ("pass rate", lambda e: f"[bold]{words.percent(e.pass_rate)}[/]"),
    ("  calls", _calls),
    ("TTFT p50", lambda e: words.ms(e.latency["ttft"].p50)),
    ("TTFT p99", lambda e: words.ms(e.latency["ttft"].p99)),
    ("TPOT p50", lambda e: words.ms(e.latency["tpot"].p50)),
    ("TPOT p99", lambda e: words.ms(e.latency["tpot"].p99)),
    ("E2E p50", lambda e: words.ms(e.latency["e2e"].p50)),
    ("E2E p99", lambda e: words.ms(e.latency["e2e"].p99)),
    ("tokens", words.tokens),
    ("cost", lambda e: words.cost_total(e.cost)),
    ("  of 1,000 calls", lambda e: words.cost_per_thousand(e.cost)),
    ("errors", lambda e: f"[red]{escape(words.counts(e.errors))}[/]" if e.errors else "–"),
)


def _optional(endpoints: Sequence[Endpoint]) -> Iterator[Row]:
    if any(e.unjudged for e in endpoints):
        yield "judge errors", lambda e: escape(words.counts(e.judge_errors))
        yield "  rate if they …", lambda e: words.judge_bounds(e) or "–"
    for direction in ("input", "output"):
        if any(where == direction for e in endpoints for where, _, _ in e.findings):
            yield f"found in {direction}", lambda e, d=direction: escape(words.findings(e, d))  # type: ignore[misc] # the default binds now
    if any(e.not_scanned for e in endpoints):
        yield "not scanned", lambda e: f"[yellow]{escape(words.counts(e.not_scanned))}[/]"


def table(console: Console, endpoints: Sequence[Endpoint]) -> None:
    """Print the endpoints side by side, as many as fit at a time."""
    fitting = max(1, (console.width - 20) // 30)
    for start in range(0, len(endpoints), fitting):
        shown = endpoints[start : start + fitting]
        grid = Table(box=box.SIMPLE_HEAD, pad_edge=False, expand=False)
        grid.add_column("", style="dim", no_wrap=True)
        for e in shown:
            model = f"\n[dim]{escape(e.model)}[/]" if e.model and e.model != e.name else ""
            grid.add_column(f"[bold]{escape(e.name)}[/]{model}", overflow="fold")
        for label, value in (*_ROWS, *_optional(endpoints)):
            grid.add_row(label, *(value(e) for e in shown))
        console.print(grid)
    for line in notes(endpoints):
        console.print(f"[dim]{escape(line)}[/]")


def notes(endpoints: Sequence[Endpoint]) -> list[str]:
    """What the numbers mean, as far as it is not obvious."""
    said = ["[…]: 95% interval. Pass rates: Wilson's, failed calls counted as not passed."]
    if any(e.weighted for e in endpoints):
        said.append(
            "Pass rates count each sample by its weight in the golden set, the comparison counts each once."
        )
    if any(0 < len(e.latency["ttft"].values) < least_for_bound(0.99) for e in endpoints):
        said.append(f"∞: fewer than {least_for_bound(0.99)} answers say nothing of how high the p99 may be.")
    if any(e.cost.unknown for e in endpoints):
        said.append("Unknown cost: the model is in no price list; give the endpoint a `prices` file.")
    if any(e.cost.estimated for e in endpoints):
        said.append("Estimated: the endpoint reports no usage and the model's vocabulary is not at hand.")
    return said


def comparisons(console: Console, found: Sequence[Comparison]) -> None:
    """Print each comparison's sentence."""
    for each in found:
        console.print(f"\n[bold]{escape(each.verdict)}[/]")


def gates(console: Console, verdicts: Sequence[tuple[str, Verdict, bool]]) -> None:
    """Print (endpoint, verdict, whether it lets the run pass), one a line."""
    if verdicts:
        console.print("\n[bold]Gates[/]")
    for name, verdict, ok in verdicts:
        colour = {"pass": "green", "fail": "red", "undecided": "yellow"}[verdict.status]
        counted = "" if verdict.status != "undecided" else f" → counts as {'passed' if ok else 'failed'}"
        console.print(f"  [{colour}]{escape(name)}: {escape(verdict.sentence)}{counted}[/]", highlight=False)


def hints(console: Console, rows: Sequence[Trial]) -> None:
    """Print the most frequent failures, each with what to do."""
    failed = [row.error for row in rows if row.error is not None]
    for kind, count in Counter(error.kind for error in failed).most_common(3):
        example = next(error for error in failed if error.kind == kind)
        hint = example.hint or HINTS.get(kind, "")
        said = f"{example.message}{' → ' + hint if hint else ''}"
        console.print(f"[red]{count:,} × {escape(kind)}[/]: {escape(said)}", highlight=False)
