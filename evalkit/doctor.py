"""Is everything in place? One line per check: well, a warning, or what to mend."""

from __future__ import annotations

import asyncio
import os
import platform
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import date
from importlib.metadata import PackageNotFoundError
from importlib.metadata import version as installed
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from evalkit.view import escape
from guardrails.clock import SYSTEM
from guardrails.errors import GuardrailsError

if TYPE_CHECKING:
    from rich.console import Console

DEPENDENCIES = (
    "aiohttp",
    "httpx",
    "numpy",
    "orjson",
    "presidio-analyzer",
    "pydantic",
    "tiktoken",
    "google-re2",
    "sqlalchemy",
)


@dataclass(frozen=True, slots=True)
class Finding:
    """What a check found. `hint` says what to do about it."""

    status: Literal["ok", "warn", "fail"]
    text: str
    hint: str = ""


def examine(console: Console, endpoint: Mapping[str, Any] | None) -> int:
    """Print all findings; 0 when nothing is broken, else 2."""
    found = [*installation(), *data(SYSTEM.wall().date()), *places(Path()), extras()]
    found.append(asyncio.run(sandbox()))
    if endpoint is not None:
        found.append(asyncio.run(call(endpoint)))
    signs = {"ok": "[green]✓[/]", "warn": "[yellow]![/]", "fail": "[red]✗[/]"}
    for each in found:
        hint = f"\n  [bold]→[/] {escape(each.hint)}" if each.hint else ""
        console.print(f"{signs[each.status]} {escape(each.text)}{hint}", highlight=False, soft_wrap=True)
    return 2 if any(each.status == "fail" for each in found) else 0


def installation() -> Iterator[Finding]:
    """Python, our version, what we depend on, and who else claims our names."""
    from evalkit._version import version
    from guardrails import _owners

    known = (3, 11) <= sys.version_info[:2] <= (3, 14)
    status: Literal["ok", "warn"] = "ok" if known else "warn"
    hint = "" if known else "3.11 to 3.14 are tested"
    yield Finding(status, f"Python {platform.python_version()}, evalkit {version()}", hint)
    missing = []
    shown = []
    for name in DEPENDENCIES:
        try:
            shown.append(f"{name} {installed(name)}")
        except PackageNotFoundError:
            missing.append(name)
    if missing:
        yield Finding("fail", f"not installed: {', '.join(missing)}", "pip install evalkit-guardrails")
    yield Finding("ok", ", ".join(shown))
    for distribution, package in _owners.clashes(Path(_owners.__file__).resolve().parent.parent):
        yield Finding("fail", _owners.sentence(distribution, package))


def data(today: date) -> Iterator[Finding]:
    """Golden sets, prices, vocabulary."""
    from evalkit import datasets
    from guardrails import tokens
    from guardrails.prices import PriceBook

    problems = datasets.check()
    names = datasets.names()
    if problems or not names:
        listed = "; ".join(problems) or "none found"
        yield Finding("fail", f"golden sets: {listed}", "install evalkit-guardrails again")
    else:
        yield Finding("ok", f"golden sets: {', '.join(names)}")
    book = PriceBook.default()
    text = f"prices of {len(book.models)} models as of {book.as_of} ({(today - book.as_of).days} days old)"
    if book.stale(today):
        yield Finding("warn", text, "update the package, or give endpoints a `prices` file of your own")
    else:
        yield Finding("ok", text)
    if tokens.count("a few words", "gpt-4o").source == "tokenizer":
        yield Finding("ok", "tiktoken's vocabulary is at hand: tokens can be counted where servers do not")
    else:
        yield Finding(
            "warn",
            "tiktoken's vocabulary is not here: where a server reports no usage, tokens are estimated",
            "once, with network: python -c \"import tiktoken; tiktoken.get_encoding('o200k_base')\"",
        )


def places(folder: Path) -> Iterator[Finding]:
    """Whether runs can be kept in `folder`."""
    try:
        with tempfile.TemporaryFile(dir=folder):
            pass
        yield Finding("ok", f"{folder.resolve()} can be written to")
    except OSError as error:
        reason = error.strerror or type(error).__name__
        yield Finding("fail", f"{folder.resolve()} cannot be written to: {reason}", "use --out elsewhere")


async def sandbox() -> Finding:
    """What untrusted code would be run in, found by trying."""
    from judges.sandbox import NoSandbox, choose

    try:
        chosen = await choose()
    except NoSandbox as error:
        return Finding("warn", f"code scorers and pass@k will refuse: {error.message}", error.hint)
    lost = "; ".join(f"{each.name}: {each.reason}" for each in chosen.findings if not each.works)
    return Finding("ok", f"untrusted code is run in {chosen.sandbox.name}" + (f" ({lost})" if lost else ""))


EXTRAS = {
    "postgres": "psycopg",
    "redis": "redis",
    "vault": "cryptography",
    "parquet": "pyarrow",
    "hf": "datasets",
    "scorers": "sacrebleu",
    "ray": "ray",
}
"""An extra, and the distribution that it brings."""


def extras() -> Finding:
    """What is installed of what is not needed."""
    there, missing = [], []
    for extra, distribution in EXTRAS.items():
        try:
            there.append(f"{extra} ({distribution} {installed(distribution)})")
        except PackageNotFoundError:
            missing.append(extra)
    text = f"extras: {', '.join(there) or 'none'}"
    return Finding("ok", text + (f"; not installed: {', '.join(missing)}" if missing else ""))


async def call(
    config: Mapping[str, Any], environment: Callable[[str], str | None] = os.environ.get
) -> Finding:
    """One short call to an endpoint."""
    from guardrails.config import build

    key = config.get("key_env")
    if key and not environment(key):
        return Finding("fail", f"the environment variable {key} is not set", f"export {key}=…")
    given = {name: value for name, value in config.items() if value is not None}
    try:
        async with build({"deadline": 60, **given}) as llm:
            answer = await llm.ask("Say OK.", max_tokens=16)
    except GuardrailsError as error:
        return Finding("fail", f"test call: {error.message}", error.hint)
    record = answer.record
    tokens = f"{record.output_tokens} tokens out ({record.token_source})"
    return Finding(
        "ok", f"test call: TTFT {record.ttft_ms or 0:,.0f} ms, {tokens}, model {record.model_reported}"
    )
