"""`Pii` against Presidio's own engine: the same kinds, spans and scores, but for the named differences."""

from __future__ import annotations

import gzip
import importlib.util
import json
import os
import random
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from guardrails.filters import Pii
from guardrails.filters.pii import ENTITIES
from guardrails.filters.pii.recognizers import catalogue

Key = tuple[str, int, int, float]

BENCH = Path(__file__).parents[2] / "bench"
SHARED = Path(os.environ.get("EVALKIT_SHARED") or Path(__file__).parents[3].parent / "shared") / "data/pii"
EVERY_SCORE = 1e-9


def _beside(name: str) -> Any:
    """A module of the benchmarks, which compare with the same engine on the same texts."""
    spec = importlib.util.spec_from_file_location(name, BENCH / f"{name}.py")
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


oracle = _beside("presidio_oracle")
made = _beside("pii_texts")
SAME = Pii(rules="presidio", threshold=EVERY_SCORE)
OWN = Pii(threshold=EVERY_SCORE)


@cache
def theirs(*extra: str) -> Callable[[str], set[Key]]:
    return oracle.finder(oracle.engine(extra))  # type: ignore[no-any-return] # loaded from a path


def keys(pii: Pii, text: str) -> set[Key]:
    return {(f.kind, f.start, f.end, f.score) for f in pii.detect(text)}


def generated(seed: int) -> str:
    rng = random.Random(seed)
    return made.sentence(rng) if seed % 3 else made.mangled(rng)  # type: ignore[no-any-return] # as above


# --- the same ----------------------------------------------------------------------------------------------


@pytest.mark.skipif(not SHARED.is_dir(), reason="the shared data is not here")
def test_all_texts_of_the_shared_data() -> None:
    found = seen = 0
    for path in sorted(SHARED.glob("*.jsonl.gz")):
        with gzip.open(path, "rt", encoding="utf-8") as lines:
            for text in (json.loads(line)["text"] for line in lines):
                expected = theirs()(text)
                assert keys(SAME, text) == expected, text
                found += len(expected)
                seen += 1
    assert seen > 7000
    assert found > 1000


@settings(max_examples=300, deadline=None)
@given(st.integers(0, 2**32))
@example(107206)  # a plus sign before a trunk prefix
def test_generated_texts(seed: int) -> None:
    text = generated(seed)
    assert keys(SAME, text) == theirs()(text), text


PIECES = (
    *(
        "call",
        "my",
        "ssn",
        "card",
        "the",
        "passport",
        "is",
        "a",
        "date",
        "account",
        "and",
        "(",
        ",",
        "\n",
        "business",
    ),
    *(
        "212-555-0123",
        "+44 20 7946 0958",
        "536-22-1234",
        "536221234",
        "912803456",
        "4111 1111 1111 1111",
        "1999",
    ),
    *(
        "jo@acme.com",
        "DE89370400440532013000",
        "10.0.0.1",
        "1990-01-02",
        "AB1234563",
        "943 476 5919",
        "F1234567",
    ),
    *(
        "00:1a:2b:3c:4d:5e",
        "123e4567-e89b-42d3-a456-426614174000",
        "12345678",
        "http://a.com",
        '"',
        "@",
        ".",
        " ",
        "-",
    ),
)


@settings(max_examples=200, deadline=None)
@given(st.lists(st.sampled_from(PIECES), max_size=12), st.sampled_from(["", " "]))
@example(["::", "1"], "")
@example(["fe:ab:cd:ef:ab:cd:ef:ab"], "")
@example(["abcdefab-abcd-abcd-abcd-abcdefabcdef dead.beef.cafe ab-cd-ef-ab-cd-ef"], "")
@example(["GB29 NWBK 6016 1331 9268 19 DE89370400440532013000"], "")
@example(["a." * 300 + "com www." + "b." * 150 + "org/x"], "")
@example(["ssn " + "the " * 60 + "536221234 " + "- " * 200 + '"536221234"'], "")
def test_pieces_put_together(pieces: list[str], between: str) -> None:
    text = between.join(pieces)
    assert keys(SAME, text) == theirs()(text)


@settings(max_examples=200, deadline=None)
@given(
    st.text(
        alphabet=st.sampled_from("0123456789 -.()+/x#,~a\u00a0\u2013\u2019\n\u0663\uff11%$:;"), max_size=40
    )
)
@example("+00 49 89 1234637#")
@example("(212) 555-0123 x12")
@example("212/555-0123/212-555-0199")
@example("1 650 253 0000 2012-01-02 08:00")
@example("12345678901234567890123")
@example("030\u2013123\u20104567 ext. 12\u2019")
@example("\u00a0212\u00a0555\u00a00123\u00a0x-7\u00e9")
def test_telephone_numbers_of_any_form(text: str) -> None:
    pii = Pii(("PHONE_NUMBER",), threshold=EVERY_SCORE, rules="presidio")
    assert keys(pii, text) == {key for key in theirs()(text) if key[0] == "PHONE_NUMBER"}


EXTENSIONS = (
    " x12",
    "x1",
    " ext. 345",
    " extn:7",
    "ext-9",
    " x 1234567",
    "; x2",
    " x1x2",
    "#3",
    " int 4",
    ",,5",
    "-x6",
)


@pytest.mark.parametrize("mark", EXTENSIONS)
def test_telephone_numbers_with_an_extension(mark: str) -> None:
    pii = Pii(("PHONE_NUMBER",), threshold=EVERY_SCORE, rules="presidio")
    rng, found = random.Random(mark), 0
    for _ in range(60):
        gap = rng.choice((" ", " ", "\u00a0", "\u2011"))
        number = made.telephone(rng).replace(" ", gap)
        text = f"{rng.choice(made.WORDS)} {number}{mark}{rng.choice(('', '', '5', 'a', '.'))}"
        expected = {key for key in theirs()(text) if key[0] == "PHONE_NUMBER"}
        found += len(expected)
        assert keys(pii, text) == expected, text
    assert found > 20


def test_telephone_numbers_of_eight_regions() -> None:
    pii = Pii(("PHONE_NUMBER",), threshold=EVERY_SCORE, rules="presidio")
    rng, found = random.Random(5), 0
    for _ in range(400):
        text = f"{rng.choice(made.WORDS)} {made.telephone(rng)} {made.grouped(rng)}"
        expected = {key for key in theirs()(text) if key[0] == "PHONE_NUMBER"}
        found += len(expected)
        assert keys(pii, text) == expected, text
    assert found > 300


OTHERS = tuple(sorted(catalogue()))


def test_every_predefined_pattern_recognizer_is_there() -> None:
    assert len(OTHERS) > 70
    assert {"ES_NIF", "UK_NINO", "AU_TFN", "DE_TAX_ID", "IT_FISCAL_CODE", "ZA_MOBILE_NUMBER"} <= set(OTHERS)
    assert not set(OTHERS) & {*ENTITIES, "PERSON", "LOCATION"}


@settings(max_examples=150, deadline=None)
@given(st.integers(0, 2**32))
def test_other_countries_identifiers(seed: int) -> None:
    text = generated(seed)
    names = tuple(recognizer.__name__ for kind in OTHERS for recognizer in catalogue()[kind])
    expected = {key for key in theirs(*names)(text) if key[0] in OTHERS and key[0] != "IN_PAN"}
    pii = Pii(tuple(kind for kind in OTHERS if kind != "IN_PAN"), threshold=EVERY_SCORE, rules="presidio")
    assert keys(pii, text) == expected, text


# --- the differences ---------------------------------------------------------------------------------------


def test_both_rules_leave_out_a_number_that_is_any_ten_characters() -> None:
    names = tuple(recognizer.__name__ for recognizer in catalogue()["IN_PAN"])
    text = "ABCPD1234E and everything in 2024"
    pii = Pii(("IN_PAN",), threshold=EVERY_SCORE, rules="presidio")
    assert {key for key in theirs(*names)(text) if key[0] == "IN_PAN"} - keys(pii, text) == {
        ("IN_PAN", 15, 25, 0.01)
    }


# Kind, text, and what is found of it under Presidio's and under our rules.
DIFFERENCES = [
    ("US_PASSPORT", "business 912803456", [0.4], [0.05]),
    ("US_ITIN", "testing 912 70 1234", [0.85], [0.5]),
    ("US_SSN", "ssn 536221234", [0.4], [0.4]),
    ("US_DRIVER_LICENSE", "public A1234567", [pytest.approx(0.65)], [0.3]),
    ("URL", "the end of a sentence.This is", ["sentence.Th"], []),
    ("URL", "at https://a.com:80/b?c now", ["https://a.com"], ["https://a.com:80/b?c"]),
    ("URL", "at https://a.com/b?c now", ["https://a.com/b?c"], ["https://a.com/b?c"]),
    ("URL", "at a.com?token=1 now", ["a.com"], ["a.com?token=1"]),
    ("URL", "at http://jo:pw@a.com now", ["a.com"], ["http://jo:pw@a.com"]),
    ("EMAIL_ADDRESS", "请联系jo@acme.com谢谢", [], ["jo@acme.com"]),
    ("EMAIL_ADDRESS", "a/b@acme.com", [], ["a/b@acme.com"]),
    ("EMAIL_ADDRESS", "write to jo@acme.com.", ["jo@acme.com"], ["jo@acme.com"]),
    ("IBAN_CODE", "gb29nwbk60161331926819", [0.5], [1.0]),
    ("IBAN_CODE", "BE68 5390 0754 7034 from us", [], ["BE68 5390 0754 7034"]),
    ("IBAN_CODE", "BE68 5390 0754 7034.", ["BE68 5390 0754 7034"], ["BE68 5390 0754 7034"]),
]


@pytest.mark.parametrize(("kind", "text", "presidio", "own"), DIFFERENCES)
def test_where_our_rules_differ(kind: str, text: str, presidio: list[Any], own: list[Any]) -> None:
    for found, expected in ((theirs()(text), presidio), (keys(SAME, text), presidio), (keys(OWN, text), own)):
        of_kind = sorted(key for key in found if key[0] == kind)
        by_score = bool(expected) and not isinstance(expected[0], str)
        assert [key[3] if by_score else text[key[1] : key[2]] for key in of_kind] == expected


DIFFER = {"URL", "EMAIL_ADDRESS", "IBAN_CODE"}


@settings(max_examples=200, deadline=None)
@given(st.integers(0, 2**32))
def test_nothing_else_differs(seed: int) -> None:
    """The other kinds have the same spans; scores differ by a context word, the names' own kinds by rule."""
    text = generated(seed)
    same, own = ({k for k in keys(pii, text) if k[0] not in DIFFER} for pii in (SAME, OWN))
    # A context word decides which of two nested matches of a kind is kept; the text is covered in any case.
    covered = [
        {(kind, at) for kind, start, end, _ in found for at in range(start, end)} for found in (same, own)
    ]
    assert covered[0] == covered[1], text
    scores = {key[:3]: key[3] for key in same}
    for kind, start, end, score in own:
        before = scores.get((kind, start, end), score)
        assert score == before or max(0.4, min(score, before) + 0.35) == pytest.approx(max(score, before)), (
            text
        )


@settings(max_examples=100, deadline=None)
@given(st.integers(0, 2**32))
def test_every_address_that_presidio_finds_is_covered(seed: int) -> None:
    text = generated(seed)
    own = {(kind, at) for kind, start, end, _ in keys(OWN, text) for at in range(start, end)}
    for kind, start, end, _ in keys(SAME, text):
        if kind == "IBAN_CODE":
            assert all((kind, at) in own for at in range(start, end)), text
