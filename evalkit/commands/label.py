"""`evalkit label`: a person labels a run's answers with single keys, without seeing who gave them."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from evalkit.runs import HOME, Name, Out, Url
from guardrails.errors import ConfigError, GuardrailsError

if TYPE_CHECKING:
    from rich.console import Console

    from evalkit.labelling import Asked, Desk
    from evalkit.stores import Run

Read = Callable[[], str]
"""The next key, in one character; an empty text when there are no more."""

KEYS = "y yes   n no   s skip   u undo   q quit"
UNKNOWN = "(the question is not at hand: its golden set is gone, or the sample has changed)"
_CONTROL = {"\x03": "q", "\x04": "q", "\x1b": "q", "": "q"}


def label(
    run: Name,
    out: Out = HOME,
    store: Url = None,
    labels: Annotated[
        Path | None, typer.Option(help="Where the labels go; default: labels/RUN.jsonl in --out.")
    ] = None,
    rater: Annotated[str, typer.Option(envvar="USER", help="Who labels.")] = "anonymous",
    weight: Annotated[str, typer.Option(help="gold, silver or bronze.")] = "gold",
    seed: Annotated[int, typer.Option(help="Decides the order.")] = 0,
    disputed: Annotated[
        bool, typer.Option("--disputed", help="Only answers on which people differ: your label decides.")
    ] = False,
) -> None:
    """Label a run's answers by keyboard: resumable, in random order, blind to the model and to the judge."""
    from evalkit.cli import consoles
    from evalkit.labelling import Desk, cases
    from evalkit.labels import WEIGHTS
    from evalkit.stores import open_store

    if weight not in WEIGHTS:
        raise ConfigError(f"--weight {weight[:20]!r} is none of {', '.join(WEIGHTS)}", hint="--weight gold")
    kept = open_store(store or out / "runs.db", create=False)
    try:
        found = kept.find(run)
        every = cases(kept.trials(found.id), questions(found), seed)
    finally:
        kept.close()
    path = labels or out / "labels" / f"{found.id}.jsonl"
    console = consoles()[0]
    desk = (Desk.adjudicate if disputed else Desk.open)(every, path, rater, weight)
    if not desk.todo:
        console.print("nothing is in dispute" if disputed else "everything is labelled")
    sit(desk, key_reader(), console)
    left = len(desk.todo) - desk.labelled
    console.print(f"{desk.labelled:,} labelled, {desk.before:,} before, {left:,} left: ", end="")
    console.print(str(path), markup=False, highlight=False, soft_wrap=True)


def questions(run: Run) -> dict[tuple[str, str], Asked]:
    """What was asked, by set and sample, from the golden sets as they are now; empty where they are gone."""
    from evalkit import config
    from evalkit.content import content
    from evalkit.labelling import Asked
    from evalkit.sample import load
    from guardrails.source import Source

    folder = Path(str(run.info.get("folder", ".")))
    # Only the sets: the run's judges and users cannot be made without their keys.
    kept = {"golden": run.info.get("suite", {}).get("golden", ()), "endpoints": [{"url": "http://none/v1"}]}
    found = {}
    try:
        for spec in config.check(Source(f"the suite of {run.id}", kept), folder).golden:
            golden = load(spec, folder)
            for one in golden.samples:
                asked = one.question()
                found[golden.name, one.id] = Asked(asked.prompt, asked.context, content(one.plain()))
    except GuardrailsError:
        return {}
    return found


def sit(desk: Desk, read: Read, console: Console) -> None:
    """Show cases and take keys until there are no more of either."""
    from evalkit.view import escape

    shown = None
    while (case := desk.case) is not None:
        if case is not shown:
            place = desk.before + desk.at + 1
            console.rule(f"{place:,} of {desk.before + len(desk.todo):,}   {escape(case.sample)}")
            console.print(f"[dim]{escape(case.question or UNKNOWN)}[/]\n", highlight=False)
            for number, passage in enumerate(case.passages, start=1):
                console.print(f"[dim]passage {number}: {escape(passage)}[/]\n", highlight=False)
            console.print(escape(case.answer), highlight=False)
            console.print(f"\n[dim]{KEYS}[/]")
            shown = case
        key = read()
        if not desk.press(_CONTROL.get(key, key.lower())):
            return


def key_reader() -> Read:
    """Single keys of a terminal, without Enter; of anything else its characters, one by one."""
    if not sys.stdin.isatty():
        return lambda: sys.stdin.read(1)
    if os.name == "nt":
        import click

        return click.getchar
    return _key


def _key() -> str:
    import termios
    import tty

    stream = sys.stdin.fileno()
    before = termios.tcgetattr(stream)
    try:
        tty.setcbreak(stream, termios.TCSANOW)
        return os.read(stream, 1).decode("utf-8", "replace")
    except KeyboardInterrupt:
        return "q"
    finally:
        termios.tcsetattr(stream, termios.TCSANOW, before)
