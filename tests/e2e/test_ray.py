"""Runs on a real Ray cluster of two nodes, on this machine.

A node is a raylet with workers of its own. Here they share a disk, so what the suite's folder holds is moved
away once the run has begun: a worker has to find it in what Ray brought.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from evalkit import config
from evalkit.evaluate import Outcome, evaluate
from evalkit.executors.ray import RayExecutor
from evalkit.plan import Plan
from evalkit.stores import open_store
from evalkit.trial import Trial
from guardrails.call import Request
from guardrails.errors import ConfigError, GuardrailsError
from guardrails.testing import Profile, simulate

ray = pytest.importorskip("ray", reason="Ray is not installed here (`make ray` installs it, and runs this)")

pytestmark = [
    pytest.mark.e2e,
    pytest.mark.asyncio,
    pytest.mark.timeout(300),
    pytest.mark.filterwarnings("ignore::ResourceWarning"),  # Ray leaves sockets and pipes to the collector
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]

MEMORY = 100 * 2**20
PIXEL = bytes.fromhex(
    "89504e470d0a1a0a0000000d49484452000000010000000108060000001f15c4890000000049454e44ae426082"
)


@dataclass
class Nodes:
    """The cluster: a head with two CPUs, and a second node that tests may take away and get back."""

    cluster: Any
    second: Any = None

    def complete(self) -> None:
        """Have two nodes with two CPUs each."""
        if self.second is None:
            self.second = self.cluster.add_node(num_cpus=2, object_store_memory=MEMORY)
            self.cluster.wait_for_nodes()

    def pull_the_plug(self) -> None:
        """Take the second node away, as a power cut would."""
        lost, self.second = self.second, None
        self.cluster.remove_node(lost, allow_graceful=False)

    def workers(self) -> list[int]:
        """The process ids of all workers of ours."""
        found = []
        for path in Path("/proc").glob("[0-9]*/cmdline"):
            with contextlib.suppress(OSError):
                if path.read_bytes().startswith(b"ray::Worker"):
                    found.append(int(path.parent.name))
        return found


@pytest.fixture(scope="module")
def started() -> Iterator[Nodes]:
    from ray.cluster_utils import Cluster

    with (
        pytest.MonkeyPatch.context() as patch,
        tempfile.TemporaryDirectory(prefix="ray-", ignore_cleanup_errors=True) as folder,
    ):
        patch.setenv("RAY_USAGE_STATS_ENABLED", "0")
        patch.setenv("RAY_TMPDIR", folder)
        patch.setenv("HOME", folder)  # a token in there would be sent to clusters that know none
        patch.setenv(
            "RAY_prestart_worker_first_driver", "0"
        )  # they would not have the suite's files, and idle
        head = {"num_cpus": 2, "object_store_memory": MEMORY, "include_dashboard": False}
        cluster = Cluster(initialize_head=True, head_node_args=head)
        try:
            yield Nodes(cluster)
        finally:
            cluster.shutdown()


@pytest.fixture
def nodes(started: Nodes, monkeypatch: pytest.MonkeyPatch) -> Nodes:
    monkeypatch.setenv("RAY_ADDRESS", started.cluster.address)
    started.complete()
    return started


@dataclass
class Endpoint:
    """What was asked. `at[n]()` is called with the n-th question."""

    asked: Counter[str] = field(default_factory=Counter)
    at: dict[int, Callable[[], object]] = field(default_factory=dict)

    def answer(self, request: Request, _choice: int) -> str:
        question = request.messages[-1].text
        self.asked[question] += 1
        if strike := self.at.pop(self.asked.total(), None):
            strike()
        number = int(question.split()[-1])
        return f"it is {number}" if number % 3 else "no idea"


def suite(folder: Path, url: str, *, samples: int = 60, **fields: Any) -> Path:
    folder.mkdir(exist_ok=True)
    lines = [{"id": f"s{n}", "input": f"question {n}", "reference": str(n)} for n in range(samples)]
    (folder / "golden.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    plain = {
        "golden": "golden.jsonl",
        "endpoints": [{"name": "e", "url": url, "model": "m"}],
        "scorers": ["contains"],
        "concurrency": 8,
        **fields,
    }
    path = folder / "suite.yaml"
    path.write_text(json.dumps(plain))
    return path


async def run(path: Path, where: str, **how: Any) -> list[Trial]:
    outcome = await outcome_of(path, where, **how)
    assert outcome.status == "complete"
    return list(outcome.store.trials(outcome.run.id))


async def outcome_of(path: Path, where: str, *, workers: int = 2) -> Outcome:
    plan = Plan.of(config.load(path), folder=path.parent)
    executor = await complete(RayExecutor.of(plan, workers=workers)) if where == "ray" else None
    return await evaluate(plan, store=open_store(f"sqlite:///{path.parent / where}.db"), executor=executor)


async def complete(executor: RayExecutor) -> RayExecutor:
    """The executor once each of its workers has joined: what follows is done by all of them."""
    executor._begin()
    await asyncio.gather(*executor._pool.joining.values())
    assert len(executor._pool.ready) == len(executor.actors)
    return executor


def essence(rows: list[Trial]) -> list[tuple[Any, ...]]:
    """The rows without their times and the names of their calls."""
    return [
        (
            *(row.key, row.ask, row.content, row.sample, row.arm, row.k, row.place, row.tags, row.weight),
            *(row.answer and row.answer.text, row.scores, row.error, row.number("cost_usd")),
        )
        for row in rows
    ]


async def until(holds: Callable[[], bool]) -> None:
    """Turn the event loop until something holds; the test's own time limit bounds it."""
    while not holds():  # noqa: ASYNC110 - what we wait for is another process's doing
        await asyncio.sleep(0)


def left_behind() -> list[Path]:
    return list(Path(tempfile.gettempdir()).glob("evalkit-ray-*"))


async def command(path: Path, environment: Mapping[str, str] = os.environ) -> asyncio.subprocess.Process:
    """`evalkit run … --executor ray`, as in a terminal of its own: it and what it starts get each Ctrl-C."""
    return await asyncio.create_subprocess_exec(
        *(sys.executable, "-W", "error", "-m", "evalkit", "run", str(path), "--executor", "ray"),
        cwd=path.parent,
        env={**environment, "TMPDIR": tempfile.gettempdir(), "COLUMNS": "110"},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        start_new_session=True,
    )


async def test_rows_are_those_of_a_local_run(nodes: Nodes, tmp_path: Path) -> None:
    """Everything that has to travel does: prompts, prices, scorers in Python, images."""
    here = tmp_path / "suite"
    endpoint = Endpoint()
    async with simulate(Profile(), source=endpoint.answer) as server:
        one = {"url": server.url, "model": "m", "prices": "prices.toml"}
        path = suite(
            here,
            server.url,
            endpoints=[{"name": "plain", **one}, {"name": "filtered", **one, "filters": {"output": ["pii"]}}],
            golden=["golden.jsonl", "images.jsonl"],
            prompts=[{"name": "short"}, {"file": "prompts/long.yaml"}],
            scorers=["contains", {"python": "short.py:is_short"}],
            sampling={"n": 2},
        )
        (here / "images.jsonl").write_text(
            json.dumps(
                {"id": "i", "input": "question 7", "reference": "7", "attachments": [{"path": "a.png"}]}
            )
        )
        (here / "a.png").write_bytes(PIXEL)
        (here / "prices.toml").write_text('as_of = 2026-11-01\n[models."m"]\ninput = 1\noutput = 2\n')
        (here / "prompts").mkdir()
        (here / "prompts" / "long.yaml").write_text('system: "Think about {{ id }}."\n')
        (here / "short.py").write_text("def is_short(question, answer):\n    return len(answer.text) < 8\n")
        local = await run(path, "local")
        moved = tmp_path / "moved"
        plan = Plan.of(config.load(path), folder=here)
        executor = RayExecutor.of(plan, workers=2)
        for name in ("prices.toml", "prompts", "short.py"):
            (here / name).rename(here / f"{name}.away")
        outcome = await evaluate(plan, store=open_store(f"sqlite:///{moved}.db"), executor=executor)
    rows = list(outcome.store.trials(outcome.run.id))
    assert len(rows) == 61 * 2 * 2 * 2
    assert not [row.error for row in local if row.error]
    assert {len(row.scores) for row in rows} == {2}
    assert None not in {row.number("cost_usd") for row in rows}
    assert essence(rows) == essence(local)


async def test_a_rate_holds_over_all_workers(nodes: Nodes, tmp_path: Path) -> None:
    endpoint = Endpoint()
    rate = {"requests": 6, "burst": 200, "patience": 0}  # 20 at once, and one each 10 s
    async with simulate(Profile(), source=endpoint.answer) as server:
        one = {"name": "e", "url": server.url, "model": "m", "rate_limit": rate}
        path = suite(tmp_path / "suite", server.url, samples=80, endpoints=[one])
        began = time.monotonic()
        rows = await run(path, "ray")
        took = time.monotonic() - began
    errors = Counter(row.error.kind for row in rows if row.error)
    assert endpoint.asked.total() + errors["rate_limited"] == 80
    assert 20 <= endpoint.asked.total() <= 20 + took / 10 + 1


async def test_a_budget_is_not_overspent_by_workers_together(nodes: Nodes, tmp_path: Path) -> None:
    endpoint = Endpoint()
    async with simulate(Profile(), source=endpoint.answer) as server:
        one = {
            "name": "e",
            "url": server.url,
            "model": "m",
            "prices": "prices.toml",
            "budget": {"allow": [{"per": "month", "usd": "0.0002"}], "assumed_output": 10},
        }
        path = suite(tmp_path / "suite", server.url, samples=80, endpoints=[one])
        (path.parent / "prices.toml").write_text('as_of = 2026-11-01\n[models."m"]\ninput = 1\noutput = 1\n')
        rows = await run(path, "ray")
    errors = Counter(row.error.kind for row in rows if row.error)
    spent = sum(row.number("cost_usd") or 0.0 for row in rows)
    assert errors["budget"] > 0
    assert errors.total() == errors["budget"]
    assert 0.00015 < spent <= 0.0002, "each of two alone would have spent that"


async def test_the_cost_cap_ends_the_run_before_it_is_passed(nodes: Nodes, tmp_path: Path) -> None:
    endpoint = Endpoint()
    async with simulate(Profile(), source=endpoint.answer) as server:
        one = {"name": "e", "url": server.url, "model": "m", "prices": "prices.toml"}
        path = suite(
            tmp_path / "suite",
            server.url,
            samples=80,
            endpoints=[one],
            sampling={"max_tokens": 10},
            budget={"max_usd": 0.0003},
        )
        (path.parent / "prices.toml").write_text('as_of = 2026-11-01\n[models."m"]\ninput = 1\noutput = 1\n')
        outcome = await outcome_of(path, "ray")
    rows = list(outcome.store.trials(outcome.run.id))
    spent = sum(row.number("cost_usd") or 0.0 for row in rows)
    assert outcome.status == "capped"
    assert not [row.error for row in rows if row.error]
    assert endpoint.asked.total() == len(rows) < 80
    assert 0.0001 < spent <= 0.0003


async def test_a_breaker_that_opens_opens_for_all(nodes: Nodes, tmp_path: Path) -> None:
    endpoint = Endpoint()
    async with simulate("instant", source=endpoint.answer) as server:
        url = f"{server.url}/nowhere"
        one = {"name": "e", "url": url, "model": "m", "breaker": {"consecutive": 1, "ejection": 300}}
        path = suite(tmp_path / "suite", url, samples=40, endpoints=[one])
        plan = Plan.of(config.load(path), folder=path.parent)
        executor = await complete(RayExecutor.of(plan, workers=2))
        first, *jobs = plan.jobs(plan.targets[0])
        await server.close()  # from now on nobody answers
        try:
            rows = [await executor(first, "r", None)]
            rows += await asyncio.gather(*(executor(job, "r", None) for job in jobs))
        finally:
            await executor.aclose()
    kinds = [row.error.kind for row in rows if row.error]
    assert Counter(kinds) == {"connect": 1, "circuit_open": 39}, "one worker saw it, and all know"


async def test_a_call_that_kills_its_workers_is_given_up_and_the_others_are_not(
    nodes: Nodes, tmp_path: Path
) -> None:
    endpoint = Endpoint()
    async with simulate(Profile(), source=endpoint.answer) as server:
        path = suite(
            tmp_path / "suite", server.url, samples=8, scorers=[{"python": "s.py:score"}], concurrency=1
        )
        (path.parent / "s.py").write_text(
            "import os\n"
            "def score(question, answer):\n"
            "    if question.prompt == 'question 5':\n"
            "        os.kill(os.getpid(), 9)\n"
            "    return True\n"
        )
        rows = await run(path, "ray")
    assert {row.sample: row.error.kind for row in rows if row.error} == {"s5": "worker_lost"}
    assert endpoint.asked["question 5"] == 3
    assert endpoint.asked.total() == 10


async def test_limits_that_are_gone_let_nothing_through(nodes: Nodes, tmp_path: Path) -> None:
    endpoint = Endpoint()
    async with simulate(Profile(), source=endpoint.answer) as server:
        rate = {"requests": 6000}
        one = {"name": "e", "url": server.url, "model": "m", "rate_limit": rate}
        plan = Plan.of(
            config.load(path := suite(tmp_path / "suite", server.url, endpoints=[one])), folder=path.parent
        )
        executor = RayExecutor.of(plan, workers=1)
        jobs = plan.jobs(plan.targets[0])
        try:
            well = await executor(next(jobs), "r", None)
            ray.kill(executor._limits)
            ill = await executor(next(jobs), "r", None)
        finally:
            await executor.aclose()
    assert well.error is None
    assert ill.error is not None
    assert ill.error.kind == "store_gone"
    assert endpoint.asked.total() == 1


async def test_a_call_that_is_cancelled_ends_at_the_endpoint(nodes: Nodes, tmp_path: Path) -> None:
    endpoint = Endpoint()
    async with simulate(Profile(ttft_ms=600_000), source=endpoint.answer) as server:
        path = suite(tmp_path / "suite", server.url)
        plan = Plan.of(config.load(path), folder=path.parent)
        executor = RayExecutor.of(plan, workers=1)
        try:
            call = asyncio.ensure_future(executor(next(plan.jobs(plan.targets[0])), "r", None))
            await until(lambda: bool(endpoint.asked) or call.done())
            call.cancel()
            with pytest.raises(asyncio.CancelledError):
                await call
            await until(lambda: server.stats.aborted == 1)
        finally:
            await executor.aclose()


async def test_workers_that_cannot_build_the_suite_say_why(nodes: Nodes, tmp_path: Path) -> None:
    path = suite(tmp_path / "suite", "http://127.0.0.1:1/v1", golden="golden.jsonl")
    plan = Plan.of(config.load(path), folder=path.parent)
    bad = plan.suite.model_copy(
        update={"scorers": ({"python": "not_there.py:f"},), "endpoints": ({"name": "e", "url": "x"},)}
    )
    executor = RayExecutor.of(plan, workers=1)
    await executor.aclose()
    from dataclasses import replace

    broken = replace(plan, suite=bad, targets=tuple(replace(t, about={"url": "x"}) for t in plan.targets))
    executor = RayExecutor.of(broken, workers=1)
    try:
        with pytest.raises(GuardrailsError, match="no worker can do the run"):
            await executor(next(plan.jobs(plan.targets[0])), "r", None)
    finally:
        await executor.aclose()


async def test_nodes_without_evalkit_are_told_from_broken_suites(nodes: Nodes, tmp_path: Path) -> None:
    """The driver's own program may choose the environment of its workers: here, one that hides us."""
    (tmp_path / "hides").mkdir()
    (tmp_path / "hides" / "sitecustomize.py").write_text(
        "import sys\nsys.modules.update(dict.fromkeys(('evalkit', 'guardrails', 'judges')))\n"
    )
    path = suite(tmp_path / "suite", "http://127.0.0.1:1/v1")
    plan = Plan.of(config.load(path), folder=path.parent)
    ray.init(runtime_env={"env_vars": {"PYTHONPATH": str(tmp_path / "hides")}}, log_to_driver=False)
    try:
        executor = RayExecutor.of(plan, workers=1)
        try:
            with pytest.raises(GuardrailsError, match="evalkit") as caught:
                await executor(next(plan.jobs(plan.targets[0])), "r", None)
        finally:
            await executor.aclose()
        assert ray.is_initialized(), "who opened the connection closes it"
    finally:
        ray.shutdown()
    assert "a worker cannot be started: " in str(caught.value)
    assert "on every node" in caught.value.hint


async def test_a_cluster_of_another_version_is_named(
    nodes: Nodes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ray, "__version__", "2.0.0")
    path = suite(tmp_path / "suite", "http://127.0.0.1:1/v1")
    with pytest.raises(ConfigError, match=r"Version mismatch: .*Ray: 2\.0\.0"):
        RayExecutor.of(Plan.of(config.load(path), folder=path.parent))
    assert not ray.is_initialized()


async def test_a_driver_that_is_killed_is_gone_on_with(nodes: Nodes, tmp_path: Path) -> None:
    """By the same command, on the cluster that is there; only what was in flight is asked again."""
    endpoint = Endpoint()
    async with simulate(Profile(ttft_ms=20), source=endpoint.answer) as server:
        path = suite(tmp_path / "suite", server.url, samples=200, concurrency=2)
        process = await command(path)
        endpoint.at = {100: process.kill}
        await process.communicate()
        assert process.returncode == -signal.SIGKILL
        store = open_store(f"sqlite:///{path.parent / '.evalkit' / 'runs.db'}")
        done = store.done(store.find("latest").id)
        process = await command(path)
        out, said = await process.communicate()
    assert process.returncode == 0, said.decode()
    assert len(done) > 50
    assert f"{len(done)} of 200 calls are done already" in said.decode()
    assert "133 passed, 67 not" in out.decode()
    assert len(list(store.trials(store.find("latest").id))) == 200
    again = endpoint.asked.total() - 200
    print(f"asked again: {again}")
    assert 0 < again <= 200 - len(done)
    store.close()


async def test_a_cluster_that_does_not_answer_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RAY_ADDRESS", "127.0.0.1:1")
    path = suite(tmp_path / "suite", "http://127.0.0.1:1/v1")
    plan = Plan.of(config.load(path), folder=path.parent)
    with pytest.raises(
        ConfigError, match=r"the Ray cluster cannot be used: nobody answers at 127\.0\.0\.1:1"
    ):
        RayExecutor.of(plan)


@pytest.mark.parametrize(("strike", "number"), [(os.killpg, signal.SIGINT), (os.kill, signal.SIGTERM)])
async def test_the_command_starts_a_cluster_of_its_own_and_leaves_nothing(
    nodes: Nodes, tmp_path: Path, strike: Callable[[int, int], None], number: signal.Signals
) -> None:
    """Nor when it is ended by Ctrl-C or SIGTERM; the same command goes on, here on another cluster."""
    endpoint = Endpoint()
    home = tmp_path / "home"
    home.mkdir()
    own = {name: value for name, value in os.environ.items() if not name.startswith("RAY_")}
    own |= {"RAY_ADDRESS": "local", "HOME": str(home)}
    async with simulate(Profile(ttft_ms=20), source=endpoint.answer) as server:
        path = suite(tmp_path / "suite", server.url, samples=60, concurrency=2)
        process = await command(path, own)
        endpoint.at = {20: lambda: strike(process.pid, number)}
        _, said = await process.communicate()
        assert process.returncode == 130, said.decode()
        assert "Traceback" not in said.decode()
        assert "finishing what is in flight" in said.decode()
        assert not left_behind()
        assert not list(home.iterdir()), "Ray's token, for example"
        done = endpoint.asked.total()
        assert 20 <= done < 60
        process = await command(path)
        out, said = await process.communicate()
    assert process.returncode == 0, said.decode()
    assert "Traceback" not in said.decode()
    assert f"{done} of 60 calls are done already" in said.decode()
    assert "40 passed, 20 not" in out.decode()
    assert set(endpoint.asked.values()) == {1}, "what was in flight was finished, and all is asked once"


@pytest.mark.skipif(
    tuple(map(int, ray.__version__.split(".")[:2])) < (2, 60), reason="this Ray sends no token unasked"
)
async def test_a_token_that_the_cluster_does_not_know_is_named(nodes: Nodes, tmp_path: Path) -> None:
    """Ray finds a cluster on this machine, and sends it whatever token lies in the home folder."""
    token = tmp_path / "home" / ".ray" / "auth_token"
    token.parent.mkdir(parents=True)
    token.write_text("0" * 64)
    found = {name: value for name, value in os.environ.items() if not name.startswith("RAY_")}
    endpoint = Endpoint()
    async with simulate(Profile(), source=endpoint.answer) as server:
        path = suite(tmp_path / "suite", server.url)
        process = await command(path, {**found, "HOME": str(tmp_path / "home")})
        _, said = await process.communicate()
        assert process.returncode == 2
        assert "RAY_AUTH_MODE=disabled" in said.decode()
        process = await command(path, {**found, "HOME": str(tmp_path / "home"), "RAY_AUTH_MODE": "disabled"})
        _, said = await process.communicate()
    assert process.returncode == 0, said.decode()
    assert set(endpoint.asked.values()) == {1}


async def test_a_killed_worker_and_a_lost_node_cost_what_was_in_flight(nodes: Nodes, tmp_path: Path) -> None:
    endpoint = Endpoint()
    killed: list[int] = []

    def kill() -> None:
        killed.append(nodes.workers()[0])
        os.kill(killed[0], signal.SIGKILL)

    lost: list[asyncio.Task[None]] = []

    def lose() -> None:
        lost.append(asyncio.ensure_future(asyncio.to_thread(nodes.pull_the_plug)))

    async with simulate(Profile(ttft_ms=20), source=endpoint.answer) as server:
        path = suite(tmp_path / "suite", server.url, samples=600)
        local = await run(path, "local")
        assert set(endpoint.asked.values()) == {1}
        endpoint.asked.clear()
        endpoint.at = {100: kill, 300: lose}
        rows = await run(path, "ray", workers=4)
        await asyncio.gather(*lost)
    assert killed
    assert lost
    assert essence(rows) == essence(local)
    again = endpoint.asked.total() - 600
    print(f"asked again: {again}")
    assert 0 < again <= 2 * 8, "what was in flight, and nothing else"
