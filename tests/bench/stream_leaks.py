"""Who leaks in a stream? Puts other projects' filters through our suite, and prints their scores beside ours.

    python tests/bench/stream_leaks.py                       # ours, and the peers that can be imported here
    python tests/bench/stream_leaks.py --peer nemoguardrails=/tmp/nemo/bin/python --peer …

The peers need packages that do not go together (two of them are called `guardrails`), so each may have an
environment of its own: `python3.11 -m venv /tmp/nemo && /tmp/nemo/bin/pip install nemoguardrails`.

All peers get the same detector, a regular expression that matches the planted values exactly, in the way that
their documentation gives for a check of one's own. What is compared is what they do with a stream, not what
they find. A peer that cannot replace text in a stream is asked to block only; one that has no choices is not
asked about them: both count as unsupported.
"""

from __future__ import annotations

import argparse
import asyncio
import importlib.util
import json
import logging
import os
import re
import subprocess
import sys
import tempfile
import warnings
from collections.abc import AsyncIterator, Callable
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent.parent


def load(path: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec is not None
    assert spec.loader is not None
    module = sys.modules[path.stem] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


suite: Any = load(HERE.parent / "contracts" / "stream_leaks.py")
PATTERN = r"[\w.]+@[\w-]+\.\w+|\b\d{3}-\d{2}-\d{4}\b|(?:\d{4} ){3}\d{4}|\+1 \d{3}-\d{3}-\d{4}|sk-proj-\w{20,}"


class OneChoice:
    """The texts of a source that has one choice."""

    def __init__(self, source: AsyncIterator[Any]) -> None:
        self.source = source
        self.others = False

    async def texts(self) -> AsyncIterator[str]:
        async for choice, text in self.source:
            if choice:
                self.others = True
                return
            yield text

    def check(self) -> None:
        if self.others:
            raise suite.Unsupported


class Nemo:
    """NeMo Guardrails: a regex rail on streamed output, through `LLMRails.stream_async`.

    It blocks only: its masking of sensitive data needs a spaCy model to be downloaded.
    """

    kinds = tuple(suite.VALUES)
    modes = ("block",)

    def __init__(self, stream_first: bool) -> None:
        from nemoguardrails import LLMRails, RailsConfig

        self.name = f"nemoguardrails {version('nemoguardrails')}" + (
            "" if stream_first else ", stream_first: false"
        )
        config = {
            "models": [],
            "rails": {
                "config": {"regex_detection": {"output": {"patterns": [PATTERN]}}},
                "output": {
                    "flows": ["regex check output"],
                    "streaming": {"enabled": True, "stream_first": stream_first},
                },
            },
        }
        self.rails = LLMRails(RailsConfig.from_content(yaml_content=json.dumps(config)))

    async def filter(self, source: AsyncIterator[Any], mode: str) -> AsyncIterator[Any]:
        one = OneChoice(source)
        messages = [{"role": "user", "content": "?"}]
        async for text in self.rails.stream_async(messages=messages, generator=one.texts()):
            if text.startswith('{"error"'):
                raise suite.Stopped
            yield 0, text
        one.check()


class GuardrailsAi:
    """guardrails-ai: a validator of one's own in an `AsyncGuard`, `on_fail` fix or exception."""

    kinds = tuple(suite.VALUES)
    modes = ("redact", "block")

    def __init__(self) -> None:
        from guardrails.validator_base import FailResult, PassResult, Validator, register_validator

        from guardrails import AsyncGuard
        from guardrails.errors import ValidationError

        self.name = f"guardrails-ai {version('guardrails-ai')}"

        @register_validator(name="plain-pii", data_type="string")
        class PlainPii(Validator):  # type: ignore[misc, no-any-unimported, unused-ignore]
            def _validate(self, value: Any, metadata: dict[str, Any]) -> Any:
                fixed = re.sub(PATTERN, "<PII>", value)
                return PassResult() if fixed == value else FailResult(error_message="pii", fix_value=fixed)

        self.guards = {
            mode: AsyncGuard().use(PlainPii(on_fail=on_fail))
            for mode, on_fail in (("redact", "fix"), ("block", "exception"))
        }
        self.stopped = ValidationError

    async def filter(self, source: AsyncIterator[Any], mode: str) -> AsyncIterator[Any]:
        one = OneChoice(source)

        async def model(*_: Any, messages: Any, **__: Any) -> Any:
            return SimpleNamespace(completion_stream=one.texts())  # as LiteLLM wraps a stream

        try:
            messages = [{"role": "user", "content": "?"}]
            async for outcome in await self.guards[mode](model, messages=messages, stream=True):
                yield 0, outcome.validated_output or ""
        except self.stopped:
            raise suite.Stopped from None
        one.check()


class OpenaiGuardrails:
    """openai-guardrails: a check of one's own on the output of `chat.completions.create(stream=True)`.

    It blocks only: it masks prompts, never a streamed answer.
    """

    kinds = tuple(suite.VALUES)
    modes = ("block",)

    def __init__(self) -> None:
        from guardrails.registry import default_spec_registry
        from guardrails.types import GuardrailResult

        from guardrails import GuardrailsAsyncOpenAI, GuardrailTripwireTriggered

        try:
            import httpx2 as http
        except ImportError:
            import httpx as http
        self.name = f"openai-guardrails {version('openai-guardrails')}"
        self.stopped = GuardrailTripwireTriggered
        self.client, self.http = GuardrailsAsyncOpenAI, http

        async def check(ctx: Any, data: str, config: Any) -> Any:
            return GuardrailResult(tripwire_triggered=re.search(PATTERN, data) is not None)

        check.__annotations__ = {}
        default_spec_registry.register("Plain PII", check, "the planted values", "text/plain")

    async def filter(self, source: AsyncIterator[Any], mode: str) -> AsyncIterator[Any]:
        async def body() -> AsyncIterator[bytes]:
            async for choice, text in source:
                delta = {"index": choice, "delta": {"content": text}, "finish_reason": None}
                chunk = {"id": "1", "object": "chat.completion.chunk", "created": 1, "model": "m"}
                yield f"data: {json.dumps({**chunk, 'choices': [delta]})}\n\n".encode()
            yield b"data: [DONE]\n\n"

        def answer(_: Any) -> Any:
            headers = {"content-type": "text/event-stream"}
            return self.http.Response(200, headers=headers, content=body())

        client = self.client(
            config={
                "version": 1,
                "output": {"version": 1, "guardrails": [{"name": "Plain PII", "config": {}}]},
            },
            api_key="none",
            base_url="http://model.test/v1",
            http_client=self.http.AsyncClient(transport=self.http.MockTransport(answer)),
        )
        messages = [{"role": "user", "content": "?"}]
        try:
            async for chunk in await client.chat.completions.create(
                model="m", messages=messages, stream=True
            ):
                for part in chunk.choices:
                    yield part.index, part.delta.content or ""
        except self.stopped:
            raise suite.Stopped from None


def ours() -> Any:
    sys.path.insert(0, str(ROOT))
    return load(HERE.parent / "contracts" / "test_stream_leaks.py").Ours()


FILTERS: dict[str, list[Callable[[], Any]]] = {
    "evalkit-guardrails": [ours],
    "nemoguardrails": [lambda: Nemo(True), lambda: Nemo(False)],
    "guardrails-ai": [GuardrailsAi],
    "openai-guardrails": [OpenaiGuardrails],
}


def scores(name: str) -> list[dict[str, object]]:
    """The rows of one project, in this environment."""
    logging.disable(logging.CRITICAL)
    warnings.simplefilter("ignore")
    rows = []
    for make in FILTERS[name]:
        score = asyncio.run(suite.run(make()))
        cases = sorted({failure.case.split(",")[0] for failure in score.failures})
        rows.append({**score.row(), "cases that fail": len(cases), "": "; ".join(cases)})
    return rows


def elsewhere(name: str, python: str) -> list[dict[str, object]]:
    """The rows of one project, in an environment of its own, which sends no telemetry."""
    with tempfile.TemporaryDirectory() as home:
        Path(home, ".guardrailsrc").write_text("enable_metrics=false\nuse_remote_inferencing=false\n")
        env = {**os.environ, "HOME": home, "OTEL_SDK_DISABLED": "true"}
        done = subprocess.run(
            [python, __file__, "--run", name], capture_output=True, text=True, env=env, timeout=600, cwd=home
        )
    if done.returncode:
        print(f"{name}: could not run: {done.stderr.strip().splitlines()[-1:]}")
        return []
    rows: list[dict[str, object]] = json.loads(done.stdout.splitlines()[-1])
    return rows


def importable(name: str) -> bool:
    """Whether this environment has the project (by its distribution: two are imported as `guardrails`)."""
    try:
        version(name)
    except PackageNotFoundError:
        return False
    return True


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--peer", action="append", default=[], metavar="NAME=PYTHON")
    parser.add_argument("--run", choices=list(FILTERS), help="print one project's rows as JSON")
    options = parser.parse_args()
    if options.run:
        print(json.dumps(scores(options.run)))
        return
    pythons = dict(peer.split("=", 1) for peer in options.peer)
    rows = scores("evalkit-guardrails")
    for name in list(FILTERS)[1:]:
        if name in pythons or importable(name):
            rows += elsewhere(name, pythons.get(name, sys.executable))
        else:
            print(f"{name}: not installed here; give --peer {name}=PYTHON")
    print(suite.table([{key: value for key, value in row.items() if key} for row in rows]))
    for row in rows:
        print(f"\n{row['filter']} fails: {row[''] or 'nothing'}")
    print(f"\nn = {rows[0]['runs']} runs for all that is supported; held and released in characters")


if __name__ == "__main__":
    main()
