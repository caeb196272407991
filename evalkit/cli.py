"""The `evalkit` command. Exit codes: 0 all well, 1 a gate failed, 2 it could not run, 130 interrupted.

Imports happen inside the commands, so that `--help` is quick.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from guardrails.errors import ConfigError, GuardrailsError

if TYPE_CHECKING:
    from rich.console import Console

    from evalkit.config import Suite

COULD_NOT_RUN = 2

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


class Undecided(StrEnum):
    """What becomes of a gate whose interval crosses its bound."""

    fail = "fail"
    value = "value"


@app.command()
def run(
    suite: Annotated[Path | None, typer.Argument(help="A suite file (YAML).", show_default=False)] = None,
    golden: Annotated[str | None, typer.Option(help="A built-in set's name, or a file.")] = None,
    endpoint: Annotated[
        list[str] | None, typer.Option(help="Base URL, such as http://localhost:8000/v1. Repeatable.")
    ] = None,
    model: Annotated[
        list[str] | None, typer.Option(help="The model, one for each --endpoint or one.")
    ] = None,
    dialect: Annotated[str | None, typer.Option(help="openai_chat (the default) or anthropic.")] = None,
    key_env: Annotated[
        str | None, typer.Option(help="The environment variable that holds the endpoint's key.")
    ] = None,
    limit: Annotated[int | None, typer.Option(min=1, help="Only the first so many samples.")] = None,
    concurrency: Annotated[
        int | None, typer.Option(min=1, help="Open calls per endpoint (default: 16).")
    ] = None,
    scorer: Annotated[list[str] | None, typer.Option(help="A judge, such as exact. Repeatable.")] = None,
    gate: Annotated[
        list[str] | None, typer.Option(help="What must hold: 'pass_rate >= 90%'. Repeatable.")
    ] = None,
    undecided: Annotated[
        Undecided | None, typer.Option(help="A gate whose interval crosses its bound (default: fail).")
    ] = None,
    filters: Annotated[
        bool | None,
        typer.Option("--filters/--no-filters", help="Redact personal data both ways, or filter nothing."),
    ] = None,
    resume: Annotated[str | None, typer.Option(metavar="RUN", help="Go on with an earlier run.")] = None,
    out: Annotated[Path | None, typer.Option(help="Where runs are kept (default: .evalkit).")] = None,
    html: Annotated[Path | None, typer.Option(help="Write the report here.")] = None,
    json: Annotated[Path | None, typer.Option(help="Write the numbers here.")] = None,
) -> None:
    """Ask every endpoint every sample, judge the answers, print the table, decide the gates."""
    fields: dict[str, Any] = {
        "golden": golden,
        "limit": limit,
        "concurrency": concurrency,
        "scorers": scorer,
        "gates": gate,
        "undecided": undecided.value if undecided else None,
        "out": str(out) if out else None,
    }
    given = {name: value for name, value in fields.items() if value is not None}
    if endpoint:
        given["endpoints"] = _endpoints(endpoint, model or [], dialect, key_env)
    elif model or dialect or key_env:
        raise ConfigError("--model, --dialect and --key-env belong to --endpoint, which is missing")
    from evalkit.session import Session

    chosen, folder = _suite(suite, given, filters)
    session = Session.of(chosen, folder, resume=resume, consoles=consoles())
    raise typer.Exit(session.run(html=html, json=json, command=again(sys.argv[1:])))


def _endpoints(urls: list[str], models: list[str], dialect: str | None, key_env: str | None) -> list[Any]:
    if len(models) not in (1, len(urls)):
        raise ConfigError(
            f"{len(urls)} --endpoint and {len(models)} --model",
            hint="give one --model for all endpoints, or one for each",
        )
    named = models * len(urls) if len(models) == 1 else models
    common = {"dialect": dialect, "key_env": key_env}
    options = {name: value for name, value in common.items() if value is not None}
    made = []
    for url, model in zip(urls, named, strict=True):
        host = url.partition("://")[2].partition("/")[0]
        name = model if named.count(model) == 1 else f"{model}@{host}"
        made.append({"name": name, "url": url, "model": model, **options})
    return made


def _suite(path: Path | None, given: dict[str, Any], filters: bool | None) -> tuple[Suite, Path | None]:
    from evalkit import config
    from guardrails.source import Source

    if path is not None:
        made = config.load(path, **given)
    elif missing := [f"--{n[:8]}" for n in ("golden", "endpoints") if n not in given]:
        raise ConfigError(
            f"nothing to run: {' and '.join(missing)} missing, and no suite file given",
            hint="evalkit run SUITE.yaml, or evalkit run --golden support-desk --endpoint URL --model NAME",
        )
    else:
        made = config.check(Source("the command line", given))
    if filters is not None:
        made = made.model_copy(update={"endpoints": tuple(_filtered(e, filters) for e in made.endpoints)})
    return made, path.parent if path is not None else None


def _filtered(endpoint: dict[str, Any], on: bool) -> dict[str, Any]:
    plain = {name: value for name, value in endpoint.items() if name != "filters"}
    if not on:
        return plain
    return {"filters": {"input": ["pii"], "output": ["pii"]}, **endpoint}


def again(arguments: list[str]) -> list[str]:
    """The command without its `--resume`, to which the run to go on with is added."""
    kept: list[str] = []
    skip = False
    for argument in arguments:
        if skip or argument == "--resume":
            skip = not skip
        elif not argument.startswith("--resume="):
            kept.append(argument)
    return ["evalkit", *kept]


# --- the other commands ------------------------------------------------------------------------------------


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


sets = typer.Typer(help="The built-in golden sets.", no_args_is_help=True)
app.add_typer(sets, name="datasets")


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

    made = Console(), Console(stderr=True)
    for console in made:
        if not console.is_terminal and "COLUMNS" not in os.environ:
            console.width = 110
    return made


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line and exit. No traceback, unless EVALKIT_DEBUG asks for it."""
    try:
        app(args=None if arguments is None else list(arguments))
    except GuardrailsError as error:
        if os.environ.get("EVALKIT_DEBUG"):
            raise
        complain(error.message, error.hint)
    except Exception as error:
        if os.environ.get("EVALKIT_DEBUG"):
            raise
        # Its message may quote a prompt or an answer, so only its type is shown.
        complain(f"unexpected {type(error).__name__}", "EVALKIT_DEBUG=1 shows where; please report it")
    sys.exit(COULD_NOT_RUN)


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
