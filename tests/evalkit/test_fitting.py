"""A gate that will stay undecided is said so before anybody is asked."""

from __future__ import annotations

import json
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from evalkit.config import Suite
from evalkit.fitting import doubts
from evalkit.plan import Plan, Target
from evalkit.session import Session
from evalkit.stores import open_store
from guardrails.call import Call
from guardrails.client import Llm
from guardrails.errors import ConfigError
from guardrails.testing import ScriptedEndpoint

GATE = "pass_rate >= baseline - 5%"


def plan(folder: Path, handler: ScriptedEndpoint, *names: str, **fields: Any) -> Plan:
    names = names or ("e",)
    line = {"id": "a", "input": "q", "reference": "yes", "tags": ["geography"]}
    (folder / "g.jsonl").write_text(json.dumps(line) + "\n", encoding="utf-8")
    endpoints = [{"name": name, "url": "http://x/v1"} for name in names]
    suite = {"golden": str(folder / "g.jsonl"), "endpoints": endpoints, "out": folder, **fields}
    return Plan.of(Suite.model_validate(suite), [Target(Llm(handler, name=name), name) for name in names])


def test_a_first_run_has_no_baseline_and_is_made_all_the_same(tmp_path: Path) -> None:
    """It is the one to tag, for the next ones to be held against."""
    before: list[str] = []
    said = StringIO()

    def answer(call: Call) -> str:
        before.append(said.getvalue())
        return "yes"

    made = plan(tmp_path, ScriptedEndpoint(answer), gates=[GATE])
    consoles = Console(file=StringIO()), Console(file=said, width=200)
    code = Session(made, open_store(made.suite.database), None, *consoles).run()

    assert code == 3
    assert "will be undecided: no baseline is given (`--baseline RUN`)" in before[0]


def test_a_baseline_that_is_given_or_an_endpoint_of_that_name_leaves_no_doubt(tmp_path: Path) -> None:
    handler = ScriptedEndpoint("yes")

    assert len(list(doubts(plan(tmp_path, handler, gates=[GATE, "pass_rate >= 5%"])))) == 1
    assert not list(doubts(plan(tmp_path, handler, gates=[GATE], baseline="latest")))
    assert not list(doubts(plan(tmp_path, handler, "e", "baseline", gates=[GATE])))
    assert not list(doubts(plan(tmp_path, handler, gates=["pass_rate >= 5%"])))


@pytest.mark.parametrize(
    ("names", "gate"),
    [(["e"], 'pass_rate >= "e" - 20%'), (["e", "f"], 'pass_rate of e >= "e"'), (["baseline"], GATE)],
)
def test_an_endpoint_is_no_measure_of_itself(tmp_path: Path, names: list[str], gate: str) -> None:
    with pytest.raises(ConfigError, match="against itself"):
        plan(tmp_path, ScriptedEndpoint("yes"), *names, gates=[gate])


def test_an_endpoint_may_be_the_measure_of_others_or_of_another(tmp_path: Path) -> None:
    for gate in ('pass_rate >= "e" - 20%', 'pass_rate of f >= "e"', 'pass_rate of e >= "earlier"'):
        assert len(plan(tmp_path, ScriptedEndpoint("yes"), "e", "f", gates=[gate]).gates) == 1


@pytest.mark.parametrize(
    ("gate", "hint"),
    [
        ("pass_rate on gg >= 5%", "it has g – did you mean `g`?"),
        ("pass_rate of vendro >= 5%", "it has vendor, own – did you mean `vendor`?"),
        ("pass_rate of nobody >= 5%", "it has vendor, own"),
        ("pass_rate[geograhpy] >= 5%", "there are geography – did you mean `geography`?"),
        ("contians.pass_rate >= 5%", "there are contains – did you mean `contains`?"),
    ],
)
def test_a_name_that_a_gate_misspells_is_shown_as_it_is(tmp_path: Path, gate: str, hint: str) -> None:
    with pytest.raises(ConfigError) as error:
        plan(tmp_path, ScriptedEndpoint("yes"), "vendor", "own", gates=[gate])
    assert error.value.hint == hint


def test_a_doubt_about_a_set_is_said_before_anybody_is_asked(tmp_path: Path) -> None:
    golden = {"path": str(tmp_path / "g.jsonl"), "where": {"not": "Geography"}}
    made = plan(tmp_path, ScriptedEndpoint("yes"), golden=golden)

    assert list(doubts(made)) == [
        "g: `where.not` means the tag 'Geography' that no sample has – did you mean `geography`?"
    ]


def test_a_prompt_without_the_question_is_made_and_said_before_anybody_is_asked(tmp_path: Path) -> None:
    """It shows what a model knows without the question."""
    plain, blind = {"name": "plain"}, {"name": "blind", "user": "Pick A, B, C or D."}
    rows = [{"id": name, "input": name, "reference": "A"} for name in "xy"]
    (tmp_path / "two.jsonl").write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
    golden = [str(tmp_path / "g.jsonl"), str(tmp_path / "two.jsonl")]
    made = plan(tmp_path, ScriptedEndpoint("A"), golden=golden, prompts=[plain, blind])

    (doubt,) = doubts(made)
    assert doubt.startswith("prompt blind: `user` shows nothing of a sample")
    assert not list(doubts(plan(tmp_path, ScriptedEndpoint("A"), prompts=[blind]))), "one sample is asked"


def test_a_run_says_that_it_sends_no_hedges(tmp_path: Path) -> None:
    routes = [
        {"name": "a", "url": "http://a/v1"},
        {"name": "b", "url": "http://b/v1", "hedge": {"delay": 0.1}},
    ]
    (tmp_path / "g.jsonl").write_text('{"id": "a", "input": "q", "reference": "yes"}\n', encoding="utf-8")
    golden = {"golden": str(tmp_path / "g.jsonl")}
    for endpoint, said in (({"url": "http://x/v1"}, 0), ({"routes": routes, "name": "r"}, 1)):
        suite = Suite.model_validate({**golden, "endpoints": [endpoint]})
        found = [doubt for doubt in doubts(Plan.of(suite)) if "hedges" in doubt]
        assert len(found) == said
