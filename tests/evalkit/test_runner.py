"""A run keeps every row, goes on where it stopped, and stops when it makes no sense to go on."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from evalkit.asking import Asker
from evalkit.config import Suite
from evalkit.evaluate import Outcome, evaluate
from evalkit.plan import Job, Plan, Target
from evalkit.runner import Control, Hopeless
from evalkit.scoring import Judges
from evalkit.stores import Kept, open_store
from evalkit.trial import Trial
from guardrails.call import Call, Request
from guardrails.client import Llm
from guardrails.endpoints.function import FunctionEndpoint
from guardrails.errors import ConfigError, Refused, Transient
from guardrails.handler import Handler
from guardrails.testing import FakeClock, Script, ScriptedEndpoint
from judges.judge import Answer, Question, Score


def golden(folder: Path, n: int = 6) -> Path:
    lines = [
        {
            "id": f"s{i}",
            "input": f"question {i}",
            "reference": "yes",
            "tags": ["even" if i % 2 == 0 else "odd"],
        }
        for i in range(n)
    ]
    path = folder / "golden.jsonl"
    path.write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")
    return path


def files(folder: Path) -> list[Path]:
    return [path for path in folder.rglob("*") if path.is_file() and path.name != "golden.jsonl"]


def rows(outcome: Outcome) -> list[Trial]:
    return list(outcome.store.trials(outcome.run.id))


def only(folder: Path) -> list[Trial]:
    """The rows of the one run that is kept in a folder."""
    store = open_store(folder / "runs.db")
    (run,) = store.runs()
    return list(store.trials(run.id))


def plan(folder: Path, *handlers: Handler, n: int = 6, **fields: Any) -> Plan:
    fields = {"max_error_rate": 1, **fields}
    endpoints = tuple({"name": f"e{i}", "url": "http://x/v1"} for i in range(len(handlers)))
    suite = Suite(golden=str(golden(folder, n)), endpoints=endpoints, out=folder, **fields)
    named = [Target(Llm(handler, name=f"e{i}"), f"e{i}", {"i": i}) for i, handler in enumerate(handlers)]
    return Plan.of(suite, named)


def by_question(*wrong: int) -> Callable[[Call], str]:
    """`yes`, except to the questions of these numbers."""
    return lambda call: "no" if int(call.request.messages[-1].text.split()[-1]) in wrong else "oh yes"


def failing(*bad: int, error: Exception) -> Callable[[Call], str | BaseException]:
    def answer(call: Call) -> str | BaseException:
        return error if int(call.request.messages[-1].text.split()[-1]) in bad else "yes"

    return answer


@pytest.mark.asyncio
async def test_every_sample_meets_every_endpoint_once(tmp_path: Path) -> None:
    made = plan(tmp_path, ScriptedEndpoint(by_question()), ScriptedEndpoint(by_question(1, 4)))

    outcome = await evaluate(made)

    assert [(row.sample, row.endpoint) for row in rows(outcome)] == [
        (f"s{i}", f"e{e}") for i in range(6) for e in range(2)
    ]
    assert [e.passed for e in outcome.endpoints] == [6, 4]
    assert outcome.status == "complete"
    assert outcome.verdict == "pass"
    assert outcome.store.find(outcome.run.id).status == "complete"


@pytest.mark.asyncio
async def test_rows_read_back_as_they_were_written(tmp_path: Path) -> None:
    seen: list[Trial] = []
    made = plan(tmp_path, ScriptedEndpoint(failing(2, error=Transient("gone", kind="reset"))), n=4)

    outcome = await evaluate(made, seen=seen.append)

    assert rows(outcome) == sorted(seen, key=lambda row: row.place)
    assert {row.record["labels"]["sample"] for row in seen if row.record} == {"s0", "s1", "s2", "s3"}


@pytest.mark.asyncio
async def test_the_prompt_is_not_kept(tmp_path: Path) -> None:
    outcome = await evaluate(plan(tmp_path, ScriptedEndpoint(by_question())))

    outcome.store.close()
    kept = b"".join(path.read_bytes() for path in files(tmp_path))
    assert b"oh yes" in kept
    assert b"question 1" not in kept


@pytest.mark.asyncio
async def test_a_failed_call_is_a_row_and_the_run_goes_on(tmp_path: Path) -> None:
    handler = ScriptedEndpoint(failing(3, error=Transient("it broke", kind="reset", hint="wait")))

    outcome = await evaluate(plan(tmp_path, handler))

    row = next(row for row in rows(outcome) if row.sample == "s3")
    assert row.error is not None
    assert (row.error.kind, row.error.message, row.error.hint) == ("reset", "it broke", "wait")
    assert (row.answer, row.scores, row.passed) == (None, {}, False)
    assert outcome.endpoints[0].errors == {"reset": 1}
    assert outcome.endpoints[0].passed == 5


@pytest.mark.asyncio
async def test_a_foreign_error_leaves_only_its_type(tmp_path: Path) -> None:
    class Broken:
        def __call__(self, call: Call) -> Any:
            raise KeyError("my secret prompt")

    outcome = await evaluate(plan(tmp_path, Broken(), n=2))

    assert [row.error.message for row in rows(outcome) if row.error] == ["unexpected KeyError"] * 2
    outcome.store.close()
    assert not [path for path in files(tmp_path) if b"secret" in path.read_bytes()]


@pytest.mark.asyncio
async def test_half_a_surrogate_pair_in_an_answer_can_be_kept(tmp_path: Path) -> None:
    async def answer(request: Request) -> str:
        return "yes \ud800"

    outcome = await evaluate(plan(tmp_path, FunctionEndpoint(answer), n=1))

    assert [row.answer.text for row in rows(outcome) if row.answer] == ["yes ?"]


# --- concurrency and time


@pytest.mark.asyncio
async def test_no_more_calls_are_open_than_allowed(tmp_path: Path) -> None:
    opened = peak = 0
    full = asyncio.Event()

    async def answer(request: Request) -> AsyncIterator[str]:
        nonlocal opened, peak
        opened += 1
        peak = max(peak, opened)
        if opened == 3:
            full.set()
        await full.wait()  # nobody answers before three calls are open at once
        yield "yes"
        opened -= 1

    outcome = await evaluate(plan(tmp_path, FunctionEndpoint(answer), n=9, concurrency=3))

    assert peak == 3
    assert outcome.endpoints[0].passed == 9


@pytest.mark.asyncio
async def test_a_sample_gets_its_time_and_no_more(tmp_path: Path) -> None:
    clock = FakeClock()
    stuck = Script("yes", stall_after=0)
    handler = ScriptedEndpoint(lambda call: stuck if call.request.messages[-1].text.endswith("1") else "yes")
    made = plan(tmp_path, handler, n=3, timeout=5)
    ask = Asker(made, clock)

    async def all_of_them() -> list[Trial]:
        return await asyncio.gather(*(ask(job, "run", None) for job in made.jobs(made.targets[0])))

    found = await clock.run(all_of_them())

    assert sorted((row.sample, row.error and row.error.kind) for row in found) == [
        ("s0", None),
        ("s1", "deadline"),
        ("s2", None),
    ]
    assert handler.active == 0
    assert clock.now() == pytest.approx(5.0)


# --- ending early


@pytest.mark.asyncio
async def test_an_endpoint_whose_first_calls_all_fail_for_good_ends_the_run(tmp_path: Path) -> None:
    handler = ScriptedEndpoint(Refused("the key is wrong", kind="auth", hint="set the key"))

    with pytest.raises(Hopeless, match="first 5 calls failed \\(auth\\): the key is wrong – set the key"):
        await evaluate(plan(tmp_path, handler, n=50, concurrency=2))

    assert len(handler.calls) <= 6
    assert len(only(tmp_path)) >= 5
    assert open_store(tmp_path / "runs.db").runs()[0].status == "stopped"


@pytest.mark.asyncio
async def test_fewer_samples_than_that_are_enough_when_they_are_all(tmp_path: Path) -> None:
    with pytest.raises(Hopeless, match="first 2 calls failed"):
        await evaluate(plan(tmp_path, ScriptedEndpoint(Transient("no", kind="connect")), n=2))


@pytest.mark.asyncio
async def test_one_answer_clears_an_endpoint(tmp_path: Path) -> None:
    refused = Refused("no such model", kind="not_found")
    handler = ScriptedEndpoint("yes", *[refused] * 9)

    outcome = await evaluate(plan(tmp_path, handler, n=10, concurrency=1))

    assert outcome.endpoints[0].errors == {"not_found": 9}


@pytest.mark.asyncio
async def test_stopping_finishes_what_is_in_flight_and_resume_does_the_rest(tmp_path: Path) -> None:
    control = Control()

    def answer(call: Call) -> str:
        if len(first.calls) == 3:
            control.stop()
        return "oh yes"

    first = ScriptedEndpoint(answer)
    begun = plan(tmp_path, first, n=8, concurrency=2)

    outcome = await evaluate(begun, control=control)

    assert outcome.status == "interrupted"
    assert outcome.verdict == "undecided"
    assert 3 <= len(rows(outcome)) <= 4
    assert first.active == 0
    assert outcome.store.find(outcome.run.id).status == "interrupted"

    before = len(rows(outcome))
    second = ScriptedEndpoint(by_question())
    again = await evaluate(plan(tmp_path, second, n=8), store=outcome.store, resume=outcome.run)

    assert again.status == "complete"
    assert again.run.id == outcome.run.id
    assert len(second.calls) == 8 - before
    assert [row.sample for row in rows(again)] == [f"s{i}" for i in range(8)]


@pytest.mark.asyncio
async def test_a_second_interrupt_drops_what_is_in_flight_and_keeps_the_rest(tmp_path: Path) -> None:
    control = Control()
    handler = ScriptedEndpoint("yes", Script("yes", stall_after=0))

    def twice(row: Trial) -> None:
        control.stop()
        control.drop()

    outcome = await evaluate(plan(tmp_path, handler, n=5, concurrency=2), control=control, seen=twice)

    assert outcome.status == "interrupted"
    assert len(rows(outcome)) == 1
    assert handler.active == 0


@pytest.mark.asyncio
@pytest.mark.parametrize("stopping", [False, True])
async def test_a_cancellation_from_elsewhere_is_passed_on(tmp_path: Path, stopping: bool) -> None:
    """Whoever set a time limit has to see that it was reached, of a run that stops too."""
    handler = ScriptedEndpoint("yes", Script("yes", stall_after=0))
    control, row_came = Control(), asyncio.Event()

    def see(row: Trial) -> None:
        if stopping:
            control.stop()
        row_came.set()

    made = plan(tmp_path, handler, n=5, concurrency=2)
    task = asyncio.create_task(evaluate(made, control=control, seen=see))
    await row_came.wait()
    task.cancel()

    with pytest.raises(asyncio.CancelledError):
        await task
    assert handler.active == 0
    assert len(only(tmp_path)) == 1


@pytest.mark.asyncio
async def test_quitting_again_and_again_keeps_what_is_finished(tmp_path: Path) -> None:
    control = Control()

    @dataclass
    class Slow:
        asker: Asker
        closed: bool = False

        async def __call__(self, job: Job, run: str, kept: Kept | None) -> Trial:
            return await self.asker(job, run, kept)

        async def aclose(self) -> None:
            control.drop()
            await asyncio.sleep(0)
            control.drop()
            await self.asker.aclose()
            self.closed = True

    handler = ScriptedEndpoint("yes", Script("yes", stall_after=0))
    made = plan(tmp_path, handler, n=5, concurrency=2)

    executor = Slow(Asker(made))

    outcome = await evaluate(made, control=control, seen=lambda row: control.drop(), executor=executor)

    assert (outcome.status, len(rows(outcome)), executor.closed) == ("interrupted", 1, True)
    assert open_store(tmp_path / "runs.db").find(outcome.run.id).status == "interrupted"


# --- going on


@pytest.mark.asyncio
async def test_resume_repeats_what_failed_and_nothing_else(tmp_path: Path) -> None:
    broken = ScriptedEndpoint(failing(2, 5, error=Transient("reset", kind="reset")))
    outcome = await evaluate(plan(tmp_path, broken))

    mended = ScriptedEndpoint("yes")
    again = await evaluate(plan(tmp_path, mended), store=outcome.store, resume=outcome.run)

    assert sorted(call.request.messages[-1].text for call in mended.calls) == ["question 2", "question 5"]
    assert again.endpoints[0].passed == 6
    assert len(rows(again)) == 6  # an answer takes the place of a failure


@pytest.mark.asyncio
async def test_another_configuration_is_asked_again(tmp_path: Path) -> None:
    outcome = await evaluate(plan(tmp_path, ScriptedEndpoint("yes"), cache=True))
    handler = ScriptedEndpoint("yes")

    other = plan(tmp_path, handler, sampling={"temperature": 0.5}, cache=True)
    await evaluate(other, store=outcome.store)

    assert len(handler.calls) == 6
    assert handler.calls[0].request.sampling.temperature == 0.5


@pytest.mark.asyncio
@pytest.mark.parametrize("change", [{"sampling": {"temperature": 0.5}}, {"scorers": ["exact"]}, {"limit": 5}])
async def test_a_run_does_not_go_on_as_another_one(tmp_path: Path, change: dict[str, Any]) -> None:
    """Its rows would be counted among the new ones."""
    outcome = await evaluate(plan(tmp_path, ScriptedEndpoint("yes")))
    handler = ScriptedEndpoint("yes")

    with pytest.raises(ConfigError, match="are none of this suite's"):
        await evaluate(plan(tmp_path, handler, **change), store=outcome.store, resume=outcome.run)

    assert not handler.calls
    assert outcome.store.find(outcome.run.id).status == "complete"


@pytest.mark.asyncio
async def test_more_answers_and_other_gates_go_on_with_the_same_run(tmp_path: Path) -> None:
    outcome = await evaluate(plan(tmp_path, ScriptedEndpoint("yes")))
    handler = ScriptedEndpoint("yes")

    more = plan(tmp_path, handler, sampling={"n": 3}, gates=["pass_rate >= 10%"])
    again = await evaluate(more, store=outcome.store, resume=outcome.run)

    assert (len(handler.calls), len(again.columns)) == (12, 18)


def test_a_gate_on_what_the_run_has_not_is_said_before_the_first_call(tmp_path: Path) -> None:
    for gate, said in (("pass_rate on nowhere >= 0.5", "golden"), ("pass_rate of nobody >= 0.5", "e0")):
        with pytest.raises(ConfigError, match="that the run has not") as refused:
            plan(tmp_path, ScriptedEndpoint("yes"), gates=[gate])
        assert said in refused.value.hint


@pytest.mark.parametrize("gate", ["pass@3 >= 0.5", "pass^3 >= 0.5", "flake_rate <= 0.5"])
def test_a_gate_on_more_answers_than_are_asked_is_said_before_the_first_call(
    tmp_path: Path, gate: str
) -> None:
    with pytest.raises(ConfigError, match=r"needs \d answers to a sample, and the run asks for 1"):
        plan(tmp_path, ScriptedEndpoint("yes"), gates=[gate])

    assert plan(tmp_path, ScriptedEndpoint("yes"), gates=[gate], sampling={"n": 3}).gates


def test_a_gate_on_a_tag_that_no_sample_has_is_said_before_the_first_call(tmp_path: Path) -> None:
    handler = ScriptedEndpoint("yes")
    with pytest.raises(
        ConfigError, match=r"pass_rate\[evn\] >= 0.5` means a tag 'evn' that no sample"
    ) as refused:
        plan(tmp_path, handler, gates=["pass_rate[evn] >= 0.5"])
    assert refused.value.hint == "there are even, odd – did you mean `even`?"

    made = plan(tmp_path, handler, gates=["pass_rate[odd] >= 0.5"], limit=1)
    assert made.size == 1, "a sample has it, though none that this run asks"


def test_a_gate_on_a_scorer_that_judges_nothing_is_said_before_the_first_call(tmp_path: Path) -> None:
    handler = ScriptedEndpoint("yes")
    with pytest.raises(
        ConfigError, match=r"`contain\.pass_rate >= 0.5` means a scorer 'contain' that no sample"
    ) as refused:
        plan(tmp_path, handler, gates=["contain.pass_rate >= 0.5"])
    assert refused.value.hint == "there are contains – did you mean `contains`?"
    with pytest.raises(ConfigError, match="means a scorer 'x'") as bare:
        plan(tmp_path, handler, gates=["x.mean_score >= 0.5"], scorers=["none"])
    assert bare.value.hint == "no scorer judges the samples"

    both = ["exact.pass_rate >= 0.5", "contains.pass_rate >= 0.5"]
    assert plan(tmp_path, handler, gates=both, scorers=["contains", "exact"]).gates


def test_a_scorer_that_only_a_later_sample_names_is_no_mistake(tmp_path: Path) -> None:
    lines = [
        {"id": "a", "input": "2 + 2?", "reference": "4"},
        {"id": "b", "input": "2 + 3?", "reference": "5", "metadata": {"scorer": "numeric"}},
    ]
    (tmp_path / "own.jsonl").write_text("\n".join(map(json.dumps, lines)), encoding="utf-8")
    suite = Suite.model_validate(
        {
            "golden": str(tmp_path / "own.jsonl"),
            "endpoints": [{"name": "e", "url": "http://x/v1"}],
            "gates": ["numeric.pass_rate >= 0.5"],
            "limit": 1,
        }
    )

    assert Plan.of(suite).size == 1, "a sample has it, though none that this run asks"


@pytest.mark.asyncio
async def test_a_stop_before_the_first_call_makes_none(tmp_path: Path) -> None:
    control, handler = Control(), ScriptedEndpoint("yes")
    control.stop()

    outcome = await evaluate(plan(tmp_path, handler), control=control)

    assert (outcome.status, len(outcome.columns), len(handler.calls)) == ("interrupted", 0, 0)
    assert outcome.verdict == "errors", "and never a pass"


# --- judges and plans


@dataclass(frozen=True)
class Raises:
    name: str = "raises"

    def check(self, question: Question) -> str | None:
        return None

    async def __call__(self, question: Question, answer: Answer) -> Score:
        raise RuntimeError(f"cannot judge {answer.text}")


@pytest.mark.asyncio
async def test_a_judge_that_raises_is_an_error_and_never_a_zero() -> None:
    score = (await Judges((Raises(),), "").score(Question(), Answer("my answer")))["raises"]

    assert (score.value, score.passed, score.error) == (None, None, "exception")
    assert "my answer" not in score.reason


@pytest.mark.asyncio
async def test_a_sample_may_name_its_own_scorer_and_the_suite_overrules_it(tmp_path: Path) -> None:
    path = tmp_path / "own.jsonl"
    lines = [
        {"id": "a", "input": "2 + 2?", "reference": "4", "metadata": {"scorer": "numeric"}},
        {"id": "b", "input": "capital?", "reference": "Paris"},
    ]
    path.write_text("\n".join(map(json.dumps, lines)), encoding="utf-8")
    suite = Suite(golden=str(path), endpoints=({"name": "e", "url": "http://x/v1"},), out=tmp_path)

    def names(chosen: Suite) -> list[list[str]]:
        part = Plan.of(chosen, []).parts[0]
        return [[judge.name for judge in part.scoring.judges(one).made] for one in part.golden.samples]

    assert names(suite) == [["numeric"], ["contains"]]
    assert names(suite.model_copy(update={"scorers": ("contains", "exact")})) == [["contains", "exact"]] * 2


@pytest.mark.asyncio
async def test_without_a_scorer_every_answer_passes(tmp_path: Path) -> None:
    handler = ScriptedEndpoint(failing(1, error=Refused("no", kind="blocked")))

    outcome = await evaluate(plan(tmp_path, handler, n=4, scorers=("none",)))

    assert (outcome.endpoints[0].passed, outcome.endpoints[0].errors) == (3, {"blocked": 1})
    assert all(row.scores == {} for row in rows(outcome))


def test_what_a_judge_cannot_judge_is_said_before_the_first_call(tmp_path: Path) -> None:
    path = tmp_path / "bare.jsonl"
    path.write_text('{"id": "a", "input": "hello"}\n', encoding="utf-8")
    suite = Suite(golden=str(path), endpoints=({"name": "e", "url": "http://x/v1"},), out=tmp_path)

    with pytest.raises(ConfigError, match=r"a: contains: .*no reference"):
        Plan.of(suite, [])


@pytest.mark.asyncio
async def test_gates_decide_and_an_undecided_one_does_not_pass_unless_asked(tmp_path: Path) -> None:
    async def outcome(**fields: Any) -> Outcome:
        return await evaluate(plan(tmp_path, ScriptedEndpoint(by_question(1)), **fields))

    assert (await outcome(gates=("pass_rate >= 10%",))).verdict == "pass"
    assert (await outcome(gates=("pass_rate >= 99.9%",))).verdict == "fail"
    assert (await outcome(gates=("pass_rate >= 80%",))).verdict == "undecided"
    assert (await outcome(gates=("pass_rate >= 80%",), undecided="fail")).verdict == "fail"
    assert (await outcome(gates=("pass_rate >= 80%",), undecided="value")).verdict == "pass"
    assert (await outcome(gates=("pass_rate >= 90%",), undecided="value")).verdict == "fail"


def test_no_header_value_is_written_down() -> None:
    from evalkit.plan import about

    said = about({"name": "e", "url": "http://x", "headers": {"Authorization": "Bearer secret"}})

    assert said == {"url": "http://x", "headers": ["Authorization"]}


# --- nothing measured


@pytest.mark.asyncio
async def test_a_run_without_an_answer_is_no_success_however_many_may_fail(tmp_path: Path) -> None:
    """The suite of these tests allows every call to fail."""
    broken = ScriptedEndpoint(Transient("no", kind="server_error"))

    assert (await evaluate(plan(tmp_path, broken))).verdict == "errors"

    once = ScriptedEndpoint("yes", *[Transient("no", kind="server_error")] * 5)
    assert (await evaluate(plan(tmp_path, once, concurrency=1))).verdict == "pass"


def lost(folder: Path, *reasons: str) -> list[dict[str, Any]]:
    """A judge that gives these reasons for having no verdict, one after the other, and then one."""
    (folder / "lost.py").write_text(
        "from judges.judge import Score\n"
        f"reasons = iter({list(reasons)!r})\n"
        "async def f(question, answer):\n"
        "    said = next(reasons, None)\n"
        "    return Score.verdict(True, 'fine') if said is None else Score.unjudged('judge_call', said)\n",
        encoding="utf-8",
    )
    return [{"python": {"target": f"{folder}/lost.py:f", "name": "kind"}}]


@pytest.mark.asyncio
async def test_a_judge_whose_model_cannot_be_asked_ends_the_run(tmp_path: Path) -> None:
    """Its answers would all be paid for nothing."""
    said = "the judge's call failed (connect)"
    made = plan(tmp_path, ScriptedEndpoint("yes"), n=40, concurrency=1, scorers=lost(tmp_path, *[said] * 40))

    with pytest.raises(
        Hopeless, match=r"no judging of the first 10 answers: kind: .* \(connect\) – .*--cache"
    ):
        await evaluate(made)

    assert len(only(tmp_path)) == 10, "the answers are kept"


@pytest.mark.asyncio
@pytest.mark.parametrize(
    "reasons",
    [
        ["the judge's call failed (connect)"] * 9,
        ["the judge's call failed (overloaded)"] * 20,
        [f"the judge's call failed ({kind})" for kind in ("connect", "auth") * 10],
    ],
    ids=["not all", "what passes", "now this, now that"],
)
async def test_a_judge_that_fails_now_and_then_ends_nothing(tmp_path: Path, reasons: list[str]) -> None:
    made = plan(tmp_path, ScriptedEndpoint("yes"), n=20, concurrency=1, scorers=lost(tmp_path, *reasons))
    outcome = await evaluate(made)
    assert (outcome.status, len(rows(outcome))) == ("complete", 20)
    (arm,) = outcome.endpoints
    assert arm.unjudged == len(reasons)
    assert outcome.columns.lost == {"judge_call": f"kind: {reasons[0]}"}


@pytest.mark.asyncio
async def test_a_run_without_a_judged_row_is_no_success_either(tmp_path: Path) -> None:
    def scorers(*bodies: str) -> list[dict[str, Any]]:
        for name, body in zip("ab", bodies, strict=False):
            (tmp_path / f"{name}.py").write_text(f"def f(question, answer):\n    {body}\n", encoding="utf-8")
        return [
            {"python": {"target": f"{tmp_path}/{name}.py:f", "name": name, "threshold": None}}
            for name, _ in zip("ab", bodies, strict=False)
        ]

    async def verdict(*bodies: str) -> str:
        return (await evaluate(plan(tmp_path, ScriptedEndpoint("yes"), scorers=scorers(*bodies)))).verdict

    assert await verdict("raise ValueError") == "errors"
    assert await verdict("return True", "raise ValueError") == "errors", "no row is known to have passed"
    assert await verdict("return False", "raise ValueError") == "errors", "nor not to have"
    assert await verdict("return 0.5") == "pass", "a value is all that was asked for"
