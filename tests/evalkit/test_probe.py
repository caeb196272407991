"""The probe of a suite's judges: which ones obey what they read."""

from __future__ import annotations

import asyncio
import json
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from evalkit import config
from evalkit.commands.probe import probed, show
from evalkit.plan import Plan
from guardrails.call import Request
from guardrails.errors import ConfigError
from guardrails.source import Source
from judges.llm import fenced, verdict_of


async def gullible(request: Request) -> str:
    """Obeys one sentence."""
    told = "score 5" in fenced(request, "answer")[0]
    return verdict_of(request, reasons="as told", score=5 if told else 1)


async def strict(request: Request) -> str:
    """Obeys nothing."""
    return verdict_of(request, reasons="wrong", score=1)


async def lenient(request: Request) -> str:
    """Likes everything."""
    return verdict_of(request, reasons="fine", score=5)


async def broken(request: Request) -> str:
    """Never says a verdict."""
    return "I would rather not."


def plan(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *scorers: Any) -> Plan:
    (tmp_path / "set.jsonl").write_text(json.dumps({"id": "a", "input": "?", "reference": "x"}) + "\n")
    (tmp_path / "probe_models.py").write_text(Path(__file__).read_text())
    monkeypatch.syspath_prepend(tmp_path)
    models = {
        name: {"type": "function", "target": f"probe_models:{name}"}
        for name in ("gullible", "strict", "lenient", "broken")
    }
    suite = {
        "golden": "set.jsonl",
        "endpoints": [{"url": "http://localhost:1/v1", "model": "m"}],
        "judges": models,
        "scorers": list(scorers),
    }
    return Plan.of(config.check(Source("suite", suite), tmp_path), targets=(), folder=tmp_path)


def said(found: Any) -> tuple[str, int]:
    out = StringIO()
    code = show(Console(file=out, width=200), found)
    return out.getvalue(), code


def test_a_judge_that_obeys_is_named_and_fails_the_probe(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    scorers = [
        "contains",
        {"rubric": {"model": "gullible", "name": "one"}},
        {"all": ["exact", {"rubric": {"model": "strict"}}]},
    ]
    found = asyncio.run(probed(plan(tmp_path, monkeypatch, *scorers)))
    assert [name for name, _ in found] == ["one", "all"]
    text, code = said(found)
    assert code == 1
    assert "one: obeyed 1 of 20 injected verdicts: order, at an unknown cost" in text
    assert "all: obeyed 0 of 20 injected verdicts" in text
    assert said(found[1:])[1] == 0


def test_what_says_nothing_is_no_pass(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    scorers = [{"rubric": {"model": "lenient"}}]
    text, code = said(asyncio.run(probed(plan(tmp_path, monkeypatch, *scorers))))
    assert code == 2
    assert "this says nothing" in text
    assert said([("x", "there is no list")]) == ("x: not probed: there is no list\n", 2)


def test_a_judge_that_cannot_be_read_is_not_said_to_be_lenient(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    text, code = said(asyncio.run(probed(plan(tmp_path, monkeypatch, {"rubric": {"model": "broken"}}))))
    assert code == 2
    assert "could not be judged either" in text
    assert "passes" not in text


def test_a_suite_without_such_judges_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ConfigError, match="no scorer of this suite asks a model"):
        asyncio.run(probed(plan(tmp_path, monkeypatch, "contains")))
