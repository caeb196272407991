"""`evalkit runs`: list, show, export, delete and tag what has been kept.

What is shown comes from a database that others may write to: all of it goes through `escape`.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import datetime, timedelta
from enum import StrEnum
from pathlib import Path
from typing import IO, TYPE_CHECKING, Annotated, Any

import typer

from guardrails.errors import ConfigError

if TYPE_CHECKING:
    from rich.console import Console

    from evalkit.stats import Measured
    from evalkit.stores import Run, Store, Tally
    from evalkit.trial import Trial

app = typer.Typer(help="The runs that are kept: look at them, export them, tag and delete them.")

Url = Annotated[
    str | None,
    typer.Option(
        metavar="URL",
        envvar="EVALKIT_STORE",
        help="Where runs are kept: a file, or postgresql://USER:PASSWORD@HOST/DATABASE.",
    ),
]
Out = Annotated[Path, typer.Option(metavar="DIR", help="The folder that holds `runs.db`, without --store.")]
Name = Annotated[
    str,
    typer.Argument(
        metavar="RUN", help="Its id, the beginning of it, a tag, or `latest`.", show_default=False
    ),
]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]

HOME = Path(".evalkit")


@contextmanager
def _kept(url: str | None, out: Path) -> Iterator[Store]:
    from evalkit.stores import open_store

    store = open_store(url or out / "runs.db", create=False)
    try:
        yield store
    finally:
        store.close()


@app.command("list")
def list_(
    store: Url = None,
    out: Out = HOME,
    tag: Annotated[str | None, typer.Option(help="Only those with this tag.")] = None,
    limit: Annotated[int, typer.Option(min=1, help="So many of the newest.")] = 20,
    as_json: AsJson = False,
) -> None:
    """The newest runs, each with what its rows say."""
    with _kept(store, out) as kept:
        found = [(run, kept.tallies(run.id)) for run in kept.runs(tag=tag, limit=limit)]
    if as_json:
        _print_json([_plain(run, tallies) for run, tallies in found])
        return
    from rich import box
    from rich.table import Column, Table

    from evalkit import words
    from evalkit.view import escape
    from guardrails.clock import SYSTEM

    now = SYSTEM.wall()
    ids = Column("run", no_wrap=True, min_width=max((len(run.id) for run, _ in found), default=0))
    heads = ("status", "set", "endpoint", "trials", "pass rate [95%], n", "cost", "age", "tags")
    others = (Column(head, overflow="fold") for head in heads)  # an id is there to be copied: it stays whole
    grid = Table(ids, *others, box=box.SIMPLE_HEAD, pad_edge=False)
    for run, tallies in found:
        arms = list(_arms(tallies).items())
        rates = [_rate(some) for _, some in arms]
        grid.add_row(
            escape(run.id),
            run.status,
            "\n".join(escape(name) for (name, _), _ in arms),
            "\n".join(escape(endpoint) for (_, endpoint), _ in arms),
            f"{run.trials:,}" if run.trials == run.planned else f"{run.trials:,} of {run.planned:,}",
            "\n".join(f"{words.percent(m)}, {m.n:,}" if m else "–" for m in rates),
            _cost(tallies),
            _age(now - run.started_at),
            escape(", ".join(run.tags)),
        )
    _console().print(grid if found else "no runs yet")


@app.command()
def show(
    run: Name,
    store: Url = None,
    out: Out = HOME,
    failing: Annotated[bool, typer.Option("--failing", help="The rows that did not pass.")] = False,
    limit: Annotated[int, typer.Option(min=1, help="So many rows of --failing.")] = 20,
    as_json: AsJson = False,
) -> None:
    """A run's numbers and where they come from; with --failing, the rows that did not pass."""
    with _kept(store, out) as kept:
        found = kept.find(run)
        if as_json:
            shown = _plain(found, kept.tallies(found.id))
            rows = kept.trials(found.id, failing=True, limit=limit) if failing else ()
            _print_json(
                shown | {"info": found.info} | ({"failing": [r.as_dict() for r in rows]} if failing else {})
            )
            return
        console = _console()
        _head(console, found)
        if failing:
            _failing(console, kept.trials(found.id, failing=True, limit=limit + 1), limit)
            return
        from evalkit.columns import Columns
        from evalkit.summary import summarise
        from evalkit.view import hints, table

        columns = Columns.of(kept.trials(found.id))
        table(console, summarise(columns))
        hints(console, columns)


class Form(StrEnum):
    """A form that rows are exported in."""

    jsonl = "jsonl"
    csv = "csv"
    parquet = "parquet"


@app.command()
def export(
    run: Name,
    store: Url = None,
    out: Annotated[Path | None, typer.Option(metavar="FILE", help="Write here (default: print).")] = None,
    form: Annotated[
        Form | None, typer.Option("--format", help="Default: what the file's name ends in, or jsonl.")
    ] = None,
    folder: Annotated[
        Path, typer.Option("--dir", metavar="DIR", help="The folder that holds `runs.db`, without --store.")
    ] = HOME,
) -> None:
    """Write a run's rows: JSONL with all that they hold, or a flat table in CSV or Parquet.

    In CSV, text that a spreadsheet would take for a formula gets an apostrophe before it.
    """
    from evalkit.stores import export as exporting

    chosen = form or _form_of(out)
    with _kept(store, folder) as kept:
        found = kept.find(run)

        def rows() -> Iterator[Trial]:
            return kept.trials(found.id)

        if out is None:
            _print_rows(lambda target: exporting.write(rows, chosen.value, target), chosen)
            return
        with exporting.opened(out) as file:
            count = exporting.write(rows, chosen.value, file)
    typer.echo(f"{count:,} rows in {out}", err=True)


def _print_rows(write: Callable[[IO[bytes]], int], form: Form) -> None:
    if form is Form.parquet and sys.stdout.isatty():
        raise ConfigError("Parquet is not for a terminal", hint="name a file with --out")
    try:
        write(sys.stdout.buffer)
        sys.stdout.buffer.flush()
    except BrokenPipeError:  # whoever reads has enough, as `head` does
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        raise typer.Exit(1) from None


def _form_of(path: Path | None) -> Form:
    ending = "" if path is None else path.suffix.lower().removeprefix(".")
    return Form(ending) if ending in list(Form) else Form.jsonl


@app.command()
def delete(
    run: Name,
    store: Url = None,
    out: Out = HOME,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
) -> None:
    """Delete a run and its rows for good."""
    with _kept(store, out) as kept:
        found = kept.find(run)
        if not yes and not typer.confirm(f"Delete {found.id} with {found.trials:,} rows?"):
            raise typer.Exit(1)
        kept.delete(found.id)
    typer.echo(f"deleted {found.id}", err=True)


@app.command()
def tag(
    run: Name,
    names: Annotated[list[str], typer.Argument(metavar="NAME…", help="The tags.", show_default=False)],
    store: Url = None,
    out: Out = HOME,
    remove: Annotated[bool, typer.Option("--remove", help="Take them away instead.")] = False,
) -> None:
    """Give a run tags, by which it is found: `evalkit runs tag latest baseline`."""
    with _kept(store, out) as kept:
        found = kept.find(run)
        kept.tag(found.id, add=() if remove else names, remove=names if remove else ())
        tags = kept.find(found.id).tags
    typer.echo(f"{found.id}: {', '.join(tags) or 'no tags'}", err=True)


# --- what is shown -----------------------------------------------------------------------------------------


def _console() -> Console:
    from evalkit.cli import consoles

    return consoles()[0]


def _print_json(value: Any) -> None:
    import orjson

    options = orjson.OPT_INDENT_2 | orjson.OPT_NON_STR_KEYS
    sys.stdout.buffer.write(orjson.dumps(value, default=str, option=options) + b"\n")
    sys.stdout.buffer.flush()


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


def _cost(tallies: Sequence[Tally]) -> str:
    from evalkit import words

    priced, rows = sum(each.priced for each in tallies), sum(each.rows for each in tallies)
    if not priced:
        return "unknown" if rows else "–"
    unknown = f" + {rows - priced:,} unknown" if rows > priced else ""
    return words.usd(sum(each.cost_usd for each in tallies)) + unknown


def _age(age: timedelta) -> str:
    seconds = max(0, int(age.total_seconds()))
    for unit, length in (("d", 86_400), ("h", 3_600), ("min", 60)):
        if seconds >= 2 * length:
            return f"{seconds // length} {unit}"
    return f"{seconds} s"


def _plain(run: Run, tallies: Sequence[Tally]) -> dict[str, Any]:
    arms = []
    for (name, endpoint), some in _arms(tallies).items():
        rate = _rate(some)
        shares = (
            None if rate is None else {"value": rate.value, "low": rate.low, "high": rate.high, "n": rate.n}
        )
        rows = sum(each.rows for each in some)
        arms.append({"set": name, "endpoint": endpoint, "trials": rows, "pass_rate": shares})
    priced = sum(each.priced for each in tallies)
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
        "cost_usd": sum(each.cost_usd for each in tallies) if priced else None,
        "cost_unknown": sum(each.rows for each in tallies) - priced,
    }


def _head(console: Console, run: Run) -> None:
    from evalkit.view import escape

    console.print(f"[bold]{escape(run.id)}[/]  {run.status}, {run.trials:,} of {run.planned:,} rows")
    facts = {"started": _time(run.started_at), "ended": _time(run.ended_at), "tags": ", ".join(run.tags)}
    for name, value in (facts | dict(_lines(run.info))).items():
        if value:
            console.print(f"  [dim]{escape(name)}[/]  {escape(value)}", highlight=False, soft_wrap=True)


def _time(at: datetime | None) -> str:
    return "" if at is None else f"{at:%Y-%m-%d %H:%M:%S} UTC"


def _lines(info: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """The lineage, a line each; what is long is in the JSON."""
    from evalkit.stores.codec import dumped

    for name, value in info.items():
        said = value if isinstance(value, str) else dumped(value).strip()
        yield name, said if len(said) <= 200 else f"{said[:200]}… (--json shows all)"


def _failing(console: Console, rows: Iterator[Trial], limit: int) -> None:
    from evalkit.view import escape

    count = 0
    for count, row in enumerate(rows, start=1):
        if count > limit:
            console.print(f"[dim]there are more than these {limit:,}: --limit, or export the run[/]")
            return
        where = " ".join(
            part for part in (row.set, row.sample, row.arm, f"#{row.k}" if row.k else "") if part
        )
        console.print(f"\n[bold]{escape(where)}[/]", highlight=False)
        for line in _why(row):
            console.print(f"  [red]{escape(line)}[/]", highlight=False)
        if row.answer is not None:
            text = row.answer.text or row.answer.refusal
            shown = text if len(text) <= 300 else f"{text[:300]}…"
            console.print(f"  [dim]{escape(' '.join(shown.split()))}[/]", highlight=False)
    if not count:
        console.print("every row passed")


def _why(row: Trial) -> Iterator[str]:
    if row.error is not None:
        yield f"{row.error.kind}: {row.error.message}"
    for name, score in row.scores.items():
        if score.error is not None:
            yield f"{name} could not judge ({score.error}): {score.reason}"
        elif score.passed is False:
            yield f"{name}: {score.reason}"
