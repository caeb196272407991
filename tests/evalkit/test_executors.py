"""What of a run on many machines can be told without Ray."""

from __future__ import annotations

import asyncio
import json
import os
import pickle
import sys
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any, cast

import pytest

from evalkit import config
from evalkit.executors.cluster import package
from evalkit.executors.pool import PATIENCE, Member, NoWorkers, Pool
from evalkit.executors.ray import RayExecutor, packed
from evalkit.executors.ray_store import Limits
from evalkit.executors.worker import Setup, Worker
from evalkit.plan import Plan
from evalkit.trial import Failure
from guardrails.errors import ConfigError
from guardrails.flow.ledger import Counter, Reserve
from guardrails.testing import FakeClock, Profile, simulate


def plan_of(folder: Path, url: str = "http://127.0.0.1:9/v1", **fields: Any) -> Plan:
    rows = [{"id": f"s{n}", "input": f"question {n}", "reference": "yes"} for n in range(3)]
    (folder / "g.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    plain = {"golden": "g.jsonl", "endpoints": [{"name": "e", "url": url, "model": "m"}], **fields}
    (folder / "suite.yaml").write_text(json.dumps(plain))
    return Plan.of(config.load(folder / "suite.yaml"), folder=folder)


def test_without_the_package_it_says_how_to_get_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(ConfigError) as caught:
        RayExecutor.of(plan_of(tmp_path))
    assert 'pip install "evalkit-guardrails[ray]"' in caught.value.hint


def test_ray_reports_its_use_to_nobody_unless_it_was_told_to(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ray", ModuleType("ray"))
    monkeypatch.setattr(os, "environ", found := {})
    package()
    assert found["RAY_USAGE_STATS_ENABLED"] == "0"
    monkeypatch.setattr(os, "environ", chosen := {"RAY_USAGE_STATS_ENABLED": "1"})
    package()
    assert chosen["RAY_USAGE_STATS_ENABLED"] == "1"


def test_endpoints_made_of_objects_stay_here(tmp_path: Path) -> None:
    plan = plan_of(tmp_path)
    other = replace(plan, targets=(replace(plan.targets[0], about={"url": "http://elsewhere/v1"}),))
    with pytest.raises(ConfigError, match="cannot travel"):
        RayExecutor.of(other)


@pytest.mark.asyncio
async def test_a_worker_needs_what_pickles_and_no_golden_set(tmp_path: Path) -> None:
    async with simulate(Profile(answers="fixed:yes")) as server:
        plan = plan_of(tmp_path, server.url, prompts=[{"name": "a", "system": "{{ id }}"}, {"name": "b"}])
        setup = Setup(plan.suite, {"g": "contains"}, tmp_path, None, _version())
        worker = Worker(pickle.loads(pickle.dumps(setup)))
        job = pickle.loads(pickle.dumps(list(plan.jobs(plan.targets[0]))[3]))
        (tmp_path / "g.jsonl").unlink()
        assert await worker.join() is None
        trial = pickle.loads(pickle.dumps(await worker.do(job, "r", None)))
        await worker.aclose()
    assert trial.passed
    assert trial.key == job.key
    assert trial.arm == "e/b"


@pytest.mark.asyncio
async def test_a_worker_of_another_version_does_not_join(tmp_path: Path) -> None:
    plan = plan_of(tmp_path)
    refused = await Worker(Setup(plan.suite, {}, tmp_path, None, "0.0.0")).join()
    assert refused is not None
    assert "0.0.0" in refused.message


@pytest.mark.asyncio
async def test_a_worker_that_lacks_a_file_says_which(tmp_path: Path) -> None:
    plan = plan_of(tmp_path, endpoints=[{"name": "e", "url": "http://h/v1", "model": "m"}])
    suite = plan.suite.model_copy(
        update={"endpoints": ({"name": "e", "url": "http://h/v1", "prices": "p.toml"},)}
    )
    refused = await Worker(Setup(suite, {}, tmp_path, None, _version())).join()
    assert refused is not None
    assert "p.toml" in refused.message


def _version() -> str:
    from evalkit._version import version

    return version()


def test_attached_files_travel_inside_of_the_job(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(b"\x89PNG")
    plan = plan_of(tmp_path)
    row = {"id": "i", "input": "what is this?", "reference": "a cat", "attachments": ["a.png"]}
    (tmp_path / "g.jsonl").write_text(json.dumps(row) + "\n")
    plan = Plan.of(plan.suite, folder=tmp_path)
    (job,) = plan.jobs(plan.targets[0])
    sent = packed(job)
    before = plan.request(job)
    (tmp_path / "a.png").unlink()
    assert plan.request(sent) == before
    assert sent.key == job.key
    with pytest.raises(ConfigError):
        packed(job)


@pytest.mark.asyncio
async def test_limits_are_kept_apart_by_endpoint_and_counted_together() -> None:
    limits = Limits(FakeClock())
    one = Reserve((Counter("budget", "month", 10, 4),))
    said = [(await limits.decide(name, one)).refused for name in ("a", "b", "a", "a")]
    assert said == [None, None, None, 0]


# --- the pool ----------------------------------------------------------------------------------------------


class Gone(Exception):
    """Ray's word for whatever is not there."""


@dataclass
class Actor:
    """A worker whose `join` says what it is told to."""

    says: Failure | Exception | None = None
    joins: asyncio.Event = field(default_factory=asyncio.Event)

    @property
    def join(self) -> Any:
        async def remote() -> Failure | None:
            await self.joins.wait()
            if isinstance(self.says, Exception):
                raise self.says
            return self.says

        return SimpleNamespace(options=lambda **_: SimpleNamespace(remote=remote))


def pool(clock: FakeClock) -> Pool:
    return Pool(SimpleNamespace(RayError=Gone), clock)


@pytest.mark.asyncio
async def test_the_least_busy_worker_is_asked_and_one_that_is_gone_is_not() -> None:
    made = pool(FakeClock())
    members = [Member(Actor(), busy) for busy in (3, 1, 2)]
    for member in members:
        member.actor.joins.set()
        made.admit(member)
    await asyncio.gather(*made.joining.values())
    assert await made.least_busy() is members[1]
    members[1].actor.joins.clear()
    made.admit(members[1])
    assert await made.least_busy() is members[2]
    members[1].actor.joins.set()
    await asyncio.gather(*made.joining.values())
    assert await made.least_busy() is members[1]


@pytest.mark.asyncio
@pytest.mark.parametrize(
    "says", [Failure("config", "p.toml is missing", "copy it"), Gone("p.toml is missing")]
)
async def test_when_none_can_come_it_says_why_at_once(says: Failure | Exception) -> None:
    made = pool(FakeClock())
    member = Member(Actor(says))
    made.admit(member)
    waiting = asyncio.ensure_future(made.least_busy())
    cast("Actor", member.actor).joins.set()
    with pytest.raises(NoWorkers, match=r"p\.toml is missing"):
        await waiting


@pytest.mark.asyncio
async def test_a_cluster_that_gives_no_worker_is_waited_for_and_not_for_ever() -> None:
    clock = FakeClock()
    made = pool(clock)
    made.admit(Member(Actor()))
    waiting = asyncio.ensure_future(made.least_busy())
    await clock.run_for(PATIENCE - 1)
    assert not waiting.done()
    await clock.run_for(1)
    with pytest.raises(NoWorkers, match="no worker for 120 s"):
        await waiting
    for task in made.joining.values():
        task.cancel()
    await asyncio.gather(*made.joining.values(), return_exceptions=True)
