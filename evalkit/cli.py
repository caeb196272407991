"""The `evalkit` command. Exit codes: 0 pass, 1 a gate failed, 3 undecided, 2 could not run, 130 interrupted.

Imports happen inside the commands, so that `--help` is quick.
"""

from __future__ import annotations

import errno
import gc
import os
import sys
import threading
import traceback
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import IO, TYPE_CHECKING, Annotated

import typer

from evalkit.commands import judge
from evalkit.commands.init import init, show_schema
from evalkit.commands.label import label
from evalkit.commands.probe import probe
from evalkit.commands.rescore import rescore
from evalkit.commands.run import run
from evalkit.files import INTERRUPTED
from evalkit.interrupt import terminable
from evalkit.passk import passk
from evalkit.runs import app as runs
from evalkit.sets.command import lint
from guardrails.errors import GuardrailsError

if TYPE_CHECKING:
    from rich.console import Console

COULD_NOT_RUN = 2
UNWRITABLE = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO})

_unshown: list[OSError] = []
"""Why the output ended in the middle, if it did."""

app = typer.Typer(
    name="evalkit",
    help="Evaluate any inference endpoint: quality, latency and cost, each with its interval.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)


def _version(asked: bool) -> None:
    if asked:
        from evalkit._version import version

        typer.echo(f"evalkit {version()}")
        raise typer.Exit


@app.callback()
def _evalkit(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Show the version.")
    ] = False,
) -> None:
    """Commands are below."""


app.command()(run)
app.command()(rescore)
app.command()(init)
app.command("schema")(show_schema)
app.command()(label)
app.command()(passk)
app.add_typer(judge.app, name="judge")
judge.app.command()(probe)
app.add_typer(runs, name="runs")


@app.command()
def demo(
    out: Annotated[Path, typer.Option(help="Where to write the report and the rows.")] = Path(
        ".evalkit/demo"
    ),
    open_: Annotated[bool, typer.Option("--open", help="Open the report in a browser.")] = False,
) -> None:
    """A golden set through two simulated endpoints on this machine: table, verdict, report."""
    from evalkit.demo import run_demo

    report, code = run_demo(out, consoles())
    if open_ and report is not None:
        typer.launch(report.resolve().as_uri())
    raise typer.Exit(code)


sets = typer.Typer(help="Golden sets: the built-in ones, and what is wrong with yours.", no_args_is_help=True)
app.add_typer(sets, name="datasets")


sets.command("lint")(lint)


@sets.command("list")
def list_sets() -> None:
    """Name the sets, with what they are for."""
    from rich.markup import escape
    from rich.table import Table

    from evalkit import datasets

    grid = Table("set", "samples", "scorer", "version", "purpose", box=None, pad_edge=False)
    for name in datasets.names():
        card = datasets.card(name)
        grid.add_row(name, str(card.samples), card.scorer, card.version, escape(card.purpose))
    consoles()[0].print(grid)


@sets.command("show")
def show_set(name: str) -> None:
    """Print a set's card and where its samples are."""
    from evalkit import datasets

    path = datasets.path(name)
    typer.echo(path.with_name(datasets.CARD).read_text(encoding="utf-8"))
    typer.echo(f"samples: {path}")


@sets.command("check")
def check_sets() -> None:
    """Compare the sets with their manifest; exit code 1 when they differ."""
    from evalkit import datasets

    problems = datasets.check()
    for problem in problems:
        typer.echo(problem, err=True)
    typer.echo(f"{len(datasets.names())} sets, {len(problems)} problems")
    raise typer.Exit(1 if problems else 0)


@app.command()
def doctor(
    endpoint: Annotated[str | None, typer.Option(help="Make one test call to this base URL.")] = None,
    model: Annotated[str, typer.Option(help="The model to ask.")] = "",
    dialect: Annotated[str, typer.Option(help="openai_chat or anthropic.")] = "openai_chat",
    key_env: Annotated[str | None, typer.Option(help="The variable that holds the key.")] = None,
) -> None:
    """Look at this installation – and at an endpoint, if one is given – and say what to mend."""
    from evalkit import doctor as checks

    config = {"url": endpoint, "model": model, "dialect": dialect, "key_env": key_env} if endpoint else None
    raise typer.Exit(checks.examine(consoles()[0], config))


# --- entry -------------------------------------------------------------------------------------------------


def consoles() -> tuple[Console, Console]:
    """Where results go, and where progress and messages go. Wide enough where there is no terminal to ask."""
    from rich.console import Console

    class Patient(Console):
        """It goes on unheard where nothing can be said: the results have files, and the exit code."""

        def on_broken_pipe(self) -> None:
            """The reader is gone, as `head` goes."""
            self.quiet = True
            _unheard(self.file)

        def _check_buffer(self) -> None:
            """Where the console writes. That results could not be shown is told at the end, by `_flush`."""
            try:
                super()._check_buffer()
            except OSError as error:
                if error.errno not in UNWRITABLE:
                    raise
                self.quiet = True
                _unheard(self.file)
                if not self.stderr:
                    _unshown.append(error)

    made = Patient(), Patient(stderr=True)
    for console in made:
        if not console.is_terminal and "COLUMNS" not in os.environ:
            console.width = 110
    return made


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line and exit. No traceback, unless EVALKIT_DEBUG asks for it."""
    _open_streams()
    gc.set_threshold(50_000, 20, 20)  # what a command loads is no garbage, and was walked for it many times
    # Nothing here needs numpy's threads for large matrices: to start them takes 60 ms and more of CPU.
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    try:
        with terminable():
            try:
                app(args=None if arguments is None else list(arguments))
            finally:
                _flush()
                gc.freeze()  # and what is left at the end is walked once more by Python itself
    except SystemExit as ended:
        if ended.code == INTERRUPTED and arguments is None:  # else the process is somebody else's
            _leave()
        raise
    except GuardrailsError as error:
        _trace()
        complain(error.message, error.hint)
    except KeyboardInterrupt:
        if arguments is None:
            _leave()
        sys.exit(INTERRUPTED)
    except Exception as error:
        _trace()
        if isinstance(error, OSError) and error.errno in UNWRITABLE:  # of other files it was said before
            complain(f"the output cannot be written: {error.strerror}", "where does it go to?")
            sys.exit(COULD_NOT_RUN)
        # Its message may quote a prompt or an answer, so only its type is shown.
        complain(f"unexpected {type(error).__name__}", "EVALKIT_DEBUG=1 shows where; please report it")
    sys.exit(COULD_NOT_RUN)


def _trace() -> None:
    if os.environ.get("EVALKIT_DEBUG"):
        traceback.print_exc()


def _open_streams() -> None:
    """What was closed, as by `>&-`, leads nowhere. Else it is None, and the next file gets its number."""
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:
            file = Path(os.devnull).open(mode, encoding="utf-8")  # noqa: SIM115 - open as long as the process
            setattr(sys, name, file)


def _leave() -> None:
    """End the process now if a thread would keep it: Python waits for each, and a scorer's may never end.

    Whoever interrupts does not want to wait; every row that is finished was kept before.
    """
    if any(not each.daemon for each in threading.enumerate() if each is not threading.main_thread()):
        with suppress(OSError, ValueError):
            sys.stderr.flush()
        os._exit(INTERRUPTED)


def _flush() -> None:
    """Write what is left for the output. Python itself does it when nothing can be said any more."""
    try:
        sys.stdout.flush()
        if _unshown:
            raise _unshown.pop()
    except BrokenPipeError:
        _unheard(sys.stdout)
    except OSError:
        _unheard(sys.stdout)
        raise


def _unheard(file: IO[str]) -> None:
    """Send what is left for a file nowhere."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), file.fileno())


def complain(message: str, hint: str) -> None:
    """Say what is wrong and what to do, in red where there is colour."""
    from evalkit.view import escape

    console = consoles()[1]
    shown = "\n".join(escape(line) for line in message.splitlines())
    console.print(f"[bold red]error:[/] [red]{shown}[/]", highlight=False, soft_wrap=True)
    if hint:
        console.print(f"[bold]→[/] {escape(hint)}", highlight=False, soft_wrap=True)


if __name__ == "__main__":
    main()
