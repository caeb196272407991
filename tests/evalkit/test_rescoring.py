"""Judging again: what the runner made can be judged again, and is no better than what it was made of."""

from __future__ import annotations

import asyncio
import json
import signal
from dataclasses import replace
from datetime import UTC, datetime
from decimal import Decimal
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from evalkit import cli
from evalkit.config import Suite
from evalkit.evaluate import Outcome, evaluate
from evalkit.files import Files
from evalkit.plan import Plan, Target
from evalkit.rescoring import Rescoring, kept_suite
from evalkit.runner import Control
from evalkit.session import Session, rescored
from evalkit.stores import Run, Status, Store, open_store
from guardrails.call import Usage
from guardrails.client import Llm
from guardrails.clock import SystemClock
from guardrails.errors import ConfigError, GuardrailsError
from guardrails.testing import Script, ScriptedEndpoint


def plan(folder: Path, *handlers: ScriptedEndpoint, n: int = 200, **fields: Any) -> Plan:
    path = folder / "g.jsonl"
    lines = (
        {"id": f"s{i}", "input": f"q{i}", "reference": "yes", **fields.get("extra", {})} for i in range(n)
    )
    path.write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")
    suite = Suite.model_validate(
        {
            "golden": str(path),
            "endpoints": [{"name": f"e{i}", "url": "http://x/v1"} for i in range(len(handlers))],
            "out": folder,
            **{name: value for name, value in fields.items() if name != "extra"},
        }
    )
    return Plan.of(suite, [Target(Llm(h, name=f"e{i}"), f"e{i}") for i, h in enumerate(handlers)])


async def stopped(made: Plan, rows: int) -> Outcome:
    control, seen = Control(), []

    def stop(row: object) -> None:
        seen.append(row)
        if len(seen) == rows:
            control.stop()

    return await evaluate(made, control=control, seen=stop)


def again(folder: Path, suite: Path | None = None, **options: Any) -> tuple[int, str, Run]:
    """`evalkit rescore latest`: the exit code, what was said, and the new run."""
    out, err = Console(file=StringIO(), width=200), Console(file=StringIO(), width=200)
    code = rescored("latest", suite, {"out": str(folder), **options}, Files(), (out, err))
    said = out.file.getvalue() + err.file.getvalue()  # type: ignore[attr-defined]
    return code, said, open_store(folder / "runs.db").runs()[0]


@pytest.mark.parametrize("status", ["interrupted", "capped", "running", "stopped"])
def test_a_part_of_a_run_stays_a_part(tmp_path: Path, status: Status) -> None:
    """Its gates were not held against what was not asked."""
    made = plan(tmp_path, ScriptedEndpoint("yes"), gates=["pass_rate >= 10%"], concurrency=1)
    before = asyncio.run(stopped(made, 30))
    before.store.update(replace(before.run, status=status))

    code, said, new = again(tmp_path)

    assert (new.info["rescored"], new.trials, new.planned) == (
        before.run.id,
        before.store.find(before.run.id).trials,
        200,
    )
    assert new.status == ("stopped" if status == "running" else status)
    assert code == 3, said
    assert "the numbers are of what was asked" in said or "before it was complete" in said


def test_the_whole_of_a_run_passes(tmp_path: Path) -> None:
    asyncio.run(evaluate(plan(tmp_path, ScriptedEndpoint("yes"), n=40, gates=["pass_rate >= 10%"])))

    code, said, new = again(tmp_path)

    assert (code, new.status, new.planned) == (0, "complete", 40), said


@pytest.mark.parametrize(
    "scorer",
    [
        {"regex": {"pattern": "yes|https://[a-z]+@host"}},
        {"regex": r"yes|https://host/\?code=(?:a|b)"},
        {
            "not": {
                "json_schema": {"schema": {"type": "object", "properties": {"headers": {"type": "object"}}}}
            }
        },
        {"all": {"of": [{"regex": "yes|://(a|b)@"}]}},
        {"any": ["exact", {"regex": "://(a|b)@"}]},
    ],
    ids=["user", "query", "headers", "part of all", "part of any"],
)
def test_a_pattern_that_looks_like_a_secret_judges_again(tmp_path: Path, scorer: dict[str, Any]) -> None:
    asyncio.run(evaluate(plan(tmp_path, ScriptedEndpoint("yes"), n=1, scorers=[scorer])))
    before = open_store(tmp_path / "runs.db").runs()[0]

    code, said, new = again(tmp_path)

    assert code == 0, said
    assert before.info["suite"]["scorers"] == new.info["suite"]["scorers"] == [scorer]
    scores = [next(open_store(tmp_path / "runs.db").trials(run.id)).scores for run in (before, new)]
    assert scores[0] == scores[1]


def test_a_gate_may_name_another_endpoint_of_the_run(tmp_path: Path) -> None:
    gates = ['pass_rate of e1 >= "e0" - 90%']
    asyncio.run(evaluate(plan(tmp_path, ScriptedEndpoint("yes"), ScriptedEndpoint("yes"), n=40, gates=gates)))

    code, said, _ = again(tmp_path)

    assert code == 0, said
    with pytest.raises(ConfigError, match="no run"):
        again(tmp_path, gates=['pass_rate of e1 >= "e7" - 90%'])


def test_it_is_held_against_the_run_that_its_own_was_held_against(tmp_path: Path) -> None:
    """By now `latest` is the run that is judged again, which is never worse than itself."""
    gates = ["pass_rate >= baseline - 1%"]
    asyncio.run(evaluate(plan(tmp_path, ScriptedEndpoint("yes"), n=40)))
    asyncio.run(evaluate(plan(tmp_path, ScriptedEndpoint("no"), n=40, gates=gates, baseline="latest")))

    code, said, _ = again(tmp_path)

    assert code == 1, said


class Before(SystemClock):
    """Of an earlier day, so that no later run gets the id of one that is deleted."""

    def wall(self) -> datetime:
        return datetime(2026, 1, 1, tzinfo=UTC)


def held(folder: Path, **fields: Any) -> tuple[Store, Run, Run]:
    """The store, a run that is tagged `main`, and one that was held against it."""
    first = asyncio.run(evaluate(plan(folder, ScriptedEndpoint("yes"), n=40), clock=Before()))
    first.store.tag(first.run.id, add=["main"])
    second = asyncio.run(evaluate(plan(folder, ScriptedEndpoint("no"), n=40, baseline="main", **fields)))
    return first.store, first.run, second.run


@pytest.mark.parametrize("of_suite", [False, True], ids=["kept", "file"])
def test_a_tag_that_has_moved_since_is_no_other_baseline(tmp_path: Path, of_suite: bool) -> None:
    """Held against the worse one, it would pass."""
    store, first, second = held(tmp_path, gates=["pass_rate >= baseline - 30%"])
    store.tag(second.id, add=["main"], move=True)
    file = tmp_path / "suite.json"
    file.write_text(json.dumps({**second.info["suite"], "endpoints": [{"name": "e0", "url": "http://x/v1"}]}))

    code, said, new = again(tmp_path, suite=file if of_suite else None)

    assert code == 1, said
    assert new.info["against"] == {"baseline": first.id}
    assert f"compared with {first.id}, as the run itself was (main is {second.id} by now" in said
    store.delete(new.id)  # or `latest` were that one

    code, said, new = again(tmp_path, baseline="main")

    assert code == 0, said
    assert new.info["against"] == {"baseline": second.id}
    assert "by now" not in said


def test_a_baseline_that_is_gone_is_missed_by_a_gate_alone(tmp_path: Path) -> None:
    store, first, _ = held(tmp_path, gates=["pass_rate >= baseline - 30%"])
    store.delete(first.id)

    with pytest.raises(ConfigError, match=f"{first.id}, which the run was held against as 'baseline'"):
        again(tmp_path)
    code, said, _ = again(tmp_path, gates=["pass_rate <= 50%"])

    assert code == 0, said
    assert f"baseline ({first.id}) is not there any more" in said


@pytest.mark.parametrize(("undecided", "code"), [("report", 3), ("fail", 1), ("value", 0)])
def test_what_becomes_of_undecided_gates_can_be_said(tmp_path: Path, undecided: str, code: int) -> None:
    asyncio.run(evaluate(plan(tmp_path, ScriptedEndpoint("yes"), n=20)))

    given = ["--gate", "pass_rate >= 95%", "--undecided", undecided, "--out", str(tmp_path)]
    with pytest.raises(SystemExit) as ended:
        cli.main(["rescore", "latest", *given])

    assert ended.value.code == code


def test_conversations_with_simulated_users_are_judged_again(tmp_path: Path) -> None:
    user = {"user": {"goal": "a refund", "max_turns": 1}}
    made = plan(tmp_path, ScriptedEndpoint("yes"), n=1, extra=user, user={"url": "http://u/v1"})
    player = Target(Llm(ScriptedEndpoint("[DONE]"), name="user"), "user")
    asyncio.run(evaluate(replace(made, user=player)))

    code, said, new = again(tmp_path, scorers=["exact"])

    assert (code, new.trials) == (0, 1), said


# --- ended early


def interrupting(store: Store, control: Control) -> Any:
    """The store, which asks for the end when it has kept the first rows."""

    class Stops:
        def __getattr__(self, name: str) -> Any:
            return getattr(store, name)

        def append(self, rows: Any) -> None:
            store.append(rows)
            control.stop()

    return Stops()


@pytest.mark.asyncio
async def test_a_stop_keeps_what_is_judged(tmp_path: Path) -> None:
    made = plan(tmp_path, ScriptedEndpoint("yes"))
    before = await evaluate(made)
    control = Control()
    fresh = replace(made, targets=())

    new = await Rescoring(fresh, interrupting(before.store, control), before.run).run(control)

    kept = before.store.find(new.id)
    assert (kept.status, kept.planned) == ("interrupted", 200)
    assert 0 < kept.trials < 200
    assert kept.ended_at is not None


@pytest.mark.asyncio
async def test_a_judging_that_breaks_does_not_run_for_ever(tmp_path: Path) -> None:
    before = await evaluate(plan(tmp_path, ScriptedEndpoint("yes"), n=3))

    class Full:
        def __getattr__(self, name: str) -> Any:
            return getattr(before.store, name)

        def append(self, rows: Any) -> None:
            raise ConfigError("the disk is full")

    with pytest.raises(ConfigError, match="full"):
        await Rescoring(before.plan, Full(), before.run).run(Control())  # type: ignore[arg-type]

    assert before.store.runs()[0].status == "stopped"


@pytest.mark.asyncio
async def test_what_judges_hold_is_given_back(tmp_path: Path) -> None:
    before = await evaluate(plan(tmp_path, ScriptedEndpoint("yes"), n=3))
    closed = []

    class Judging(Llm):
        async def aclose(self) -> None:
            closed.append(self.name)

    made = replace(before.plan, judges=(Target(Judging(ScriptedEndpoint("yes"), name="j"), "j"),), targets=())
    await Rescoring(made, before.store, before.run).run(Control())

    assert closed == ["j"]


def test_ctrl_c_is_heard_and_said(tmp_path: Path) -> None:
    """A scorer interrupts it, as somebody at the keyboard would."""
    asyncio.run(evaluate(plan(tmp_path, ScriptedEndpoint("yes"))))
    (tmp_path / "mine.py").write_text(
        "import signal\n"
        "told = []\n"
        "async def f(question, answer):\n"
        "    if not told:\n"
        "        told.append(1)\n"
        f"        signal.raise_signal({int(signal.SIGINT)})\n"
        "    return True\n",
        encoding="utf-8",
    )

    code, said, new = again(tmp_path, scorers=[{"python": f"{tmp_path}/mine.py:f"}])

    assert code == 130, said
    assert "stopping" in said
    assert "of 200 rows left" in said
    assert new.status == "interrupted"
    assert 0 < new.trials < 200


def test_who_leaves_while_its_results_are_written_keeps_those_that_are(tmp_path: Path) -> None:
    """They are of rows that are all judged."""
    asyncio.run(evaluate(plan(tmp_path, ScriptedEndpoint("yes"), n=3)))

    class Leaving(Console):
        """Somebody reads that the report is written, and leaves."""

        def print(self, *words: Any, **options: Any) -> None:
            if str(words[0]).startswith("report: "):
                raise KeyboardInterrupt

    files = Files(html=tmp_path / "report.html", junit=tmp_path / "junit.xml")
    code = rescored("latest", None, {"out": str(tmp_path)}, files, (Console(file=StringIO()), Leaving()))

    assert code == 130
    assert "</html>" in (tmp_path / "report.html").read_text(encoding="utf-8")
    assert "interrupted" in (tmp_path / "junit.xml").read_text(encoding="utf-8")


def test_a_file_that_cannot_be_written_is_said_before_anything_is_judged(tmp_path: Path) -> None:
    asyncio.run(evaluate(plan(tmp_path, ScriptedEndpoint("yes"), n=3)))
    (tmp_path / "folder").mkdir()
    consoles = Console(file=StringIO()), Console(file=StringIO())

    with pytest.raises(ConfigError, match="cannot be written"):
        rescored("latest", None, {"out": str(tmp_path)}, Files(html=tmp_path / "folder"), consoles)

    assert len(open_store(tmp_path / "runs.db").runs()) == 1


def test_its_calls_are_said_to_be_paid_by_the_run_that_it_judged_again(tmp_path: Path) -> None:
    free = Script("yes", usage=Usage(1, 1, cost=Decimal(2)))
    asyncio.run(evaluate(plan(tmp_path, ScriptedEndpoint(free), n=3)))

    assert "$0 now ($6.00 by the run that it judged again)" in again(tmp_path)[1]


@pytest.mark.parametrize(
    ("failing", "said", "hint"),
    [
        (0, "return 1 / 0", "`evalkit rescore {old}` judges again"),
        (3, "return True", "`evalkit run SUITE --resume {old}` asks again"),
    ],
    ids=["judges", "calls"],
)
def test_the_run_that_it_judged_again_is_the_one_to_go_on_with(
    tmp_path: Path, failing: int, said: str, hint: str
) -> None:
    handler = ScriptedEndpoint(*[ConnectionError("gone")] * failing, "yes")
    asyncio.run(evaluate(plan(tmp_path, handler, n=6)))
    old = open_store(tmp_path / "runs.db").runs()[0].id
    (tmp_path / "mine.py").write_text(f"def f(question, answer):\n    {said}\n", encoding="utf-8")

    with pytest.raises(GuardrailsError) as caught:
        again(tmp_path, scorers=[{"python": f"{tmp_path}/mine.py:f"}])

    assert hint.format(old=old) in caught.value.hint


@pytest.mark.parametrize(
    ("changed", "said", "hint"),
    [
        (6, "no answer could be judged: the samples are not those", "--fresh` asks them as they are now"),
        (3, "of the calls or their judges failed", "--fresh` asks again what failed"),
    ],
    ids=["all", "some"],
)
def test_nobody_is_told_to_go_on_with_samples_that_are_others_by_now(
    tmp_path: Path, changed: int, said: str, hint: str
) -> None:
    """It is refused: the rows of the run are of samples that there are no more."""
    asyncio.run(evaluate(plan(tmp_path, ScriptedEndpoint("yes"), n=6)))
    golden = tmp_path / "g.jsonl"
    lines = golden.read_text(encoding="utf-8").replace('"q', '"another q', changed)
    golden.write_text(lines, encoding="utf-8")

    with pytest.raises(GuardrailsError, match=said) as caught:
        again(tmp_path)

    assert f"`evalkit run SUITE {hint}" in caught.value.hint


@pytest.mark.asyncio
async def test_a_run_that_is_deleted_meanwhile_is_not_judged_as_a_whole(tmp_path: Path) -> None:
    """What was read of it by then would pass its gates like a complete run."""
    before = await evaluate(plan(tmp_path, ScriptedEndpoint("yes"), n=300))

    class Deleting:
        """Somebody deletes the run while its answers are judged."""

        def __getattr__(self, name: str) -> Any:
            return getattr(before.store, name)

        def append(self, rows: Any) -> None:
            before.store.append(rows)
            if before.run.id in [run.id for run in before.store.runs()]:
                before.store.delete(before.run.id)

    with pytest.raises(ConfigError, match="was deleted while it was read"):
        await Rescoring(before.plan, Deleting(), before.run).run(Control())  # type: ignore[arg-type]

    (new,) = before.store.runs()
    assert new.status == "stopped"
    assert 0 < new.trials < 300


# --- what judges cost

JUDGES = {"j": {"url": "http://j/v1", "model": "gpt-4o-mini"}}


def dear(folder: Path, says: str = "return Score(1.0, True, 'fine', cost_usd=0.01, calls=1)") -> Any:
    """A judge that costs a cent each time, as one that asks a model does; it counts how many are at work."""
    (folder / "mine.py").write_text(
        "import asyncio\n"
        "from judges.judge import Score\n"
        "working = most = made = 0\n"
        "async def f(question, answer):\n"
        "    global working, most, made\n"
        "    working, made = working + 1, made + 1\n"
        "    most = max(most, working)\n"
        "    for _ in range(20):\n"
        "        await asyncio.sleep(0)\n"
        "    working -= 1\n"
        "    if made == 1:\n"
        f"        open({str(folder / 'most.txt')!r}, 'w').close()\n"
        f"    with open({str(folder / 'most.txt')!r}, 'a') as file:\n"
        "        print(most, file=file)\n"
        f"    {says}\n",
        encoding="utf-8",
    )
    return [{"python": f"{folder}/mine.py:f"}]


def at_work(folder: Path) -> int:
    """How many judged at once, at most."""
    return max(map(int, (folder / "most.txt").read_text(encoding="utf-8").split()))


def test_the_cap_holds_over_what_judges_cost(tmp_path: Path) -> None:
    asyncio.run(evaluate(plan(tmp_path, ScriptedEndpoint("yes"), n=200, gates=["pass_rate >= 10%"])))

    cap = {"judges": JUDGES, "budget": {"max_usd": "0.05"}}
    code, said, new = again(tmp_path, scorers=dear(tmp_path), **cap)

    assert (code, new.status, new.trials, new.planned) == (3, "capped", 5, 200), said
    assert "the cost cap is reached" in said
    paid = sum(tally.judging_usd for tally in open_store(tmp_path / "runs.db").tallies(new.id, judging=True))
    assert paid == pytest.approx(0.05)


def test_the_command_takes_a_cap(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    asyncio.run(evaluate(plan(tmp_path, ScriptedEndpoint("yes"), n=3)))

    with pytest.raises(SystemExit) as ended:
        cli.main(["rescore", "latest", "--out", str(tmp_path), "--max-usd", "-1"])

    assert ended.value.code == 2
    assert "budget.max_usd: input should be greater than 0" in " ".join(capsys.readouterr().err.split())


def test_judgings_whose_cost_nobody_knows_end_under_a_cap(tmp_path: Path) -> None:
    asyncio.run(evaluate(plan(tmp_path, ScriptedEndpoint("yes"), n=50)))
    scorers = dear(tmp_path, "return Score(None, None, 'no reply', 'timeout', calls=1)")

    with pytest.raises(GuardrailsError, match="no answer could be judged"):
        again(tmp_path, scorers=scorers, judges=JUDGES, budget={"max_usd": "0.05"})

    new = open_store(tmp_path / "runs.db").runs()[0]
    assert (new.status, new.trials) == ("capped", 3)


def test_a_judge_without_a_price_is_refused_under_a_cap(tmp_path: Path) -> None:
    asyncio.run(evaluate(plan(tmp_path, ScriptedEndpoint("yes"), n=3)))
    judges = {"j": {"url": "http://j/v1", "model": "nobody-knows"}}

    with pytest.raises(ConfigError, match="no price is known"):
        again(tmp_path, judges=judges, budget={"max_usd": "0.05"})

    assert len(open_store(tmp_path / "runs.db").runs()) == 1


@pytest.mark.parametrize("concurrency", [1, 7])
def test_no_more_judge_at_once_than_the_suite_allows(tmp_path: Path, concurrency: int) -> None:
    asyncio.run(evaluate(plan(tmp_path, ScriptedEndpoint("yes"), n=100, concurrency=concurrency)))

    code, said, new = again(tmp_path, scorers=dear(tmp_path))

    assert (code, new.trials) == (0, 100), said
    assert at_work(tmp_path) == concurrency


# --- who judges


def asking(folder: Path, **judge: Any) -> Run:
    """A run whose suite has a judge that asks a model. Nothing was answered, so it was never asked."""
    judges = {"strict": {**JUDGES["j"], **judge}}
    handler = ScriptedEndpoint(ConnectionError("gone"))
    made = plan(folder, handler, n=1, judges=judges, scorers=[{"rubric": {"model": "strict"}}])
    return asyncio.run(evaluate(made)).run


def test_the_models_that_judged_judge_again(tmp_path: Path) -> None:
    before = asking(tmp_path)

    suite, folder = kept_suite(before, {"out": tmp_path})

    made = Plan.of(suite, (), folder=folder)
    assert made.scorers == before.info["scorers"]
    assert made.lineage()["judges"] == before.info["judges"]


def test_files_of_a_judge_lie_beside_the_suite(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = asking(tmp_path)
    (tmp_path / "prices.toml").write_text("[models.m]\ninput = 1\noutput = 1\n", encoding="utf-8")
    judges = [{"name": "strict", **JUDGES["j"], "prices": "prices.toml"}]
    kept = replace(before, info={**before.info, "judges": judges, "folder": str(tmp_path)})
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")

    suite, folder = kept_suite(kept, {"out": tmp_path})

    assert Plan.of(suite, (), folder=folder).judges[0].about["prices"] == "prices.toml"


def test_a_judge_whose_key_is_not_kept_is_named(tmp_path: Path) -> None:
    before = asking(tmp_path, headers={"x-key": "k-1234"})

    with pytest.raises(ConfigError, match="asks a model") as caught:
        kept_suite(before, {"out": tmp_path})

    assert "--suite FILE" in caught.value.hint
    assert "strict" in caught.value.hint
    assert kept_suite(before, {"out": tmp_path, "scorers": ["exact"]})[0].judges == {}


def test_a_run_of_an_older_version_names_the_way_out(tmp_path: Path) -> None:
    before = asking(tmp_path)
    older = replace(before, info={name: each for name, each in before.info.items() if name != "judges"})

    with pytest.raises(ConfigError, match="asks a model") as caught:
        kept_suite(older, {"out": tmp_path})

    assert f"evalkit rescore {before.id} --suite FILE" in caught.value.hint


def test_a_mistake_in_an_option_is_none_of_the_suites(tmp_path: Path) -> None:
    before = asking(tmp_path)

    with pytest.raises(ConfigError, match="there is no judge") as caught:
        kept_suite(before, {"out": tmp_path, "scorers": ["nosuch"]})

    assert "--suite" not in caught.value.hint


# --- a rescoring of a rescoring


def test_nobody_goes_on_with_a_rescoring(tmp_path: Path) -> None:
    made = plan(tmp_path, ScriptedEndpoint("yes"), n=3)
    old = asyncio.run(evaluate(made)).run.id
    first, second = again(tmp_path)[2], again(tmp_path)[2]
    consoles = Console(file=StringIO()), Console(file=StringIO())

    with pytest.raises(ConfigError, match=f"judged the answers of {first.id} again") as caught:
        Session.of(made.suite, None, consoles=consoles, resume=second.id)

    assert f"--resume {old}`" in caught.value.hint


def test_a_rescoring_of_a_rescoring_names_the_run_that_asked(tmp_path: Path) -> None:
    handler = ScriptedEndpoint(*[ConnectionError("gone")] * 3, "yes")
    asyncio.run(evaluate(plan(tmp_path, handler, n=6)))
    old = open_store(tmp_path / "runs.db").runs()[0].id

    with pytest.raises(GuardrailsError):
        again(tmp_path)
    with pytest.raises(GuardrailsError) as caught:
        again(tmp_path)

    assert f"`evalkit run SUITE --resume {old}` asks again" in caught.value.hint
