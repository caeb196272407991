"""A run goes on as the one that it was, or not at all: what its rows would be mixed with is another run."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import UTC, datetime
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from evalkit.config import Suite
from evalkit.evaluate import evaluate
from evalkit.plan import Plan, Target
from evalkit.runner import Control
from evalkit.session import Session
from evalkit.stores import Run, open_store
from guardrails.client import Llm
from guardrails.errors import ConfigError
from guardrails.testing import ScriptedEndpoint

CONSOLES = Console(file=StringIO()), Console(file=StringIO())


def suite(folder: Path, **fields: Any) -> Suite:
    path = folder / "g.jsonl"
    lines = ({"id": f"s{i}", "input": f"question {i}", "reference": "yes"} for i in range(4))
    path.write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")
    return Suite.model_validate(
        {
            "golden": str(path),
            "endpoints": [{"name": "e", "url": "http://x/v1", "model": "m"}],
            "out": folder,
            "concurrency": 1,
            "max_error_rate": 1,
            **fields,
        }
    )


def plan(made: Suite) -> Plan:
    """The suite's own plan, with an endpoint that answers."""
    whole = Plan.of(made)
    (target,) = whole.targets
    answers = Target(Llm(ScriptedEndpoint("oh yes"), name="e"), "e", target.about)
    return replace(whole, targets=(answers,))


def scorer(folder: Path, says: str) -> dict[str, str]:
    (folder / "mine.py").write_text(f"def f(question, answer):\n    {says}\n", encoding="utf-8")
    return {"python": f"{folder}/mine.py:f"}


async def interrupted(made: Suite) -> Run:
    """A run that was stopped after its first row."""
    control = Control()
    return (await evaluate(plan(made), control=control, seen=lambda row: control.stop())).run


@pytest.mark.asyncio
@pytest.mark.parametrize("first", ["return False", "raise ValueError('no verdict')"])
async def test_another_scorer_in_the_same_file_is_another_run(tmp_path: Path, first: str) -> None:
    """Its rows would be counted beside those that the old one judged, or misjudged."""
    before = await interrupted(suite(tmp_path, scorers=[scorer(tmp_path, first)]))
    assert before.status == "interrupted"
    changed = suite(tmp_path, scorers=[scorer(tmp_path, "return True")])

    assert Session.of(changed, None, consoles=CONSOLES).resumed is None, "it does not go on by itself"
    with pytest.raises(ConfigError, match=r"1 rows of the run .* are none of this suite's"):
        Session.of(changed, None, consoles=CONSOLES, resume=before.id)
    with pytest.raises(ConfigError, match="are none of this suite's"):
        await evaluate(plan(changed), store=open_store(changed.database), resume=before)


@pytest.mark.asyncio
async def test_the_same_scorer_goes_on_by_itself(tmp_path: Path) -> None:
    before = await interrupted(suite(tmp_path, scorers=[scorer(tmp_path, "return False")]))
    same = suite(tmp_path, scorers=[scorer(tmp_path, "return False")])

    resumed = Session.of(same, None, consoles=CONSOLES).resumed

    assert resumed is not None
    assert resumed.id == before.id


def test_another_simulated_user_or_judge_is_another_run(tmp_path: Path) -> None:
    def made(**fields: Any) -> str:
        return Plan.of(suite(tmp_path, **fields)).digest

    plain = made()
    users = [made(user={"url": "http://u/v1", "model": name}) for name in ("one", "two")]
    judges = [made(judges={"j": {"url": "http://j/v1", "model": name}}) for name in ("one", "two")]

    assert len({plain, *users, *judges}) == 5
    assert made(user={"url": "http://u/v1", "model": "one"}) == users[0]


@pytest.mark.asyncio
async def test_rows_that_another_version_judged_are_not_gone_on_with(tmp_path: Path) -> None:
    """What a built-in scorer is may change between versions, and the suite's digest does not tell."""
    made = suite(tmp_path)
    before = await interrupted(made)
    store = open_store(made.database)
    (row,) = store.trials(before.id)
    stray = store.create(Run("old", before.name, before.digest, "running", datetime.now(UTC)))
    store.append([replace(row, run=stray.id, key="of another version")])

    session = Session.of(made, None, consoles=CONSOLES)

    assert session.resumed is None
    with pytest.raises(ConfigError, match="are none of this suite's"):
        await evaluate(plan(made), store=store, resume=store.find("old"))


@pytest.mark.asyncio
@pytest.mark.parametrize("swapped", [False, True])
async def test_a_second_prompt_does_not_split_an_arm(tmp_path: Path, swapped: bool) -> None:
    """The rows of a run with one prompt bear no name of it."""
    suites = [
        suite(tmp_path, prompts=[{"name": "plain"}]),
        suite(tmp_path, prompts=[{"name": "plain"}, {"name": "brief", "system": "Be brief."}]),
    ]
    first, second = reversed(suites) if swapped else suites
    before = await interrupted(first)

    with pytest.raises(ConfigError, match="prompt"):
        await evaluate(plan(second), store=open_store(first.database), resume=before)

    assert open_store(first.database).find(before.id).trials == 1
