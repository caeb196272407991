"""Kinds beyond the defaults: other countries', one's own, Presidio's objects, a model's; hostile texts."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from guardrails.errors import ConfigError
from guardrails.filters import Finding, Pii, redact
from guardrails.filters.pii import Custom
from guardrails.filters.pii.phone import Phones, stretches
from guardrails.filters.pii.spots import islands, near_digits


@pytest.mark.parametrize(
    ("kind", "text", "expected"),
    [
        (
            "UK_NINO",
            "my national insurance number is AB 12 34 56 C",
            "my national insurance number is <UK_NINO>",
        ),
        ("ES_NIF", "dni 12345678Z", "dni <ES_NIF>"),
        ("IT_FISCAL_CODE", "codice fiscale MRTMTT91D08F205J ok", "codice fiscale <IT_FISCAL_CODE> ok"),
        ("DE_VAT_ID", "USt-IdNr. DE136695976", "USt-IdNr. <DE_VAT_ID>"),
        ("ZA_MOBILE_NUMBER", "call 082 123 4567", "call <ZA_MOBILE_NUMBER>"),
    ],
)
def test_other_countries(kind: str, text: str, expected: str) -> None:
    assert redact(text, Pii((kind,)).detect(text)) == expected
    assert not Pii().detect("dni 12345678Z")


def test_an_unknown_kind_is_a_mistake_that_names_the_known() -> None:
    with pytest.raises(ConfigError) as caught:
        Pii(("UK_NINO", "UK_NONO"))
    message = str(caught.value)
    assert "finds UK_NONO" in message
    assert "AU_TFN" in message
    assert "Custom" in message


def test_names_need_a_model_and_the_mistake_says_which() -> None:
    with pytest.raises(ConfigError, match="en_core_web_sm"):
        Pii(("PERSON",))
    with pytest.raises(ConfigError, match="spacy download no_such_model"):
        Pii(("PERSON",), model="no_such_model")


# --- custom ------------------------------------------------------------------------------------------------

BADGE = Custom("BADGE", patterns=((r"\bE-\d{4}\b", 0.3),), words=("Falcon", "Falcon IX"), context=("badge",))


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("badge E-1234", "badge <BADGE>"),
        ("E-1234 alone", "E-1234 alone"),
        ("project FALCON ix, falcons", "project <BADGE>, falcons"),
        ("mail jo@acme.com", "mail <EMAIL_ADDRESS>"),
    ],
)
def test_a_kind_of_ones_own(text: str, expected: str) -> None:
    assert redact(text, Pii(custom=(BADGE,)).detect(text)) == expected


def test_entities_pick_custom_kinds_too() -> None:
    pii = Pii(("BADGE",), custom=(BADGE, Custom("OTHER", words=("mail",))))
    assert (
        redact("mail jo@acme.com Falcon", pii.detect("mail jo@acme.com Falcon")) == "mail jo@acme.com <BADGE>"
    )


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"kind": "A"}, "neither"),
        ({"kind": "A", "words": ("",)}, "neither"),
        ({"kind": "", "words": ("a",)}, "no kind"),
        ({"kind": "A", "patterns": ((r"(?=a)", 0.5),)}, "pattern 1 of A.*look-ahead"),
        ({"kind": "A", "patterns": ((r"a", 0.0),)}, "score"),
        ({"kind": "A", "words": ("a",), "words_score": 2.0}, "score"),
    ],
)
def test_a_custom_kind_that_cannot_be_is_a_mistake(options: dict[str, Any], says: str) -> None:
    with pytest.raises(ConfigError, match=says):
        Custom(**options)


def test_the_reach_is_that_of_the_longest() -> None:
    assert Pii().reach == 64
    assert Pii(custom=(Custom("A", words=("a b",), reach=200),)).reach == 200


# --- Presidio's objects and models -------------------------------------------------------------------------


def test_a_recognizer_of_presidios() -> None:
    from presidio_analyzer import Pattern, PatternRecognizer

    mine = PatternRecognizer(
        "SHIP", patterns=[Pattern("ship", r"\bSS [A-Z]\w+", 0.3)], deny_list=["Nautilus"], context=["ship"]
    )
    pii = Pii(recognizers=(mine,))
    text = "the ship SS Anna and Nautilus, no SOS in 1999"
    assert redact(text, pii.detect(text)) == "the ship <SHIP> and <SHIP>, no SOS in 1999"
    assert Pii(("SHIP",), recognizers=(mine,)).detect("jo@acme.com") == []


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model of one name, as spaCy saves them."""
    import spacy

    nlp = spacy.blank("en")
    ruler = nlp.add_pipe("entity_ruler")
    ruler.add_patterns([{"label": "PERSON", "pattern": "Ada Lovelace"}])  # type: ignore[attr-defined] # untyped
    folder = tmp_path_factory.mktemp("model") / "ada"
    nlp.to_disk(folder)
    return folder


def test_a_model_finds_names(model: Path) -> None:
    text = "Ada Lovelace, jo@acme.com"
    pii = Pii(("PERSON", "EMAIL_ADDRESS"), model=str(model))
    assert redact(text, pii.detect(text)) == "<PERSON>, <EMAIL_ADDRESS>"
    assert "PERSON" in {finding.kind for finding in Pii(model=str(model)).detect(text)}


def test_an_engine_finds_names(model: Path) -> None:
    from presidio_analyzer.nlp_engine import SpacyNlpEngine

    engine = SpacyNlpEngine(models=[{"lang_code": "en", "model_name": str(model)}])
    assert Pii(("PERSON",), nlp_engine=engine).detect("Ada Lovelace") == [
        Finding("PERSON", 0, 12, 0.85, "pii")
    ]


# --- hostile texts -----------------------------------------------------------------------------------------

HOSTILE = (
    *(
        "a.",
        "www.",
        "@",
        "1-",
        "1 ",
        "{",
        "a@",
        "a.a@",
        "a.in",
        "http://a",
        "a:",
        "1",
        "A1",
        "1.",
        "(1",
        "+1",
        "0 ",
    ),
    *("12345678 ", "020 7946 0", "DE89 ", "a!", '"a.com', "1\n", "1b", "1   ", "ext 1", "#1", "١", "\u2009"),
)


@pytest.mark.parametrize("unit", HOSTILE)
def test_no_character_is_shown_to_a_recognizer_twice(unit: str) -> None:
    text = unit * (20_000 // len(unit))
    for spans in (islands(text), near_digits(text, 66)):
        assert all(start < end for start, end in spans)
        assert all(one[1] <= other[0] for one, other in pairwise(spans))
    parts = [(start, end) for start, _, _, end in stretches(text)]
    assert sum(end - start for start, end in parts) <= 6 * len(text)  # 14 characters around at least 4


class Counting(Phones):
    """Counts the characters of what is parsed or judged."""

    steps = 0

    def _judged(self, candidate: str, seen: Any) -> tuple[str, ...]:
        self.steps += len(candidate)
        return super()._judged(candidate, seen)

    def _walk(self, stretch: str, region: str, seen: Any) -> set[tuple[int, int]]:
        self.steps += len(stretch)
        return super()._walk(stretch, region, seen)

    def _first_accepted(self, stretch: str, region: str, candidates: Any, seen: Any) -> Any:
        self.steps += sum(len(candidate) for candidate, _ in candidates)
        return super()._first_accepted(stretch, region, candidates, seen)


@pytest.mark.parametrize("unit", HOSTILE)
def test_looking_for_telephone_numbers_takes_linear_steps(unit: str) -> None:
    steps = []
    for size in (4_000, 8_000):
        phones = Counting(("US", "GB", "DE", "FR", "IL", "IN", "CA", "BR"), 1, 0.4)
        list(phones.find(unit * (size // len(unit))))
        steps.append(phones.steps)
    assert steps[0] <= 400 * 4_000
    assert steps[1] <= 2.2 * steps[0] + 1000
