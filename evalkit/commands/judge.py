"""`evalkit judge calibrate`: a judge's verdicts against people's labels."""

from __future__ import annotations

import json as codec
import math
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from evalkit.runs import HOME, Out, Url
from guardrails.errors import ConfigError

if TYPE_CHECKING:
    from rich.console import Console

    from evalkit.calibration import Calibration, Case
    from evalkit.corrected import Corrected
    from evalkit.labels import Label, Verdict
    from judges.agreement import Agreement

app = typer.Typer(help="Judges: how far they agree with people.", no_args_is_help=True)


@app.callback()
def _judge() -> None:
    """Commands are below."""


@app.command()
def calibrate(
    labels: Annotated[Path, typer.Option(help="People's labels, JSONL; `evalkit label` writes them.")],
    run: Annotated[
        str | None, typer.Option(help="The run that they label: an id, a tag or `latest`.")
    ] = None,
    scorer: Annotated[str | None, typer.Option(help="The judge, where the run has several.")] = None,
    min_agreement: Annotated[
        float, typer.Option(min=-1.0, max=1.0, help="The kappa below which reports warn of the judge.")
    ] = 0.6,
    json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
    out: Out = HOME,
    store: Url = None,
) -> None:
    """Compare a judge with people: agreement, biases, and the run's pass rate without the judge's errors.

    Without --run the labels hold the judge's verdicts themselves, in `judged`. What comes out is kept in
    `calibrations` under --out, where reports look for judges to warn of.
    """
    import numpy as np

    from evalkit import calibration
    from evalkit.labels import read

    found = read(labels)
    if run is None:
        judge, digest = scorer or labels.stem, ""
        cases, verdicts = calibration.of_labels(found)
        unmatched = 0
    else:
        judge, digest, cases, verdicts, unmatched = _of_run(run, scorer, found, store or out / "runs.db")
    result = calibration.calibrate(
        judge, cases, verdicts, np.random.default_rng(0),
        minimum=min_agreement, unmatched=unmatched, digest=digest,
    )  # fmt: skip
    path = calibration.keep(result, out)
    if json:
        typer.echo(codec.dumps(result.as_dict(), indent=2, ensure_ascii=False, allow_nan=False))
        return
    from evalkit.cli import consoles

    console = consoles()[0]
    show(result, console)
    console.print(f"kept in {path}", markup=False, highlight=False, soft_wrap=True)


def _of_run(
    run: str, scorer: str | None, labels: list[Label], database: str | Path
) -> tuple[str, str, list[Case], list[Verdict], int]:
    from evalkit import calibration
    from evalkit.labels import majority
    from evalkit.stores import open_store

    kept = open_store(database, create=False)
    try:
        found = kept.find(run)
        rows = list(kept.trials(found.id))
    finally:
        kept.close()
    names = list(dict.fromkeys(name for row in rows for name in row.scores))
    if scorer is None and len(names) != 1:
        raise ConfigError(f"{found.id} has {len(names)} scorers", hint=_which(names))
    if scorer is not None and scorer not in names:
        raise ConfigError(f"{found.id} has no scorer {scorer[:40]!r}", hint=_which(names))
    judge = scorer or names[0]
    cases, verdicts = calibration.of_run(rows, judge, labels)
    unmatched = len(majority(labels)) - len(verdicts)
    return judge, calibration.digest_of(found.info), cases, verdicts, unmatched


def _which(names: list[str]) -> str:
    return f"--scorer {' | '.join(names[:10])}" if names else "a run with scorers"


# --- shown -------------------------------------------------------------------------------------------------


def show(found: Calibration, console: Console) -> None:
    """Agreement, confusion, biases and corrected rates, each with its n and its interval."""
    from rich.markup import escape
    from rich.table import Table

    console.print(f"[bold]{escape(found.judge)}[/] against people, {found.labelled:,} labelled answers")
    grid = Table("", "value [95%]", "n", box=None, pad_edge=False)
    for name, of in _lines(found):
        grid.add_row(name, "–" if of is None else _signed(of), "–" if of is None else f"{of.n:,}")
    console.print(grid)
    _confusion(found, console)
    for rates in found.rates:
        console.print(f"\n[bold]{escape(rates.arm or 'all')}[/]  pass rate of judged answers")
        judged = rates.judged
        console.print(f"  as judged     {_percent(judged.value, judged.low, judged.high)}, n = {judged.n:,}")
        for name, each in (("PPI", rates.ppi), ("Rogan–Gladen", rates.rogan_gladen)):
            console.print(f"  {name:<13} {_corrected(each)}", highlight=False)
    for line in _remarks(found):
        console.print(line)


def _lines(found: Calibration) -> Iterator[tuple[str, Agreement | None]]:
    yield "accuracy", found.accuracy
    yield "Cohen's kappa", found.kappa
    if len(found.values) > 2:
        yield "  weighted (quadratic)", found.weighted_kappa
    yield "Krippendorff's alpha", found.alpha
    yield "  among people", found.people
    yield "length bias (Spearman)", found.length_bias
    yield "position bias", found.position_bias


def _signed(of: Agreement) -> str:
    if math.isnan(of.value):
        return "unknown: nothing varies"
    return f"{of.value:.3f} [{of.low:.3f}, {of.high:.3f}]"


def _percent(value: float, low: float, high: float) -> str:
    return f"{value:.1%} [{100 * low:.1f}, {100 * high:.1f}]"


def _corrected(of: Corrected | None) -> str:
    if of is None:
        return "–: too few labels, or a judge no better than chance"
    more = (
        "no number of labels halves the interval"
        if of.more_labels is None
        else f"about {of.more_labels:,} more labels would halve the interval"
    )
    rate = _percent(of.rate.value, of.rate.low, of.rate.high)
    return f"{rate}, n = {of.rate.n:,} with {of.labels:,} labels; {more}"


def _confusion(found: Calibration, console: Console) -> None:
    from rich.table import Table

    words = [_word(value) for value in found.values]
    if len(words) > 8:
        return
    grid = Table("people ↓  judge →", *words, box=None, pad_edge=False)
    for word, row in zip(words, found.confusion, strict=True):
        grid.add_row(word, *(f"{count:,}" for count in row))
    console.print(grid)
    if found.errors is not None:
        for name, of in (
            ("sensitivity", found.errors.sensitivity()),
            ("specificity", found.errors.specificity()),
        ):
            if of is not None:
                console.print(f"{name} {_percent(of.value, of.low, of.high)}, n = {of.n:,}", highlight=False)


def _word(value: float) -> str:
    return {0.0: "no", 1.0: "yes"}.get(value, f"{value:g}")


def _remarks(found: Calibration) -> Iterator[str]:
    for note in found.notes:
        yield f"[dim]{note}[/]"
    if found.unmatched:
        yield f"[yellow]{found.unmatched:,} labelled answers are none that the judge judged in this run[/]"
    if found.disputed:
        yield f"[yellow]{found.disputed:,} answers are tied among people and took no part[/]"
    if found.flagged:
        yield f"[red]below {found.minimum:g}: reports will warn of this judge[/]"
