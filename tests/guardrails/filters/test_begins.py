"""What `begins` clears leaves a stream unread, so no finding may ever begin there."""

from __future__ import annotations

import importlib.util
import random
import re
import statistics
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from re import _parser as syntax  # type: ignore[attr-defined] # how wide a pattern is, nobody else says
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from guardrails.call import Call, Delta, Request
from guardrails.filters import Detector, Finding, OutputFilters, Window, redact, resolve
from guardrails.filters.allowed import UrlAllow
from guardrails.filters.normal import Normalized
from guardrails.filters.pii import Custom, Pii
from guardrails.filters.policy import Rule
from guardrails.filters.secret_rules import RULES
from guardrails.filters.secrets import Secrets
from guardrails.filters.simple import Denied, Invisible
from guardrails.filters.window import Begins

CONTEXT = 96


def _beside(path: str) -> Any:
    spec = importlib.util.spec_from_file_location("beside_" + Path(path).stem, Path(__file__).parent / path)
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


made = _beside("../../bench/pii_texts.py")
keys = _beside("test_secrets.py")

EVERY = 1e-9
PII, PRESIDIO = Pii(threshold=EVERY), Pii(rules="presidio", threshold=EVERY)
SECRETS = Secrets(threshold=EVERY)


def picked(words: str) -> st.SearchStrategy[str]:
    return st.sampled_from(words.split("|"))


def suspects(text: str, begins: Begins) -> list[tuple[int, int, int | None]]:
    """For each whole word of the text: where it starts and ends, and what is said about it."""
    text += "\n"
    out = []
    for word in re.finditer(r"\S*\s", text):
        start = max(0, word.start() - CONTEXT)
        first = begins(text[start : word.end()], word.start() - start)
        out.append((word.start(), word.end(), None if first is None else first + start))
    return out


def is_sound(text: str, detector: Detector, begins: Begins) -> None:
    findings = detector.detect(text)
    said = suspects(text, begins)
    signs = [start for start, _, first in said if first is not None]
    for start, end, first in said:
        assert first is None or start <= first < end
        for f in findings:
            if start <= f.start < end and first is None:
                # What announces it is held, and so is all that follows, until it was looked at.
                assert any(f.start - CONTEXT < sign <= f.start for sign in signs), (f.kind, text)
                assert f.detector == "secrets"
    whole = begins(text + "\n", 0)
    at = min((first for _, _, first in said if first is not None), default=None)
    assert whole == at, "words are judged one by one"


@settings(max_examples=300, deadline=None)
@given(st.integers(0, 10**9), st.booleans())
def test_no_personal_data_begins_where_pii_sees_no_sign(seed: int, mangle: bool) -> None:
    rng = random.Random(seed)
    text = made.mangled(rng) if mangle else made.sentence(rng)
    for pii in (PII, PRESIDIO):
        is_sound(text, pii, pii.begins)


@pytest.mark.parametrize("lead", ["( 212) ", "+ 1 212 ", "(+ 1 212 ", "\uff0b 1 212 ", "(\u00a0212) "])
def test_a_number_may_open_with_a_sign_and_a_space(lead: str) -> None:
    text = f"call {lead}555 0123 now"
    assert min(f.start for f in PII.detect(text)) == 5
    is_sound(text, PII, PII.begins)


@pytest.mark.parametrize(
    "text", ["see dead:beef::1", "see acme.com", "see ab-cd-ab-cd-ab-cd", "see jo@acme.com"]
)
def test_not_all_that_is_personal_has_a_digit(text: str) -> None:
    assert PII.begins(text + " ", 0) is not None
    is_sound(text, PII, PII.begins)


_ODD = (
    "212|555|0123|4567|http|www|dead|BEEF|cafe|de|\uff0b|\uff08|\u3000|49|jo|acme.com|::|漢|é|::1|ab:cd|١٢٣|"
    'x |+|"|(|[|)|-|.|/|:|@|x|~|#| |\t|\n|\u00a0'
)
odd = picked(_ODD)


@settings(max_examples=500, deadline=None)
@given(st.lists(odd, max_size=20).map("".join))
def test_nor_does_it_in_heaps_of_signs(text: str) -> None:
    for pii in (PII, PRESIDIO):
        is_sound(text, pii, pii.begins)


@settings(max_examples=200, deadline=None)
@given(
    st.sampled_from(keys.SHAPES),
    st.integers(0, 10**6),
    st.lists(picked("the |Here: |x=|\"|'|(|\n|key |漢|a\u00a0b "), max_size=6),
)
def test_no_secret_begins_where_secrets_see_no_sign(shape: Any, seed: int, around: list[str]) -> None:
    text = "".join(around) + keys.made(shape, seed) + "".join(reversed(around))
    is_sound(text, SECRETS, SECRETS.begins)


@settings(max_examples=300, deadline=None)
@given(st.lists(keys.words | picked("Bearer |key|: |=|'|pass |was "), max_size=20))
def test_nor_one_that_words_announce(words: list[str]) -> None:
    is_sound("".join(words), SECRETS, SECRETS.begins)


def test_every_rule_is_for_long_words_or_has_a_sign() -> None:
    def narrowest(pattern: Any) -> int | None:
        for kind, what in pattern:
            inner = [what[-1]] if str(kind) == "SUBPATTERN" else []
            inner += what[1] if str(kind) == "BRANCH" else []
            if str(kind) == "SUBPATTERN" and what[0] == pattern.state.groupdict["s"]:
                return int(what[-1].getwidth()[0])
            for part in inner:
                if (width := narrowest(part)) is not None:
                    return width
        return None

    short = {rule.kind for rule in RULES if (narrowest(syntax.parse(rule.pattern)) or 0) < 16}
    assert short == {"CONNECTION_STRING", "GENERIC_SECRET"}
    signs = "a://b |-----BEGIN |x -u |--user |Authorization: |bearer |api_key= |PASS: "
    for sign in signs.split("|"):
        assert SECRETS.begins(sign, 0) is not None


_DISGUISED = (
    "jo&#64;acme.com|ｊｏ＠acme.com|jo@ac\u200bme.com|am9AYWNtZS5jb20gaXMgbWU=|２１２ ５５５ 0123|fine|words|"
    "…|p\u0430ssword: hunter2!x|%6ao%40acme.com|jo@acme.com|a\u0301b|\u00a0|pass\u200bword is hunter2!x|١٢|-|"
    "ＡＫＩＡ2OGYBAH6QLVPX5MZ|&#45;-user jo:hunter2!x"
)
disguised = picked(_DISGUISED)


@settings(max_examples=200, deadline=None)
@given(st.lists(disguised, max_size=10).map(" ".join))
def test_nothing_disguised_begins_where_no_sign_is(text: str) -> None:
    for inner in (PII, SECRETS):
        normalized = Normalized(inner)
        assert normalized.begins is not None
        is_sound(text, normalized, normalized.begins)


DENIED = Denied(("Project Falcon", "blue", "straße nach", "漢字", "a.b", "İx"))
PARTS = Denied(("lue b", "oject"), whole_words=False)
HOSTS = UrlAllow(("example.org",))
_OWN = (
    "project|PROJECT |falcon| |\u00a0|\n|blue|bluebird|lue b|oject|stra\u1e9ee|STRASSE|nach|漢字|x漢字y|a.b|"
    "i\u0307x|\u0130x|ıx|http|://|evil.com|//|www.|(|=|javascript:|data:text/html,|\\\\|HTTPS:|ftp:|/|:|"
    "EMP-|abc|12|34|AB|id: |Ada|Lovelace|ada|\u2028|K|é|_|é1|foo|\u3000|\u200b|\u200d|\U000e0041|😀|ب|\x07"
)
own = picked(_OWN)
CUSTOM = (
    Custom("EMP", patterns=((r"EMP-[a-z]+", 1.0), (r"\bAB\d{2,4}", 1.0))),
    Custom("WORDS", words=("Ada Lovelace", "Kelvin", "é 1")),
    Custom("ANY", patterns=((r"(?i)id:\s+\d+", 1.0), (r"(?:foo|漢)\S", 1.0), (r"é?1", 1.0), (r"\sx", 1.0))),
)


@settings(max_examples=500, deadline=None)
@given(st.lists(own, max_size=14).map("".join))
def test_nothing_of_ones_own_begins_where_no_sign_is(text: str) -> None:
    personal = Pii(custom=CUSTOM[:1]), Pii(custom=CUSTOM, threshold=EVERY)
    for detector in (DENIED, PARTS, HOSTS, Invisible(), *personal):
        is_sound(text, detector, detector.begins)  # type: ignore[attr-defined] # each of them has it


def test_clean_words_are_no_sign_to_what_is_ones_own() -> None:
    custom = Pii(entities=("EMP", "NAME"), custom=(CUSTOM[0], Custom("NAME", words=("Ada Lovelace",))))
    for detector in (DENIED, HOSTS, Invisible(), custom):
        assert detector.begins("words of clean prose, and Adam's ", 0) is None  # type: ignore[attr-defined]
    assert custom.begins("see EMP-x ", 0) == custom.begins("see Ada ", 0) == 4
    assert DENIED.begins("the project ", 0) == HOSTS.begins("see //x ", 0) == 4


def test_what_is_not_known_could_begin_anywhere() -> None:
    for pii in (Pii(entities=("ES_NIF",)), Pii(recognizers=(_Names(),))):
        assert pii.begins("plain words ", 6) == 6
    assert Pii(entities=("URL",)).begins("plain words ", 6) is None
    assert Normalized(PII, spelled=True).begins is None
    assert Normalized(_Plain()).begins is None


class _Names:
    supported_entities = ("NAME",)


class _Plain:
    name, reach = "plain", 0

    def detect(self, text: str) -> list[Finding]:
        return []


# --- the window with it ------------------------------------------------------------------------------------

REACH = 20
_NUMBERS = re.compile(r"(?<!\S)\d{1,4}(?: \d{1,4}){1,3}(?!\S)")
_ADDRESS = re.compile(r"[a-z]+@[a-z]+")
_SAID = re.compile(r"key\s{1,3}is\s{1,3}(\w+)")


def detect(text: str) -> list[Finding]:
    found = [Finding("NUMBERS", m.start(), m.end(), 0.5, "t") for m in _NUMBERS.finditer(text)]
    found += [Finding("SAID", *m.span(1), 0.9, "t") for m in _SAID.finditer(text)]
    return found + [Finding("ADDRESS", m.start(), m.end(), 1.0, "t") for m in _ADDRESS.finditer(text)]


def begins(text: str, start: int) -> int | None:
    sign = re.compile(r"[\d@]").search(text, start)
    if "key" in text[: sign.start() if sign else len(text)]:
        return max(start, text.index("key"))
    return sign.start() if sign else None


def streamed(text: str, places: Sequence[int], **shape: int) -> tuple[list[Finding], list[str], list[int]]:
    """The findings, what was looked at, and what was decided after each piece."""
    looks, decided = [], []

    def probe(text: str) -> list[Finding]:
        looks.append(text)
        return detect(text)

    window = Window(probe, REACH, begins=begins, **shape)  # type: ignore[arg-type] # they are numbers
    found, at = list[Finding](), 0
    for place in [*sorted({place % (len(text) + 1) for place in places}), len(text)]:
        found += window.push(text[at:place])
        at = place
        decided.append(window.decided)
        assert all(f.end <= window.decided for f in found)
    return found + window.finish(), looks, decided


_WORDS = picked("word |12 |4567 |jo@acme |@| |\n|漢字|a|, |key |is |the words of clean prose, |hunter2 ")
texts = st.lists(_WORDS | st.sampled_from(["x" * 30, "x" * 31, "漢" * 31 + " "]), max_size=60).map("".join)
shapes = st.fixed_dictionaries(
    {
        "stride": st.sampled_from([1, 7, 32]),
        "context": st.sampled_from([0, 24, 96]),
        "longest": st.sampled_from([50, 4096]),
    }
)


@settings(max_examples=500, deadline=None)
@given(texts, st.lists(st.integers(0, 2000), max_size=30), shapes)
def test_decisions_do_not_depend_on_the_chunking(text: str, places: list[int], shape: dict[str, int]) -> None:
    found, looks, _ = streamed(text, [], **shape)
    assert found == resolve(found)
    assert streamed(text, places, **shape)[:2] == (found, looks)
    each = streamed(text, range(len(text)), **shape)
    assert each[:2] == (found, looks)
    for decided in each[2]:
        assert not any(f.start < decided < f.end for f in found)


spaced = st.lists(picked("word |12 |4567 |jo@acme |one, |\n|key |is |some clean words. "), max_size=60).map(
    "".join
)


@settings(max_examples=300, deadline=None)
@given(spaced, st.lists(st.integers(0, 2000), max_size=30))
def test_what_leaves_is_the_redacted_text(text: str, places: list[int]) -> None:
    assert redact(text, streamed(text, places, stride=8)[0]) == redact(text, detect(text))


PROSE = (
    "The river rose slowly that spring, and the people of the valley carried their furniture to the upper "
    "floors. Nobody was worried (they had seen worse), but the miller's daughter counted the steps that were "
    "still dry: every evening there was one fewer. \u201cIt will stop at the door,\u201d she said \u2014 and "
    "it did. What they remembered later was the quiet; even the dogs had gone up into the woods.\n\n"
) * 5


@pytest.mark.parametrize("detector", [PII, SECRETS, Normalized(Pii()), Normalized(Secrets())])
def test_clean_prose_is_held_for_a_word_and_never_looked_at(detector: Any) -> None:
    def never(text: str) -> list[Finding]:
        raise AssertionError(text)

    window, held = Window(never, 64, begins=detector.begins), []
    for at in range(0, len(PROSE), 4):
        window.push(PROSE[at : at + 4])
        held.append(len(PROSE[window.decided : at + 4]))
    assert statistics.median(held) <= 6
    assert max(held) <= max(map(len, PROSE.split())) + 4
    assert window.finish() == []


def test_what_follows_a_sign_waits_and_then_flows_again() -> None:
    text = PROSE[:300] + "In 1912 it was higher. " + PROSE
    window, held = Window(PII.detect, 64, begins=PII.begins), []
    for at in range(len(text)):
        window.push(text[at : at + 1])
        held.append(at + 1 - window.decided)
    assert max(held[300:500]) <= 64 + 32 + 20
    assert max(held[500:]) <= 20


# --- the filter with it ------------------------------------------------------------------------------------


async def answered(*rules: Rule | Detector) -> tuple[str, int]:
    """What comes out when `PROSE` is streamed, and how many of its pieces waited at the most."""
    sent, came, worst, out = 0, 0, 0, ""

    async def pieces() -> AsyncIterator[Delta]:
        nonlocal sent
        for at in range(0, len(PROSE), 4):
            sent += 1
            yield Delta(PROSE[at : at + 4])

    @asynccontextmanager
    async def endpoint(call: Call) -> AsyncIterator[AsyncIterator[Delta]]:
        yield pieces()

    async with OutputFilters(list(rules))(Call(Request.of("tell")), endpoint) as stream:
        async for event in stream:
            came += 1
            worst = max(worst, sent - came)
            out += event.text if isinstance(event, Delta) else ""
    return out, worst


class _Broken(_Plain):
    name = "broken"

    def begins(self, text: str, start: int) -> int | None:
        raise ValueError(text)


@pytest.mark.asyncio
async def test_a_filter_of_places_lets_prose_flow_unless_one_cannot_tell() -> None:
    out, waited = await answered(Normalized(Pii()), Secrets())
    assert (out, waited <= 5) == (PROSE, True)
    for other in (_Plain(), _Broken()):
        out, waited = await answered(Pii(), other)
        assert (out, waited > 15) == (PROSE, True)
    cheaper = Rule(Secrets(), on_crash=_Plain())
    assert (await answered(cheaper))[1] > 15
