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

    from evalkit.calibration import Calibration, Material, Rates
    from evalkit.corrected import Corrected
    from evalkit.labels import Label
    from judges.agreement import Agreement

SHOWN = 5

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

    from evalkit import calibration, known_judges
    from evalkit.labels import read

    found = read(labels)
    if not found:
        raise ConfigError(f"{labels} holds no label", hint="`evalkit label RUN` writes some")
    if run is None:
        judge, digest, material = scorer or labels.stem, "", calibration.of_labels(found)
        if not material.cases:
            raise ConfigError(
                f"no label of {labels} holds the judge's verdict, as `judged`",
                hint="`--run RUN` takes the verdicts from a run, such as `--run latest`",
            )
    else:
        judge, digest, material = _of_run(run, scorer, found, store or out / "runs.db")
    rng = np.random.default_rng(0)
    result = calibration.calibrate(judge, material, rng, minimum=min_agreement, digest=digest)
    path = known_judges.keep(result, out)
    if json:
        typer.echo(codec.dumps(result.as_dict(), indent=2, ensure_ascii=False, allow_nan=False))
        return
    from evalkit.cli import consoles

    console = consoles()[0]
    show(result, console)
    console.print(f"kept in {path}", markup=False, highlight=False, soft_wrap=True)


def _of_run(
    run: str, scorer: str | None, labels: list[Label], database: str | Path
) -> tuple[str, str, Material]:
    from evalkit import calibration, known_judges
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
    material = calibration.of_run(rows, judge, labels)
    if not material.verdicts and not material.unjudged and not material.ambiguous:
        raise ConfigError(
            f"none of the {len(labels):,} labels is of an answer of {found.id}",
            hint=f"they may be of another run; `evalkit label {found.id}` labels this one's",
        )
    return judge, known_judges.digests(found.info).get(judge, ""), material


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
        for line in _rates(rates):
            console.print(f"  {line}", highlight=False)
    for line in _remarks(found):
        console.print(line)


def _rates(of: Rates) -> Iterator[str]:
    judged = of.judged
    yield f"as judged     {_percent(judged.value, judged.low, judged.high)}, n = {judged.n:,}"
    for name, each in (("PPI", of.ppi), ("Rogan–Gladen", of.rogan_gladen)):
        yield f"{name:<13} {_corrected(each)}"
    if of.unread:
        kept = of.ppi.rate.value if of.ppi is not None else judged.value
        both = (f"{of.bounds(rate)[0]:.1%} to {of.bounds(rate)[1]:.1%}" for rate in (judged.value, kept))
        said = dict(zip(("as judged", "by PPI" if of.ppi is not None else ""), both, strict=True))
        bounds = ", ".join(f"{value} {name}" for name, value in said.items() if name)
        yield f"[yellow]the judge failed on {of.unread:,} of {of.answers:,} answers; with these {bounds}[/]"


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
        "no number of labels halves the interval: that takes more answers"
        if of.more_labels is None
        else f"about {of.more_labels:,} more labels would halve the interval"
    )
    rate = _percent(of.rate.value, of.rate.low, of.rate.high)
    others = " not labelled," if of.method == "rogan-gladen" else ""
    return f"{rate}, n = {of.rate.n:,}{others} with {of.labels:,} labels; {more}"


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
    from evalkit.view import escape

    for note in found.notes:
        yield f"[dim]{note}[/]"
    counts = (
        (found.unjudged, "labelled answers have no verdict of the judge, which failed on them"),
        (found.unmatched, "labels are of no answer that there is a verdict of"),
        (found.ambiguous, "labels fit several different answers: name `endpoint` and `k` in them"),
        (found.disputed, "answers are tied among people and took no part"),
    )
    for count, said in counts:
        if count:
            yield f"[yellow]{count:,} {said}[/]"
    if found.adjudicate:
        more = f" and {len(found.adjudicate) - SHOWN:,} more" if len(found.adjudicate) > SHOWN else ""
        named = escape(", ".join(found.adjudicate[:SHOWN])) + more
        yield f"[yellow]somebody has to decide {named}: `evalkit label RUN --disputed`[/]"
    if found.priced:
        yield f"[dim]the judge's verdicts cost ${found.cost_usd:.4g} (n = {found.priced:,})[/]"
    agreement = found.agreement
    if found.flagged:
        yield f"[red]below {found.minimum:g}: reports will warn of this judge[/]"
    elif agreement is not None and agreement.low < found.minimum:
        yield f"[yellow]not shown to be {found.minimum:g} or more: reports will say so[/]"
