"""`Llm.warm()`: what the first call would wait for is there before it."""

from __future__ import annotations

import subprocess
import sys

import pytest

from guardrails import Llm, tokens
from guardrails.config import build
from guardrails.filters.layers import InputFilters, OutputFilters
from guardrails.filters.policy import Rule
from guardrails.flow.cascade import Cascade
from guardrails.flow.fallback import FirstOf
from guardrails.flow.route import Route
from guardrails.flow.shadow import Shadow
from guardrails.testing import ScriptedEndpoint


class Slow:
    """A detector that counts its warmings."""

    name = "slow"
    window = 8

    def __init__(self) -> None:
        self.warmed = 0

    def warm(self) -> None:
        self.warmed += 1

    def detect(self, text: str, /) -> list[object]:
        return []


@pytest.fixture
def vocabularies(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The models whose vocabularies were loaded."""
    seen: list[str] = []
    monkeypatch.setattr(tokens, "warm", lambda model: bool(seen.append(model)))
    return seen


def test_every_layer_on_every_way_is_warmed(vocabularies: list[str]) -> None:
    detectors = [Slow() for _ in range(6)]
    a, b, c, d, e, f = (Rule(detector) for detector in detectors)  # type: ignore[arg-type] # enough of one
    ways = [
        Route(ScriptedEndpoint("x", name=name), model=name, layers=[InputFilters([rule])])
        for name, rule in (("one", a), ("two", b))
    ]
    large = Route(ScriptedEndpoint("x", name="large"), model="large", layers=[InputFilters([c])])
    copy = Route(ScriptedEndpoint("x", name="copy"), model="copy")
    llm = Llm(
        Cascade(Route(FirstOf(ways), "small"), large),
        InputFilters([d], tool_results=[e]),
        OutputFilters([f]),
        Shadow(copy),
        model="m",
    )
    llm.warm()
    assert all(detector.warmed for detector in detectors)
    assert {"one", "two", "large", "copy", "m"} <= set(vocabularies)


def test_a_built_policy_is_warmed_through_the_layers_around_its_endpoint(vocabularies: list[str]) -> None:
    fields = {"url": "http://nowhere/v1", "model": "gpt-4o-mini", "retry": {"attempts": 2}}
    build({**fields, "filters": {"input": ["pii"]}}).warm()
    assert vocabularies == ["gpt-4o-mini"]
    vocabularies.clear()
    routes = [{"name": name, "url": "http://nowhere/v1", "model": f"model-{name}"} for name in "ab"]
    build({"name": "r", "routes": routes}).warm()
    assert {"model-a", "model-b"} <= set(vocabularies)


WARMED = """
import sys
from guardrails.config import build
filters = {"input": ["pii"], "output": ["pii"]}
llm = build({"url": "http://127.0.0.1:1/v1", "model": "m", "filters": filters})
assert "guardrails.prices" not in sys.modules
llm.warm()
before = set(sys.modules)
import asyncio
from guardrails import Call, EndpointError, Request
async def main():
    try:
        await llm.ask("mail jo@example.com", max_tokens=5)
    except EndpointError as error:
        assert error.kind == "connect", error.kind
asyncio.run(main())
late = [name for name in set(sys.modules) - before if name.startswith(("guardrails", "re2", "tiktoken"))]
assert late == [], late
"""


def test_the_first_call_imports_nothing_of_ours_any_more() -> None:
    done = subprocess.run([sys.executable, "-c", WARMED], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
