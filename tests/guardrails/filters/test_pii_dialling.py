"""Digits judged as `phonenumbers` judges them, and the words around a match however they are looked up."""

from __future__ import annotations

import re
from typing import Any

import phonenumbers
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from guardrails.filters.pii.context import Words
from guardrails.filters.pii.dialling import country_code, international, region

REGIONS = ("US", "GB", "DE", "FR", "IL", "IN", "CA", "BR")


def _examples() -> list[str]:
    """National numbers of every kind and region, by the library's metadata."""
    numbers = []
    for name in sorted(phonenumbers.SUPPORTED_REGIONS):
        kinds: Any = (phonenumbers.example_number_for_type(name, kind) for kind in range(11))
        numbers += [
            f"{kind.country_code} {phonenumbers.national_significant_number(kind)}" for kind in kinds if kind
        ]
    return numbers


@st.composite
def _dialled(draw: st.DrawFn) -> str:
    """A number, dialled in one of many ways, and perhaps with a wrong digit."""
    code, number = draw(st.sampled_from(EXAMPLES)).split()
    at = draw(st.integers(0, 2 * len(number)))
    if at < len(number):
        number = number[:at] + draw(st.sampled_from(["", *"0123456789"])) + number[at + 1 :]
    prefixes = [
        "",
        "0",
        "1",
        "00",
        "90",
        "021",
        code,
        f"{code}0",
        f"00{code}",
        f"011{code}",
        f"00{code}0",
        "0018",
    ]
    return (draw(st.sampled_from(prefixes)) + number)[:20]


EXAMPLES = _examples()
DIGITS = st.one_of(_dialled(), st.text("0123456789", min_size=4, max_size=20))


def found(text: str, name: str | None) -> bool:
    """Whether the library's matcher takes all of the text for one number."""
    return any(match.raw_string == text for match in phonenumbers.PhoneNumberMatcher(text, name))


@settings(max_examples=500, deadline=None)
@given(DIGITS.filter(lambda digits: len(digits) >= 4))
@example("02123456789")
@example("4901234567")
@example("0" * 20)
def test_digits_are_judged_as_the_library_does(digits: str) -> None:
    for name in REGIONS:
        expected = found(digits, name)
        assert region(name).dials(digits) == expected, name
        if expected:
            assert region(name).dials(digits, loosely=True), name
        if region(name).dials(digits, loosely=True):
            assert re.fullmatch(region(name).beyond(), digits), name
    if country_code(digits):
        assert international(digits) == found(f"+{digits}", None)


@pytest.mark.parametrize("name", REGIONS)
def test_every_example_of_a_region_is_dialled_from_there(name: str) -> None:
    code = phonenumbers.country_code_for_region(name)
    own = [number.split()[1] for number in EXAMPLES if number.startswith(f"{code} ")]
    assert own
    assert all(region(name).dials(f"{code}{number}") == found(f"{code}{number}", name) for number in own)
    assert any(region(name).dials(f"{code}{number}") for number in own)


@settings(max_examples=150, deadline=None)
@given(
    st.lists(
        st.sampled_from(["a ", "the ", "card", "İx ", " ", ", ", "_1", "-", "w" * 130, " is. "]), max_size=80
    )
)
def test_the_words_near_a_place_are_the_same_however_many_places_are_asked_about(pieces: list[str]) -> None:
    text = "".join(pieces)
    crowded = Words(text)
    for position in range(len(text)):
        assert crowded.near(position) == Words(text).near(position)
