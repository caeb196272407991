"""`kill -9` at any moment of a run loses what was in flight and nothing else.

Twenty times the run is killed, somewhere: the endpoint counts the questions of each attempt, and a few
milliseconds after a random one of them the process is gone. Then the same command goes on.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from typing import Any

import pytest

from evalkit.stores import Store, open_store
from evalkit.trial import Trial
from guardrails.call import Request
from guardrails.testing import Profile, simulate

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(600)]

SAMPLES = 2_000
KILLS = 20
WIDTH = 16
"""Open calls at a time."""


@dataclass
class Endpoint:
    """What has been asked: in all, and in the present attempt. At question `fatal`, `strike` is called."""

    asked: Counter[str] = field(default_factory=Counter)
    now: list[str] = field(default_factory=list)
    fatal: int = sys.maxsize
    strike: Any = None

    def answer(self, request: Request, _choice: int) -> str:
        question = request.messages[-1].text
        self.asked[question] += 1
        self.now.append(question)
        if len(self.now) == self.fatal:
            self.strike()
        number = int(question.split()[-1])
        return f"it is {number}" if number % 3 else "no idea"


def suite(folder: Path, url: str, store: str) -> Path:
    lines = [
        {"id": f"s{n}", "input": f"question {n}", "reference": str(n), "tags": [f"t{n % 3}"]}
        for n in range(SAMPLES)
    ]
    (folder / "golden.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    plain = {
        "golden": "golden.jsonl",
        "endpoints": [{"name": "e", "url": url, "model": "m"}],
        "scorers": ["contains"],
        "concurrency": WIDTH,
        "store": store,
    }
    path = folder / "suite.yaml"
    path.write_text(json.dumps(plain))
    return path


async def attempt(path: Path, *, endpoint: Endpoint, kill: tuple[int, float] | None = None) -> int:
    """Run the command; `kill` it so many seconds after so many questions. Its exit code."""
    endpoint.now.clear()
    environment = {**os.environ, "COLUMNS": "110"}
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "evalkit", "run", str(path)),
        cwd=path.parent,
        env=environment,
        stdout=asyncio.subprocess.DEVNULL,
        stderr=asyncio.subprocess.PIPE,
    )

    def strike() -> None:
        assert kill is not None
        asyncio.get_running_loop().call_later(kill[1], process.send_signal, signal.SIGKILL)

    endpoint.fatal, endpoint.strike = (sys.maxsize, None) if kill is None else (kill[0], strike)
    _, said = await process.communicate()
    assert process.returncode is not None
    if kill is not None:
        assert process.returncode == -signal.SIGKILL, said.decode()
    assert b"Traceback" not in said, said.decode()
    return process.returncode


def essence(row: Trial) -> tuple[Any, ...]:
    """A row without its times and the names of its calls."""
    answer = None if row.answer is None else row.answer.as_dict()
    what = (row.key, row.ask, row.content, row.set, row.sample, row.endpoint, row.prompt, row.k, row.place)
    return (*what, row.tags, row.weight, answer, row.scores, row.error, row.passed)


def rows(store: Store) -> list[tuple[Any, ...]]:
    return [essence(row) for row in store.trials(store.find("latest").id)]


@pytest.fixture(params=["sqlite", "postgresql"])
def urls(request: pytest.FixtureRequest, tmp_path: Path) -> tuple[str, str]:
    """Two empty stores: one to be killed over, one for the run that nobody disturbs."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path / 'killed.db'}", f"sqlite:///{tmp_path / 'calm.db'}"
    postgres = request.getfixturevalue("postgres")
    return postgres.schema(), postgres.schema()


@pytest.mark.asyncio
async def test_a_run_that_is_killed_twenty_times_ends_as_if_nothing_had_been(
    urls: tuple[str, str], tmp_path: Path
) -> None:
    random = Random(11)
    endpoint = Endpoint()
    async with simulate(Profile(), source=endpoint.answer) as server:
        calm = suite(tmp_path, server.url, urls[1])
        undisturbed = await attempt(calm, endpoint=endpoint)
        assert max(endpoint.asked.values()) == 1
        assert len(endpoint.asked) == SAMPLES
        endpoint.asked.clear()

        path = suite(tmp_path, server.url, urls[0])
        store = open_store(urls[0])
        done: frozenset[str] = frozenset()
        expected = open_store(urls[1])
        questions = {row[0]: f"question {row[4][1:]}" for row in rows(expected)}
        lost = []
        for _ in range(KILLS):
            kill = (random.randint(1, SAMPLES // KILLS), random.uniform(0, 0.05))
            await attempt(path, endpoint=endpoint, kill=kill)
            asked_again = {questions[key] for key in done} & set(endpoint.now)
            assert not asked_again, "what was recorded as done is left as it is"
            before, done = done, store.done(store.find("latest").id)
            assert before <= done, "what was recorded stays"
            lost.append(len(endpoint.now) - len(done - before))
        assert await attempt(path, endpoint=endpoint) == undisturbed
        assert not {questions[key] for key in done} & set(endpoint.now)

    assert len(store.runs()) == 1, "every attempt went on with the same run"
    assert store.runs()[0].status == "complete"
    assert rows(store) == rows(expected)
    assert sum(endpoint.asked.values()) == SAMPLES + sum(lost)
    print(f"asked again after a kill: {sorted(lost)}")
    store.close()
    expected.close()
