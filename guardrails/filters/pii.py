"""Personal data by pattern: Presidio's recognizers for English, without a model and without the network.

Two things are our own. **Context words** ("ssn:" before nine digits) follow Presidio's rule, +0.35 and at
least 0.4 for one of the recognizer's words among the five before the match, on plain words instead of a
model's lemmas. **E-mail addresses and URLs** are found by linear-time patterns.

Deliberate differences from Presidio's default engine:

- No model, so no names, places or organisations: asking for them is a `ConfigError`.
- URL: Presidio's pattern takes seconds for 4,000 hostile characters (`"a." * 2000`). Ours is linear, ends
  with a registrable domain from tldextract's bundled list, and takes port, query and credentials along.
- EMAIL_ADDRESS: the same shape, linear, and checked against the bundled list; Presidio's first match makes
  tldextract fetch a new list over the network.
- IBAN_CODE: read once with and once without regard to case. Presidio ignores case, takes the lower-case word
  after an IBAN for its continuation and misses it; for lower-case ones it logs the number.
- A context word longer than three letters may begin the word in the text ("card" in "cards"), a shorter one
  has to be it: Presidio finds "us" in "business" and "tin" in "testing".
- A recognizer runs only where a cheap look says that it could match (an `@`, enough digits).

What is not covered: anything that only meaning gives away, other countries' identifiers, secrets, and IDN
addresses in scripts that are written without spaces.
"""

from __future__ import annotations

import re
import threading
from bisect import bisect_right
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

from guardrails.errors import ConfigError
from guardrails.filters.detector import Finding


@dataclass(frozen=True, slots=True)
class _Shape:
    """What a text needs for a recognizer (its class name in Presidio; empty: ours) to find anything."""

    recognizer: str = ""
    digits: int = 0
    hint: str = ""


_SHAPES = {
    "CREDIT_CARD": _Shape("CreditCardRecognizer", digits=12),
    "CRYPTO": _Shape("CryptoRecognizer", hint=r"(?:bc1|[13])[a-z0-9]{25}"),
    "DATE_TIME": _Shape("DateRecognizer", digits=1, hint=r"\d[-/.]|[a-z]{3}-\d"),
    "EMAIL_ADDRESS": _Shape(hint="@"),
    "IBAN_CODE": _Shape("IbanRecognizer", digits=2, hint=r"[a-z]{2}\d\d"),
    "IP_ADDRESS": _Shape("IpRecognizer", hint=r"::|[0-9a-f]:[0-9a-f]|\d\.\d"),
    "MAC_ADDRESS": _Shape(
        "MacAddressRecognizer", hint=r"[0-9a-f]{2}[:-][0-9a-f]{2}|[0-9a-f]{4}\.[0-9a-f]{4}"
    ),
    "MEDICAL_LICENSE": _Shape("MedicalLicenseRecognizer", digits=7),
    "PHONE_NUMBER": _Shape("PhoneRecognizer", digits=4),
    "UK_NHS": _Shape("NhsRecognizer", digits=10),
    "URL": _Shape(hint=r"\w\.\w"),
    "US_BANK_NUMBER": _Shape("UsBankRecognizer", digits=8),
    "US_DRIVER_LICENSE": _Shape("UsLicenseRecognizer", digits=1),
    "US_ITIN": _Shape("UsItinRecognizer", digits=9),
    "US_PASSPORT": _Shape("UsPassportRecognizer", digits=8),
    "US_SSN": _Shape("UsSsnRecognizer", digits=9),
    "UUID": _Shape("UuidRecognizer", hint=r"[0-9a-f]{8}-"),
}

ENTITIES = tuple(_SHAPES)
"""Every kind that `Pii` can find."""

_NEED_A_MODEL = frozenset({"PERSON", "LOCATION", "NRP", "ORGANIZATION"})


@dataclass(frozen=True, slots=True)
class Pii:
    """Finds personal data by pattern (a `Detector`); the kinds are Presidio's, `entities` picks some.

    `threshold` is the least score of a finding. 0.4 is what one supporting word lifts a weak pattern to, and
    the score of a phone number that stands alone: nine bare digits (0.05) pass, "ssn 123456789" is found.

    The first detection imports Presidio (about 2 s); `warm()` does it at a time of your choice.
    """

    entities: tuple[str, ...] | None = None
    threshold: float = 0.4
    name: str = field(default="pii", init=False)
    reach: int = field(default=64, init=False)  # the longest are spaced IBANs and numbers with an extension

    def __post_init__(self) -> None:
        wrong = [entity for entity in self.entities or () if entity not in _SHAPES]
        if wrong:
            model = _NEED_A_MODEL.intersection(wrong)
            why = " (names, places and organisations need a language model)" if model else ""
            raise ConfigError(
                f"pii: no pattern finds {', '.join(wrong)}{why}",
                hint=f"choose from {', '.join(ENTITIES)}, or write a Detector for it",
            )
        if not 0 < self.threshold <= 1:
            raise ConfigError(f"pii: threshold is {self.threshold}, but scores lie above 0 and up to 1")

    def warm(self) -> None:
        """Load now what the first detection would load. Safe in any thread."""
        for entity in self.entities or ENTITIES:
            _recognizer(entity)

    def detect(self, text: str) -> list[Finding]:
        """All findings of at least `threshold`."""
        text = _SURROGATE.sub("\ufffd", text)  # half a character, as JSON can spell it, has no UTF-8 for re2
        digits = len(_DIGIT.findall(text))
        words: _Words | None = None
        out = []
        for entity in self.entities or ENTITIES:
            if digits < _SHAPES[entity].digits or not _HINTS[entity].search(text):
                continue
            recognizer = _recognizer(entity)
            for start, end, raw in recognizer.find(text):
                words = words or _Words(text)
                lifted = words.before(start, recognizer.context)
                score = min(1.0, max(0.4, raw + 0.35)) if lifted else raw
                if score >= self.threshold:
                    out.append(Finding(entity, start, end, score, self.name))
        return out


_DIGIT = re.compile(r"\d")
_SURROGATE = re.compile("[\ud800-\udfff]")
_HINTS = {entity: re.compile(shape.hint, re.IGNORECASE) for entity, shape in _SHAPES.items()}


# --- context words -----------------------------------------------------------------------------------------

_WORD = re.compile(r"\w+")
# Too frequent to take one of the five places.
_STOPWORDS = frozenset(
    _WORD.findall(
        "a an and are as at be but by for from has have he her his i in is it its my of on or our she that "
        "the their them they this to was we were will with you your"
    )
)


class _Words:
    """The words of a text, to be asked which of them stand before a place."""

    __slots__ = ("_starts", "_words")

    def __init__(self, text: str) -> None:
        found = [(m.start(), m.group().lower()) for m in _WORD.finditer(text)]
        kept = [(start, word) for start, word in found if word not in _STOPWORDS]
        self._starts = [start for start, _ in kept]
        self._words = [word for _, word in kept]

    def before(self, position: int, context: tuple[str, ...]) -> bool:
        """Whether the word at `position` or one of the five before it is a word of `context`."""
        last = bisect_right(self._starts, position)
        here = last > 0 and self._starts[last - 1] + len(self._words[last - 1]) > position
        near = self._words[max(0, last - 5 - here) : last]
        return any(
            word == hint or (len(hint) > 3 and word.startswith(hint)) for word in near for hint in context
        )


# --- recognizers -------------------------------------------------------------------------------------------

_Match = tuple[int, int, float]


@dataclass(frozen=True, slots=True)
class _Recognizer:
    find: Callable[[str], Iterator[_Match]]
    context: tuple[str, ...]


_loaded: dict[str, _Recognizer] = {}
_loading = threading.Lock()


def _recognizer(entity: str) -> _Recognizer:
    """The entity's recognizer, made once per process: it keeps nothing of the texts that it sees."""
    found = _loaded.get(entity)
    if found is None:
        with _loading:
            found = _loaded.get(entity) or _loaded.setdefault(entity, _load(entity))
    return found


def _load(entity: str) -> _Recognizer:
    if entity == "EMAIL_ADDRESS":
        return _Recognizer(_emails(), ("email",))
    if entity == "URL":
        return _Recognizer(_urls(), ("url", "website", "link"))
    from presidio_analyzer import predefined_recognizers

    recognizers = [getattr(predefined_recognizers, _SHAPES[entity].recognizer)()]
    if entity == "IBAN_CODE":
        recognizers.append(_any_case_iban(type(recognizers[0])))
    context = tuple(word.lower() for word in recognizers[0].context)

    def find(text: str) -> Iterator[_Match]:
        for recognizer in recognizers:
            for result in recognizer.analyze(text, [entity], None):
                yield result.start, result.end, result.score

    next(find("0"), None)  # compiles its patterns
    return _Recognizer(find, context)


def _any_case_iban(base: type[Any]) -> Any:
    class AnyCaseIban(base):  # type: ignore[misc] # its class comes without types, and late
        """Checks the sum of a lower-case IBAN too, where the original logs it as an error."""

        def validate_result(self, pattern_text: str) -> bool | None:
            # Ignoring case also lets a few letters beyond ASCII pass for Latin ones.
            upper = pattern_text.upper()
            return bool(upper.isascii() and super().validate_result(upper))

    return AnyCaseIban(regex_flags=re.IGNORECASE)


# Letters of scripts that put spaces between words: in the others an address would take its neighbours along.
_LETTER = r"\p{Latin}\p{Greek}\p{Cyrillic}\p{Armenian}\p{Hebrew}\p{Arabic}\p{Devanagari}\pM\p{Nd}"
_LABEL = rf"[{_LETTER}_]+(?:-+[{_LETTER}_]+)*"


def _suffixes() -> Callable[[str], Any]:
    import tldextract

    # The list that came with the package: no download, no cache on disk.
    return tldextract.TLDExtract(suffix_list_urls=(), cache_dir=None)


def _emails() -> Callable[[str], Iterator[_Match]]:
    import re2

    pattern = re2.compile(rf"[{_LETTER}_][{_LETTER}_!#$%&'*+\-/=?^`{{|}}~.]*@({_LABEL}(?:\.{_LABEL})+)")
    split = _suffixes()

    def find(text: str) -> Iterator[_Match]:
        for match in pattern.finditer(text):
            if split(match.group(1)).fqdn:
                yield match.start(), match.end(), 1.0

    return find


def _urls() -> Callable[[str], Iterator[_Match]]:
    import re2

    stop = r"\s()<>\"'"
    pattern = re2.compile(
        rf"(?i)(https?://(?:[^@/{stop}]+@)?)?((?:{_LABEL}\.)+[{_LETTER}\-]+)(?::\d+)?(?:[/?#][^{stop}]*)?"
    )
    split = _suffixes()

    def find(text: str) -> Iterator[_Match]:
        for match in pattern.finditer(text):
            if split(match.group(2)).fqdn:
                yield match.start(), match.end(), 0.6 if match.group(1) else 0.5

    return find
