"""json_schema: JSON that fits passes; nothing is fetched, and no pattern in a schema can stall a run."""

from __future__ import annotations

import asyncio
import json
import pickle
import socket
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from guardrails.errors import ConfigError
from judges.judge import Answer, Question, Score
from judges.registry import judge

PERSON = {
    "type": "object",
    "properties": {"name": {"type": "string", "pattern": "^[A-Z]"}, "age": {"type": "integer", "minimum": 0}},
    "required": ["name"],
    "additionalProperties": False,
}
JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**53), 2**53)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=3), inner, max_size=4),
    max_leaves=10,
)


def score(schema: dict[str, Any], answer: str, **options: Any) -> Score:
    return asyncio.run(judge({"json_schema": {"schema": schema, **options}})(Question(), Answer(answer)))


@pytest.mark.parametrize(
    ("answer", "passed"),
    [
        ('{"name": "Ada", "age": 36}', True),
        ('```json\n{"name": "Ada"}\n```', True),
        ('Here you are:\n\n```\n{"name": "Ada"}\n```\nAnything else?', True),
        ("~~~json\r\n{}\r\n~~~", False),
        ('{"age": 36}', False),
        ('{"name": "ada"}', False),
        ('{"name": "Ada", "age": -1}', False),
        ('{"name": "Ada", "ssn": "1"}', False),
        ("Ada", False),
        ('{"name": "Ada"} and more', False),
        ('{"name": "Ada", "age": NaN}', False),
        ("", False),
    ],
)
def test_person(answer: str, passed: bool) -> None:
    assert score(PERSON, answer).passed is passed


def test_fences_count_only_where_they_are_wanted() -> None:
    assert score(PERSON, '```\n{"name": "Ada"}\n```', fence=False).passed is False


def test_reasons_name_the_rule_and_not_the_answer() -> None:
    said = score(PERSON, '{"name": "zqx", "zqy": 1}').reason
    assert said == "2 rules of the schema broken, first properties/name/pattern"
    assert score(PERSON, '{"name":\n zqx}').reason == "not JSON (line 2, column 2)"


def test_what_is_too_deep_fails() -> None:
    assert score({}, "[" * 64 + "]" * 64).passed
    assert score({}, "[" * 65 + "]" * 65).reason == "nested deeper than 64 levels"
    assert score({}, "[" * 90_000).passed is False


@pytest.mark.parametrize(
    ("schema", "said"),
    [
        ({"type": "text"}, "wrong at type"),
        ({"properties": 3}, "wrong at properties"),
        ({"$ref": "http://example.org/schema.json"}, "nothing is fetched"),
        ({"$ref": "file:///etc/passwd"}, "nothing is fetched"),
        ({"properties": {"a": {"$ref": "other.json#/a"}}}, "nothing is fetched"),
        ({"$ref": "#/$defs/missing"}, "does not define"),
        ({"$ref": "#"}, "without end"),
        ({"pattern": "(?=a)"}, "look-ahead"),
        ({"patternProperties": {r"(a)\1": {}}}, "back-reference"),
        ({"patternProperties": {"a": {}}, "unevaluatedProperties": False}, "not supported"),
    ],
)
def test_a_bad_schema_is_refused_at_load(
    schema: dict[str, Any], said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_network(*_: object) -> None:
        raise AssertionError("a schema reached for the network")

    monkeypatch.setattr(socket, "getaddrinfo", no_network)
    with pytest.raises(ConfigError) as refused:
        judge({"json_schema": {"schema": schema}})
    assert said in str(refused.value)


def test_a_deep_schema_is_refused() -> None:
    schema: dict[str, Any] = {}
    for _ in range(100):
        schema = {"items": schema}
    with pytest.raises(ConfigError, match="deeper than 64"):
        judge({"json_schema": {"schema": schema}})


def test_references_within_the_schema_work() -> None:
    tree = {"$defs": {"node": {"type": "array", "items": {"$ref": "#/$defs/node"}}}, "$ref": "#/$defs/node"}
    assert score(tree, "[" * 60 + "]" * 60).passed
    assert score(tree, "[[1]]").passed is False


def test_data_in_a_schema_is_not_read_as_rules() -> None:
    schema = {"enum": [{"$ref": "http://example.org", "pattern": "(?=a)"}, {"a": 1}]}
    assert score(schema, '{"a": 1}').passed


def test_properties_may_be_called_like_keywords() -> None:
    schema = {"properties": {"pattern": {"type": "string"}, "$ref": {"type": "string"}}}
    assert score(schema, '{"pattern": "x", "$ref": "y"}').passed
    assert score(schema, '{"pattern": 1}').passed is False


def test_patterned_and_additional_properties() -> None:
    schema = {"properties": {"id": {}}, "patternProperties": {"^x-": {"type": "integer"}},
              "additionalProperties": {"type": "string"}}  # fmt: skip
    assert score(schema, '{"id": null, "x-a": 1, "other": "s"}').passed
    assert score(schema, '{"x-a": "s"}').passed is False
    assert score(schema, '{"other": 1}').passed is False


@pytest.mark.timeout(20)
def test_a_schema_cannot_stall_a_run() -> None:
    slow = "(a+)+$"
    text = "a" * 50_000 + "!"
    assert score({"pattern": slow}, json.dumps(text)).passed is False
    assert score({"patternProperties": {slow: False}}, json.dumps({text: 1})).passed
    many = json.dumps([{"k": i} for i in range(15_000)])
    assert score({"uniqueItems": True}, many).passed


@pytest.mark.parametrize(
    ("items", "unique"),
    [
        ([1, 1.0], False),
        ([1, True], True),
        ([{"a": 1}, {"a": 1.0}], False),
        ([[1], [True]], True),
        ([0, False, None, ""], True),
    ],
)
def test_unique_items_as_the_standard_has_it(items: list[Any], unique: bool) -> None:
    assert score({"uniqueItems": True}, json.dumps(items)).passed is unique


@given(value=JSON)
def test_every_json_value_fits_the_schema_of_itself(value: Any) -> None:
    assert score({"const": value}, json.dumps(value)).passed
    assert score({"not": {}}, json.dumps(value)).passed is False


def nested(depth: int) -> str:
    return '{"a": ' * depth + "1" + "}" * depth


@pytest.mark.timeout(30)
def test_a_schema_that_branches_into_itself_is_an_error_row_and_not_a_stall() -> None:
    branch = {"type": "object", "properties": {"a": {"$ref": "#"}}, "required": ["a"]}
    schema = {"anyOf": [branch, dict(branch), {"type": "string"}]}
    assert score(schema, nested(3)).passed is False
    assert score(schema, nested(60)).error == "schema"


def test_endless_reference_that_only_some_answers_reach_is_an_error_row() -> None:
    schema = {"properties": {"a": {"$ref": "#/properties/a"}}}
    assert score(schema, "{}").passed
    assert score(schema, '{"a": 1}').error == "schema"


def test_a_schema_judge_survives_pickling() -> None:
    made = judge({"json_schema": {"schema": PERSON, "fence": False, "name": "person"}})
    again = pickle.loads(pickle.dumps(made))
    assert again == made
    assert again.name == "person"
