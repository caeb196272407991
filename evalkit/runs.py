"""`evalkit runs`: list, show, export, delete and tag what has been kept.

What is shown comes from a database that others may write to: all of it goes through `escape`.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from datetime import datetime
from decimal import Decimal
from enum import StrEnum
from pathlib import Path
from typing import IO, TYPE_CHECKING, Annotated, Any

import typer

from evalkit import listing
from evalkit.told import told
from guardrails.errors import ConfigError
from guardrails.record import total

if TYPE_CHECKING:
    from rich.console import Console

    from evalkit.gate import Gate
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
Out = Annotated[
    Path,
    typer.Option("--out", "--dir", metavar="DIR", help="The folder that holds `runs.db`, without --store."),
]
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
    from evalkit.stores import as_found

    with _kept(store, out) as kept:
        runs = [as_found(kept, run) for run in kept.runs(tag=tag, limit=limit)]
        found = [(run, _tallies(kept, run), _replaced(kept, run)) for run in runs]
    if as_json:
        _print_json([listing.plain(*each) for each in found])
        return
    none = "no runs yet" if tag is None else f"no run has the tag {tag}"
    listing.show(_console(), [listing.Listed.of(*each) for each in found], none)


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
    from evalkit.asked import asked
    from evalkit.known_judges import digests, flags, known
    from evalkit.stores import as_found

    with _kept(store, out) as kept:
        found = as_found(kept, kept.find(run))
        if as_json:
            shown = listing.plain(found, _tallies(kept, found), _replaced(kept, found))
            failed = kept.trials(found.id, failing=True, limit=limit) if failing else ()
            judges = digests(found.info)
            _print_json(
                shown
                | {"info": told(found.info), "warnings": flags(judges, known(out), judges)}
                | ({"failing": [row.as_dict() for row in failed]} if failing else {})
            )
            return
        console = _console()
        _head(console, found)
        if failing:
            rows = list(kept.trials(found.id, failing=True, limit=limit + 1))
            questions = asked(found.info, rows[:limit])
            listing.failing(console, rows, limit, questions, several=_several(found.info))
            return
        _numbers(console, kept, found, out)


@app.command()
def compare(
    run: Name,
    other: Annotated[str, typer.Argument(metavar="BASELINE", help="The run that it is held against.")],
    store: Url = None,
    out: Out = HOME,
    limit: Annotated[int, typer.Option(min=1, help="So many samples that pass less or more often.")] = 20,
    as_json: AsJson = False,
) -> None:
    """Hold a run against another: the difference with its interval, and the samples that changed sides.

    In JSON all of these samples are named, whatever --limit says.
    """
    from evalkit.columns import Columns
    from evalkit.sides import Sides

    with _kept(store, out) as kept:
        found = [kept.find(name) for name in (run, other)]
        ours, theirs = (Columns.of(kept.trials(each.id)) for each in found)
    sides = Sides.of(ours, theirs, found[1].id)
    if as_json:
        _print_json({"run": found[0].id, **sides.plain()})
    else:
        sides.show(_console(), limit)
    if not any(each.rates or each.ttft_ms or each.cost_ratio for each in sides.comparisons):
        raise ConfigError(
            f"nothing can be compared: no arm of {found[0].id} shares a sample with {found[1].id}",
            hint="an arm is held against its own, on the same set: `evalkit runs show RUN` names them",
        )


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
    from evalkit import words
    from evalkit.stores import export as exporting
    from evalkit.whole import opened

    if out is not None and out.is_dir():
        raise ConfigError(f"{out} is a folder", hint="name a file in it")
    chosen = form or _form_of(out)
    with _kept(store, folder) as kept:
        found = kept.find(run)

        def rows() -> Iterator[Trial]:
            return kept.trials(found.id)

        if out is None:
            _print_rows(lambda target: exporting.write(rows, chosen.value, target), chosen)
            return
        with opened(out) as file:
            count = exporting.write(rows, chosen.value, file)
    typer.echo(f"{words.count(count, 'row')} in {out} ({chosen.value})", err=True)


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
    """By the file's name; one without an ending, such as a pipe, gets JSONL."""
    ending = "" if path is None else path.suffix.lower().removeprefix(".")
    if not ending:
        return Form.jsonl
    if ending not in list(Form):
        raise ConfigError(
            f"{path}: rows are not exported as .{ending}",
            hint=f"name a file that ends in {', '.join(f'.{form}' for form in Form)}, or say --format",
        )
    return Form(ending)


@app.command()
def delete(
    run: Name,
    store: Url = None,
    out: Out = HOME,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
) -> None:
    """Delete a run and its rows for good."""
    from evalkit import words

    with _kept(store, out) as kept:
        found = kept.find(run)
        if not yes and not typer.confirm(f"Delete {found.id} with {words.count(found.trials, 'row')}?"):
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
    move: Annotated[bool, typer.Option("--move", help="Take them away from all other runs.")] = False,
) -> None:
    """Give a run tags, by which it is found: `evalkit runs tag latest baseline --move`."""
    from evalkit import words
    from evalkit.stores import as_found

    if remove and move:
        raise ConfigError("--move gives tags and --remove takes them away", hint="leave one of them out")
    with _kept(store, out) as kept:
        found = kept.find(run)
        if remove and (strange := [name for name in names if name not in found.tags]):
            has = ", ".join(found.tags) or "none"
            raise ConfigError(f"{found.id} has no tag {', '.join(strange)}", hint=f"its tags are: {has}")
        kept.tag(found.id, add=() if remove else names, remove=names if remove else (), move=move)
        found = as_found(kept, kept.find(found.id))
    typer.echo(f"{found.id}: {', '.join(found.tags) or 'no tags'}", err=True)
    if not remove and found.status != "complete":
        rows = f"{found.trials:,} of {words.count(found.planned, 'row')}"
        typer.echo(f"warning: this run is no whole one ({found.status}, {rows})", err=True)


def _tallies(store: Store, run: Run) -> Sequence[Tally]:
    """What a run's rows say; of one that judged another again, what that cost."""
    return store.tallies(run.id, judging=bool(run.info.get("rescored")))


def _replaced(store: Store, run: Run) -> Decimal:
    """What the run paid for rows that are no longer there."""
    return total(store.replaced(run.id).values())


# --- what is shown -----------------------------------------------------------------------------------------


def _console() -> Console:
    from evalkit.cli import consoles

    return consoles()[0]


def _print_json(value: Any) -> None:
    from evalkit.stores.codec import page

    sys.stdout.buffer.write(page(value))
    sys.stdout.buffer.flush()


def _numbers(console: Console, store: Store, run: Run, home: Path) -> None:
    """The table, the comparisons, what the run's gates say of its rows, and which judges to doubt."""
    import numpy as np

    from evalkit import against, view
    from evalkit.ci import plain
    from evalkit.columns import Columns
    from evalkit.compare import compare
    from evalkit.evaluate import AGAINST
    from evalkit.known_judges import digests, flags, known
    from evalkit.summary import summarise
    from evalkit.tiers import Tiers
    from evalkit.verdict import decide_all

    tiers = Tiers()
    columns = Columns.of(tiers.watch(store.trials(run.id)))
    rng = np.random.default_rng(0)
    gates = _gates(run.info)
    wanted = (run.info.get(AGAINST) or {}) if gates else {}
    others = against.found(store, wanted)
    # As `evaluate.conclude` draws: the same rows say the same.
    decided = decide_all(gates, columns, {name: rows for name, (_, rows) in others.items()}, rng)
    compared = compare(columns, rng)
    endpoints = summarise(columns, rng, tiers.found, store.replaced(run.id))
    view.table(console, endpoints, rescored=bool(run.info.get("rescored")))
    view.comparisons(console, compared)
    view.gates(console, decided, plain.counted_as(decided, run.info))
    view.hints(console, columns)
    judges = [name for each in endpoints for name in each.scorers]
    for doubt in (*flags(judges, known(home), digests(run.info)), *against.doubts(run, others, wanted)):
        console.print(f"[yellow]warning:[/] {view.escape(doubt)}", highlight=False, soft_wrap=True)


def _gates(info: Mapping[str, Any]) -> list[Gate]:
    """The gates that a run had; those of another version that cannot be read are left out."""
    from evalkit import gate

    found = []
    suite = info.get("suite")
    for spec in suite.get("gates") or () if isinstance(suite, Mapping) else ():
        with suppress(ConfigError):
            found.append(gate.parse(spec))
    return found


def _several(info: Mapping[str, Any]) -> bool:
    """Whether a run asked for more than one answer to a sample."""
    suite = info.get("suite")
    sampling = suite.get("sampling") if isinstance(suite, Mapping) else None
    return isinstance(sampling, Mapping) and sampling.get("n") not in (None, 1)


def _head(console: Console, run: Run) -> None:
    from evalkit import words
    from evalkit.view import escape

    console.print(
        f"[bold]{escape(run.id)}[/]  {run.status}, {run.trials:,} of {words.count(run.planned, 'row')}"
    )
    facts = [
        ("started", _time(run.started_at)),
        ("ended", _time(run.ended_at)),
        ("tags", ", ".join(run.tags)),
    ]
    for name, value in (*facts, *_lines(run.info)):
        if value:
            console.print(f"  [dim]{escape(name)}[/]  {escape(value)}", highlight=False, soft_wrap=True)


def _time(at: datetime | None) -> str:
    return "" if at is None else f"{at:%Y-%m-%d %H:%M:%S} UTC"


def _lines(info: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """The lineage, a line each; what is long is in the JSON."""
    from evalkit.stores.codec import dumped

    for name, value in told(info).items():
        if name in _UNSHOWN:
            continue
        if name in ("golden", "endpoints", "judges", "prompts") and isinstance(value, list):
            said = "; ".join(_named(each) for each in value)
        else:
            said = value if isinstance(value, str) else dumped(value).strip() if value else ""
        yield name, said if len(said) <= LONGEST else f"{said[:LONGEST]}… (--json shows all)"


LONGEST = 200
_UNSHOWN = {"packages", "suite", "suite_sha256"}
"""What is in the JSON only."""


def _named(one: Any) -> str:
    """A golden set, an endpoint, a judge or a prompt in a few words."""
    if not isinstance(one, Mapping):
        return str(one)
    from evalkit import words

    told = [str(one[name]) for name in ("url", "model") if one.get(name)]
    if one.get("samples") is not None:
        told.append(words.count(one["samples"], "sample"))
    told += [f"sha256 {str(one['sha256'])[:12]}"] if one.get("sha256") else []
    return f"{one.get('name', '')} ({', '.join(told)})" if told else str(one.get("name", ""))
