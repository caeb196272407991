"""What a list of runs shows: a line a run, each with what its rows say. And a list of rows that did not pass.

What is shown comes from a database that others may write to: all of it goes through `escape`.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import timedelta
from decimal import Decimal
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rich.console import Console

    from evalkit.asked import Asked
    from evalkit.stats import Measured
    from evalkit.stores import Run, Tally
    from evalkit.trial import Trial
    from judges.judge import Question

LONGEST = 300
"""Characters of a question or an answer beside a row that did not pass."""
SHOWN = 3
"""Right answers that are named there."""


@dataclass(frozen=True, slots=True)
class Listed:
    """A run in a list: its arms are (set, name, pass rate)."""

    run: Run
    arms: Sequence[tuple[str, str, Measured | None]]
    trials: str
    cost: str
    age: str

    @classmethod
    def of(cls, run: Run, tallies: Sequence[Tally], replaced: Decimal = Decimal(0)) -> Listed:
        """Of a run, the tallies of its rows, and what rows cost that are no longer there."""
        from guardrails.clock import SYSTEM

        arms = [(name, arm, _rate(some)) for (name, arm), some in _arms(tallies).items()]
        trials = f"{run.trials:,}" if run.trials == run.planned else f"{run.trials:,} of {run.planned:,}"
        cost = _cost(Paid.of(run, tallies, replaced))
        return cls(run, arms, trials, cost, _age(SYSTEM.wall() - run.started_at))


@dataclass(frozen=True, slots=True)
class Paid:
    """What a run has paid in USD, None when none of it is known, and of how many rows that is not known."""

    usd: float | None
    unknown: int

    @classmethod
    def of(cls, run: Run, tallies: Sequence[Tally], replaced: Decimal) -> Paid:
        """A rescored run paid its judges alone, if any: its calls were paid by the run that it judged again.

        A list cannot tell whether a row's call or its judging has the unknown cost, so either counts then.
        """
        rescored = bool(run.info.get("rescored"))
        priced, rows = sum(each.priced for each in tallies), sum(each.rows for each in tallies)
        usd = sum(each.judging_usd if rescored else each.cost_usd for each in tallies) + float(replaced)
        unknown = rows - priced if run.info.get("judges") or not rescored else 0
        return cls(usd if usd or rows > unknown else None, unknown)


def show(console: Console, runs: Sequence[Listed], none: str = "no runs yet") -> None:
    """A table; on a terminal that is too narrow for it a few lines each. Ids stay whole: to be copied.

    `none` is what is said where there are no runs.
    """
    from rich import box
    from rich.table import Table

    from evalkit.view import escape

    heads = ("run", "status", "set", "endpoint", "trials", "pass rate [95%], n", "cost", "age", "tags")
    grid = Table(*heads, box=box.SIMPLE_HEAD, pad_edge=False)
    for each in runs:
        grid.add_row(
            *(escape(each.run.id), each.run.status),
            "\n".join(escape(name) for name, _, _ in each.arms),
            "\n".join(escape(arm) for _, arm, _ in each.arms),
            *(each.trials, "\n".join(escape(_said(rate)) for _, _, rate in each.arms)),
            *(each.cost, each.age, escape(", ".join(each.run.tags))),
        )
    wide = console.measure(grid, options=console.options.update(width=10_000)).maximum
    if not runs:
        console.print(escape(none), highlight=False)
    elif wide <= console.width or not (console.is_terminal or "COLUMNS" in os.environ):
        console.width = max(wide, console.width)
        console.print(grid)
    else:
        _blocks(console, runs)


def _blocks(console: Console, runs: Sequence[Listed]) -> None:
    from evalkit.view import escape

    def line(text: str) -> None:
        console.print(text, highlight=False, soft_wrap=True)

    for each in runs:
        tags = f" [dim]({escape(', '.join(each.run.tags))})[/]" if each.run.tags else ""
        line(f"[bold]{escape(each.run.id)}[/]{tags}")
        rows = "row" if each.run.trials == each.run.planned == 1 else "rows"
        line(f"  {each.run.status}, {each.trials} {rows}, {each.age} ago, cost {escape(each.cost)}")
        for name, arm, rate in each.arms:
            line(f"  {escape(f'{name}: {arm}' if name else arm)}: {escape(_said(rate, 'n = '))}")


def _said(rate: Measured | None, before: str = "") -> str:
    from evalkit import words

    return words.percent(rate) + ("" if rate is None else f", {before}{rate.n:,}")


def plain(run: Run, tallies: Sequence[Tally], replaced: Decimal = Decimal(0)) -> dict[str, Any]:
    """A run for machines; `replaced` as in `Listed.of`."""
    arms = []
    for (name, endpoint), some in _arms(tallies).items():
        rate = _rate(some)
        shares = (
            None if rate is None else {"value": rate.value, "low": rate.low, "high": rate.high, "n": rate.n}
        )
        rows = sum(each.rows for each in some)
        arms.append({"set": name, "endpoint": endpoint, "trials": rows, "pass_rate": shares})
    paid = Paid.of(run, tallies, replaced)
    return {
        "id": run.id,
        "name": run.name,
        "digest": run.digest,
        "status": run.status,
        "started_at": run.started_at.isoformat(),
        "ended_at": None if run.ended_at is None else run.ended_at.isoformat(),
        "trials": run.trials,
        "planned": run.planned,
        "tags": list(run.tags),
        "arms": arms,
        "cost_usd": paid.usd,
        "cost_unknown": paid.unknown,
    }


def _arms(tallies: Sequence[Tally]) -> dict[tuple[str, str], list[Tally]]:
    """By (set, endpoint with its prompt)."""
    arms: dict[tuple[str, str], list[Tally]] = {}
    for each in tallies:
        endpoint = f"{each.endpoint}/{each.prompt}" if each.prompt else each.endpoint
        arms.setdefault((each.set, endpoint), []).append(each)
    return arms


def _rate(tallies: Sequence[Tally]) -> Measured | None:
    """The pass rate as `show` counts it: over samples, without the rows that a judge failed on."""
    import numpy as np

    from evalkit.stats_cluster import share

    judged = [each for each in tallies if each.judged]
    samples = [each.samples for each in judged]
    values = np.repeat([each.passed / each.judged for each in judged], samples)
    weights = np.repeat([each.weight for each in judged], samples)
    return share(values, weights, sum(each.judged * each.samples for each in judged))


def _cost(paid: Paid) -> str:
    from evalkit import words

    if paid.usd is None:
        return "unknown" if paid.unknown else "–"
    unknown = f" + {paid.unknown:,} unknown" if paid.unknown else ""
    return words.usd(paid.usd) + unknown


def _age(age: timedelta) -> str:
    seconds = max(0, int(age.total_seconds()))
    for unit, length in (("d", 86_400), ("h", 3_600), ("min", 60)):
        if seconds >= 2 * length:
            return f"{seconds // length} {unit}"
    return f"{seconds} s"


# --- rows that did not pass --------------------------------------------------------------------------------


def failing(console: Console, rows: Iterable[Trial], limit: int, asked: Asked, several: bool = False) -> None:
    """So many rows that did not pass, each with what was `asked` and why, and whether there are more.

    `several`: there is more than one answer to a sample.
    """
    from evalkit import words
    from evalkit.view import escape

    count = 0
    for count, row in enumerate(rows, start=1):
        if count > limit:
            console.print(f"[dim]there are more than these {limit:,}: --limit, or export the run[/]")
            return
        where = " ".join(part for part in (row.set, words.called(row, several), row.arm) if part)
        console.print(f"\n[bold]{escape(where)}[/]", highlight=False)
        for word, text in _question(asked.get((row.set, row.sample))):
            console.print(f"  [dim]{word}:[/] {escape(_cut(text))}", highlight=False)
        for line in _why(row):
            console.print(f"  [red]{escape(line)}[/]", highlight=False)
        if row.answer is not None:
            text = _cut(row.answer.text or row.answer.refusal)
            console.print(f"  [dim]answered: {escape(text)}[/]", highlight=False)
    if not count:
        console.print("every row passed")


def _question(asked: Question | None) -> Iterator[tuple[str, str]]:
    if asked is not None:
        yield "asked", asked.prompt
        if asked.references:
            yield "expected", " or ".join(asked.references[:SHOWN])


def _cut(text: str) -> str:
    """One line, not too long."""
    return " ".join((text if len(text) <= LONGEST else f"{text[:LONGEST]}…").split())


def _why(row: Trial) -> Iterator[str]:
    if row.error is not None:
        yield f"{row.error.kind}: {row.error.message}"
    for name, score in row.scores.items():
        if score.error is not None:
            yield f"{name} could not judge ({score.error}): {score.reason}"
        elif score.passed is False:
            yield f"{name}: {score.reason}"
