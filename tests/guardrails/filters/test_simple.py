from __future__ import annotations

import pickle
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from guardrails.errors import ConfigError
from guardrails.filters import Detector, Finding, redact
from guardrails.filters.allowed import Allowed, UrlAllow
from guardrails.filters.simple import Denied, Function, Invisible, JsonSchema, MaxLength
from guardrails.schema import TooManySteps


def found(detector: Detector, text: str) -> list[tuple[str, str]]:
    return [(f.kind, text[f.start : f.end]) for f in detector.detect(text)]


# --- Invisible ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("plain\ttext\r\n", []),
        ("héllo wörld 漢字", []),
        ("hid\U000e0069\U000e0067den", [("TAG_CHARACTERS", "\U000e0069\U000e0067")]),
        ("a\u202eb\u202c", [("BIDI_CONTROL", "\u202e"), ("BIDI_CONTROL", "\u202c")]),
        ("in\u200bvi\u2060sible", [("INVISIBLE_CHARACTER", "\u200b"), ("INVISIBLE_CHARACTER", "\u2060")]),
        ("nul\x00", [("INVISIBLE_CHARACTER", "\x00")]),
        ("\ufe0f", [("INVISIBLE_CHARACTER", "\ufe0f")]),
        ("x\ufe00\ufe01", [("INVISIBLE_CHARACTER", "\ufe01")]),
        ("family 👨\u200d👩\u200d👧, heart ❤\ufe0f", []),
        ("Wales 🏴\U000e0067\U000e0062\U000e0077\U000e006c\U000e0073\U000e007f", []),
        ("葛\U000e0100", []),
        ("葛\U000e0100\U000e0101", [("INVISIBLE_CHARACTER", "\U000e0101")]),
        ("می\u200cخواهم", []),
        ("lat\u200cin", [("INVISIBLE_CHARACTER", "\u200c")]),
        ("שלום\u200f!", []),
    ],
)  # fmt: skip
def test_invisible(text: str, expected: list[tuple[str, str]]) -> None:
    assert found(Invisible(), text) == expected


@given(
    st.text(
        st.sampled_from("a é漢م👨🏴❤\u200b\u200c\u200d\u200f\u202e\ufe0f\ufe00\U000e0061\U000e007f"),
        max_size=30,
    )
)
def test_redacted_text_has_nothing_invisible(text: str) -> None:
    gone = redact(text, Invisible().detect(text), lambda finding: "")
    assert all(f.kind == "INVISIBLE_CHARACTER" for f in Invisible().detect(gone)) or not Invisible().detect(
        text
    )


# --- Denied -------------------------------------------------------------------------------------------------


def test_denied_strings_are_found_in_any_case_with_any_spaces() -> None:
    denied = Denied(("Project Titan", "acme", "straße", "漢字"))
    text = "ACME, PROJECT \n titan; acmeology; die STRAẞE nach 漢字城"
    assert found(denied, text) == [
        ("DENIED", "ACME"),
        ("DENIED", "PROJECT \n titan"),
        ("DENIED", "STRAẞE"),
        ("DENIED", "漢字"),
    ]


def test_denied_words_side_by_side_and_the_longest_of_two() -> None:
    assert found(Denied(("new", "new york")), "new new york new yorker") == [
        ("DENIED", "new"),
        ("DENIED", "new york"),
        ("DENIED", "new"),
    ]
    assert found(Denied(("bad",), whole_words=False), "badbadger") == [("DENIED", "bad"), ("DENIED", "bad")]


def test_thousands_of_denied_strings_are_one_pattern() -> None:
    denied = Denied(tuple(f"word{number}x" for number in range(5000)), kind="LISTED")
    text = "word1x word4999x word5000x sword1x " * 3
    assert found(denied, text) == [("LISTED", "word1x"), ("LISTED", "word4999x")] * 3


@given(
    st.lists(st.sampled_from(["bad", "word", "Bad Word", " ", "é", "\n", "x", "漢"]), max_size=30).map(
        "".join
    )
)
def test_what_is_denied_is_gone_after_redaction(text: str) -> None:
    denied = Denied(("bad", "bad word"), whole_words=False)
    gone = redact(text, denied.detect(text))
    assert denied.detect(gone) == []
    assert "bad" not in gone.lower()


@pytest.mark.parametrize("strings", [(), ("",), ("fine", "  ")])
def test_nothing_to_deny_is_a_mistake(strings: tuple[str, ...]) -> None:
    with pytest.raises(ConfigError, match="empty"):
        Denied(strings)


def test_the_reach_covers_the_longest_string() -> None:
    denied = Denied(("a b c",))
    text = "a    b    c"
    assert [(f.start, f.end) for f in denied.detect(text)] == [(0, len(text))]
    assert denied.reach >= len(text) - len("a ")


# --- Allowed ------------------------------------------------------------------------------------------------


def test_a_text_about_nothing_allowed_is_off_topic() -> None:
    allowed = Allowed(topics=(r"\binvoices?\b", "refund"))
    assert found(allowed, "Where is my INVOICE?") == []
    assert found(allowed, "Write a poem.") == [("OFF_TOPIC", "Write a poem.")]
    assert found(allowed, "") == []


def test_other_scripts_are_found_by_stretches() -> None:
    allowed = Allowed(scripts=("Latin",), share=0.8)
    assert found(allowed, "Mostly English with one да in it.") == []
    assert found(allowed, "Yes: это, по-русски! Yes 中文。") == [
        ("OTHER_SCRIPT", "это, по-русски"),
        ("OTHER_SCRIPT", "中文"),
    ]
    assert found(allowed, "1234 !") == []
    assert found(Allowed(scripts=("Han", "Hiragana", "Katakana")), "漢字とカタカナ") == []


@pytest.mark.parametrize(
    ("make", "match"),
    [
        (Allowed, "neither"),
        (lambda: Allowed(scripts=("Klingon",)), "Klingon"),
        (lambda: Allowed(scripts=("Latin}|.{1",)), "no Unicode script"),
        (lambda: Allowed(topics=("(?=x)",)), "look-ahead"),
        (lambda: Allowed(topics=("x",), share=0), "share"),
        (MaxLength, "at least 1"),
        (lambda: MaxLength(characters=0), "at least 1"),
        (lambda: UrlAllow(("https://example.org",)), "no host"),
        (lambda: UrlAllow(("*.",)), "no host"),
        (lambda: JsonSchema({"type": "nothing"}), "wrong"),
    ],
)
def test_mistakes_in_settings_are_named(make: Callable[[], object], match: str) -> None:
    with pytest.raises(ConfigError, match=match):
        make()


# --- MaxLength ----------------------------------------------------------------------------------------------


def test_what_is_beyond_the_length_is_found() -> None:
    assert found(MaxLength(characters=5), "12345") == []
    assert found(MaxLength(characters=5), "1234567") == [("TOO_LONG", "67")]


@given(st.text(max_size=300), st.integers(1, 40))
def test_what_is_within_the_tokens_fits_and_one_more_character_does_not(text: str, limit: int) -> None:
    from guardrails import tokens

    findings = MaxLength(tokens=limit).detect(text)
    kept = text[: findings[0].start] if findings else text
    assert tokens.estimate(kept) <= limit
    assert not findings or tokens.estimate(text) > limit


# --- UrlAllow -----------------------------------------------------------------------------------------------

HOSTS = UrlAllow(("example.org", "*.good.com", "bücher.de", "[::1]", "localhost"))


@pytest.mark.parametrize(
    "text",
    [
        "See https://example.org/a?b=c#d, and http://EXAMPLE.org:8080.",
        "![x](https://img.good.com/a.png) and [y](https://good.com)",
        "https://user:pw@example.org/",
        "https://bücher.de/x and https://xn--bcher-kva.de",
        "https://ｅxample。org/",
        "http://[::1]:80/ http://localhost",
        "<a href='//a.b.good.com/x'>",
        "the data: 5 rows; http: a protocol; C:\\\\Users; // a comment, //another",
        "www.good.com",
    ],
)
def test_links_to_allowed_hosts_pass(text: str) -> None:
    assert found(HOSTS, text) == []


@pytest.mark.parametrize(
    ("text", "url"),
    [
        ("![x](https://evil.com/?q=secret)", "https://evil.com/?q=secret"),
        ("see https://example.org@evil.com/.", "https://example.org@evil.com/"),
        ("https://evil.com\\@example.org", "https://evil.com\\@example.org"),
        ("https://evil.com#@example.org", "https://evil.com#@example.org"),
        ("https://example.org.evil.com", "https://example.org.evil.com"),
        ("https://evilgood.com", "https://evilgood.com"),
        ("https://sub.example.org", "https://sub.example.org"),
        ("https:/\\evil.com/x", "https:/\\evil.com/x"),
        ("https:evil.com", "https:evil.com"),
        ("HTTPS://EVIL.COM", "HTTPS://EVIL.COM"),
        ("ftp://evil.com", "ftp://evil.com"),
        ("<img src=//evil.com/x>", "//evil.com/x"),
        ("(www.evil.com)", "www.evil.com"),
        ("https://exаmple.org (Cyrillic)", "https://exаmple.org"),
        ("[x](javascript:alert(1))", "javascript:alert(1"),
        ("data:text/html;base64,PHNjcmlwdD4=", "data:text/html;base64,PHNjcmlwdD4="),
        ("ｗ漢 https://evil.com 漢", "https://evil.com"),
    ],
)
def test_links_elsewhere_are_found(text: str, url: str) -> None:
    assert found(HOSTS, text) == [("URL", url)]


def test_no_host_is_allowed_when_none_is_listed() -> None:
    assert found(UrlAllow(()), "https://example.org") == [("URL", "https://example.org")]


# --- JsonSchema ---------------------------------------------------------------------------------------------


def test_an_answer_that_is_no_json_for_the_schema_is_found() -> None:
    schema = JsonSchema({"type": "object", "required": ["a"], "properties": {"a": {"pattern": "^x+$"}}})
    assert found(schema, '{"a": "xx"}') == []
    assert found(schema, '{"a": "y"}') == [("NOT_SCHEMA", '{"a": "y"}')]
    assert found(schema, "Sure: {}") == [("NOT_SCHEMA", "Sure: {}")]
    assert found(schema, "") == []


def test_a_schema_without_bounds_fails_closed() -> None:
    tree = {"$ref": "#/$defs/t", "$defs": {"t": {"allOf": [{"items": {"$ref": "#/$defs/t"}}] * 2}}}
    with pytest.raises(TooManySteps):
        JsonSchema(tree).detect("[" * 40 + "]" * 40)


# --- Function -----------------------------------------------------------------------------------------------


def test_a_function_may_say_yes_or_how_sure_or_where() -> None:
    assert found(Function(lambda text: "bad" in text, "f"), "so bad") == [("FUNCTION", "so bad")]
    assert found(Function(lambda text: "bad" in text, "f"), "good") == []
    assert Function(lambda text: 0.7, "f", kind="K").detect("x") == [Finding("K", 0, 1, 0.7, "f")]
    assert Function(lambda text: 0.4, "f").detect("x") == []
    assert Function(lambda text: True, "f").detect("") == []
    where = Finding("W", 1, 2, 0.1, "mine")
    assert Function(lambda text: [where], "f").detect("xyz") == [where]


@pytest.mark.parametrize("said", [None, "yes", 1.5, float("nan"), [1], [Finding("W", 0, 9, 1.0, "f")]])
def test_what_is_no_verdict_is_an_error(said: Any) -> None:
    with pytest.raises((TypeError, ValueError)):
        Function(lambda text: said, "f").detect("xyz")


def test_an_async_function_is_turned_down() -> None:
    async def later(text: str) -> bool:
        return True

    with pytest.raises(ConfigError, match="async"):
        Function(later, "f")  # type: ignore[arg-type]


# --- all of them --------------------------------------------------------------------------------------------

ALL: list[Detector] = [
    Invisible(),
    Denied(("bad word", "worse")),
    Allowed(topics=("x",), scripts=("Latin",)),
    MaxLength(characters=50, tokens=20),
    HOSTS,
    JsonSchema({"type": "object"}),
]


@pytest.mark.parametrize("detector", ALL, ids=lambda detector: detector.name)
def test_detectors_pickle(detector: Detector) -> None:
    text = "bad word \u200b https://evil.com да " * 3
    assert pickle.loads(pickle.dumps(detector)).detect(text) == detector.detect(text) != []


@pytest.mark.parametrize("detector", ALL, ids=lambda detector: detector.name)
@given(st.text(max_size=120))
def test_findings_lie_in_the_text(detector: Detector, text: str) -> None:
    for f in detector.detect(text):
        assert 0 <= f.start < f.end <= len(text)
        assert f.detector == detector.name


@pytest.mark.parametrize(
    "unit", ["a.", "@", "{", "[", "\u200b", "//", "https:", "www.", "bad ", "\ud800", "漢", "//a.b"]
)
@pytest.mark.parametrize("detector", ALL, ids=lambda detector: detector.name)
def test_hostile_texts_have_no_more_findings_than_units(detector: Detector, unit: str) -> None:
    text = unit * (100_000 // len(unit))
    assert len(detector.detect(text)) <= len(text) / len(unit) + 1
