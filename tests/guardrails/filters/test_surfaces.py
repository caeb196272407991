from __future__ import annotations

import json
import re
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from guardrails.call import (
    Image,
    Message,
    OpaquePart,
    Reasoning,
    Request,
    Sampling,
    Text,
    Tool,
    ToolResult,
    ToolUse,
)
from guardrails.filters import Finding
from guardrails.filters.detector import UNSCANNABLE, apply, named
from guardrails.filters.surfaces import json_edits, rewrite, unscanned

_SECRET = re.compile(r"\b\w+@acme|\b\d{6}\b")


def look(text: str) -> list[Finding]:
    return [Finding("SECRET", m.start(), m.end(), 1.0, "t") for m in _SECRET.finditer(text)]


def clean(text: str) -> str:
    return apply(text, json_edits(text, look, named)[0])


def test_each_value_is_read_as_it_will_be_read() -> None:
    assert clean(r'{"to": "jo\u0040acme"}') == '{"to": "<SECRET>"}'
    assert clean(r'{"to":"Hi,\njo@acme"}') == r'{"to":"Hi,\n<SECRET>"}'
    assert clean('{"n": 123456, "m": -1.5e3}') == '{"n": "<SECRET>", "m": -1.5e3}'
    assert clean('{"jo@acme": [1, true, null]}') == '{"<SECRET>": [1, true, null]}'


def test_without_a_finding_every_character_stays() -> None:
    text = '{ "a" :\t[1.10, "\\u00e9\\/", 1E5] }'
    assert clean(text) == text
    assert json_edits(text, look, named) == ([], [])


def test_a_key_lends_its_value_context_but_no_finding_spans_two_values() -> None:
    seen: list[str] = []

    def keep(text: str) -> list[Finding]:
        seen.append(text)
        return []

    json_edits('{"ssn": ["123", 456]}', keep, named)
    assert seen == ["ssn ; 123 ; 456"]


def test_a_finding_over_two_values_is_cut_out_of_both_and_named_once() -> None:
    text = '["12", "34", "56"]'
    found = [Finding("PAIR", 0, 7, 1.0, "t")]
    edits, _ = json_edits(text, lambda _: found, named)
    assert json.loads(apply(text, edits)) == ["<PAIR>", "", "56"]


def test_what_is_not_json_is_text_and_escapes_in_it_fail_closed() -> None:
    assert clean('{"to": "jo@acme", "x') == '{"to": "<SECRET>", "x'
    assert clean(r'{"to": "jo\u0040acme", "x') == f'"<{UNSCANNABLE}>"'
    assert clean("[" * 100_000) == "[" * 100_000
    assert clean("") == ""


values: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text() | st.just("mail jo@acme now") | st.just(123456),
    lambda inner: (
        st.lists(inner, max_size=4) | st.dictionaries(st.text() | st.just("x@acme"), inner, max_size=4)
    ),
    max_leaves=12,
)


@given(values, st.booleans(), st.sampled_from([None, 1]))
def test_json_stays_json_and_holds_no_finding(value: Any, ascii_only: bool, indent: int | None) -> None:
    after = clean(json.dumps(value, ensure_ascii=ascii_only, indent=indent))

    def check(node: Any) -> None:
        match node:
            case dict():
                for key, inner in node.items():
                    check(key)
                    check(inner)
            case list():
                for inner in node:
                    check(inner)
            case str() | int():
                assert not look(str(node))

    check(json.loads(after))


FULL = Request(
    (
        Message.of("system", "sys jo@acme"),
        Message("user", (Text("usr jo@acme"), Image("https://jo@acme"), OpaquePart({"x": "jo@acme"}))),
        Message("assistant", (Reasoning("why jo@acme"), ToolUse("1", "f", '{"a": "jo@acme"}'))),
        Message("tool", (ToolResult("1", (Text("res jo@acme"), Image("u"))),)),
    ),
    tools=(Tool("f", "about jo@acme", {"type": "object"}), Tool("g")),
    sampling=Sampling(stop=("jo@acme",)),
    extra={"user": "jo@acme"},
)


def test_every_text_of_a_request_is_rewritten() -> None:
    seen: list[str] = []

    def edit(text: str, role: str = "") -> str:
        seen.append(f"{role}: {text}")
        return _SECRET.sub("X", text)

    after = rewrite(FULL, edit, edit)
    assert seen == [
        "system: sys jo@acme",
        "user: usr jo@acme",
        "assistant: why jo@acme",
        ': {"a": "jo@acme"}',
        "tool: res jo@acme",
        "system: about jo@acme",
        "system: jo@acme",
    ]
    assert after.messages[0].text == "sys X"
    assert after.messages[1].parts == (Text("usr X"), *FULL.messages[1].parts[1:])
    assert after.messages[2].parts == (Reasoning("why X"), ToolUse("1", "f", '{"a": "X"}'))
    assert after.messages[3].parts == (ToolResult("1", (Text("res X"), Image("u"))),)
    assert after.tools == (Tool("f", "about X", {"type": "object"}), Tool("g"))
    assert after.sampling.stop == ("X",)


def test_what_does_not_change_stays_the_same_object() -> None:
    assert rewrite(FULL, lambda text, _: text, str) is FULL
    after = rewrite(FULL, lambda text, _: text.replace("usr", "u"), str)
    assert after.messages[0] is FULL.messages[0]
    assert after.messages[1].parts[1] is FULL.messages[1].parts[1]


def test_what_nobody_looks_at_has_a_name() -> None:
    assert unscanned(FULL) == ["image", "opaque", "extra", "tool_parameters"]
    assert unscanned(Request.of("hello")) == []
    inside = Message("tool", (ToolResult("1", (OpaquePart({}),), extra={"k": 1}),))
    assert unscanned(Request((inside,))) == ["opaque", "extra"]


def test_reasoning_that_its_vendor_signed_is_left_out_when_it_changes() -> None:
    signed = Reasoning("why jo@acme", {"signature": "c2lnbmVk"})
    kept = Reasoning("no address", {"signature": "c2lnbmVk"})
    request = Request(
        (
            Message.of("user", "hello"),
            Message("assistant", (signed, kept, Text("hi"))),
            Message("assistant", (signed,)),
            Message.of("user", "go on"),
        )
    )
    after = rewrite(request, lambda text, _: text.replace("jo@acme", "X"), lambda text: text)
    assert [message.parts for message in after.messages] == [
        (Text("hello"),),
        (kept, Text("hi")),
        (Text("go on"),),
    ]
