from __future__ import annotations

import base64
import random
import re
import sys
import unicodedata
from collections.abc import Callable
from dataclasses import dataclass

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from guardrails.filters import Finding, Window, redact, scan
from guardrails.filters.normal import INVISIBLE, Normalized, normalize
from guardrails.filters.simple import MaxLength
from guardrails.filters.window import BREAK

_ADDRESS = re.compile(r"[a-z]{1,30}@[a-z]{1,30}\.com")


@dataclass(frozen=True)
class Addresses:
    """Finds addresses in plain ASCII only."""

    name: str = "addresses"
    reach: int = 0

    def detect(self, text: str) -> list[Finding]:
        return [Finding("EMAIL", m.start(), m.end(), 1.0, self.name) for m in _ADDRESS.finditer(text)]


def b64(text: str) -> str:
    return base64.b64encode(text.encode()).decode()


def percent(text: str) -> str:
    return "".join(f"%{byte:02X}" for byte in text.encode())


DISGUISES = {
    "zero width": ("j\u200bo@ac\u2060me.c\u00adom", "jo@acme.com"),
    "bidi": ("\u202ejo@acme.com\u202c", "jo@acme.com"),
    "tags": ("jo\U000e0041\U000e0042@acme.com", "jo@acme.com"),
    "full width": ("ｊｏ＠ａｃｍｅ．ｃｏｍ", "jo@acme.com"),
    "mathematical": ("𝐣𝐨@𝖺𝖼𝗆𝖾.com", "jo@acme.com"),
    "ligature": ("ﬁn@acme.com", "fin@acme.com"),
    "cyrillic": ("jо@асmе.com", "jo@acme.com"),
    "greek": ("jο@acme.com", "jo@acme.com"),
    "percent": ("jo%40acme%2Ecom", "jo@acme.com"),
    "percent, all of it": (percent("jo@acme.com"), "jo@acme.com"),
    "percent twice": ("jo%2540acme.com", "jo@acme.com"),
    "entity": ("jo&commat;acme&period;com", "jo@acme.com"),
    "decimal": ("jo&#64;acme.com", "jo@acme.com"),
    "hexadecimal": ("jo&#x40;acme.com", "jo@acme.com"),
    "entity in an entity": ("jo&amp;#64;acme.com", "jo@acme.com"),
    "base64": (b64("write to jo@acme.com"), "write to jo@acme.com"),
    "base64 for URLs": (base64.urlsafe_b64encode("jo@acme.com ÿ÷ÿ~~".encode()).decode(), "jo@acme.com ÿ÷ÿ~~"),
    "base64 twice": (b64(b64("write to jo@acme.com")), "write to jo@acme.com"),
    "entity around base64": ("&#100;" + b64("to jo@acme.com")[1:], "to jo@acme.com"),
    "wide and encoded": ("jo％４０acme.com", "jo@acme.com"),
    "zero width in an entity": ("jo&#\u200b64;acme.com", "jo@acme.com"),
}


@pytest.mark.parametrize("name", DISGUISES)
def test_a_disguise_comes_off(name: str) -> None:
    disguised, plain = DISGUISES[name]
    assert normalize(disguised).text == plain


@pytest.mark.parametrize("name", DISGUISES)
def test_a_disguised_address_is_found_and_the_original_goes(name: str) -> None:
    disguised, _ = DISGUISES[name]
    text = f"Please write ({disguised}) soon."
    detector = Normalized(Addresses())
    found = detector.detect(text)
    assert {f.kind for f in found} == {"EMAIL"}
    gone = redact(text, found)
    assert gone.startswith("Please write (")
    assert gone.endswith(") soon.")
    assert "<EMAIL>" in gone
    assert detector.detect(gone) == []


@pytest.mark.parametrize(
    "text",
    [
        "",
        "Plain English, 100% of it & more; see https://example.org/a-path?x=1#y",
        "Привет, мир: это обычный текст",
        "Ελληνικό κείμενο",
        "普通话，没有别的。",
        "한국어 텍스트",
        "naïve café – “quoted”",
        "\ud800 half a character",
        "a UUID 123e4567-e89b-12d3-a456-426614174000 and d41d8cd98f00b204e9800998ecf8427e",
        "%FF%FE %zz &nothing; &#0; &#xD800; &",
    ],
)
def test_what_is_plain_stays(text: str) -> None:
    if unicodedata.is_normalized("NFKC", text):
        assert normalize(text) == normalize(text)
        assert normalize(text).text == text
        assert not normalize(text).starts
        assert normalize(text).span(1, 3) == (1, 3)


@pytest.mark.parametrize("name", DISGUISES)
def test_no_part_of_a_disguised_address_leaves_in_a_stream(name: str) -> None:
    detector = Normalized(Addresses())
    sentence = f"Well then, of course, you may write to ({DISGUISES[name][0]}) as soon as you can, I think. "
    text = sentence * 3
    expected = redact(text, scan(text, detector.detect, detector.reach))
    assert DISGUISES[name][0] not in expected
    window, found = Window(detector.detect, detector.reach), list[Finding]()
    for character in text:
        found += window.push(character)
        assert expected.startswith(redact(text[: window.decided], found))
    assert redact(text, found + window.finish()) == expected


def test_a_wrapper_is_shown_what_its_detector_is() -> None:
    assert Normalized(Addresses()).scope == "span"
    assert Normalized(Addresses()).channels is None
    assert (Normalized(MaxLength(characters=3)).scope, Normalized(MaxLength(characters=3)).stride) == (
        "text",
        512,
    )
    assert Normalized(Addresses()).name == "addresses"


def test_russian_words_stay_russian_but_mixed_words_do_not() -> None:
    assert normalize("Оса рука pаypаl").text == "Оса рука paypal"


def test_spelled_addresses_are_read_when_asked() -> None:
    text = "Mail jo [at] acme (dot) com, please"
    assert normalize(text).text == text
    normal = normalize(text, spelled=True)
    assert normal.text == "Mail jo@acme.com, please"
    assert normal.span(5, 16) == (5, text.index(","))
    found = Normalized(Addresses(), spelled=True).detect(text)
    assert redact(text, found) == "Mail <EMAIL>, please"


def test_what_is_too_deep_is_named_and_not_read() -> None:
    deep = b64(b64(b64("write to jo@acme.com, all of you")))
    text = f"see {deep} now"
    normal = normalize(text)
    assert normal.text == "see \ufffd now"
    assert normal.unread == ((4, 4 + len(deep)),)


def test_findings_of_both_readings_are_told_once() -> None:
    assert len(Normalized(Addresses()).detect("jo@acme.com \u200b bo&#64;acme.com")) == 2


# --- laws ---------------------------------------------------------------------------------------------------

fragments = (
    "jo@acme.com & #64; &#64; &amp; % 25 %25 %40 41 %C3 %A9 а о a @ :// [at] Q == / - "
    "\u0301 \u0316 \u200b \U000e0041 ﷺ Ａ ％ ＆ 가 \u1161 ﾞ ｶ \u0344 \ud800 \x00 μ Å ½"
)
pieces = st.one_of(
    st.sampled_from([*fragments.split(" "), " "]),
    st.sampled_from(["jo@acme.com is here", "QUJDREVGR0hJSktM", "%2540 &amp;#64; jo"]).map(b64),
    st.sampled_from(["jo@acme.com is here", "plain words, again"]).map(b64).map(b64),
    st.sampled_from(["jo@acme.com is here, too"]).map(b64).map(b64).map(b64),
    st.sampled_from(["jo@acme.com", "é", "%41"]).map(percent),
    st.text(max_size=4),
)
texts = st.lists(pieces, max_size=12).map("".join)
# Base64 with other letters glued to it is not read; redacting those letters would lay it bare.
apart = st.lists(pieces.map(lambda piece: f" {piece} " if len(piece) > 15 else piece), max_size=12).map(
    "".join
)


@settings(max_examples=400)
@given(texts)
@example("%41QUJDREVGR0hJSktMTU5PUFFSU1RVVldY")
@example("а" + "\u0301" * 100)
def test_normalizing_again_changes_nothing(text: str) -> None:
    once = normalize(text).text
    assert normalize(once).text == once
    assert not normalize(once).starts


@settings(max_examples=400)
@given(texts, st.booleans())
def test_offsets_never_fall_and_cover(text: str, spelled: bool) -> None:
    normal = normalize(text, spelled)
    if not normal.starts:
        assert normal.text in (text, "")
        return
    starts, ends = list(normal.starts), list(normal.ends)
    assert len(starts) == len(ends) == len(normal.text)
    assert starts == sorted(starts)
    assert ends == sorted(ends)
    assert all(0 <= start < end <= len(text) for start, end in zip(starts, ends, strict=True))
    assert all(0 <= start < end <= len(text) for start, end in normal.unread)


@settings(max_examples=400)
@given(texts, st.data())
def test_a_span_of_the_original_reads_like_its_span_of_the_normal(text: str, data: st.DataObject) -> None:
    """Where only characters were exchanged one for one, the offsets say which."""
    normal = normalize(text)
    if normal.text and not normal.unread:
        start = data.draw(st.integers(0, len(normal.text) - 1))
        end = data.draw(st.integers(start + 1, len(normal.text)))
        first, last = normal.span(start, end)
        assert first < last
        assert normal.text[start:end] in normalize(text[first:last]).text or _depends_on_neighbours(text)


def _depends_on_neighbours(text: str) -> bool:
    # Whether a look-alike is exchanged, and where an encoded run begins, is up to what stands beside it.
    return any(mark in text for mark in "аоμ@%&:") or re.search(r"[A-Za-z0-9+/_\-]{16}", text) is not None


@settings(max_examples=400)
@given(texts)
def test_detecting_in_a_normal_text_is_detecting(text: str) -> None:
    plain = normalize(text).text
    assert Normalized(Addresses()).detect(plain) == Addresses().detect(plain)


@settings(max_examples=400)
@given(apart)
def test_what_is_redacted_is_gone(text: str) -> None:
    detector = Normalized(Addresses())
    assert detector.detect(redact(text, detector.detect(text))) == []


# --- bounds -------------------------------------------------------------------------------------------------

HOSTILE = [
    "a.",
    "@",
    "{",
    "\u200b",
    "%41",
    "%25",
    "%2525",
    "&amp;",
    "&#",
    "QUJD",
    "\u0301\u0316",
    "e\u0301",
    "ﷺ",
    "аb@",
]


@pytest.mark.parametrize("unit", HOSTILE)
def test_hostile_texts_grow_no_more_than_four_times(unit: str) -> None:
    text = unit * (100_000 // len(unit))
    normal = normalize(text)
    assert len(normal.text) <= 4 * len(text)
    assert normalize(normal.text).text == normal.text


@pytest.mark.parametrize("unit", HOSTILE)
def test_hostile_texts_take_linear_steps(unit: str) -> None:
    text = unit * (20_000 // len(unit))
    normalize(text)
    whole, half = steps(normalize, text), steps(normalize, text[: len(text) // 2])
    assert whole <= 2.1 * half + 1000
    assert whole <= 30 * len(text)


def steps(work: Callable[[str], object], text: str) -> int:
    """How many functions are called, Python's and C's."""
    count, before = 0, sys.getprofile()

    def note(frame: object, event: str, argument: object) -> None:
        nonlocal count
        count += event in ("call", "c_call")

    sys.setprofile(note)
    try:
        work(text)
    finally:
        sys.setprofile(before)
    return count


def test_nested_base64_and_random_bytes_end() -> None:
    text = "jo@acme.com and others"
    while len(text) < 100_000:
        text = b64(text)
    assert normalize(text).text == "\ufffd"
    noise = random.Random(3).randbytes(100_000).decode("latin-1")
    once = normalize(noise).text
    assert len(once) <= 2 * len(noise)
    assert normalize(once).text == once


def test_marks_on_one_character_are_few() -> None:
    """Sorting them takes quadratic time; thirty are kept."""
    text = "q" + "\u0316\u0301" * 5000
    assert normalize(text).text == unicodedata.normalize("NFKC", text[:31])
    assert normalize(text).span(30, 31)[1] == len(text)


def test_no_break_is_invisible_or_reads_as_ascii() -> None:
    """Or a stream would let go of the part of a word that stands before it."""
    every = "".join(map(chr, (*range(0xD800), *range(0xE000, 0x110000))))
    breaks = [character for character in BREAK.findall(every) if not character.isspace()]
    assert len(breaks) > 500_000
    for character in breaks:
        plain = unicodedata.normalize("NFKC", character)
        assert not any(one.isascii() for one in plain), ascii(character)
        assert not re.match(f"[{INVISIBLE}]", character), ascii(character)
