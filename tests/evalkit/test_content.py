"""A sample's hashes: what is asked, and all that it holds."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from evalkit.config import Suite
from evalkit.content import asks_the_same, content, digest, question, whole
from evalkit.evaluate import evaluate
from evalkit.plan import Plan, Target
from evalkit.rescoring import Rescoring
from evalkit.runner import Control
from guardrails.call import Call
from guardrails.client import Llm
from guardrails.errors import Rejected
from guardrails.testing import ScriptedEndpoint

PLAIN = {"id": "s", "input": "q", "references": ["a"], "tags": ["t"], "weight": 2.0, "metadata": {"m": 1}}


@pytest.mark.parametrize(
    ("changed", "the_same"),
    [
        ({"references": ["b"]}, True),
        ({"weight": 1.0}, True),
        ({"tags": ["u"]}, True),
        ({"input": "p"}, False),
        ({"metadata": {"m": 2}}, False),
        ({"context": ["c"]}, False),
    ],
)
def test_what_is_judged_by_is_no_part_of_what_is_asked(changed: dict[str, Any], the_same: bool) -> None:
    now, then = PLAIN | changed, content(PLAIN)

    assert asks_the_same(then, now) is the_same
    assert (question(PLAIN) == question(now)) is the_same
    assert whole(content(now)) != whole(then)
    assert asks_the_same(then, PLAIN)
    assert not asks_the_same(digest(PLAIN), now), "rows of before know no more than the whole"
    assert asks_the_same(digest(PLAIN), PLAIN)


def test_where_a_prompt_sees_the_tags_they_are_asked_too() -> None:
    now = PLAIN | {"tags": ["u"]}
    assert not asks_the_same(content(PLAIN), now, tags=True)
    assert question(PLAIN, tags=True) != question(now, tags=True)


async def asked(folder: Path, sample: dict[str, Any], **fields: Any) -> tuple[int, Any]:
    """How many calls the suite makes, taking what earlier runs were answered."""
    (folder / "g.jsonl").write_text(json.dumps(sample) + "\n", encoding="utf-8")
    endpoint = ScriptedEndpoint("yes")
    suite = Suite.model_validate(
        {
            "golden": str(folder / "g.jsonl"),
            "endpoints": [{"name": "e", "url": "http://x/v1"}],
            "out": folder,
            "cache": True,
            **fields,
        }
    )
    outcome = await evaluate(Plan.of(suite, [Target(Llm(endpoint, name="e"), "e")]))
    return len(endpoint.calls), outcome.endpoints[0]


@pytest.mark.asyncio
async def test_an_answer_is_taken_again_where_only_its_judging_changed(tmp_path: Path) -> None:
    sample = {"id": "s", "input": "q", "reference": "no", "tags": ["t"]}
    first, before = await asked(tmp_path, sample)
    again, after = await asked(tmp_path, sample | {"reference": "yes", "tags": ["u"]})
    assert (first, again) == (1, 0)
    assert (before.passed, after.passed) == (0, 1)
    assert (await asked(tmp_path, sample | {"input": "another"}))[0] == 1


@pytest.mark.asyncio
async def test_a_corrected_reference_is_what_kept_answers_are_judged_by(tmp_path: Path) -> None:
    path = tmp_path / "g.jsonl"
    path.write_text(
        '{"id": "s", "input": "q", "reference": "no", "tags": ["t"], "weight": 2}\n', encoding="utf-8"
    )
    fields = {"golden": str(path), "endpoints": [{"name": "e", "url": "http://x/v1"}], "out": tmp_path}
    suite = Suite.model_validate(fields)
    ran = await evaluate(Plan.of(suite, [Target(Llm(ScriptedEndpoint("yes"), name="e"), "e")]))
    path.write_text('{"id": "s", "input": "q", "reference": "yes", "tags": ["u"]}\n', encoding="utf-8")

    run = await Rescoring(Plan.of(suite, []), ran.store, ran.run).run(Control())

    (row,) = ran.store.trials(run.id)
    assert (row.error, row.passed, row.tags, row.weight) == (None, True, ("u",), 1.0)


@pytest.mark.asyncio
async def test_failed_calls_count_by_what_their_samples_are_now_too(tmp_path: Path) -> None:
    """Else a gate on a new tag would see the answers alone."""
    path = tmp_path / "g.jsonl"
    lines = [{"id": f"s{n}", "input": f"q{n}", "reference": "yes"} for n in range(4)]
    path.write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")

    def answer(call: Call) -> str:
        if call.request.messages[-1].text == "q0":
            raise Rejected("bad_request", "no")
        return "yes"

    fields = {"golden": str(path), "endpoints": [{"name": "e", "url": "http://x/v1"}], "out": tmp_path}
    suite = Suite.model_validate({**fields, "max_error_rate": 1})
    ran = await evaluate(Plan.of(suite, [Target(Llm(ScriptedEndpoint(answer), name="e"), "e")]))
    tagged = [{**line, "tags": ["new"], "weight": 2} for line in lines]
    path.write_text("".join(json.dumps(line) + "\n" for line in tagged), encoding="utf-8")

    run = await Rescoring(Plan.of(suite, []), ran.store, ran.run).run(Control())

    rows = list(ran.store.trials(run.id))
    assert sorted(row.error is not None for row in rows) == [False] * 3 + [True]
    assert {(row.tags, row.weight) for row in rows} == {(("new",), 2.0)}


@pytest.mark.asyncio
async def test_a_prompt_that_shows_tags_asks_anew_for_others(tmp_path: Path) -> None:
    sample, prompts = (
        {"id": "s", "input": "q", "reference": "yes", "tags": ["t"]},
        [{"user": "{{ tags|join }}: {{ input }}"}],
    )
    assert (await asked(tmp_path, sample, prompts=prompts, scorers=["contains"]))[0] == 1
    assert (await asked(tmp_path, sample, prompts=prompts, scorers=["contains"]))[0] == 0
    assert (await asked(tmp_path, sample | {"tags": ["u"]}, prompts=prompts, scorers=["contains"]))[0] == 1
