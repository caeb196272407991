"""A `CancelledError` that nobody asked for is an error of whoever raised it, and never a row less."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from evalkit.asking import Asker
from evalkit.config import Suite
from evalkit.evaluate import Outcome, evaluate
from evalkit.plan import Job, Plan, Target
from evalkit.runner import Control, Lost
from evalkit.scoring import Judges
from evalkit.stores import Kept, open_store
from evalkit.trial import Trial
from guardrails.call import Call
from guardrails.client import Llm
from guardrails.testing import ScriptedEndpoint
from judges.judge import Answer, Question, Score

SCORERS = """
import asyncio

async def cancels(question, answer):
    if answer.text == "42":
        raise asyncio.CancelledError
    return True
"""


def plan(folder: Path, answer: Callable[[Call], Any], **fields: Any) -> Plan:
    lines = ({"id": f"s{i}", "input": f"q{i}", "reference": "yes"} for i in range(4))
    (folder / "g.jsonl").write_text("".join(json.dumps(x) + "\n" for x in lines), encoding="utf-8")
    (folder / "fn.py").write_text(SCORERS, encoding="utf-8")
    endpoints = [{"name": "e", "url": "http://x/v1"}]
    golden = str(folder / "g.jsonl")
    suite = {"golden": golden, "endpoints": endpoints, "out": folder, "gates": ["pass_rate >= 30%"], **fields}
    made = Suite.model_validate(suite)
    return Plan.of(made, [Target(Llm(ScriptedEndpoint(answer), name="e"), "e")])


def rows(outcome: Outcome) -> list[Trial]:
    return list(outcome.store.trials(outcome.run.id))


def second(call: Call) -> str:
    return "42" if call.request.messages[-1].text == "q1" else "yes"


@pytest.mark.asyncio
async def test_a_scorer_that_raises_it_is_an_error_row_and_the_run_is_not_green(tmp_path: Path) -> None:
    scorer = {"python": f"{tmp_path / 'fn.py'}:cancels"}
    outcome = await evaluate(plan(tmp_path, second, scorers=["none", scorer], concurrency=1))

    assert len(rows(outcome)) == 4
    assert [row.scores["cancels"].error for row in rows(outcome)].count("exception") == 1
    assert (outcome.status, outcome.verdict) == ("complete", "errors")


@dataclass(frozen=True)
class Raises:
    error: type[BaseException]
    name: str = "raises"

    def check(self, question: Question) -> str | None:
        return None

    async def __call__(self, question: Question, answer: Answer) -> Score:
        raise self.error


@pytest.mark.asyncio
@pytest.mark.parametrize("error", [asyncio.CancelledError, SystemExit])
@pytest.mark.parametrize("many", [1, 2])
async def test_so_is_any_judge(error: type[BaseException], many: int) -> None:
    judges = tuple(Raises(error, f"raises{i}") for i in range(many))
    scores = await Judges(judges, "").score(Question(), Answer("my answer"))

    assert [score.error for score in scores.values()] == ["exception"] * many
    assert all(error.__name__ in score.reason for score in scores.values())


@pytest.mark.asyncio
async def test_a_judging_that_is_cancelled_is_cancelled() -> None:
    began = asyncio.Event()

    class Waits(Raises):
        async def __call__(self, question: Question, answer: Answer) -> Score:
            began.set()
            await asyncio.Event().wait()
            raise AssertionError

    for judges in ((Waits(ValueError),), (Waits(ValueError), Raises(ValueError))):
        began.clear()
        work = asyncio.ensure_future(Judges(judges, "").score(Question(), Answer("")))
        await began.wait()
        work.cancel()
        with pytest.raises(asyncio.CancelledError):
            await work
        assert work.cancelled()


@pytest.mark.asyncio
@pytest.mark.parametrize("error", [asyncio.CancelledError, SystemExit])
async def test_an_endpoint_that_raises_it_is_a_failed_call(
    tmp_path: Path, error: type[BaseException]
) -> None:
    def answer(call: Call) -> str | BaseException:
        return error() if call.request.messages[-1].text == "q1" else "yes"

    outcome = await evaluate(plan(tmp_path, answer, concurrency=1, max_error_rate=1))

    assert (outcome.status, len(rows(outcome))) == ("complete", 4)
    (failed,) = (row for row in rows(outcome) if row.error is not None)
    assert (failed.sample, failed.error and failed.error.kind) == ("s1", "internal")


@dataclass(frozen=True)
class Loses:
    """An executor that breaks its promise: it ends the task of the worker that asks it."""

    asker: Asker
    control: Control
    stops: bool = False

    async def __call__(self, job: Job, run: str, kept: Kept | None = None) -> Trial:
        if job.sample.id == "s1":
            if self.stops:
                self.control.stop()
            raise asyncio.CancelledError
        return await self.asker(job, run, kept)

    async def aclose(self) -> None:
        await self.asker.aclose()


@pytest.mark.asyncio
@pytest.mark.parametrize("concurrency", [1, 4])
async def test_a_run_that_lost_a_row_is_never_complete(tmp_path: Path, concurrency: int) -> None:
    made, control = plan(tmp_path, second, concurrency=concurrency), Control()

    with pytest.raises(Lost, match="of 4 rows were lost"):
        await evaluate(made, control=control, executor=Loses(Asker(made), control))

    (run,) = open_store(made.suite.database).runs()
    assert run.status == "stopped"


@pytest.mark.asyncio
async def test_one_that_was_stopped_may_lack_rows(tmp_path: Path) -> None:
    made, control = plan(tmp_path, second, concurrency=1), Control()

    outcome = await evaluate(made, control=control, executor=Loses(Asker(made), control, stops=True))

    assert outcome.status == "interrupted"
