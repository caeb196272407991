"""The `guardrails` command."""

from __future__ import annotations

import asyncio
import json
import random
import signal
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from guardrails.errors import ConfigError, GuardrailsError
from guardrails.testing.faults import FAULTS

if TYPE_CHECKING:
    from guardrails.filters.policy import Direction, Rulebook
    from guardrails.testing.profile import Profile
    from guardrails.testing.server import Stats

app = typer.Typer(
    name="guardrails",
    help="The call path around any inference endpoint.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)

policy = typer.Typer(help="Policies: what filters look at, and what is done about it.", no_args_is_help=True)
app.add_typer(policy, name="policy")


def _faults() -> str:
    lines = (f"{name}: {what}" for name, (what, _) in FAULTS.items())
    return "\n\n".join(("Faults (VALUE may be left out, most mean 1 then):", *lines))


@app.command(epilog=_faults())
def simulate(
    profile: Annotated[
        str, typer.Option(help="instant, vendor, self-hosted, overloaded, or a YAML or JSON file.")
    ] = "instant",
    port: Annotated[int, typer.Option(min=0, max=65535, help="0 takes a free one.")] = 8000,
    host: Annotated[str, typer.Option(help="Address to listen on.")] = "127.0.0.1",
    model: Annotated[list[str] | None, typer.Option(help="Serve only this name. Repeatable.")] = None,
    ttft_ms: Annotated[float | None, typer.Option(min=0, help="Median time to first token, ms.")] = None,
    tpot_ms: Annotated[float | None, typer.Option(min=0, help="Median time per output token, ms.")] = None,
    answers: Annotated[
        str | None,
        typer.Option(help="echo, lorem:WORDS, fixed:TEXT, replay:FILE or golden:FILE."),
    ] = None,
    accuracy: Annotated[
        float | None, typer.Option(min=0, max=1, help="Share of golden answers that are right.")
    ] = None,
    reasoning: Annotated[int | None, typer.Option(min=0, help="Words of reasoning before an answer.")] = None,
    fault: Annotated[
        list[str] | None,
        typer.Option(help="NAME[=VALUE][:PROBABILITY][@NUMBERS], such as reset_after=5:0.01. Repeatable."),
    ] = None,
    seed: Annotated[int | None, typer.Option(help="Decides every random draw.")] = None,
    key: Annotated[str | None, typer.Option(help="Demand this API key.")] = None,
    quiet: Annotated[bool, typer.Option(help="Print the ready line only.")] = False,
) -> None:
    """Serve a simulated inference endpoint (OpenAI and Anthropic wire) until Ctrl-C.

    A single request chooses a fault by its model name, such as `sim+reset_after=5`, or by the header
    `x-sim-fault`.
    """
    from guardrails.testing.faults import Fault
    from guardrails.testing.profile import load

    changes: dict[str, Any] = {
        "models": tuple(model) if model else None,
        "ttft_ms": ttft_ms,
        "tpot_ms": tpot_ms,
        "answers": answers,
        "accuracy": accuracy,
        "reasoning": reasoning,
        "faults": tuple(map(Fault.parse, fault)) if fault else None,
        "seed": seed,
        "key": key,
    }
    chosen = replace(load(profile), **{name: value for name, value in changes.items() if value is not None})
    asyncio.run(_serve(chosen, host, port, quiet=quiet))


async def _serve(profile: Profile, host: str, port: int, *, quiet: bool) -> None:
    from guardrails.testing.process import READY
    from guardrails.testing.server import simulate as simulated

    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stop.set)
    async with simulated(profile, host=host, port=port) as server:
        typer.echo(f"{READY}{server.url}")
        if not quiet:
            typer.echo(_invitation(server.url, profile))
        sys.stdout.flush()
        await stop.wait()
        if not quiet:
            typer.echo(_summary(server.stats))


def _invitation(url: str, profile: Profile) -> str:
    model = profile.models[0] if profile.models else "sim"
    auth = ' -H "authorization: Bearer YOUR_KEY"' if profile.key is not None else ""
    body = f'{{"model": "{model}", "stream": true, "messages": [{{"role": "user", "content": "Hello!"}}]}}'
    return (
        f"OpenAI base URL: {url}/v1   Anthropic base URL: {url}   counts: {url}/stats\n"
        f"Try:  curl -N {url}/v1/chat/completions{auth} -H \"content-type: application/json\" -d '{body}'\n"
        "Stop with Ctrl-C."
    )


def _summary(stats: Stats) -> str:
    faults = ", ".join(f"{name} {count}" for name, count in sorted(stats.faults.items())) or "none"
    return (
        f"\n{stats.requests} requests, {stats.completed} completed, {stats.aborted} left by the client, "
        f"{stats.cut} cut, at most {stats.peak} at once; faults: {faults}"
    )


@policy.command()
def check(
    file: Annotated[
        str, typer.Argument(help="A configuration, a file with filters only, default or strict.")
    ],
) -> None:
    """Say in words what a policy does. Ends with 2 and every mistake when it cannot work."""
    from guardrails.filters.explain import explain

    typer.echo(explain(_rules(file)))


@app.command()
def scan(
    file: Annotated[str, typer.Argument(help="A text file, or - for standard input.")],
    policy: Annotated[str, typer.Option(help="A policy file, default or strict.")] = "default",
    direction: Annotated[str, typer.Option(help="input, output, tool_arguments or tool_results.")] = "input",
    jsonl: Annotated[
        str | None, typer.Option(help="Each line is JSON: scan this field, such as messages.0.content.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="A JSON object per finding.")] = False,
    redacted: Annotated[bool, typer.Option(help="Print the texts as the policy leaves them.")] = False,
) -> None:
    """Show what a policy finds in a text or in JSONL: kinds and places, never the values themselves."""
    from guardrails.filters.policy import DIRECTIONS

    where = next((name for name in DIRECTIONS if name == direction), None)
    if where is None:
        raise ConfigError(f"unknown direction {direction!r}", hint=f"use one of {', '.join(DIRECTIONS)}")
    shape = "redacted" if redacted else "json" if as_json else "table"
    asyncio.run(_scan(_rules(policy), where, _texts(file, jsonl), shape))


def _rules(file: str) -> Rulebook:
    from guardrails.config import rules
    from guardrails.filters.spec import PRESETS

    return rules({"filters": file} if file in PRESETS else file)


def _texts(file: str, field: str | None) -> Iterator[str]:
    from guardrails.filters.scanning import field_of

    try:
        data = sys.stdin.buffer.read() if file == "-" else Path(file).read_bytes()
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise ConfigError(f"{file} is not UTF-8 (byte {error.start})", hint="save it as UTF-8") from None
    except OSError as error:
        raise ConfigError(f"{file} cannot be read: {error.strerror}", hint="check the path") from None
    return iter([text]) if field is None else field_of(text.splitlines(), field)


async def _scan(book: Rulebook, direction: Direction, texts: Iterator[str], shape: str) -> None:
    from guardrails.filters.scanning import HEADER, scan_texts, table

    count = found = blocked = 0
    if shape == "table":
        typer.echo(HEADER)
    async for text in scan_texts(book, direction, texts, random.Random()):  # noqa: S311 - only for samples
        count, found, blocked = count + 1, found + len(text.findings), blocked + text.blocked
        if shape == "redacted":
            typer.echo(text.redacted)
        elif shape == "json":
            for row in text.rows():
                typer.echo(json.dumps(row))
        else:
            for row in text.rows():
                typer.echo(table(row))
        for reason in text.unscanned:
            typer.echo(f"text {text.number}: not scanned: {reason}", err=True)
    typer.echo(f"{count} texts, {found} findings, {blocked} blocked", err=True)


def main() -> None:
    """Run the command line. Our own errors end with their message and exit code 2, never a traceback."""
    try:
        app()
    except GuardrailsError as error:
        typer.echo(f"error: {error}", err=True)
        sys.exit(2)


if __name__ == "__main__":
    main()
