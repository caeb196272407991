from __future__ import annotations

import json
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from guardrails.filters.pseudonyms import Entry, Lexicon, Restorer, reading, restore

TOKEN, PHONE, NAME = "<EMAIL_ADDRESS_3f2a9c>", "202-555-0147", "Ada Weidner"
MAIL, NUMBER, PERSON = 'jo "the\\pro"@acme.com', "+49 171\n123", "Zoë O'Hara"


def lexicon() -> Lexicon:
    made = Lexicon()
    assert made.add(TOKEN, Entry(MAIL))
    assert made.add("<EMAIL_ADDRESS_3f2a9d>", Entry("al@acme.com"))
    assert made.add(PHONE, Entry(NUMBER, bracketed=False))
    assert made.add(NAME, Entry(PERSON, bracketed=False))
    return made


LEXICON = lexicon()

SPELLINGS = [
    "<EMAIL_ADDRESS_3f2a9c>",
    "<email_address_3F2A9C>",
    "< EMAIL_ADDRESS_3f2a9c >",
    "<Email Address 3f2a9c>",
    "\\<EMAIL\\_ADDRESS\\_3f2a9c\\>",
    "&lt;EMAIL_ADDRESS_3f2a9c&gt;",
    "&lt; EMAIL_ADDRESS_3f2a9c &gt;",
    "EMAIL_ADDRESS_3f2a9c",
    "EMAIL-ADDRESS-3f2a9c",
    "**EMAIL**_ADDRESS_3f2a9c",
    "EMAIL_ADDRESS_\n3f2 a9c",
    "E\u200bMAIL_ADDRESS_3f2a9c",
]


@pytest.mark.parametrize("spelling", SPELLINGS)
def test_a_token_is_found_however_it_is_spelled(spelling: str) -> None:
    inner = spelling.removeprefix("**")
    before = spelling.removesuffix(inner)
    assert restore(f"Mail {spelling}, please", LEXICON) == f"Mail {before}{MAIL}, please"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (f"`{TOKEN}`", f"`{MAIL}`"),
        (f"**{TOKEN}**", f"**{MAIL}**"),
        (f"[{TOKEN}](mailto:{TOKEN})", f"[{MAIL}](mailto:{MAIL})"),
        ("[EMAIL_ADDRESS_3f2a9c]", f"[{MAIL}]"),
        (f"<{TOKEN}>", f"<{MAIL}>"),
        (f"\\{TOKEN}", f"\\{MAIL}"),
        ("<b>EMAIL_ADDRESS_3f2a9c</b>", f"<b>{MAIL}</b>"),
        ("a <EMAIL_ADDRESS_3f2a9c is", f"a <{MAIL} is"),
        ("(202) 555 0147", f"({NUMBER}"),
        ("+1 202.555.0147!", f"+1 {NUMBER}!"),
        (f"{NAME} <{TOKEN}>", f"{PERSON} <{MAIL}>"),
        ("ADA WEIDNER's", f"{PERSON}'s"),
        (f"{TOKEN}{TOKEN}", f"{MAIL}{MAIL}"),
        (f"EMAIL ADDRESS {TOKEN}", f"EMAIL ADDRESS {MAIL}"),
    ],
)
def test_what_is_around_a_token_stays(text: str, expected: str) -> None:
    assert restore(text, LEXICON) == expected


@pytest.mark.parametrize(
    "text",
    [
        "<EMAIL_ADDRESS_3f2a9e>",
        "<PERSON_3f2a9c>",
        "EMAIL_ADDRESS_3f2a9c7",
        "XEMAIL_ADDRESS_3f2a9c",
        "EMAIL_ADDRESS_3f2a9",
        "Your email address is 3f2a9c",
        "1202-555-0147",
        "202-555-01478",
        "202,555,0147",
        "Ada      Weidner",
        "Hada Weidner, Ada Weidners",
        "E M A I L      A D D R E S S",
        "Ada <Weidner>",
    ],
)
def test_what_is_no_token_stays(text: str) -> None:
    assert restore(text, LEXICON) == text


def test_a_reading_is_taken_once_and_begins_no_other() -> None:
    made = lexicon()
    assert not made.add("<email address 3F2A9C>", Entry("other"))
    assert not made.add("<EMAIL>", Entry("other"))
    assert not made.add(f"{NAME}4@example.com", Entry("other"))
    assert not made.add("<>", Entry("other"))
    assert restore(TOKEN, made) == MAIL


PIECES = st.sampled_from(
    [*SPELLINGS, PHONE, NAME, "EMAIL", "<", "\\", "&lt;", ">", " ", "_", "ADDRESS", "3f2a9c", "x", "é", "202"]
)
CUTS = st.lists(st.integers(0, 200), max_size=12)


def pieces(text: str, cuts: list[int]) -> list[str]:
    at = [0, *sorted(min(cut, len(text)) for cut in cuts), len(text)]
    return [text[a:b] for a, b in pairwise(at)]


@settings(deadline=None)
@given(st.lists(PIECES, max_size=8).map("".join), CUTS)
def test_the_restored_text_does_not_depend_on_the_chunking(text: str, cuts: list[int]) -> None:
    restorer = Restorer(LEXICON)
    got = "".join(map(restorer.push, pieces(text, cuts))) + restorer.finish()
    assert got == restore(text, LEXICON)
    assert restorer.held == 0


def test_every_split_of_every_spelling() -> None:
    for spelling in SPELLINGS:
        text = f"To {spelling}: hello <EMAIL_ADDRESS_3f2b> {NAME}"
        whole = restore(text, LEXICON)
        for cut in range(len(text) + 1):
            restorer = Restorer(LEXICON)
            assert restorer.push(text[:cut]) + restorer.push(text[cut:]) + restorer.finish() == whole
        restorer = Restorer(LEXICON)
        assert "".join(map(restorer.push, text)) + restorer.finish() == whole


def test_only_what_can_become_a_token_is_held() -> None:
    restorer = Restorer(LEXICON)
    for char in "Nothing here is of any interest. ":
        restorer.push(char)
        assert restorer.held <= 1
    assert restorer.push("and so on <EMA") == "and so on "
    assert restorer.push("IL>") == "<EMAIL>"
    assert restorer.push(f"{TOKEN}x") == f"{MAIL}x"


@settings(deadline=None)
@given(st.text(alphabet="EMAILADRS_3f2a9c<>\\&lt; -", max_size=300))
def test_what_is_held_is_bounded(text: str) -> None:
    restorer = Restorer(LEXICON)
    for char in text:
        restorer.push(char)
        assert restorer.held <= LEXICON.longest


class Counted(dict[str, Entry | None]):
    """A lexicon's readings that count how often they are looked at."""

    looks = 0

    def __contains__(self, key: object) -> bool:
        self.looks += 1
        return super().__contains__(key)


@pytest.mark.parametrize(
    "unit", ["EMAIL_ADDRESS_", "<EMAIL_ADDRESS_3f2a9", "E ", "<", "\\<", "&lt;", "2-0-2-5 "]
)
@pytest.mark.parametrize("step", [1, 7, 100_000])
def test_hostile_text_takes_a_bounded_number_of_looks_per_character(unit: str, step: int) -> None:
    made = lexicon()
    counted = made._read = Counted(made._read)
    text = unit * (3000 // len(unit))
    restorer = Restorer(made)
    got = "".join(restorer.push(text[at : at + step]) for at in range(0, len(text), step)) + restorer.finish()
    assert got == text
    assert counted.looks <= 2 * len(reading(TOKEN)) * len(text)


def test_an_empty_lexicon_holds_nothing_of_prose() -> None:
    restorer = Restorer(Lexicon())
    assert restorer.push("Any text at all") == "Any text at all"


# --- tool calls' arguments ---------------------------------------------------------------------------------

ARGUMENTS = [
    json.dumps({"to": TOKEN, "cc": [NAME], f"{TOKEN}": 1, "text": f"Hi,\n{NAME}\t{PHONE}\n"}),
    json.dumps({"to": "\\u003cEMAIL_ADDRESS_3f2a9c\\u003e"}).replace("\\\\", "\\"),
    json.dumps({"text": f'"{TOKEN}" \\ é \U0001f600'}),
    '{"a": "EMAIL_ADDRESS", "3f2a9c": 1, "b": "<EMAIL", "c": "_ADDRESS_3f2a9c>"}',
    '{"phone": 2025550147, "n": [-2025550147, 2025550147.5, 12025550147]}',
]


@pytest.mark.parametrize("text", ARGUMENTS)
def test_arguments_stay_json_and_their_values_are_restored(text: str) -> None:
    def values(node: object) -> object:
        if isinstance(node, dict):
            return {restore(key, LEXICON): values(value) for key, value in node.items()}
        if isinstance(node, list):
            return [values(value) for value in node]
        if node == 2025550147:
            return NUMBER
        return restore(node, LEXICON) if isinstance(node, str) else node

    whole = restore(text, LEXICON, arguments=True)
    assert json.loads(whole) == values(json.loads(text))
    for cut in range(len(text) + 1):
        restorer = Restorer(LEXICON, arguments=True)
        assert restorer.push(text[:cut]) + restorer.push(text[cut:]) + restorer.finish() == whole
    restorer = Restorer(LEXICON, arguments=True)
    assert "".join(map(restorer.push, text)) + restorer.finish() == whole


JSON_PIECES = st.sampled_from(
    [
        TOKEN,
        NAME,
        PHONE,
        '"',
        "\\",
        "\\n",
        "\\u003c",
        "\\ud83d",
        "\\u00",
        "{",
        "}",
        ",",
        " ",
        "EMAIL",
        "x",
        "é",
    ]
)


@settings(deadline=None)
@given(st.lists(JSON_PIECES, max_size=10).map("".join), CUTS)
def test_broken_arguments_are_cut_anywhere_as_well(text: str, cuts: list[int]) -> None:
    restorer = Restorer(LEXICON, arguments=True)
    got = "".join(map(restorer.push, pieces("{" + text, cuts))) + restorer.finish()
    assert got == restore("{" + text, LEXICON, arguments=True)


@given(st.recursive(st.text() | st.floats(allow_nan=False), lambda v: st.dictionaries(st.text(), v)))
def test_arguments_without_a_token_stay_as_they_are(value: object) -> None:
    for text in (json.dumps(value), json.dumps(value, ensure_ascii=False)):
        assert restore(text, LEXICON, arguments=True) == text


def test_arguments_that_are_no_json_are_restored_as_text() -> None:
    assert restore(f'  SELECT "{TOKEN}"', LEXICON, arguments=True) == f'  SELECT "{MAIL}"'


def test_no_repr_shows_a_value() -> None:
    for thing in (LEXICON, Entry(MAIL), Restorer(LEXICON)):
        assert "acme" not in repr(thing)


def test_a_reading_is_letters_and_digits() -> None:
    assert reading("<Email_ADDRESS-3f 2é>") == "emailaddress3f2"
