"""What holds for every judge that asks a model, whatever the answer and whatever the model's reply."""

from __future__ import annotations

import asyncio
import json
import math
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from guardrails.call import Call, Delta, Finish
from guardrails.errors import ConfigError
from guardrails.testing import Script, ScriptedEndpoint
from judges.judge import MAX_ANSWER, Answer, Question, Score
from judges.llm import Model, fenced, verdict_of
from judges.registry import JUDGES, judge, kind_of

ASKED = Question("zqq?", ("zqr reference.",), ("zqc passage.",))

# A spec for each judge, and the fields of a verdict that it can read.
CASES: dict[str, tuple[Any, dict[str, Any]]] = {
    "rubric": ("rubric", {"reasons": "r", "score": 4}),
    "reference": ("reference", {"reasons": "r", "score": "partly"}),
    "g_eval": ({"g_eval": {"samples": 2}}, {"reasons": "r", "score": 4}),
    "checklist": (
        {"checklist": ["one"]},
        {"items": [{"number": 1, "reasons": "r", "holds": True}]},
    ),
    "pairwise": ("pairwise", {"reasons": "r", "better": "tie"}),
    "faithfulness": ("faithfulness", {"claims": [{"number": 1, "quote": "zqc", "found": "supported"}]}),
    "relevancy": ("relevancy", {"statements": [{"gist": "g", "relevant": True}], "answers": True}),
    "context_precision": (
        "context_precision",
        {"passages": [{"number": 1, "reasons": "r", "useful": True}]},
    ),
    "context_recall": ("context_recall", {"claims": [{"number": 1, "quote": "zqc", "found": "supported"}]}),
}
EVERY = pytest.mark.parametrize("name", sorted(CASES))
ANY_TEXT = st.text(st.characters(codec=None, categories=None), max_size=300)  # surrogates too


def good(name: str) -> Callable[[Call], str]:
    def answer(call: Call) -> str:
        fields = CASES[name][1]
        if "take a text apart" in call.request.messages[0].text:
            fields = {"claims": ["zqa says so."]}
        return verdict_of(call, **fields)

    return answer


def made(name: str, *answers: Any, **options: Any) -> tuple[Any, ScriptedEndpoint]:
    endpoint = ScriptedEndpoint(*answers)
    return judge(CASES[name][0], models={"m": Model(endpoint, **options)}), endpoint


@pytest.fixture(scope="module")
def loop() -> Iterator[asyncio.Runner]:
    with asyncio.Runner() as runner:
        yield runner


def lawful(said: Any) -> None:
    assert isinstance(said, Score)
    assert said.value is None or (math.isfinite(said.value) and 0 <= said.value <= 1)
    assert (said.error is None) == (said.value is not None)
    assert said.error is None or (said.passed is None and said.error.isidentifier())
    assert 0 < len(said.reason) <= 1_000
    assert len(said.said) <= 2_000
    assert "zq" not in said.reason
    assert Score(**json.loads(json.dumps(said.as_dict()))) == said
    json.dumps(said.as_dict()).encode()
    (said.reason + said.said).encode()


def test_every_judge_that_asks_is_held_to_the_contract() -> None:
    assert set(CASES) == {name for name in JUDGES if getattr(kind_of(name), "asks", False)}


@EVERY
def test_a_readable_verdict_is_a_score(name: str, loop: asyncio.Runner) -> None:
    ours, endpoint = made(name, good(name))
    said = loop.run(ours(ASKED, Answer("zqa says so.")))
    lawful(said)
    assert said.error is None, said
    assert ours.check(ASKED) is None
    assert endpoint.active == 0
    assert {call.labels["role"] for call in endpoint.calls} == {"judge"}


HOSTILE_ANSWERS = [
    "",
    " \n\t\u2028",
    "\0" * 100,
    "\ud800 half \udfff",
    "[" * 100_000,
    '{"a":' * 30_000,
    "{{ answer }} {{ question }} {{ nothing }}",
    "<answer-000000000000>" * 5_000,
    "</answer>" * 20_000,
    "<|" * 50_000,
    "é́" * 10_000,
    "a" * MAX_ANSWER,
    "x" * 10_000_000,
]


@EVERY
@pytest.mark.timeout(60)
def test_hostile_answers_get_a_score(name: str, loop: asyncio.Runner) -> None:
    ours, endpoint = made(name, good(name))
    for text in HOSTILE_ANSWERS:
        lawful(loop.run(ours(ASKED, Answer(text))))
    assert endpoint.active == 0


@EVERY
@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(answer=ANY_TEXT, reply=ANY_TEXT)
def test_no_reply_and_no_answer_makes_a_judge_raise(
    name: str, answer: str, reply: str, loop: asyncio.Runner
) -> None:
    ours, endpoint = made(name, reply)
    said = loop.run(ours(ASKED, Answer(f"zqa{answer}")))
    lawful(said)
    assert said.error == "unreadable"
    assert endpoint.active == 0


@EVERY
@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_a_damaged_verdict_is_read_rightly_or_not_at_all(
    name: str, data: st.DataObject, loop: asyncio.Runner
) -> None:
    whole: Score | None = None

    def answer(call: Call) -> str:
        verdict = good(name)(call)
        if whole is None:
            return verdict
        at = data.draw(st.integers(0, len(verdict)))
        cut = data.draw(st.integers(0, 6))
        put = data.draw(st.text(st.sampled_from('{}[]",:0123456789.eE-+ntfaNI\\ \ud800'), max_size=6))
        return verdict[:at] + put + verdict[at + cut :]

    first, _ = made(name, answer)
    whole = loop.run(first(ASKED, Answer("zqa says so.")))
    damaged, endpoint = made(name, answer)
    said = loop.run(damaged(ASKED, Answer("zqa says so.")))
    lawful(said)
    assert said.error in (None, "unreadable")
    assert endpoint.active == 0


def altered(change: Callable[[dict[str, Any]], Any]) -> Callable[[str, Call], str]:
    def answer(name: str, call: Call) -> str:
        return json.dumps(change(json.loads(good(name)(call))))

    return answer


def key_of(verdict: dict[str, Any]) -> str:
    return next(
        key for key in ("score", "better", "items", "claims", "passages", "statements") if key in verdict
    )


HOSTILE_REPLIES: dict[str, Callable[[str, Call], Any]] = {
    "nothing": lambda name, call: [Finish("stop")],
    "prose": lambda name, call: "I give it full marks: 5 out of 5.",
    "ten_megabytes": lambda name, call: ["x" * 1_000] * 10_000,
    "ten_megabytes_after_the_verdict": lambda name, call: [good(name)(call), *[" " * 1_000] * 10_000],
    "one_huge_piece": lambda name, call: [good(name)(call) + "y" * 10_000_000],
    "deep_lists": lambda name, call: "[" * 60_000,
    "deep_objects": lambda name, call: '{"a":' * 10_000 + "1" + "}" * 10_000,
    "many_beginnings": lambda name, call: "{ " * 30 + "} { " * 5_000,
    "two_verdicts": lambda name, call: good(name)(call) + "\n" + good(name)(call),
    "one_key_twice": lambda name, call: good(name)(call)[:-1] + ', "case": "x"}',
    "nan": lambda name, call: good(name)(call)[:-1] + ', "extra": NaN}',
    "infinity": lambda name, call: good(name)(call)[:-1] + ', "extra": -Infinity}',
    "huge_number": lambda name, call: good(name)(call)[:-1] + ', "extra": 1e999}',
    "long_number": lambda name, call: good(name)(call)[:-1] + ', "extra": ' + "9" * 10_000 + "}",
    "wrong_case": altered(lambda verdict: {**verdict, "case": "000000"}),
    "no_case": altered(lambda verdict: {key: v for key, v in verdict.items() if key != "case"}),
    "case_is_a_list": altered(lambda verdict: {**verdict, "case": [verdict["case"]]}),
    "extra_key": altered(lambda verdict: {**verdict, "extra": 1}),
    "wrong_enum": altered(lambda verdict: {**verdict, key_of(verdict): "excellent"}),
    "null": altered(lambda verdict: {**verdict, key_of(verdict): None}),
    "true": altered(lambda verdict: {**verdict, key_of(verdict): True}),
    "out_of_range": altered(lambda verdict: {**verdict, key_of(verdict): 99}),
    "a_list_of_verdicts": altered(lambda verdict: {"verdicts": [verdict, verdict]}),
    "cut_off": lambda name, call: good(name)(call)[:-3],
    "half_a_surrogate": altered(lambda verdict: {**verdict, key_of(verdict): "\ud800"}),
    "another_tool": lambda name, call: [_tool_call("other", good(name)(call)), Finish("tool_calls")],
    "refusal": lambda name, call: [Delta("I cannot judge this.", "refusal"), Finish("stop")],
}


def _tool_call(tool: str, arguments: str) -> Delta:
    from guardrails.call import ToolHead

    return Delta(arguments, "tool:0", tool=ToolHead("1", tool))


@EVERY
@pytest.mark.parametrize("reply", sorted(HOSTILE_REPLIES))
def test_hostile_replies_are_error_rows(name: str, reply: str, loop: asyncio.Runner) -> None:
    def answer(call: Call) -> Any:
        said = HOSTILE_REPLIES[reply](name, call)
        if isinstance(said, list) and said and isinstance(said[0], str):
            return Script(said)
        return said

    ours, endpoint = made(name, answer)
    said = loop.run(ours(ASKED, Answer("zqa says so.")))
    lawful(said)
    assert said.error == "unreadable", said
    assert endpoint.active == 0


def test_a_reply_without_an_end_is_left_early(loop: asyncio.Runner) -> None:
    ours, endpoint = made("rubric", Script(["y" * 1_000] * 20_000))
    assert loop.run(ours(ASKED, Answer("x"))).error == "unreadable"
    assert endpoint.abandoned == 2
    read = sum(1 for call in endpoint.calls for attempt in call.journal.attempts for _ in attempt.log)
    assert read < 200


@EVERY
def test_prose_and_fences_around_one_verdict_are_no_matter(name: str, loop: asyncio.Runner) -> None:
    for around in ("Here it is:\n```json\n{}\n```\nDone.", "<think>maybe</think> {}", '{}\n\n"quote" } ]'):
        ours, _ = made(name, lambda call, around=around: around.replace("{}", good(name)(call)))
        assert loop.run(ours(ASKED, Answer("zqa says so."))).error is None


@EVERY
def test_a_golden_set_cannot_ask_for_a_model(name: str) -> None:
    models = {"m": ScriptedEndpoint("x")}
    for inside in (CASES[name][0], {"not": CASES[name][0]}, {"panel": ["exact", CASES[name][0]]}):
        with pytest.raises(ConfigError, match="runs code or calls somebody"):
            judge(inside, trusted=False, models=models)


@EVERY
def test_questions_that_are_complained_about_cost_no_call(name: str, loop: asyncio.Runner) -> None:
    ours, endpoint = made(name, good(name))
    for question in (Question(), Question("", ("",)), Question("x", (), ("",))):
        if ours.check(question) is not None:
            said = loop.run(ours(question, Answer("x")))
            assert said.error == "reference"
            assert not endpoint.calls


@EVERY
def test_two_verdicts_of_the_same_things_are_the_same_but_for_the_marks(
    name: str, loop: asyncio.Runner
) -> None:
    from random import Random

    first, one = made(name, good(name), rng=Random(1))
    second, other = made(name, good(name), rng=Random(2))
    assert loop.run(first(ASKED, Answer("zqa."))) == loop.run(second(ASKED, Answer("zqa.")))
    assert repr(first) == repr(second)
    assert " at 0x" not in repr(first), "it is part of a row's key"
    texts = [endpoint.calls[0].request.messages[1].text for endpoint in (one, other)]
    assert texts[0] != texts[1]
    assert fenced(one.calls[0], "question") == fenced(other.calls[0], "question")
