"""`evalkit run` and `evalkit rescore`: from options to a suite, and from a suite to an exit code."""

from __future__ import annotations

import gc
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from enum import StrEnum
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from guardrails.errors import ConfigError

if TYPE_CHECKING:
    from evalkit.config import Suite


class Undecided(StrEnum):
    """What becomes of a gate whose interval crosses its bound."""

    report = "report"
    fail = "fail"
    value = "value"


class Where(StrEnum):
    """Where calls are made from."""

    local = "local"
    ray = "ray"


def run(
    suite: Annotated[Path | None, typer.Argument(help="A suite file (YAML).", show_default=False)] = None,
    golden: Annotated[
        list[str] | None, typer.Option(help="A built-in set's name, or a file. Repeatable.")
    ] = None,
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
    # The suite checks numbers: it can say in the files of results that one is wrong, and typer cannot.
    limit: Annotated[int | None, typer.Option(help="Only the first so many samples of a set.")] = None,
    n: Annotated[int | None, typer.Option("-n", help="Answers to each sample (pass@k).")] = None,
    concurrency: Annotated[int | None, typer.Option(help="Open calls per endpoint (default: 16).")] = None,
    scorer: Annotated[list[str] | None, typer.Option(help="A judge, such as exact. Repeatable.")] = None,
    gate: Annotated[
        list[str] | None,
        typer.Option(help="What must hold, in place of the suite's: 'pass_rate >= 90%'. Repeatable."),
    ] = None,
    baseline: Annotated[
        str | None, typer.Option(metavar="RUN", help="An earlier run to compare with: id, tag or latest.")
    ] = None,
    undecided: Annotated[
        Undecided | None, typer.Option(help="Gates that the rows do not decide (default: exit code 3).")
    ] = None,
    max_usd: Annotated[float | None, typer.Option(help="Stop before the run costs more than this.")] = None,
    filters: Annotated[
        bool | None,
        typer.Option("--filters/--no-filters", help="Redact personal data both ways, or filter nothing."),
    ] = None,
    cache: Annotated[
        bool | None, typer.Option("--cache/--no-cache", help="Take answers of earlier runs to the same.")
    ] = None,
    resume: Annotated[str | None, typer.Option(metavar="RUN", help="Go on with an earlier run.")] = None,
    fresh: Annotated[
        bool, typer.Option("--fresh", help="A new run, even if the last is unfinished.")
    ] = False,
    tag: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME", help="Move this tag to the run if it passes (exit code 0). Repeatable."),
    ] = None,
    executor: Annotated[Where, typer.Option(help="Where calls are made from.")] = Where.local,
    store: Annotated[
        str | None, typer.Option(envvar="EVALKIT_STORE", help="A database for runs, such as postgresql://…")
    ] = None,
    out: Annotated[
        Path | None, typer.Option("--out", "--dir", help="Where runs are kept (default: .evalkit).")
    ] = None,
    html: Annotated[Path | None, typer.Option(help="Write the report here.")] = None,
    json: Annotated[Path | None, typer.Option(help="Write the numbers here.")] = None,
    junit: Annotated[Path | None, typer.Option(help="Write JUnit XML here.")] = None,
    markdown: Annotated[
        Path | None, typer.Option(help="Write a summary in Markdown here ($GITHUB_STEP_SUMMARY by itself).")
    ] = None,
) -> None:
    """Ask every endpoint every sample, judge the answers, print the table, decide the gates.

    Exit codes: 0 pass, 1 a gate failed, 3 undecided, 2 it could not run, 130 interrupted.
    """
    fields: dict[str, Any] = {
        "golden": golden,
        "limit": limit,
        "concurrency": concurrency,
        "scorers": scorer,
        "gates": gate,
        "baseline": baseline,
        "undecided": undecided.value if undecided else None,
        "budget": None if max_usd is None else {"max_usd": str(max_usd)},
        "cache": cache,
        "store": store,
        "out": str(out) if out else None,
    }
    if n is not None:
        fields["sampling"] = {"n": n}
    given = {name: value for name, value in fields.items() if value is not None}
    threading.Thread(target=_read_certificates, daemon=True).start()
    from evalkit.cli import consoles
    from evalkit.files import Files, left, step_summary

    files = Files(html, json, junit, markdown or step_summary())
    try:
        with files.refusing(), _uncollected():
            if endpoint:
                given["endpoints"] = _endpoints(endpoint, model or [], dialect, key_env)
            elif model or dialect or key_env:
                raise ConfigError("--model, --dialect and --key-env belong to --endpoint, which is missing")
            from evalkit.session import Session

            chosen, folder = _suite(suite, given, filters)
            session = Session.of(chosen, folder, resume=resume, fresh=fresh, consoles=consoles())
    except KeyboardInterrupt:  # large sets take a while to read, and what is imported too
        raise typer.Exit(left(consoles()[1], files)) from None
    command = again(sys.argv[1:])
    raise typer.Exit(session.run(files, command=command, executor=executor.value, tags=tag or ()))


def _read_certificates() -> None:
    """Load aiohttp, which reads the system's certificates then: meanwhile Python can load all else."""
    with suppress(Exception):  # it is told where it is used
        import_module("aiohttp")


@contextmanager
def _uncollected() -> Iterator[None]:
    """What is loaded here stays: it need not be walked in search of garbage."""
    collects = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if collects:
            gc.enable()


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
        endpoints = tuple(_filtered(each, filters) for each in made.endpoints)
        made = made.model_copy(update={"endpoints": endpoints})
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
        elif not argument.startswith("--resume=") and argument != "--fresh":
            kept.append(argument)
    return ["evalkit", *kept]
