"""The `guardrails` command."""

from __future__ import annotations

import asyncio
import signal
import sys
from dataclasses import replace
from typing import TYPE_CHECKING, Annotated, Any

import typer

from guardrails.errors import GuardrailsError

if TYPE_CHECKING:
    from guardrails.testing.profile import Profile
    from guardrails.testing.server import Stats

app = typer.Typer(
    name="guardrails",
    help="The call path around any inference endpoint.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)


@app.callback()
def _guardrails() -> None:
    """Keeps `simulate` a command of its own, even while it is the only one."""


@app.command()
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


def main() -> None:
    """Run the command line. Our own errors end with their message and exit code 2, never a traceback."""
    try:
        app()
    except GuardrailsError as error:
        typer.echo(f"error: {error}", err=True)
        sys.exit(2)


if __name__ == "__main__":
    main()
