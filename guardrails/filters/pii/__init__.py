"""Personal data by pattern: what Presidio's recognizers find, many times faster, without model and network.

A cheap linear pass finds the places where something could be (digits, an `@`, a dot before a letter); only
there do Presidio's own patterns and checks run. `Pii(rules="presidio")` gives exactly the kinds, spans and
scores of its `AnalyzerEngine` with words for lemmas, as they are before overlaps between kinds are resolved.
The tests hold the two against each other.

`rules="own"`, the default, differs where Presidio's rule is plainly wrong:

- **Context words.** Presidio finds "us" in "business" and "tin" in "testing". Here a context word begins a
  word of the text ("card" in "cards"; also after an underscore), and one of up to three letters is all of it.
- **URL.** Presidio takes "sentence.Th" of "end of a sentence.This", and of `https://jo:pw@shop.com:80/a?b`
  leaves credentials, port and query behind where no path comes first. Here a URL ends with a registrable
  domain of tldextract's bundled list and takes these along, up to a space or a script without spaces.
- **EMAIL_ADDRESS.** Presidio takes Chinese or Japanese neighbours for a part of the address, and then finds
  nothing, nor does it find one with `/`, `?` or `#` before the `@`. Here both are found. (Presidio's first
  match also makes tldextract fetch a new list over the network; here the bundled list counts.)
- **IBAN_CODE.** Presidio finds no lower-case one (and, told to ignore case, takes the word after one for its
  continuation). Here one is read with and without regard to case.

Under both rules: of `IN_PAN` the third pattern is left out, which takes any ten characters for a number when
four digits follow anywhere in the text, in quadratic time; what is found of other countries' identifiers is
at most 64 characters long; and the digits in `www2.` are ASCII's.

What is not covered: anything that only meaning gives away (see `nlp_engine`), and secrets.
"""

from __future__ import annotations

import re
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from guardrails.errors import ConfigError
from guardrails.filters.detector import Finding
from guardrails.filters.pii import spots
from guardrails.filters.pii.context import Rules, lifted
from guardrails.filters.pii.custom import Custom
from guardrails.filters.pii.recognizers import (
    SHAPES,
    Match,
    Recognizer,
    Text,
    catalogue,
    load,
    of_object,
    uncontained,
)
from guardrails.filters.window import earliest

__all__ = ["ENTITIES", "Custom", "Pii"]

ENTITIES = tuple(SHAPES)
"""Every kind that `Pii` finds by default."""

_NEED_A_MODEL = frozenset({"PERSON", "LOCATION", "NRP", "ORGANIZATION"})
_SURROGATE = re.compile("[\ud800-\udfff]")
_loading = threading.Lock()


@dataclass(frozen=True, slots=True)
class Pii:
    """Finds personal data by pattern (a `Detector`); the kinds are Presidio's.

    `entities` picks some: those of `ENTITIES`, and every other that one of Presidio's predefined pattern
    recognizers finds ("ES_NIF", "AU_TFN"; its API reference lists them). None: all of `ENTITIES`.

    `threshold` is the least score of a finding. 0.4 is what one supporting word lifts a weak pattern to, and
    the score of a phone number that stands alone: nine bare digits (0.05) pass, "ssn 123456789" is found.

    `rules`: "own", or "presidio" for exactly what Presidio finds; the module's docstring has the differences.
    Under "presidio" an address among Chinese or Japanese words may be longer than `reach` promises.

    `custom` adds kinds of your own; `recognizers` adds Presidio's objects (`PatternRecognizer(...)`,
    `GLiNERRecognizer(...)`) as they are: how long they take, and whether they are safe in threads, is theirs.

    `nlp_engine`: a Presidio engine (spaCy, Stanza, Transformers) that finds names and places; `model` is
    short for a spaCy model that is installed ("en_core_web_sm"). Nothing is ever downloaded.

    The first detection imports Presidio (about 1.5 s, most of it spaCy); `warm()` does it when you like.
    """

    entities: tuple[str, ...] | None = None
    threshold: float = 0.4
    rules: Rules = "own"
    custom: tuple[Custom, ...] = ()
    recognizers: tuple[Any, ...] = ()
    nlp_engine: Any = field(default=None, repr=False)
    model: str | None = None
    name: str = field(default="pii", init=False)
    _plan: list[Recognizer] = field(default_factory=list, init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        if not 0 < self.threshold <= 1:
            raise ConfigError(f"pii: threshold is {self.threshold}, but scores lie above 0 and up to 1")
        if self.rules not in ("own", "presidio"):
            raise ConfigError(f"pii: rules is {self.rules!r}; choose own or presidio")
        if self.model is not None and not _installed(self.model):
            raise ConfigError(
                f"pii: the spaCy model {self.model} is not installed",
                hint=f"python -m spacy download {self.model}",
            )
        known = {*SHAPES, *(_NEED_A_MODEL if self._has_model else ()), *self._added}
        wrong = [entity for entity in self.entities or () if entity not in known]
        if wrong and not _NEED_A_MODEL.issuperset(wrong):
            wrong = [entity for entity in wrong if entity not in catalogue()]
        if wrong:
            raise _unknown(wrong)

    @property
    def reach(self) -> int:
        """How far a finding goes on past a space: the longest are IBANs and numbers with an extension."""
        return max(64, *(custom.reach for custom in self.custom), 0)

    @property
    def _has_model(self) -> bool:
        return self.nlp_engine is not None or self.model is not None

    @property
    def _added(self) -> set[str]:
        """The kinds that custom recognizers and objects find."""
        own = {custom.kind for custom in self.custom}
        return own.union(*(known.supported_entities for known in self.recognizers))

    def warm(self) -> None:
        """Load now what the first detection would load. Safe in any thread."""
        if not self._plan:
            with _loading:
                if not self._plan:
                    self._plan.extend(self._recognizers())

    def detect(self, text: str) -> list[Finding]:
        """All findings of at least `threshold`, none inside another of the same kind and no lower score."""
        if not self._plan:
            self.warm()
        if not text.isascii():
            text = _SURROGATE.sub("\ufffd", text)  # half a character, as JSON can spell it, is not text
        looked = Text(text)
        found: dict[str, list[Match]] = {}
        for recognizer in self._plan:
            for start, end, raw in recognizer.find(looked):
                context, score = recognizer.context, raw
                if raw < 1 and context is not None and context.search(looked.words.near(start)):
                    score = lifted(raw)
                if score >= self.threshold:
                    found.setdefault(recognizer.kind, []).append((start, end, score))
        return [
            Finding(kind, start, end, score, self.name)
            for kind, matches in found.items()
            for start, end, score in uncontained(matches)
        ]

    def begins(self, text: str, start: int) -> int | None:
        """Where a finding could begin, from `start` on (see `Detector`).

        Of kinds that are neither in `ENTITIES` nor `custom` nothing is known: they could begin anywhere.
        """
        own = {custom.kind for custom in self.custom}
        if self.recognizers or self._has_model or not SHAPES.keys() | own >= set(self.entities or ()):
            return start
        return earliest((spots.begins, *(custom.begins for custom in self.custom)), text, start)

    def _recognizers(self) -> Iterator[Recognizer]:
        """What finds the kinds that are asked for, and what was added unless `entities` leaves it out."""
        wanted = self.entities
        for kind in ENTITIES if wanted is None else wanted:
            if kind in SHAPES or kind in catalogue():
                yield from load(kind, self.rules)
        for custom in self.custom:
            if wanted is None or custom.kind in wanted:
                yield custom.recognizer(self.rules)
        for known in self.recognizers:
            for kind in known.supported_entities:
                if wanted is None or kind in wanted:
                    yield of_object(known, kind, self.rules, self.nlp_engine)
        if self._has_model:
            yield from self._of_model(wanted)

    def _of_model(self, wanted: tuple[str, ...] | None) -> Iterator[Recognizer]:
        from presidio_analyzer.nlp_engine import SpacyNlpEngine
        from presidio_analyzer.recognizer_registry import RecognizerRegistry

        engine = self.nlp_engine
        if engine is None and self.model is not None:
            engine = SpacyNlpEngine(models=[{"lang_code": "en", "model_name": self.model}])
        if not engine.is_loaded():
            engine.load()
        entities = [kind for kind in engine.get_supported_entities() if wanted is None or kind in wanted]
        known = RecognizerRegistry.get_nlp_recognizer(engine)(supported_entities=entities)
        for kind in entities:
            yield of_object(known, kind, self.rules, engine)


def _installed(model: str) -> bool:
    return Path(model).is_dir() or (model.isidentifier() and find_spec(model) is not None)


def _unknown(kinds: list[str]) -> ConfigError:
    names = ", ".join(kinds)
    if _NEED_A_MODEL.intersection(kinds):
        return ConfigError(
            f"pii: no pattern finds {names} (names, places and organisations need a language model)",
            hint="python -m spacy download en_core_web_sm, then Pii(model='en_core_web_sm'); or choose from "
            f"{', '.join(ENTITIES)}",
        )
    more = ", ".join(sorted(catalogue()))
    return ConfigError(
        f"pii: no pattern finds {names}",
        hint=f"choose from {', '.join(ENTITIES)}; {more}; or pass a Custom for it",
    )
