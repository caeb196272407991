"""Endpoints × prompts × sets, n answers each: what is asked, in which order, and what is not asked twice."""

from __future__ import annotations

import asyncio
import json
import random
import threading
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import UTC, datetime
from decimal import Decimal
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rich.console import Console

from evalkit.config import Suite, load
from evalkit.evaluate import Outcome, evaluate
from evalkit.plan import Job, Plan, Target
from evalkit.rescoring import Rescoring
from evalkit.runner import Control
from evalkit.session import Session
from evalkit.stores import Run, Store, Unreachable, open_store
from evalkit.trial import Trial
from evalkit.writer import Writer
from guardrails.call import Call, Usage
from guardrails.client import Llm
from guardrails.clock import SystemClock
from guardrails.errors import ConfigError
from guardrails.testing import Script, ScriptedEndpoint
from judges.judge import Answer, Score

PROMPTS = ({"name": "plain"}, {"name": "terse", "system": "Be terse."})


def golden(folder: Path, name: str, n: int) -> str:
    path = folder / f"{name}.jsonl"
    lines = (
        {
            "id": f"{name}{i}",
            "input": f"{name} question {i}",
            "reference": "yes",
            "tags": ["even", "odd"][i % 2 :][:1],
        }
        for i in range(n)
    )
    path.write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")
    return str(path)


def plan(folder: Path, *handlers: ScriptedEndpoint, sets: Sequence[str] = ("a",), **fields: Any) -> Plan:
    suite = Suite.model_validate(
        {
            "golden": [golden(folder, name, 5) for name in sets],
            "endpoints": [{"name": f"e{i}", "url": "http://x/v1"} for i in range(len(handlers))],
            "out": folder,
            "max_error_rate": 1,
            **fields,
        },
    )
    prices = {"model": "m", "i": 0}
    named = [Target(Llm(h, name=f"e{i}"), f"e{i}", {**prices, "i": i}) for i, h in enumerate(handlers)]
    return Plan.of(suite, named)


def jobs(made: Plan) -> list[Job]:
    return [job for target in made.targets for job in made.jobs(target)]


def rows(outcome: Outcome) -> list[Trial]:
    return list(outcome.store.trials(outcome.run.id))


def test_every_endpoint_gets_every_prompt_every_set_every_time(tmp_path: Path) -> None:
    made = plan(
        tmp_path,
        ScriptedEndpoint("x"),
        ScriptedEndpoint("x"),
        sets=("a", "b"),
        prompts=PROMPTS,
        sampling={"n": 3},
    )

    found = jobs(made)

    assert len(found) == made.size == 2 * 2 * 10 * 3
    assert sorted(job.place for job in found) == list(range(made.size))
    assert len({job.key for job in found}) == len({job.ask for job in found}) == made.size
    assert {job.prompt for job in found} == {"plain", "terse"}
    assert made.arm_names == ["e0/plain", "e0/terse", "e1/plain", "e1/terse"]


def test_the_order_is_shuffled_by_the_seed_and_the_same_for_all_endpoints(tmp_path: Path) -> None:
    def order(**fields: Any) -> list[list[str]]:
        made = plan(tmp_path, ScriptedEndpoint("x"), ScriptedEndpoint("x"), sets=("a", "b"), **fields)
        return [[job.sample.id for job in made.jobs(target)] for target in made.targets]

    assert order() == order()
    assert order()[0] == order()[1]
    assert order()[0] != sorted(order()[0])
    assert order()[0] != order(shuffle=1)[0]


@settings(max_examples=30, deadline=None)
@given(done=st.sets(st.integers(0, 59)))
def test_what_is_left_is_what_is_not_done(tmp_path_factory: pytest.TempPathFactory, done: set[int]) -> None:
    folder = tmp_path_factory.mktemp("left")
    made = plan(folder, ScriptedEndpoint("x"), ScriptedEndpoint("x"), prompts=PROMPTS, sampling={"n": 3})
    all_of_them = jobs(made)
    kept = frozenset(job.key for job in all_of_them if job.place in done)

    left = [job.place for target in made.targets for job in made.jobs(target, kept)]

    assert sorted(left) == sorted(set(range(60)) - done)


@pytest.mark.asyncio
async def test_repetitions_are_drawn_with_seeds_of_their_own(tmp_path: Path) -> None:
    handler = ScriptedEndpoint("yes")

    outcome = await evaluate(plan(tmp_path, handler, sampling={"n": 3, "seed": 7}))

    seeds = Counter(call.request.sampling.seed for call in handler.calls)
    assert seeds == {7: 5, 8: 5, 9: 5}
    assert sorted({row.k for row in rows(outcome)}) == [0, 1, 2]


@pytest.mark.asyncio
async def test_prompts_are_compared_as_arms(tmp_path: Path) -> None:
    def answer(call: Call) -> str:
        return "no" if call.request.messages[0].role == "system" else "yes"

    outcome = await evaluate(plan(tmp_path, ScriptedEndpoint(answer), prompts=PROMPTS))

    assert {each.name: each.passed for each in outcome.endpoints} == {"e0/plain": 5, "e0/terse": 0}


@pytest.mark.asyncio
async def test_several_sets_are_summed_up_apart(tmp_path: Path) -> None:
    def answer(call: Call) -> str:
        return "yes" if call.request.messages[-1].text.startswith("a") else "no"

    outcome = await evaluate(plan(tmp_path, ScriptedEndpoint(answer), sets=("a", "b")))

    assert [(each.set, each.passed) for each in outcome.endpoints] == [("a", 5), ("b", 0)]


# --- answers that are there already


@pytest.mark.asyncio
async def test_the_cache_answers_with_the_same_sample_index_and_its_times_are_not_counted(
    tmp_path: Path,
) -> None:
    numbers = iter(range(100))
    first = ScriptedEndpoint(lambda call: f"yes {next(numbers)}")
    before = await evaluate(plan(tmp_path, first, sampling={"n": 2}))

    second = ScriptedEndpoint("no")
    after = await evaluate(plan(tmp_path, second, sampling={"n": 3}, cache=True))

    assert len(second.calls) == 5  # only the third answer of each
    kept = {(row.sample, row.k): row.answer.text for row in rows(before) if row.answer}
    assert {(row.sample, row.k): row.answer.text for row in rows(after) if row.answer and row.k < 2} == kept
    assert [row.cached for row in rows(after)] == [row.k < 2 for row in rows(after)]
    assert all(row.record and row.record["ttft_ms"] is not None for row in rows(after))
    assert after.endpoints[0].latency["ttft"].values.__len__() == 5


@pytest.mark.asyncio
async def test_without_the_cache_everything_is_asked_again(tmp_path: Path) -> None:
    await evaluate(plan(tmp_path, ScriptedEndpoint("yes")))
    again = ScriptedEndpoint("yes")

    await evaluate(plan(tmp_path, again))

    assert len(again.calls) == 5


@pytest.mark.asyncio
async def test_answers_are_judged_again_without_a_call(tmp_path: Path) -> None:
    handler = ScriptedEndpoint("oh yes")
    outcome = await evaluate(plan(tmp_path, handler))
    strict = plan(tmp_path, scorers=["exact"], endpoints=[{"name": "e0", "url": "http://x/v1"}])

    new = await Rescoring(strict, outcome.store, outcome.run).run(Control())

    judged = list(outcome.store.trials(new.id))
    assert len(handler.calls) == 5
    assert [row.passed for row in judged] == [False] * 5
    assert [row.record for row in judged] == [row.record for row in rows(outcome)]
    assert outcome.store.find(new.id).status == "complete"


@pytest.mark.asyncio
async def test_a_sample_that_changed_is_not_judged_by_its_old_answer(tmp_path: Path) -> None:
    outcome = await evaluate(plan(tmp_path, ScriptedEndpoint("yes")))
    changed = plan(tmp_path, scorers=["exact"], endpoints=[{"name": "e0", "url": "http://x/v1"}])
    path = tmp_path / "a.jsonl"
    lines = path.read_text(encoding="utf-8").splitlines()
    lines[0] = lines[0].replace("question 0", "another question")
    del lines[4]
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    changed = Plan.of(changed.suite, [])

    new = await Rescoring(changed, outcome.store, outcome.run).run(Control())

    kinds = {row.sample: row.error and row.error.kind for row in outcome.store.trials(new.id)}
    assert kinds == {"a0": "sample_changed", "a1": None, "a2": None, "a3": None, "a4": "sample_gone"}


# --- money


def priced(made: Plan, usd: str) -> Plan:
    targets = tuple(replace(target, price=lambda model, usage: Decimal(usd)) for target in made.targets)
    return replace(made, targets=targets)


@pytest.mark.asyncio
async def test_the_cap_stops_the_run_before_it_is_passed(tmp_path: Path) -> None:
    handler = ScriptedEndpoint("yes")
    made = priced(plan(tmp_path, handler, budget={"max_usd": "0.35"}), "0.1")

    outcome = await evaluate(made)

    # The records know no price of `m`, so what was reserved is what is booked.
    assert len(handler.calls) == 3
    assert outcome.status == "capped"
    assert outcome.verdict == "undecided"


@pytest.mark.asyncio
async def test_a_cap_over_a_model_without_a_price_is_refused(tmp_path: Path) -> None:
    made = plan(tmp_path, ScriptedEndpoint("yes"), budget={"max_usd": 1})

    with pytest.raises(ConfigError, match="no price is known for the model 'm'"):
        await evaluate(made)

    assert open_store(made.suite.database).runs() == [], "it leaves no run behind"


@pytest.mark.asyncio
@pytest.mark.parametrize("seed", range(4))
async def test_under_64_calls_of_random_price_the_cap_holds(tmp_path: Path, seed: int) -> None:
    rng = random.Random(seed)
    cents = [Usage(1, 1, cost=Decimal(rng.randint(0, 10)) / 100) for _ in range(200)]
    handler = ScriptedEndpoint(lambda call: Script("yes", usage=rng.choice(cents)))
    lines = ({"id": f"s{i}", "input": f"q{i}", "reference": "yes"} for i in range(400))
    (tmp_path / "many.jsonl").write_text("".join(json.dumps(x) + "\n" for x in lines), encoding="utf-8")
    golden = str(tmp_path / "many.jsonl")
    made = plan(tmp_path, handler, golden=golden, budget={"max_usd": "4"}, concurrency=64)

    outcome = await evaluate(priced(made, "0.10"))

    spent = sum(Decimal(str(row.record["cost_usd"])) for row in rows(outcome) if row.record)
    assert outcome.status == "capped"
    assert Decimal("3.9") < spent <= 4


@pytest.mark.asyncio
async def test_judging_an_earlier_call_s_answer_is_booked(tmp_path: Path) -> None:
    (tmp_path / "dear.py").write_text(
        "from judges.judge import Score\n"
        "def dear(question, answer):\n    return Score(1.0, True, '', cost_usd=0.1)\n"
    )
    await evaluate(plan(tmp_path, ScriptedEndpoint("yes")))
    handler = ScriptedEndpoint("yes")
    scorers = [{"python": f"{tmp_path}/dear.py:dear"}]
    again = plan(tmp_path, handler, scorers=scorers, cache=True, concurrency=1, budget={"max_usd": "0.25"})

    outcome = await evaluate(priced(again, "0.1"))

    assert handler.calls == []
    assert outcome.status == "capped"
    assert len(outcome.columns) == 2, "a third judging would have passed the cap"


def test_a_run_that_another_job_is_writing_is_left_to_it(tmp_path: Path) -> None:
    suite = plan(tmp_path, ScriptedEndpoint("yes")).suite
    consoles = Console(file=StringIO()), Console(file=StringIO())
    store = open_store(suite.database)
    digest = Session.of(suite, None, consoles=consoles).plan.digest
    unfinished = store.create(Run("r", "a", digest, "running", datetime.now(UTC)))

    with store.writing(unfinished.id):
        assert Session.of(suite, None, consoles=consoles).resumed is None
    resumed = Session.of(suite, None, consoles=consoles).resumed
    assert resumed is not None
    assert resumed.id == unfinished.id


# --- models as judges


@pytest.mark.asyncio
async def test_a_suite_names_the_models_that_its_scorers_ask(tmp_path: Path) -> None:
    from judges.llm import verdict_of

    def verdict(call: Call) -> str:
        assert call.labels["role"] == "judge"
        return verdict_of(call, reasons="It says so.", score=5)

    scorers = [{"rubric": {"criteria": "Is it right?", "model": "strict"}}]
    named = {"strict": {"url": "http://j/v1", "model": "judge-model"}}
    suite = plan(tmp_path, ScriptedEndpoint("yes"), scorers=scorers, judges=named).suite
    with pytest.raises(ConfigError, match="none of the suite's `judges`"):
        plan(tmp_path, ScriptedEndpoint("yes"), scorers=[{"rubric": {"model": "other"}}], judges=named)
    judge = ScriptedEndpoint(verdict)
    (tmp_path / "suite.yaml").write_text(
        "golden: a.jsonl\nendpoints: [{name: e, url: 'http://x/v1', model: m}]\n"
        "judges: {strict: {type: function, target: 'nowhere.at:all'}}\nscorers: [rubric]\n",
        encoding="utf-8",
    )
    with pytest.raises(ConfigError, match=r"suite\.yaml:3"):
        load(tmp_path / "suite.yaml")

    made = Plan.of(suite, [Target(Llm(ScriptedEndpoint("yes"), name="e0"), "e0", {"i": 0})])
    model = made.parts[0].scoring.models["strict"]
    object.__setattr__(model, "handler", judge)
    outcome = await evaluate(made)

    assert [row.scores["rubric"].passed for row in rows(outcome)] == [True] * 5
    assert len(judge.calls) == 5
    assert made.digest != replace(made, judges=()).digest


# --- several turns


@pytest.mark.asyncio
async def test_scripted_turns_are_one_conversation_and_one_row(tmp_path: Path) -> None:
    line = {"id": "t", "input": "one", "turns": ["two", "three"], "reference": "yes 3"}
    (tmp_path / "turns.jsonl").write_text(json.dumps(line) + "\n", encoding="utf-8")
    handler = ScriptedEndpoint(lambda call: f"yes {sum(m.role == 'user' for m in call.request.messages)}")

    outcome = await evaluate(plan(tmp_path, handler, golden=str(tmp_path / "turns.jsonl")))

    (row,) = rows(outcome)
    assert row.passed
    assert row.answer is not None
    assert [turn.text for turn in row.answer.turns] == ["one", "yes 1", "two", "yes 2", "three", "yes 3"]
    assert row.record is not None
    assert row.record["calls"] == 3


@pytest.mark.asyncio
async def test_a_simulated_user_needs_a_model_and_talks_through_it(tmp_path: Path) -> None:
    line = {"id": "t", "input": "hello", "user": {"goal": "a refund", "max_turns": 3}, "reference": "done"}
    (tmp_path / "users.jsonl").write_text(json.dumps(line) + "\n", encoding="utf-8")
    golden = str(tmp_path / "users.jsonl")
    with pytest.raises(ConfigError, match="asks for a simulated user, and the suite names none"):
        plan(tmp_path, ScriptedEndpoint("x"), golden=golden)
    made = plan(tmp_path, ScriptedEndpoint("what?", "done"), golden=golden, user={"url": "http://u/v1"})
    player = ScriptedEndpoint("my order 7", "[DONE]")

    outcome = await evaluate(replace(made, user=Target(Llm(player, name="user"), "user")))

    (row,) = rows(outcome)
    assert row.passed
    assert row.answer is not None
    assert [turn.text for turn in row.answer.turns] == ["hello", "what?", "my order 7", "done"]


# --- baselines


@pytest.mark.asyncio
async def test_a_run_is_held_against_an_earlier_one_row_by_row(tmp_path: Path) -> None:
    before = await evaluate(plan(tmp_path, ScriptedEndpoint("yes")))
    before.store.tag(before.run.id, add=["good"])
    gates = ["pass_rate >= baseline - 5%"]

    worse = await evaluate(plan(tmp_path, ScriptedEndpoint("no"), gates=gates, baseline="good"))
    same = await evaluate(
        plan(tmp_path, ScriptedEndpoint("yes"), gates=["pass_rate >= baseline - 90%"], baseline="good")
    )

    assert worse.verdict == "fail"
    assert same.verdict == "pass"
    assert any("baseline" in each.b for each in worse.comparisons)


@pytest.mark.asyncio
async def test_latest_is_the_run_before_and_a_missing_one_is_said_before_any_call(tmp_path: Path) -> None:
    handler = ScriptedEndpoint("yes")
    made = plan(tmp_path, handler, gates=["pass_rate >= baseline - 90%"], baseline="latest")
    with pytest.raises(ConfigError):
        await evaluate(made)
    assert handler.calls == []

    first = await evaluate(plan(tmp_path, ScriptedEndpoint("no")))
    second = await evaluate(
        plan(tmp_path, ScriptedEndpoint("yes"), gates=made.suite.gates, baseline="latest")
    )

    assert any(first.run.id in each.b for each in second.comparisons)


# --- the writer


class Keeping:
    """A store that keeps batches in a list, and fails when told to."""

    def __init__(self) -> None:
        self.batches: list[list[Trial]] = []
        self.fails = False

    def append(self, trials: Sequence[Trial]) -> None:
        if self.fails:
            raise ConfigError("the disk is full")
        self.batches.append(list(trials))


def row(n: int) -> Trial:
    return Trial("run", f"s{n}", "e", f"k{n}", "now")


@settings(max_examples=50, deadline=None)
@given(pauses=st.lists(st.integers(0, 3), max_size=60))
def test_every_row_is_kept_once_in_order_and_seen_after_it_is_kept(pauses: list[int]) -> None:
    keeping, seen = Keeping(), list[str]()

    def look(trial: Trial) -> None:
        assert any(trial in batch for batch in keeping.batches)
        seen.append(trial.sample)

    async def write() -> None:
        async with Writer(as_store(keeping), look) as writer:
            for number, pause in enumerate(pauses):
                await writer.add(row(number))
                for _ in range(pause):
                    await asyncio.sleep(0)

    asyncio.run(write())

    expected = [f"s{number}" for number in range(len(pauses))]
    assert [each.sample for batch in keeping.batches for each in batch] == expected
    assert seen == expected


@pytest.mark.asyncio
async def test_a_store_that_fails_ends_the_run_with_its_own_words(tmp_path: Path) -> None:
    keeping = Keeping()
    keeping.fails = True

    async def write() -> None:
        async with Writer(as_store(keeping)) as writer:
            for number in range(5_000):
                await writer.add(row(number))

    with pytest.raises(ConfigError, match="the disk is full"):
        await write()


def as_store(keeping: Keeping) -> Store:
    return keeping  # type: ignore[return-value] # a writer only appends


def test_a_suite_s_database_is_in_its_folder_unless_it_names_one(tmp_path: Path) -> None:
    made = plan(tmp_path, ScriptedEndpoint("x"))

    assert made.suite.database == str(tmp_path / "runs.db")
    assert open_store(made.suite.database).place.endswith("runs.db")


@pytest.mark.asyncio
async def test_who_looks_at_rows_may_raise_and_no_row_is_lost() -> None:
    keeping, seen = Keeping(), list[str]()

    def look(trial: Trial) -> None:
        seen.append(trial.sample)
        raise ValueError("the bar is broken")

    writer = await Writer(keeping, look).__aenter__()  # type: ignore[arg-type]
    for n in range(2):
        with pytest.raises(ValueError, match="the bar"):
            await writer.add(row(n))
    with pytest.raises(ValueError, match="the bar"):
        await writer.__aexit__()

    assert [each.sample for batch in keeping.batches for each in batch] == ["s0", "s1"]
    assert seen == ["s0"]


def test_rows_that_wait_are_kept_although_whoever_leaves_is_cancelled() -> None:
    keeping, writing, go_on = Keeping(), threading.Event(), threading.Event()

    def slowly(trials: Sequence[Trial]) -> None:
        writing.set()
        go_on.wait(30)
        Keeping.append(keeping, trials)

    keeping.append = slowly  # type: ignore[method-assign]

    async def write() -> None:
        writer = await Writer(as_store(keeping)).__aenter__()
        adding = [asyncio.create_task(writer.add(row(0)))]
        await asyncio.to_thread(writing.wait, 30)
        adding.append(asyncio.create_task(writer.add(row(1))))
        await asyncio.sleep(0)
        for task in adding:
            task.cancel()
        leaving = asyncio.create_task(writer.__aexit__())
        await asyncio.sleep(0)
        leaving.cancel()
        go_on.set()
        with pytest.raises(asyncio.CancelledError):
            await leaving

    asyncio.run(write())
    assert [[each.sample for each in batch] for batch in keeping.batches] == [["s0"], ["s1"]]


class Given(BaseException):
    """What is no `Exception`, as a test's failure is."""


@pytest.mark.asyncio
@pytest.mark.parametrize("raised", [Given("up"), asyncio.CancelledError()])
async def test_whatever_a_look_at_rows_raises_ends_the_run(tmp_path: Path, raised: BaseException) -> None:
    def look(trial: Trial) -> None:
        raise raised

    writer = await Writer(as_store(Keeping()), look).__aenter__()
    for n in range(2):
        with pytest.raises(type(raised)):
            await asyncio.wait_for(writer.add(row(n)), 5)
    with pytest.raises(type(raised)):
        await writer.__aexit__()


class Away(Keeping):
    """It cannot be reached the first times."""

    def __init__(self, times: int) -> None:
        super().__init__()
        self.times = times

    def append(self, trials: Sequence[Trial]) -> None:
        if self.times:
            self.times -= 1
            raise Unreachable("nobody answers", hint="is it running?")
        super().append(trials)


@pytest.mark.asyncio
async def test_a_store_that_is_away_for_a_moment_is_waited_for() -> None:
    away, pauses = Away(3), list[float]()

    async with Writer(as_store(away), pause=pauses.append) as writer:
        await writer.add(row(0))

    assert [each.sample for batch in away.batches for each in batch] == ["s0"]
    assert pauses == [0.5, 1, 2]


@pytest.mark.asyncio
async def test_a_store_that_is_away_for_good_says_what_was_lost() -> None:
    away, pauses = Away(100), list[float]()
    rows = [replace(row(n), record={"cost_usd": "0.21"}) for n in range(2)]

    with pytest.raises(Unreachable) as caught:
        async with Writer(as_store(away), pause=pauses.append) as writer:
            await asyncio.gather(*map(writer.add, rows))

    assert caught.value.message == "nobody answers; 2 rows could not be kept, for which $0.420 was paid"
    assert caught.value.hint == "is it running?"
    assert 30 <= sum(pauses) <= 60


@pytest.mark.asyncio
async def test_what_ended_a_run_is_said_though_its_end_cannot_be_kept(tmp_path: Path) -> None:
    made = plan(tmp_path, ScriptedEndpoint("yes"))
    store = open_store(made.suite.database)

    class Broken:
        def __getattr__(self, name: str) -> Any:
            return getattr(store, name)

        def append(self, trials: Sequence[Trial]) -> None:
            raise ConfigError("the disk is full")

        def update(self, run: Run) -> None:
            raise ConfigError("the disk is still full")

    with pytest.raises(ConfigError, match="the disk is full; 1 row could not be kept"):
        await evaluate(made, store=Broken())  # type: ignore[arg-type]


class Hurried(SystemClock):
    """Sleeps no time."""

    def __init__(self) -> None:
        self.slept: list[float] = []

    async def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)


@pytest.mark.asyncio
async def test_a_store_that_is_away_as_a_run_ends_is_waited_for(tmp_path: Path) -> None:
    made = plan(tmp_path, ScriptedEndpoint("yes"))
    store, clock, away = open_store(made.suite.database), Hurried(), [True, True]

    class Restarts:
        def __getattr__(self, name: str) -> Any:
            return getattr(store, name)

        def update(self, run: Run) -> None:
            if run.status == "complete" and away and away.pop():
                raise Unreachable("the server begins anew")
            store.update(run)

    outcome = await evaluate(made, store=Restarts(), clock=clock)  # type: ignore[arg-type]

    assert store.find(outcome.run.id).status == "complete"
    assert clock.slept == [0.5, 1.0]


class NoThreads(ThreadPoolExecutor):
    def submit(self, *_: Any, **__: Any) -> Any:
        raise RuntimeError("can't start new thread")


@pytest.mark.asyncio
async def test_a_writer_without_a_thread_says_so() -> None:
    writer = await Writer(as_store(Keeping()), _thread=NoThreads()).__aenter__()
    for n in range(2):
        with pytest.raises(RuntimeError, match="thread"):
            await asyncio.wait_for(writer.add(row(n)), 5)
    with pytest.raises(RuntimeError, match="thread"):
        await asyncio.wait_for(writer.__aexit__(), 5)


@pytest.mark.asyncio
async def test_a_row_after_the_store_failed_is_refused_at_once() -> None:
    keeping = Keeping()
    keeping.fails = True
    writer = await Writer(keeping).__aenter__()  # type: ignore[arg-type]
    for n in range(2):
        with pytest.raises(ConfigError, match="full"):
            await asyncio.wait_for(writer.add(row(n)), 5)
    with pytest.raises(ConfigError, match="full"):
        await writer.__aexit__()
    assert keeping.batches == []


@pytest.mark.asyncio
async def test_what_breaks_outside_calls_ends_the_run_as_itself(tmp_path: Path) -> None:
    def look(trial: Trial) -> None:
        raise ValueError("the bar is broken")

    with pytest.raises(ValueError, match="the bar"):
        await evaluate(plan(tmp_path, ScriptedEndpoint("yes")), seen=look)


@pytest.mark.asyncio
async def test_what_is_known_against_a_judge_is_said_with_every_run(tmp_path: Path) -> None:
    folder = tmp_path / "calibrations"
    folder.mkdir()
    kept = {
        "judge": "contains",
        "values": ["no", "yes"],
        "kappa": {"value": 0.2, "low": 0.1, "high": 0.3},
        "labelled": 50,
        "minimum": 0.6,
        "flagged": True,
        "digest": "",
    }
    (folder / "contains.json").write_text(json.dumps(kept), encoding="utf-8")

    outcome = await evaluate(plan(tmp_path, ScriptedEndpoint("yes")))

    (said,) = outcome.warnings
    assert "Judge contains agrees too little with people: kappa 0.20" in said
    assert outcome.as_dict()["warnings"] == [said]


@pytest.mark.asyncio
async def test_a_run_that_goes_on_is_not_its_own_baseline(tmp_path: Path) -> None:
    gates = ["pass_rate >= baseline - 1%"]
    first = await evaluate(plan(tmp_path, ScriptedEndpoint("yes")))
    control = Control()
    bad = plan(tmp_path, ScriptedEndpoint("no"), gates=gates, baseline="latest", concurrency=1)
    stopped = await evaluate(bad, control=control, seen=lambda row: control.stop())
    assert (stopped.status, stopped.run.info["against"]) == ("interrupted", {"baseline": first.run.id})

    again = await evaluate(bad, store=stopped.store, resume=stopped.store.find("latest"))

    assert again.run.id == stopped.run.id
    assert again.verdict == "fail", "held against the first run, although `latest` is this one by now"
    unlike = replace(again.run, info={})
    with pytest.raises(ConfigError, match="compared with itself"):
        await evaluate(bad, store=stopped.store, resume=unlike)


@pytest.mark.asyncio
async def test_what_judges_cost_before_counts_under_the_cap_and_earlier_answers_do_not(
    tmp_path: Path,
) -> None:
    made = priced(plan(tmp_path, ScriptedEndpoint("yes"), budget={"max_usd": "0.35"}), "0.1")
    store = open_store(made.suite.database)
    run = store.create(Run("r", "a", made.digest, "interrupted", datetime.now(UTC)))
    one, two, *_ = [Trial("r", job.sample.id, "e0", job.key, "now", "a") for job in jobs(made)]
    dear = {"cost_usd": "0.1", "wasted_usd": "0", "findings": [], "scanned": [], "not_scanned": []}
    dear |= {"model": "m", "model_reported": None, "price_version": "p", "token_source": "usage"}
    dear |= {"input_tokens": 1, "output_tokens": 1}
    judged = {"contains": Score(1.0, True, "", cost_usd=0.05)}
    store.append(
        [
            replace(one, record=dear, answer=Answer("yes"), scores=judged),
            replace(two, record={**dear, "cached": True}, answer=Answer("yes"), scores=judged),
        ]
    )

    outcome = await evaluate(made, store=store, resume=run)

    assert len(rows(outcome)) == 3, "0.10 + 2 × 0.05 are spent, so that one more call of 0.10 fits"
    assert outcome.status == "capped"
