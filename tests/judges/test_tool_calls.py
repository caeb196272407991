"""tool_calls: which calls match, in which order, and how much of it is right."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from guardrails.call import Message, Text, ToolUse
from guardrails.errors import ConfigError
from judges.judge import Answer, Question, Score
from judges.registry import judge
from judges.tools import longest_in_order, most_pairs

Made = list[tuple[str, Any]]


def uses(made: Made) -> tuple[ToolUse, ...]:
    texts = [(name, given if isinstance(given, str) else json.dumps(given)) for name, given in made]
    return tuple(ToolUse(str(number), name, text) for number, (name, text) in enumerate(texts))


def score(wanted: Made, made: Made, **options: Any) -> Score:
    calls = [
        {"name": name} if given is None else {"name": name, "arguments": given} for name, given in wanted
    ]
    question = Question("?", metadata={"tool_calls": calls})
    return asyncio.run(judge({"tool_calls": options})(question, Answer("", uses(made))))


A, B, C = ("a", {}), ("b", {}), ("c", {})


@pytest.mark.parametrize(
    ("order", "wanted", "made", "value"),
    [
        ("exact", [A, B], [A, B], 1.0),
        ("exact", [A, B], [B, A], 0.5),
        ("exact", [A, B], [A, C, B], 2 / 3),
        ("exact", [A, B], [A], 0.5),
        ("exact", [A], [], 0.0),
        ("exact", [], [], 1.0),
        ("exact", [], [A], 0.0),
        ("in_order", [A, B], [C, A, C, B], 1.0),
        ("in_order", [A, B], [B, A], 0.5),
        ("any_order", [A, B], [C, B, A], 1.0),
        ("any_order", [A, A], [A, B], 0.5),
        ("in_order", [], [A], 0.0),
        ("any_order", [], [A], 0.0),
        ("any_order", [], [], 1.0),
        ("subset", [], [A], 0.0),
        ("subset", [A, B], [B], 1.0),
        ("subset", [A, B], [], 1.0),
        ("subset", [A, B], [B, C], 0.5),
        ("subset", [A], [A, A], 0.5),
    ],
)
def test_orders(order: str, wanted: Made, made: Made, value: float) -> None:
    said = score(wanted, made, order=order)
    assert said.value == pytest.approx(value)
    assert said.passed is (value == 1)


def test_extra_calls_can_be_wrong_everywhere() -> None:
    assert score([A, B], [C, B, A], order="any_order", extra=False).value == pytest.approx(2 / 3)
    assert score([A, B], [A, C, B], order="in_order", extra=False).passed is False


@pytest.mark.parametrize(
    ("wanted", "made", "options", "passed"),
    [
        ({"x": 1}, {"x": 1}, {}, True),
        ({"x": 1}, {"x": 1.0}, {}, True),
        ({"x": 1}, {"x": True}, {}, False),
        ({"x": "Bern"}, {"x": "bern"}, {}, False),
        ({"x": "Bern"}, {"x": "bern "}, {"rules": {"x": "casefold"}}, True),
        ({"x": 1}, {"x": 1, "y": 2}, {}, False),
        ({"x": 1}, {"x": 1, "y": 2}, {"arguments": "subset"}, True),
        ({"x": 1, "y": 2}, {"x": 1}, {"arguments": "subset"}, False),
        ({"x": 1}, {"x": 2}, {"arguments": "any"}, True),
        ({"x": 1}, "no JSON", {"arguments": "any"}, True),
        ({"x": 1}, "no JSON", {}, False),
        ({"x": 1}, "[1]", {}, False),
        ({}, "", {}, True),
        ({}, {"x": 1}, {}, False),
        ({}, {"x": 1}, {"arguments": "subset"}, True),
        ({"q": {}}, {"q": {"a": 1}}, {"arguments": "subset"}, True),
        ({"q": {}}, {"q": {"a": 1}}, {}, False),
        (None, {"x": 1}, {}, True),
        (None, "no JSON", {}, True),
        ({"x": 10.0}, {"x": 10.05}, {"tolerance": 0.05}, True),
        ({"x": 10.0}, {"x": 10.06}, {"tolerance": 0.05}, False),
        ({"x": 100}, {"x": 109}, {"relative": 0.1}, True),
        ({"x": 100}, {"x": "100"}, {"relative": 0.1}, False),
        ({"x": 100}, {"x": "100"}, {"rules": {"x": "number"}}, True),
        ({"x": 1, "id": "a"}, {"x": 1, "id": "b"}, {"ignore": ["id"]}, True),
        ({"x": 1}, {"x": 1, "id": "b"}, {"ignore": ["id"]}, True),
        ({"q": {"a": [1, {"b": 2}]}}, {"q": {"a": [1, {"b": 3}]}}, {"ignore": ["q.a.*.b"]}, True),
        ({"q": {"a": [1, 2]}}, {"q": {"a": [2, 1]}}, {}, False),
    ],
)
def test_arguments(wanted: Any, made: Any, options: dict[str, Any], passed: bool) -> None:
    assert score([("f", wanted)], [("f", made)], **options).passed is passed


def test_calls_are_paired_so_that_most_of_them_match() -> None:
    wanted: Made = [("f", None), ("f", {"x": 1})]
    assert score(wanted, [("f", {"x": 1}), ("f", {"x": 2})], order="any_order").passed


def test_partial_credit_passes_by_the_threshold() -> None:
    said = score([A, B, C], [A, B], threshold=0.6)
    assert said.passed
    assert said.reason == "2 of 3 expected calls made in their order"
    assert score([A, B], [A, C]).reason == "1 of 2 expected calls made in their order; 1 made that match none"


def test_references_are_alternatives() -> None:
    question = Question("?", ('[{"name": "a"}]', '[{"name": "b"}]'))
    made = judge("tool_calls")
    assert made.check(question) is None
    assert asyncio.run(made(question, Answer("", uses([B])))).passed


def test_of_a_conversation_all_calls_count() -> None:
    first = Message("assistant", (ToolUse("1", "a", "{}"),))
    turns = (Message.of("user", "?"), first, Message("assistant", (Text("then"), ToolUse("2", "b", "{}"))))
    question = Question("?", metadata={"tool_calls": [{"name": "a"}, {"name": "b"}]})
    assert asyncio.run(judge("tool_calls")(question, Answer("", uses([B]), turns=turns))).passed


@pytest.mark.parametrize(
    ("question", "said"),
    [
        (Question(), "nothing is expected"),
        (Question("", ("[",)), "not JSON"),
        (Question("", ("{}",)), "list"),
        (Question("", metadata={"tool_calls": [3]}), "tool_calls[0] must be a call"),
        (Question("", metadata={"tool_calls": [{"name": ""}]}), "must be a call"),
        (Question("", metadata={"tool_calls": [{"name": "f", "args": {}}]}), "neither name nor arguments"),
        (Question("", metadata={"tool_calls": [{"name": "f", "arguments": "{}"}]}), "must be an object"),
        (Question("", metadata={"tool_calls": [{"name": "f"}] * 51}), "at most 50"),
    ],
)
def test_a_question_without_calls_is_complained_about(question: Question, said: str) -> None:
    complaint = judge("tool_calls").check(question)
    assert complaint is not None
    assert said in complaint


@pytest.mark.parametrize(
    "options",
    [
        {"order": "strict"},
        {"threshold": 2},
        {"tolerance": -1},
        {"rules": {"x": "nearly"}},
        {"rules": {"x": {"number": {"tolerance": "much"}}}},
        {"rules": {"x": {"number": 3}}},
    ],
)
def test_bad_options_are_refused(options: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match="tool_calls"):
        judge({"tool_calls": options})


def test_too_many_calls_are_not_judged() -> None:
    assert score([A], [A] * 51).error == "too_long"
    assert score([A], [("a", " " * 200_001)]).error == "too_long"


GRID = st.lists(st.lists(st.booleans(), min_size=3, max_size=3), max_size=4)


@given(fits=GRID)
def test_pairs_are_as_many_as_trying_all_gives(fits: list[list[bool]]) -> None:
    def best(row: int, free: frozenset[int]) -> int:
        if row == len(fits):
            return 0
        with_it = [1 + best(row + 1, free - {column}) for column in free if fits[row][column]]
        return max([best(row + 1, free), *with_it])

    def in_order(row: int, after: int) -> int:
        if row == len(fits):
            return 0
        later = [1 + in_order(row + 1, column + 1) for column in range(after, 3) if fits[row][column]]
        return max([in_order(row + 1, after), *later])

    assert most_pairs(fits) == best(0, frozenset(range(3)))
    assert longest_in_order(fits) == in_order(0, 0)


CALLS = st.lists(
    st.tuples(st.sampled_from("ab"), st.dictionaries(st.sampled_from("xy"), st.integers(0, 1))), max_size=4
)


@given(wanted=CALLS, made=CALLS)
def test_stricter_orders_pass_less(wanted: Made, made: Made) -> None:
    passed = {order: score(wanted, made, order=order).passed for order in ("exact", "in_order", "any_order")}
    assert passed["in_order"] or not passed["exact"]
    assert passed["any_order"] or not passed["in_order"]
    assert score(wanted, wanted).passed
