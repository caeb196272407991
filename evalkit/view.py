"""What a run comes to on a terminal: tables, verdicts, gates, hints for its failures.

What it looks like while it runs is in `evalkit.progress`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from decimal import Decimal
from functools import partial
from typing import Any

from rich import box
from rich.console import Console
from rich.table import Table

from evalkit import words
from evalkit.columns import Columns
from evalkit.compare import Comparison
from evalkit.progress import escape as escape
from evalkit.progress import progress as progress
from evalkit.repeats import Repeats
from evalkit.stats import Measured, least_for_bound
from evalkit.summary import Endpoint
from evalkit.verdict import Decided, counted, urgent

Row = tuple[str, Callable[[Endpoint], str]]
MAX_TAGS = 6
"""The most frequent tags, which the table has; a report has more."""
MAX_NAMES = 6
"""Arms that are named in one line."""

_RATE: Sequence[Row] = (
    ("pass rate", lambda e: f"[bold]{words.pass_rate(e)}[/]"),
    ("  calls", words.calls),
)
_ROWS: Sequence[Row] = (
    ("TTFT p50", lambda e: words.time(e, "ttft", "p50")),
    ("TTFT p99", lambda e: words.time(e, "ttft", "p99")),
    ("TPOT p50", lambda e: words.time(e, "tpot", "p50")),
    ("TPOT p99", lambda e: words.time(e, "tpot", "p99")),
    ("E2E p50", lambda e: words.time(e, "e2e", "p50")),
    ("E2E p99", lambda e: words.time(e, "e2e", "p99")),
    ("tokens", words.tokens),
)
_LAST: Sequence[Row] = (
    ("  of 1,000 calls", lambda e: words.cost_per_thousand(e.cost)),
    ("errors", lambda e: f"[red]{escape(words.counts(e.errors))}[/]" if e.errors else "–"),
)


def _sandboxed(endpoints: Sequence[Endpoint]) -> Iterator[Row]:
    """What the answers' code was run in: a pass rate of code is one under that."""
    if any(e.sandboxes for e in endpoints):
        yield "  code run in", lambda e: escape(words.sandboxes(e))


def _repeated(endpoints: Sequence[Endpoint]) -> Iterator[Row]:
    """Rows for samples that were asked several times."""
    found = [e.repeats for e in endpoints if e.repeats is not None]
    if not found:
        return
    for k in sorted({k for r in found for k in words.steps(r.at_least)}):
        yield f"  pass@{k}", partial(words.pass_at, k=k)
        yield f"  pass^{k}", partial(words.pass_all, k=k)
    yield "  majority", partial(_of, lambda r, _: words.majority(r), None)
    for name in dict.fromkeys(name for r in found for name in r.best):
        yield _label(f"best {name}"), partial(_of, lambda r, name: words.decimal(r.best.get(name)), name)
    yield "  flaky", partial(_of, lambda r, _: words.flakes(r), None)
    yield "  varies by", partial(_of, lambda r, _: words.spread(r), None)


def _of(said: Callable[[Repeats, Any], str], about: Any, e: Endpoint) -> str:
    return "–" if e.repeats is None else said(e.repeats, about)


def _label(name: str) -> str:
    return "  " + escape(name if len(name) <= 17 else name[:16] + "…")


def _scored(endpoints: Sequence[Endpoint]) -> Iterator[Row]:
    """Each scorer's own rate where there are several, and the mean of values that are more than yes or no."""
    names = list(dict.fromkeys(name for e in endpoints for name, rate in e.scorers.items() if rate))
    for name in names if len(names) > 1 else ():
        yield _label(name), partial(words.scorer_rate, name=name)
    for name in dict.fromkeys(name for e in endpoints for name in e.scores):
        yield _label(f"ø {name}"), partial(words.scorer_mean, name=name)


def _optional(endpoints: Sequence[Endpoint]) -> Iterator[Row]:
    if any(e.judge_errors for e in endpoints):
        yield "judge errors", lambda e: f"[yellow]{escape(words.counts(e.judge_errors))}[/]"
        yield "  rate if they …", lambda e: words.judge_bounds(e) or "–"
    for direction in ("input", "output"):
        if any(where == direction for e in endpoints for where, _, _ in e.findings):
            yield f"found in {direction}", partial(lambda at, e: escape(words.findings(e, at)), direction)
    if any(e.not_scanned for e in endpoints):
        yield "not scanned", lambda e: f"[yellow]{escape(words.counts(e.not_scanned))}[/]"


def _tagged(endpoints: Sequence[Endpoint]) -> Iterator[Row]:
    for tag in frequent_tags(endpoints, MAX_TAGS):
        yield _label(f"[{tag}]"), partial(lambda tag, e: _with_n(e.tags.get(tag)), tag)


def _with_n(m: Measured | None) -> str:
    return words.percent(m) + (f" (n = {m.n:,})" if m is not None else "")


def frequent_tags(endpoints: Sequence[Endpoint], most: int) -> list[str]:
    """The most frequent tags of all these."""
    counts: dict[str, int] = {}
    for e in endpoints:
        for tag, rate in e.tags.items():
            counts[tag] = counts.get(tag, 0) + rate.n
    return sorted(counts, key=lambda tag: -counts[tag])[:most]


def by_set(endpoints: Sequence[Endpoint]) -> dict[str, list[Endpoint]]:
    """The arms of each set, in order."""
    found: dict[str, list[Endpoint]] = {}
    for e in endpoints:
        found.setdefault(e.set, []).append(e)
    return found


def cost(e: Endpoint, rescored: bool = False) -> str:
    """What an arm cost. A rescored run has the costs of the calls it judged again, but paid only judges."""
    if not rescored or not e.cost.known + e.cost.unknown:
        return words.cost_total(e.cost)
    calls = words.cost_total(replace(e.cost, judging=Decimal(0), unknown_judgings=0))
    now = words.usd(float(e.cost.judging)) + words.judgings_unknown(e.cost)
    return f"{now} now ({calls} by the run that it judged again)"


def table(console: Console, endpoints: Sequence[Endpoint], *, rescored: bool = False) -> None:
    """Print each set's arms side by side, as many as fit at a time, and what the numbers mean."""
    sets = by_set(endpoints)
    for name, arms in sets.items():
        if len(sets) > 1:
            console.print(f"\n[bold]{escape(name)}[/]")
        _side_by_side(console, arms, rescored)
    for line in notes(endpoints):
        console.print(f"[dim]{escape(line)}[/]")


def _side_by_side(console: Console, endpoints: Sequence[Endpoint], rescored: bool) -> None:
    fitting = max(1, (console.width - 20) // 30)
    for start in range(0, len(endpoints), fitting):
        shown = endpoints[start : start + fitting]
        grid = Table(box=box.SIMPLE_HEAD, pad_edge=False, expand=False)
        grid.add_column("", style="dim", no_wrap=True)
        for e in shown:
            model = f"\n[dim]{escape(e.model)}[/]" if e.model and e.model != e.name else ""
            grid.add_column(f"[bold]{escape(e.name)}[/]{model}", overflow="fold")
        parts = (
            _RATE,
            _sandboxed(endpoints),
            _repeated(endpoints),
            _scored(endpoints),
            _tagged(endpoints),
            _ROWS,
            [("cost", partial(cost, rescored=rescored))],
            _LAST,
            _optional(endpoints),
        )
        for label, value in (row for part in parts for row in part):
            grid.add_row(label, *(value(e) for e in shown))
        console.print(grid)


def notes(endpoints: Sequence[Endpoint]) -> list[str]:
    """What the numbers mean, as far as it is not obvious."""
    several = any(e.repeats for e in endpoints)
    how = "clustered by sample" if several else "Wilson's"
    said = [f"[…]: 95% interval. Pass rates: {how}, failed calls counted as not passed."]
    if several:
        said.append(
            "pass@k: one of k answers passes; pass^k: all k do. Majority: the most frequent answer passes "
            "(text without case and spacing). Flaky: passes sometimes."
        )
        if any(e.repeats and e.repeats.variance and e.repeats.variance.judge is None for e in endpoints):
            said.append(
                "No answer was judged twice: what the judge adds to the spread of answers is unknown."
            )
    if any(e.judge_errors for e in endpoints):
        said.append("Judge errors: `evalkit runs show RUN --failing` says why of each.")
    if any(e.passed and not e.scorers for e in endpoints):
        said.append("Nothing judged these answers (scorer `none`): one that came has passed.")
    if any(e.weighted for e in endpoints):
        said.append(
            "Pass rates, mean scores and their differences count a sample by its weight in the golden set, "
            "latencies and costs count each call."
        )
    if any(0 < e.latency["ttft"].n < least_for_bound(0.99) for e in endpoints):
        said.append(f"∞: fewer than {least_for_bound(0.99)} answers say nothing of how high the p99 may be.")
    if any(e.cached for e in endpoints):
        said.append("Answers taken from earlier calls are judged, and take no part in latencies.")
    if not all(e.cost.whole for e in endpoints):
        said.append(
            "Unknown cost: the model is in no price list (give its endpoint a `prices` file), or a call "
            "broke off before it said what it used."
        )
    if any(e.cost.estimated for e in endpoints):
        said.append("Estimated: the endpoint reports no usage and the model's vocabulary is not at hand.")
    return said


def comparisons(console: Console, found: Sequence[Comparison]) -> None:
    """Print each comparison's sentence, with its set where there are several."""
    several = len({each.set for each in found}) > 1
    for each in found:
        at = f"{each.set}: " if several and each.set else ""
        console.print(f"\n[bold]{escape(at + each.verdict)}[/]")


def gates(console: Console, decided: Sequence[Decided], note: str = "") -> None:
    """Print each gate's verdict, one a line: passed, failed or undecided in word and colour, the worst first.

    Arms of which a gate says the very same share a line. `note` is of all of them.
    """
    if decided:
        console.print(f"\n[bold]Gates: {counted(decided)}[/]", highlight=False)
    if note:
        console.print(f"  {escape(note)}", highlight=False)
    alike: dict[tuple[str, str], list[str]] = {}
    for each in urgent(decided):
        alike.setdefault((each.verdict.status, each.verdict.sentence), []).append(each.name)
    for (status, sentence), names in alike.items():
        colour = {"pass": "green", "fail": "red", "undecided": "yellow"}[status]
        more = f" and {len(names) - MAX_NAMES:,} more" if len(names) > MAX_NAMES else ""
        said = f"{escape(', '.join(names[:MAX_NAMES]) + more)}: {escape(sentence)}"
        console.print(f"  [{colour}]{said}[/]", highlight=False)


def hints(console: Console, columns: Columns) -> None:
    """Print the most frequent failures of calls, each with what to do, and those of judges."""
    import numpy as np

    from evalkit.runner import advice

    counts = np.bincount(columns.rows["error"], minlength=len(columns.words.errors))
    numbers = [number for number in np.argsort(-counts, kind="stable") if number and counts[number]]
    for number in numbers[:3]:
        kind = columns.words.errors[number]
        example = columns.failures[kind]
        hint = advice(kind, example.hint)
        said = f"{example.message}{' → ' + hint if hint else ''}"
        console.print(f"[red]{counts[number]:,} × {escape(kind)}[/]: {escape(said)}", highlight=False)
    counts = np.bincount(columns.scores["error"], minlength=len(columns.words.errors))
    for number in [each for each in np.argsort(-counts, kind="stable") if each and counts[each]][:3]:
        kind = columns.words.errors[number]
        said = f"{counts[number]:,} × {kind}, such as {columns.lost[kind]}"
        console.print(f"[red]judges failed[/]: {escape(said)}", highlight=False)
