"""What holds for every judge that a suite can name. A new judge gets a line in `CASES`."""

from __future__ import annotations

import asyncio
import math
import pickle
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from guardrails.call import Message, ToolUse
from judges.judge import MAX_ANSWER, Answer, Question, Score
from judges.registry import HARMLESS, JUDGES, judge, kind_of

FUNCTIONS = Path(__file__).parent / "sample_functions.py"
TEXT = Question("?", ("zqr reference",))
PLAIN = Question("?")

# A spec for each judge, with a question that it can work with.
CASES: dict[str, tuple[Any, Question]] = {
    "exact": ("exact", TEXT),
    "contains": ("contains", TEXT),
    "regex": ({"regex": r"(\w+\s?)+$"}, PLAIN),
    "numeric": ({"numeric": {"which": "any"}}, Question("?", ("3",))),
    "choice": ("choice", Question("?", ("B",))),
    "json_schema": ({"json_schema": {"schema": {"type": "object"}}}, PLAIN),
    "fields": ({"fields": {"extra": False}}, Question("?", ('{"a": 1, "b": [1, {"c": "x"}]}',))),
    "tool_calls": (
        "tool_calls",
        Question("?", metadata={"tool_calls": [{"name": "f", "arguments": {"a": 1}}]}),
    ),
    "f1": ("f1", TEXT),
    "bleu": ("bleu", TEXT),
    "chrf": ("chrf", TEXT),
    "rouge": ("rouge", TEXT),
    "similar": ({"similar": {"embedder": f"{FUNCTIONS}:embed"}}, TEXT),
    "refusal": ("refusal", PLAIN),
    "findings": ({"findings": ["secrets", "TOXICITY"]}, PLAIN),
    "perplexity": ({"perplexity": 20}, PLAIN),
    "latency": ({"latency": {"ttft_ms": 100}}, PLAIN),
    "cost": ({"cost": 0.1}, PLAIN),
    "groundedness": ("groundedness", Question("?", context=("zqr passage",))),
    "citations": ({"citations": {"styles": ["brackets", "parentheses"]}}, Question("?", context=("zqr",))),
    "python": ({"python": f"{FUNCTIONS}:is_short"}, PLAIN),
    "all": ({"all": ["exact", "f1"]}, TEXT),
    "any": ({"any": ["exact", "f1"]}, TEXT),
    "not": ({"not": "contains"}, TEXT),
    "panel": ({"panel": ["exact", "f1"]}, TEXT),
}
# What runs in sandboxes has a suite of its own, and so has what asks a model (test_llm_contract.py).
ELSEWHERE = {"code", *(name for name in JUDGES if getattr(kind_of(name), "asks", False))}
EXTRA = {"bleu": "sacrebleu", "chrf": "sacrebleu", "rouge": "rouge_score"}


def marks(name: str) -> list[pytest.MarkDecorator]:
    missing = name in EXTRA and find_spec(EXTRA[name]) is None
    return [pytest.mark.skip(f"{EXTRA[name]} is not installed")] if missing else []


EVERY = pytest.mark.parametrize("name", [pytest.param(name, marks=marks(name)) for name in sorted(CASES)])

HOSTILE = [
    "",
    " \n\t\u2028",
    "\0" * 100,
    "\ud800 half \udfff",
    "NaN",
    '{"a": NaN, "b": 1e999, "c": Infinity}',
    '{"a": ' + "9" * 10_000 + "}",
    "[" * 100_000,
    '{"a":' * 60_000 + "1" + "}" * 60_000,
    "```json\n" * 500,
    "1," * 60_000,
    "a" * MAX_ANSWER,
    "a b " * 50_000,
    "I cannot " * 20_000,
    "\u202e\u0000\u200b" * 1_000,
    "é́" * 10_000,
    "x" * 10_000_000,
]
RECORDS = [
    None,
    {},
    {"ttft_ms": None, "cost_usd": None, "findings": [], "scanned": []},
    {"ttft_ms": 20.0, "cost_usd": "0.2", "wasted_usd": "0", "findings": [], "scanned": ["output"]},
    {"ttft_ms": "soon", "cost_usd": "much", "cached": True},
    {
        "findings": [
            {"direction": "output", "kind": "TOXICITY", "action": "flag", "count": 3, "shadow": False}
        ]
    },
]
ANY_TEXT = st.text(st.characters(codec=None, categories=None), max_size=200)  # surrogates too
ANSWERS = st.builds(
    Answer,
    ANY_TEXT.map(lambda text: f"zqx{text}zqx"),
    st.lists(
        st.builds(ToolUse, ANY_TEXT, st.just("f") | ANY_TEXT, st.just('{"zqx": 1}') | ANY_TEXT), max_size=4
    ).map(tuple),
    st.sampled_from([None, "stop", "content_filter"]),
    st.just("") | ANY_TEXT.map(lambda text: f"zqx{text}"),
    st.none() | st.lists(st.floats(), max_size=5).map(tuple),
    st.just(()) | st.just((Message.of("assistant", "zqx"),)),
    st.sampled_from(RECORDS),
)


@pytest.fixture(scope="module")
def loop() -> Iterator[asyncio.Runner]:
    with asyncio.Runner() as runner:
        yield runner


def lawful(said: Any) -> None:
    assert isinstance(said, Score)
    assert said.value is None or (math.isfinite(said.value) and 0 <= said.value <= 1)
    assert (said.error is None) == (said.value is not None)
    assert said.error is None or (said.passed is None and said.error.isidentifier())
    assert said.reason
    assert len(said.reason) <= 1_000
    said.reason.encode()  # it can be stored


def test_every_registered_judge_is_held_to_the_contract() -> None:
    assert set(CASES) | ELSEWHERE == set(JUDGES), "add the new judge to CASES"
    assert set(JUDGES) >= HARMLESS


@EVERY
@pytest.mark.timeout(60)
@pytest.mark.parametrize("record", [RECORDS[0], RECORDS[3]])
def test_hostile_answers_get_a_score(name: str, record: Any, loop: asyncio.Runner) -> None:
    spec, question = CASES[name]
    made = judge(spec)
    for text in HOSTILE:
        uses = (ToolUse("", "f", text),) * 3
        lawful(loop.run(made(question, Answer(text, uses, "stop", text, (-0.5, math.nan), record=record))))


@EVERY
@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(answer=ANSWERS)
def test_judges_are_lawful_and_deterministic_and_never_quote(
    name: str, answer: Answer, loop: asyncio.Runner
) -> None:
    spec, question = CASES[name]
    made = judge(spec)
    said = loop.run(made(question, answer))
    lawful(said)
    assert loop.run(made(question, answer)) == said
    assert "zqx" not in said.reason
    assert "zqr" not in said.reason


@EVERY
def test_a_question_that_is_complained_about_gets_an_error_row(name: str, loop: asyncio.Runner) -> None:
    made = judge(CASES[name][0])
    for question in (Question(), Question("", ("",)), Question("", ("{",)), CASES[name][1]):
        complaint = made.check(question)
        assert complaint is None or complaint
        said = loop.run(made(question, Answer("x")))
        lawful(said)
        if complaint is not None and name != "not":
            assert said.error == "reference"
    assert made.check(CASES[name][1]) is None


@EVERY
def test_judges_take_a_name_and_survive_pickling(name: str, loop: asyncio.Runner) -> None:
    spec, question = CASES[name]
    made = judge(spec)
    again = pickle.loads(pickle.dumps(made))
    assert again == made
    assert repr(again) == repr(made)  # it is part of a row's key
    assert loop.run(again(question, Answer("x"))) == loop.run(made(question, Answer("x")))
    assert made.name


@EVERY
def test_what_a_golden_set_may_ask_for(name: str) -> None:
    from guardrails.errors import ConfigError

    spec = CASES[name][0]
    if name in HARMLESS:
        assert judge(spec, trusted=False) == judge(spec)
        return
    for inside in (spec, {"not": spec}, {"all": ["exact", spec]}):
        with pytest.raises(ConfigError, match="runs code or calls somebody"):
            judge(inside, trusted=False)
