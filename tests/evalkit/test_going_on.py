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
from judges.llm.prompt import FOLDER

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
async def test_what_decides_when_an_answer_comes_may_be_changed_by_who_goes_on(tmp_path: Path) -> None:
    """A run says itself that a timeout should be raised, and its answers are paid for."""
    before = await interrupted(suite(tmp_path))
    mended = {"timeouts": {"first_event": 60}, "retry": {"attempts": 5}, "rate_limit": {"requests": 600}}
    endpoint = {"name": "e", "url": "http://x/v1", "model": "m", **mended}
    changed = suite(tmp_path, endpoints=[endpoint])

    assert Session.of(changed, None, consoles=CONSOLES).resumed is None, "it does not go on by itself"
    assert Session.of(changed, None, consoles=CONSOLES, resume=before.id).resumed is not None
    outcome = await evaluate(plan(changed), store=open_store(changed.database), resume=before)
    assert (outcome.status, len(outcome.columns)) == ("complete", 4)


@pytest.mark.parametrize(
    "fields",
    [{"model": "n"}, {"url": "http://y/v1"}, {"filters": {"output": ["pii"]}}, {"dialect": "anthropic"}],
)
def test_what_decides_which_answer_comes_makes_other_rows(tmp_path: Path, fields: dict[str, Any]) -> None:
    def keys(**more: Any) -> set[str]:
        endpoint = {"name": "e", "url": "http://x/v1", "model": "m", **more}
        made = plan(suite(tmp_path, endpoints=[endpoint]))
        return {job.key for job in made.jobs(made.targets[0])}

    assert keys(**fields).isdisjoint(keys())
    assert keys(timeouts={"whole": 9}) == keys(), "when it comes at the latest is not which"


@pytest.mark.asyncio
async def test_a_run_that_goes_on_is_held_against_the_baseline_that_it_began_with(tmp_path: Path) -> None:
    """A tag may have moved in between, as the one of a main branch does."""
    first, other = [(await evaluate(plan(suite(tmp_path, limit=n)))).run for n in (3, 2)]
    store = open_store(suite(tmp_path).database)
    store.tag(first.id, add=["main"])
    fields = {"baseline": "main", "gates": ["pass_rate >= baseline - 90%"]}
    before = await interrupted(suite(tmp_path, **fields))
    store.tag(first.id, remove=["main"])
    store.tag(other.id, add=["main"])

    outcome = await evaluate(plan(suite(tmp_path, **fields)), store=store, resume=before)
    assert outcome.run.info["against"] == {"baseline": first.id}

    again = await interrupted(suite(tmp_path, **fields))
    another = suite(tmp_path, **fields | {"baseline": first.id})
    outcome = await evaluate(plan(another), store=store, resume=again)
    assert outcome.run.info["against"] == {"baseline": first.id}, "one that is named now is meant"


def test_when_a_judge_s_model_answers_makes_no_other_rows(tmp_path: Path) -> None:
    def keys(**more: Any) -> set[str]:
        judge = {"url": "http://j/v1", "model": "j", **more}
        made = plan(suite(tmp_path, judges={"j": judge}, scorers=["contains"]))
        return {job.key for job in made.jobs(made.targets[0])}

    assert keys(timeouts={"whole": 9}) == keys()
    assert keys(model="k").isdisjoint(keys())


@pytest.mark.asyncio
async def test_the_same_scorer_goes_on_by_itself(tmp_path: Path) -> None:
    before = await interrupted(suite(tmp_path, scorers=[scorer(tmp_path, "return False")]))
    same = suite(tmp_path, scorers=[scorer(tmp_path, "return False")])

    resumed = Session.of(same, None, consoles=CONSOLES).resumed

    assert resumed is not None
    assert resumed.id == before.id


@pytest.mark.asyncio
async def test_of_several_at_once_one_goes_on_and_the_others_begin_their_own(tmp_path: Path) -> None:
    """They look at the same moment, when nobody writes the run yet."""
    before = await interrupted(suite(tmp_path))

    sessions = [Session.of(suite(tmp_path), None, consoles=CONSOLES) for _ in range(3)]

    assert [each.resumed and each.resumed.id for each in sessions] == [before.id, None, None]
    kept = []
    for each in sessions:
        answering = plan(each.plan.suite)
        kept.append(await evaluate(answering, store=each.store, resume=each.resumed))
        each.store.close()
    assert kept[0].run.id == before.id
    assert [each.status for each in kept] == ["complete"] * 3
    assert len({each.run.id for each in kept}) == 3


@pytest.mark.asyncio
async def test_a_run_that_cannot_be_gone_on_with_is_free_again(tmp_path: Path) -> None:
    changed = suite(tmp_path, scorers=[scorer(tmp_path, "return False")])
    before = await interrupted(changed)
    store = open_store(changed.database)
    (row,) = store.trials(before.id)
    store.append([replace(row, key="of another version")])

    session = Session.of(changed, None, consoles=CONSOLES)

    assert session.resumed is None
    with store.writing(before.id):
        pass


def test_another_simulated_user_or_judge_is_another_run(tmp_path: Path) -> None:
    def made(**fields: Any) -> str:
        return Plan.of(suite(tmp_path, **fields)).digest

    plain = made()
    users = [made(user={"url": "http://u/v1", "model": name}) for name in ("one", "two")]
    judges = [made(judges={"j": {"url": "http://j/v1", "model": name}}) for name in ("one", "two")]

    assert len({plain, *users, *judges}) == 5
    assert made(user={"url": "http://u/v1", "model": "one"}) == users[0]


@pytest.mark.parametrize(
    ("scorer", "before"),
    [
        ({"regex": "a.md"}, "7f1580acee5e270d02fd8a6cc548c43cd1cc005c6ba278756d08768b5877175e"),
        (
            {"contains": {"words": ["mine.py:f"]}},
            "1295b3a48587d221edd87e5481cf2c5d9b129eb12bf42f70f65925e9d58c6c00",
        ),
        (
            {"all": ["exact", {"regex": "a.md"}]},
            "4cdb8ce80cdcf95db20b0779e30f2ddbb446a220762a7db91e8232d1a953e6a4",
        ),
    ],
    ids=["pattern", "word", "part"],
)
def test_a_pattern_that_looks_like_a_file_keeps_the_digest_that_runs_have(
    tmp_path: Path, scorer: dict[str, Any], before: str
) -> None:
    """Runs that an earlier version left unfinished are found by it."""
    assert Plan.of(suite(tmp_path, scorers=[scorer])).digest == before


@pytest.mark.parametrize(
    "scorer",
    [
        {"python": "mine.py:f"},
        {"not": {"python": {"target": "mine.py:f"}}},
        {"all": {"of": ["exact", {"any": [{"python": "mine.py:f"}]}]}},
        {"similar": {"embedder": "mine.py:f"}},
        {"reference": {"prompt": "mine.md"}},
        {"panel": ["rubric", {"reference": {"prompt": "mine.md"}}]},
    ],
    ids=["alone", "negated", "deep", "embedder", "prompt", "panel"],
)
def test_what_is_in_a_scorers_file_tells_runs_apart(tmp_path: Path, scorer: dict[str, Any]) -> None:
    ours = (FOLDER / "reference.md").read_text(encoding="utf-8")
    made = suite(tmp_path, judges={"j": {"url": "http://j/v1", "model": "m"}})
    made = made.model_copy(update={"scorers": (scorer,)})  # its files are beside the suite, not here

    def digest(says: str) -> str:
        (tmp_path / "mine.py").write_text(f"def f(*given):\n    return {says!r}\n", encoding="utf-8")
        (tmp_path / "mine.md").write_text(f"{ours}\n{says}\n", encoding="utf-8")
        return Plan.of(made, folder=tmp_path).digest

    assert digest("one") == digest("one")
    assert digest("one") != digest("another")


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
