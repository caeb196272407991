"""fields: JSON answers, field by field."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from guardrails.errors import ConfigError
from judges.judge import Answer, Question, Score
from judges.registry import judge
from judges.values import Unreadable, leaves, read, same

JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=3), inner, max_size=4),
    max_leaves=10,
)


def score(wanted: Any, answer: Any, **options: Any) -> Score:
    text = answer if isinstance(answer, str) else json.dumps(answer)
    return asyncio.run(judge({"fields": options})(Question("?", metadata={"fields": wanted}), Answer(text)))


@pytest.mark.parametrize(
    ("wanted", "given", "options", "value"),
    [
        ({"a": 1, "b": "x"}, {"b": "x", "a": 1}, {}, 1.0),
        ({"a": 1, "b": "x"}, {"a": 1}, {}, 0.5),
        ({"a": 1}, {"a": "1"}, {}, 0.0),
        ({"a": 1}, {"a": "1"}, {"default": "number"}, 1.0),
        ({"a": 1}, {"a": True}, {}, 0.0),
        ({"a": 1}, {"a": 1.0}, {}, 1.0),
        ({"a": [1, 2]}, {"a": [1, 3]}, {}, 0.5),
        ({"a": []}, {"a": {}}, {}, 0.0),
        ({"a": {}}, {"a": {"b": 1}}, {}, 1.0),
        ({"a": {}}, {"a": {"b": 1}}, {"extra": False}, 0.0),
        ({"a": {}}, {"a": {"b": {"c": []}, "d": 1}, "e": 2}, {}, 1.0),
        ({"a": {}}, {"a": [1]}, {}, 0.0),
        ({"a": {}}, {"b": 1}, {}, 0.0),
        ({}, {"b": 1}, {}, 0.0),
        ({"a": []}, {"a": [1]}, {}, 0.0),
        ({"a": 2}, '{"a": 1, "a": 2}', {}, 1.0),
        ({"a": 1}, '{"a": 1, "a": 2}', {}, 0.0),
        ({"a": 1}, {"a": 1, "b": 2}, {}, 1.0),
        ({"a": 1}, {"a": 1, "b": 2}, {"extra": False}, 0.5),
        ({"a": 1}, {"a": 1, "b": 2}, {"extra": False, "rules": {"b": "ignore"}}, 1.0),
        ({"t": 9.99}, {"t": 10.0}, {"rules": {"t": {"number": {"tolerance": 0.01}}}}, 1.0),
        ({"t": 9.99}, {"t": 10.001}, {"rules": {"t": {"number": {"tolerance": 0.01}}}}, 0.0),
        ({"t": 100}, {"t": "$105"}, {"rules": {"t": {"number": {"relative": 0.05}}}}, 1.0),
        ({"t": None}, {"t": None}, {"default": "number"}, 1.0),
        ({"n": "Ada"}, {"n": " ADA"}, {"rules": {"n": "casefold"}}, 1.0),
        ({"n": "Ada"}, {"n": "Ada Lovelace"}, {"rules": {"n": "contains"}}, 1.0),
        ({"n": 1}, {"n": 2}, {"rules": {"n": "contains"}}, 0.0),
        ({"n": ""}, {"n": "zzz"}, {"rules": {"n": "contains"}}, 0.0),
        ({"n": " "}, {"n": ""}, {"rules": {"n": "contains"}}, 1.0),
        ({"i": [{"p": 1, "n": "x"}, {"p": 2, "n": "y"}]}, {"i": [{"p": 1, "n": "X"}, {"p": 2, "n": "Y"}]},
         {"rules": {"i.*.n": "casefold"}}, 1.0),
        ({"a": {"b": 1, "c": 2}}, {"a": {"b": 9, "c": 2}}, {"rules": {"a": "ignore", "a.c": "exact"}}, 1.0),
        (3, "3", {}, 1.0),
        ({"a": 1}, '```json\n{"a": 1}\n```', {}, 1.0),
        ({"a": 1}, '```json\n{"a": 1}\n```', {"fence": False}, 0.0),
        ({"a": 1}, "[" * 100, {}, 0.0),
        ({"a": 1}, '{"a": NaN}', {}, 0.0),
        ({"a": 2**70}, {"a": 2**70 + 1}, {}, 0.0),
    ],
)  # fmt: skip
def test_fields(wanted: Any, given: Any, options: dict[str, Any], value: float) -> None:
    said = score(wanted, given, **options)
    assert said.value == value
    assert said.passed is (value == 1)


def test_the_reason_names_fields_that_were_expected_and_no_values() -> None:
    wanted = {"total": 3, "items": [{"name": "zqr"}], "jane@example.org": 1, "x": 0}
    said = score(wanted, {"total": "zqx"}).reason
    assert said == "0 of 4 fields right; wrong or missing: total, items.0.name, a field and 1 more"
    assert score({"a": 1}, {"a": 1, "zqx": 1}, extra=False).reason == "1 of 1 fields right; 1 not expected"
    assert score({"a": 1}, '{"a":\n zqx}').reason == "not JSON (line 2, column 2)"


def test_partial_credit_passes_by_the_threshold() -> None:
    assert score({"a": 1, "b": 2}, {"a": 1}, threshold=0.5).passed


def test_references_are_alternatives() -> None:
    question = Question("?", ('{"a": 1}', '{"a": 2, "b": 3}'))
    assert asyncio.run(judge("fields")(question, Answer('{"b": 3, "a": 2}'))).passed


@pytest.mark.parametrize(
    ("question", "said"),
    [
        (Question(), "nothing is expected"),
        (Question("", ("Ada",)), "reference 1: not JSON"),
        (Question("", metadata={"fields": json.loads("[" * 70 + "]" * 70)}), "deeper"),
        (Question("", metadata={"fields": {"id": 3}}), "ignored"),
    ],
)
def test_a_question_without_fields_is_complained_about(question: Question, said: str) -> None:
    complaint = judge({"fields": {"rules": {"id": "ignore"}}}).check(question)
    assert complaint is not None
    assert said in complaint


@pytest.mark.parametrize("options", [{"rules": {"a.b": "nearly"}}, {"default": "nearly"}, {"threshold": -1}])
def test_bad_options_are_refused(options: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match="fields"):
        judge({"fields": options})


@pytest.mark.parametrize("path", ["a[*].n", "a[0]", "$.a", "$['a']", "$..a", "a..b", ".a", ""])
def test_paths_that_are_written_as_elsewhere_are_refused(path: str) -> None:
    with pytest.raises(ConfigError, match=r"dots between them.*items\.\*\.price"):
        judge({"fields": {"rules": {path: "casefold"}}})
    with pytest.raises(ConfigError, match="dots between them"):
        judge({"tool_calls": {"ignore": [path]}})
    judge({"fields": {"rules": {"a.0.n": "exact", "*.n": "exact", "price[usd]": "exact", "$ref": "exact"}}})


@pytest.mark.parametrize(
    ("path", "wanted"), [("tags[]", {"tags[]": 1}), ("$", {"$": 1}), ("packages.", {"packages": {"": 1}})]
)
def test_keys_that_look_like_other_paths_may_be_named(path: str, wanted: Any) -> None:
    rules = {path: {"near": {"tolerance": 1}}}
    given = json.dumps(wanted).replace("1", "2")
    assert score(wanted, given, rules=rules).passed
    judge({"fields": {"rules": {"Mr.": "exact"}}})


@given(value=JSON)
def test_every_value_is_right_for_itself_and_leaves_are_all_of_it(value: Any) -> None:
    assert score(value, json.dumps(value), extra=False).passed
    assert all(not isinstance(leaf, dict | list) or not leaf for leaf in leaves(value).values())


@given(left=JSON, right=JSON)
def test_leaves_are_equal_where_values_are(left: Any, right: Any) -> None:
    one, other = leaves(left), leaves(right)
    equal = one.keys() == other.keys() and all(same(one[path], other[path]) for path in one)
    assert equal == (_typed(left) == _typed(right))


def _typed(value: Any) -> Any:
    """A value in which Python's `==` is JSON's."""
    if isinstance(value, dict):
        return {key: _typed(inner) for key, inner in value.items()}
    if isinstance(value, list):
        return [_typed(inner) for inner in value]
    return ("bool", value) if isinstance(value, bool) else value


def test_a_value_of_too_many_leaves_is_refused() -> None:
    with pytest.raises(Unreadable, match="more than 100,000"):
        leaves([0] * 100_001)
    with pytest.raises(Unreadable, match="number"):
        read("1e999")


def test_an_integer_that_no_float_holds_is_compared_all_the_same() -> None:
    huge = 10**400
    rule = {"default": {"number": {"tolerance": 0.1}}}
    assert score({"t": 1}, {"t": huge}, **rule).value == 0.0
    assert score({"t": huge}, {"t": huge}, **rule).value == 1.0
