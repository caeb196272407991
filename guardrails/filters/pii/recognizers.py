"""What finds a kind: Presidio's recognizers, shown only the places of a text where they could match.

A recognizer's patterns run by themselves, with Presidio's own checks (sums, forbidden numbers) behind them:
the same matches, spans and scores, without the objects that `analyze` makes for each. Where a recognizer
does more than that, its `analyze` is called.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any, cast

from guardrails.filters.pii.addresses import own_emails, own_urls, presidio_emails, presidio_urls
from guardrails.filters.pii.context import Rules, Words, hints
from guardrails.filters.pii.phone import Phones
from guardrails.filters.pii.sieve import Find, Kind, Match, Sieve
from guardrails.filters.pii.spots import Span, islands, near_digits

__all__ = ["SHAPES", "Match", "Recognizer", "Text", "catalogue", "load", "of_object", "uncontained"]


class Text:
    """A text, and what was worked out about it so far, once for all recognizers."""

    __slots__ = ("_artifacts", "_near", "_places", "_words", "raw")

    def __init__(self, raw: str) -> None:
        self.raw = raw
        self._places: dict[str, list[tuple[int, int, Find]]] | None = None
        self._near: list[Span] | None = None
        self._words: Words | None = None
        self._artifacts: Any = None

    def places(self, kind: str) -> Sequence[tuple[int, int, Find]]:
        """Where identifiers of a default kind could stand, and what finds them there."""
        if self._places is None:
            self._places = {}
            could = _sieve()
            for start, end in islands(self.raw):
                for name, find in could(self.raw[start:end]):
                    self._places.setdefault(name, []).append((start, end, find))
        return self._places.get(kind, ())

    @property
    def near_digits(self) -> list[Span]:
        """Where the identifiers of other countries could be."""
        if self._near is None:
            self._near = near_digits(self.raw, _LONGEST)
        return self._near

    @property
    def words(self) -> Words:
        """Its words, for the context of a match."""
        if self._words is None:
            self._words = Words(self.raw)
        return self._words

    def artifacts(self, engine: Any) -> Any:
        """What a language model makes of it."""
        if self._artifacts is None:
            self._artifacts = engine.process_text(self.raw, "en")
        return self._artifacts


@dataclass(frozen=True, slots=True)
class Recognizer:
    """`find` yields matches of one kind; one of them scores more near a context word."""

    kind: str
    find: Callable[[Text], Iterable[Match]]
    context: re.Pattern[str] | None


@dataclass(frozen=True, slots=True)
class Shape:
    """Which recognizer finds a default kind, and what the words around a match hold at least.

    `by_hint`: the hint says enough. (CRYPTO's pattern has more states than an automaton should have, and an
    IBAN goes on across words without digits.)
    """

    recognizer: str
    hint: str = ""
    by_hint: bool = False


_DATE = r"\d/\d|\d-\d{1,2}-\d|\d\.\d{1,2}\.\d|[a-z]{3}-\d|\d-[a-z]{3}"
SHAPES = {
    "CREDIT_CARD": Shape("CreditCardRecognizer", r"(?:\d\D*){13}"),
    "CRYPTO": Shape("CryptoRecognizer", r"[a-z0-9]{26}", by_hint=True),
    "DATE_TIME": Shape("DateRecognizer", _DATE),
    "EMAIL_ADDRESS": Shape("EmailRecognizer"),
    "IBAN_CODE": Shape("IbanRecognizer", r"[a-z]{2}\d\d", by_hint=True),
    "IP_ADDRESS": Shape("IpRecognizer", r"::|[0-9a-f]:[0-9a-f]|\d\.\d"),
    "MAC_ADDRESS": Shape("MacAddressRecognizer", r"[0-9a-f]{2}[:-][0-9a-f]{2}|[0-9a-f]{4}\.[0-9a-f]{4}"),
    "MEDICAL_LICENSE": Shape("MedicalLicenseRecognizer", r"\d{7}"),
    "PHONE_NUMBER": Shape("PhoneRecognizer"),
    "UK_NHS": Shape("NhsRecognizer", r"\d{3}[- ]?\d{3}[- ]?\d{4}"),
    "URL": Shape("UrlRecognizer"),
    "US_BANK_NUMBER": Shape("UsBankRecognizer", r"\d{8}"),
    "US_DRIVER_LICENSE": Shape("UsLicenseRecognizer", r"\d{6}|[a-z]\d|\]\d"),
    "US_ITIN": Shape("UsItinRecognizer", r"9\d\d[- ]?\d\d"),
    "US_PASSPORT": Shape("UsPassportRecognizer", r"\d{8}"),
    "US_SSN": Shape("UsSsnRecognizer", r"\d{3}[- .]?\d{2}[- .]?\d{4}"),
    "UUID": Shape("UuidRecognizer", r"[0-9a-f]{8}-"),
}

_LONGEST = 66  # of an identifier with a digit, with two characters to look ahead
_LETTERS_ONLY = frozenset({"IT_FISCAL_CODE"})  # digits of it may be written as letters
# Takes any ten characters for a number when four digits follow anywhere in the text, in quadratic time.
_LEFT_OUT = frozenset({("IN_PAN", "PAN (Low)")})


@cache
def load(kind: str, rules: Rules) -> tuple[Recognizer, ...]:
    """The recognizers of a kind, made once per process: they keep nothing of the texts that they see."""
    if kind not in SHAPES:
        return tuple(of_catalogue(made(), kind, rules) for made in catalogue()[kind])
    from presidio_analyzer import predefined_recognizers

    shape = SHAPES[kind]
    known = getattr(predefined_recognizers, shape.recognizer)()
    return (Recognizer(kind, _finder(kind, known, shape, rules), hints(known.context, rules)),)


def _finder(kind: str, known: Any, shape: Shape, rules: Rules) -> Callable[[Text], Iterable[Match]]:
    if kind == "EMAIL_ADDRESS":
        emails = own_emails() if rules == "own" else presidio_emails()
        return lambda text: emails(text.raw)
    if kind == "URL":
        urls = own_urls() if rules == "own" else presidio_urls()
        return lambda text: uncontained(urls(text.raw))
    if kind == "PHONE_NUMBER":
        phones = Phones(tuple(known.supported_regions), known.leniency, known.SCORE)
        return lambda text: uncontained(phones.find(text.raw))
    if kind == "IBAN_CODE":
        ibans = [_ibans(known, rules, re.IGNORECASE)]
        if rules == "own":
            ibans.append(_ibans(known, rules, 0))

        def find_ibans(text: Text) -> list[Match]:
            spans = [(start, end) for start, end, _ in text.places(kind)]
            return uncontained(match for find in ibans for match in find(text.raw, spans))

        return find_ibans

    _sieve()  # now, so that no text has to wait for it

    def find(text: Text) -> list[Match]:
        found: list[Match] = []
        for start, end, pattern in text.places(kind):
            found += pattern(text.raw, start, end)
        return uncontained(found) if found else found

    return find


@cache
def _sieve() -> Sieve:
    from presidio_analyzer import predefined_recognizers

    kinds = {}
    for kind, shape in SHAPES.items():
        if not shape.hint:
            continue
        known = getattr(predefined_recognizers, shape.recognizer)()
        finds = [("" if shape.by_hint else pattern.regex, find) for pattern, find in _patterns(known)]
        kinds[kind] = Kind(shape.hint, finds)
    return Sieve(kinds)


def of_catalogue(known: Any, kind: str, rules: Rules) -> Recognizer:
    """A predefined recognizer of Presidio that is not on by default."""
    from presidio_analyzer import PatternRecognizer

    if not isinstance(known, PatternRecognizer):
        return of_object(known, kind, rules)
    patterns = [pattern for _, pattern in _patterns(known, kind)]
    whole = kind in _LETTERS_ONLY

    def find(text: Text) -> list[Match]:
        spans = [(0, len(text.raw))] if whole else text.near_digits
        return uncontained(
            match for start, end in spans for pattern in patterns for match in pattern(text.raw, start, end)
        )

    return Recognizer(kind, find, hints(known.context or (), rules))


def of_object(known: Any, kind: str, rules: Rules, engine: Any = None) -> Recognizer:
    """Any `EntityRecognizer` of a user's, by its `analyze`; with `engine`, one that wants a model's view."""

    def find(text: Text) -> list[Match]:
        artifacts = text.artifacts(engine) if engine is not None else None
        results = known.analyze(text.raw, [kind], artifacts) or []
        return [(r.start, r.end, r.score) for r in results if r.entity_type == kind and r.score > 0]

    return Recognizer(kind, find, hints(known.context or (), rules))


@cache
def catalogue() -> dict[str, list[Callable[[], Any]]]:
    """The classes that find a kind beyond the defaults, and need no model for it."""
    from presidio_analyzer import PatternRecognizer, predefined_recognizers

    found: dict[str, list[Callable[[], Any]]] = {}
    for name in predefined_recognizers.__all__:
        made: Any = getattr(predefined_recognizers, name)
        if not isinstance(made, type):
            continue
        if issubclass(made, PatternRecognizer | predefined_recognizers.PhoneRecognizer):
            for kind in cast(Any, made)().supported_entities:
                if kind not in SHAPES:
                    found.setdefault(kind, []).append(made)
    return found


def _patterns(known: Any, kind: str = "") -> list[tuple[Any, Find]]:
    import regex  # type: ignore[import-untyped] # it has no types

    return [
        (pattern, _pattern(known, regex.compile(pattern.regex, known.global_regex_flags), pattern.score))
        for pattern in known.patterns
        if (kind, pattern.name) not in _LEFT_OUT
    ]


def _pattern(known: Any, pattern: Any, score: float) -> Find:
    from presidio_analyzer import PatternRecognizer

    cls = type(known)
    checked = cls.validate_result is not PatternRecognizer.validate_result
    checked = checked or cls.invalidate_result is not PatternRecognizer.invalidate_result

    def find(text: str, start: int, end: int) -> list[Match]:
        found = []
        # Two characters more, for what a pattern wants to see behind the match.
        for match in pattern.finditer(text, start, end + 2):
            first, last = match.span()
            if first >= end or first == last:
                continue
            valid = None
            if checked:
                word = text[first:last]
                valid = known.validate_result(word)
                if (valid is not None and not valid) or known.invalidate_result(word):
                    continue
            found.append((first, last, score if valid is None else 1.0))
        return found

    return find


def _ibans(known: Any, rules: Rules, case: int) -> Callable[[str, list[Span]], Iterator[Match]]:
    """As `IbanRecognizer` reads them: the match, or what is left of it without its last groups.

    Presidio's registry makes it ignore case, though the recognizer by itself does not.
    """
    import regex

    flags = regex.DOTALL | regex.MULTILINE | case
    patterns = [(regex.compile(pattern.regex, flags), pattern.score) for pattern in known.patterns]

    def valid(word: str) -> bool | None:
        upper = word.upper()
        if (
            not upper.isascii()
        ):  # signs that lower and upper case Latin letters share: it would log the number
            return False
        return known.validate_result(upper if rules == "own" else word)  # type: ignore[no-any-return] # untyped

    def find(text: str, spans: list[Span]) -> Iterator[Match]:
        for pattern, score in patterns:
            done = 0
            for start, end in spans:
                # It goes on across words without digits, but begins in one with two.
                for match in pattern.finditer(text, max(start, done), min(len(text), end + _LONGEST)):
                    first = match.start()
                    if first >= end:
                        break
                    done = match.end()
                    for group in range(len(match.groups()), 0, -1):
                        last = match.end(group) if match.end(group) > 0 else done
                        right = valid(text[first:last])
                        if right is None or right:
                            yield first, last, score if right is None else 1.0
                            break

    return find


def uncontained(matches: Iterable[Match]) -> list[Match]:
    """The matches of one kind without those that lie in another of at least their score."""
    matches = list(matches)
    if len(matches) < 2:
        return matches
    kept: list[Match] = []
    active: list[Match] = []
    for start, end, score in sorted(set(matches), key=lambda m: (m[0], m[0] - m[1], -m[2])):
        active = [other for other in active if other[1] >= start]
        if not any(end <= other[1] and score <= other[2] for other in active):
            active.append((start, end, score))
            kept.append((start, end, score))
    return kept
