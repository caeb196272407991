"""promptfoo's assertions as scorers of ours.

One that has no exact counterpart is a problem, never left out and never replaced by something like it: a
test that asks for less than it says would pass too often. Two are ours in a detail: `equals` looks past white
space around the answer, and what a refusal is, the judge `refusal` says (an empty answer is none).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from math import isfinite
from typing import Any

from evalkit.rows import Problems, shown
from evalkit.sets.mapping import Unfit
from evalkit.sets.template import Template, TemplateError, is_template
from guardrails.errors import ConfigError
from guardrails.patterns import linear_pattern
from guardrails.source import parse_yaml

Loc = tuple[str | int, ...]
Written = tuple[str, Loc, Any]
"""An assertion as it was written, after what it is called in problems and where in the file it stands."""

_SURE = 2**53  # whole numbers up to here are the same text in JavaScript


@dataclass(slots=True)
class Told:
    """Takes the problems of a file, each once; the first unknown assertion says which ones are known."""

    problems: Problems
    line: Callable[[Loc], int]
    _seen: set[tuple[int, str, str]] = field(default_factory=set)
    _listed: bool = False

    def __call__(self, loc: Loc, place: str, reason: str) -> None:
        """Tell of a problem at a place of the file."""
        problem = (self.line(loc), place, reason)
        if problem not in self._seen:
            self._seen.add(problem)
            self.problems.add(*problem)

    def unknown(self, loc: Loc, place: str, kind: str) -> None:
        """Tell of an assertion that has no counterpart."""
        reason = f"is {shown(kind)}, which has no counterpart here"
        if judge := _JUDGES.get(kind.removeprefix("not-")):
            reason += f": put `{judge}` under the suite's `scorers`, which judge in place of all assertions"
        if not self._listed:
            self._listed = True
            reason += f"; what has one, each also with `not-` before it: {', '.join(sorted(ASSERTIONS))}"
        self(loc, place, reason)


@dataclass(frozen=True, slots=True)
class Assertion:
    """One that has a counterpart. `value` is the threshold, where it has that."""

    place: str
    loc: Loc
    kind: str
    denied: bool
    value: Any = field(repr=False)

    def scorer(self, values: Mapping[str, Any]) -> tuple[Any, list[str]]:
        """The scorer for these variables, and the answers that it says are right. Raises `Unfit`."""
        place = f"{self.place}.{'threshold' if self.kind in _THRESHOLD else 'value'}"
        if isinstance(self.value, list):
            value: Any = [rendered(each, values, place) for each in self.value]
        else:
            value = rendered(self.value, values, place)
        try:
            made = _COUNTERPARTS[self.kind](value)
        except _Odd as odd:
            raise Unfit(place, str(odd) or f"is nothing that {self.kind} can compare with") from None
        except ConfigError as error:  # of a pattern or a schema
            raise Unfit(place, error.message) from None
        right = self.kind in _RIGHT and not self.denied and not isinstance(value, list | dict)
        return {"not": made} if self.denied else made, [_text(value)] if right else []


def assertions(written: Iterable[Written], told: Told) -> Iterator[Assertion]:
    """Those that have a counterpart; the others are told."""
    for place, loc, each in written:
        kind = each.get("type") if isinstance(each, dict) else None
        if not isinstance(kind, str):
            told(loc, place, "must be an object with a type")
            continue
        bare = kind.removeprefix("not-")
        if kind != _SET and bare not in ASSERTIONS:
            told.unknown(loc, f"{place}.type", kind)
            continue
        odd = sorted(name for name in _CHANGES & each.keys() if _changes(name, each[name], bare))
        for name in odd:
            told((*loc, name), f"{place}.{name}", f"has no counterpart here: leave it out of {kind}")
        if kind == _SET:
            yield from assertions(_parts(place, loc, each, told), told)
        elif _outside(value := each.get("threshold" if bare in _THRESHOLD else "value")):
            told((*loc, "value"), f"{place}.value", f"names a file: write out what {kind} is to compare with")
        elif not odd:
            yield Assertion(place, loc, bare, bare != kind, value)


def numbered(place: str, loc: Loc, given: Any, told: Told) -> Iterator[Written]:
    """The assertions of a list, by their numbers in it."""
    if given is not None and not isinstance(given, list):
        told(loc, place, "must be a list")
        return
    for number, each in enumerate(given or ()):
        yield f"{place}[{number}]", (*loc, number), each


def rendered(value: Any, values: Mapping[str, Any], place: str) -> Any:
    """A text with the variables filled in; anything else as it is. Raises `Unfit`."""
    if not isinstance(value, str) or not is_template(value):
        return value
    try:
        return Template(value).render(values)
    except TemplateError as error:
        raise Unfit(place, f"the template {error.message}") from None


def _parts(place: str, loc: Loc, each: Any, told: Told) -> Iterator[Written]:
    """The assertions of a set, which all have to hold as if they stood alone."""
    return numbered(f"{place}.assert", (*loc, "assert"), each.get("assert"), told)


def _changes(name: str, value: Any, kind: str) -> bool:
    if name == "weight":
        return value not in (None, 1)
    return bool(value is not None and value is not False) and not (name == "threshold" and kind in _THRESHOLD)


def _outside(value: Any) -> bool:
    if isinstance(value, list):
        return any(isinstance(each, str) and each.startswith("file://") for each in value)
    return isinstance(value, str) and value.startswith(("file://", "package:"))


# --- counterparts ------------------------------------------------------------------------------------------


class _Odd(Exception):
    """A value that an assertion cannot compare with, and why; without words where that is plain."""


def _text(value: Any) -> str:
    """A value as promptfoo has it as text, which is as JavaScript writes it."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    if not isinstance(value, str | int | float) or value == "":
        raise _Odd
    text = str(value)
    sure = isinstance(value, str) or (isfinite(value) and abs(value) <= _SURE and "e" not in text)
    if not sure:
        raise _Odd("is a number that can be written in several ways: put it in quotes")
    return text


def _contains(*, fold: bool) -> Callable[[Any], Any]:
    return lambda value: _words([_text(value)], fold=fold, every=False)


def _listed(*, fold: bool, every: bool = False) -> Callable[[Any], Any]:
    def make(value: Any) -> Any:
        listed = _split(value) if isinstance(value, str) else value
        if not isinstance(listed, list) or not listed:
            raise _Odd
        return _words([_text(each) for each in listed], fold=fold, every=every)

    return make


def _words(words: list[str], *, fold: bool, every: bool) -> Any:
    return {"contains": {"words": words, "all": every, "casefold": fold, "whitespace": False}}


_PIECE = re.compile(r'[^"\\]+|""|\\["\\]|\\')
_ESCAPED = frozenset({'""', '\\"', "\\\\"})


def _split(text: str) -> list[str]:
    """What stands between commas, trimmed; a part in double quotes is whole, and `""` in it is a quote."""
    words: list[str] = []
    at = _behind(text, 0, ", ")
    while at < len(text):
        if text[at] == '"':
            word, at = _in_quotes(text, at + 1)
            words.append(word)
        else:
            end = text.find(",", at)
            end = len(text) if end < 0 else end
            words.append(text[at:end].strip())
            at = end
        at = _behind(text, at, ", ")
    return words


def _behind(text: str, at: int, skipped: str = " ") -> int:
    """The place behind white space and, where they are skipped too, commas."""
    while at < len(text) and (text[at].isspace() or text[at] in skipped):
        at += 1
    return at


def _in_quotes(text: str, at: int) -> tuple[str, int]:
    """The text up to the quote that ends it, and the place of the comma behind."""
    pieces: list[str] = []
    while (piece := _PIECE.match(text, at)) is not None:
        found = piece[0]
        pieces.append(found[1] if found in _ESCAPED else found)
        at = piece.end()
    if at == len(text):
        raise _Odd("has a double quote that nothing closes")
    at = _behind(text, at + 1)
    if at < len(text) and text[at] != ",":
        raise _Odd("goes on behind a double quote where a comma is due")
    return "".join(pieces), at


def _matching(pattern: str, **options: Any) -> Any:
    linear_pattern(pattern)
    return {"regex": {"pattern": pattern, **options}}


def _quoted(text: str) -> str:
    import re2

    return str(re2.escape(text))


def _equal(value: Any) -> Any:
    if isinstance(value, list | dict):
        return {"json_schema": {"schema": {"const": value}, "fence": False}}
    return _matching(_quoted(_text(value).strip()), full=True)


def _schema(value: Any) -> Any:
    if isinstance(value, str) and value.strip():
        value = parse_yaml(value, "the schema").data
    if value is not None and value != "" and not isinstance(value, dict):
        raise _Odd
    return {"json_schema": {"schema": value or {}, "fence": False}}


def _measured(judge: str, option: str, least: float = 0) -> Callable[[Any], Any]:
    def make(value: Any) -> Any:
        number = isinstance(value, int | float) and not isinstance(value, bool)
        if not (number and isfinite(value) and value > 0 and value >= least):
            raise _Odd(f"must be a number of at least {least}" if least else "must be a number above 0")
        return {judge: {option: value}}

    return make


_COUNTERPARTS: Mapping[str, Callable[[Any], Any]] = {
    "contains": _contains(fold=False),
    "icontains": _contains(fold=True),
    "contains-any": _listed(fold=False),
    "icontains-any": _listed(fold=True),
    "contains-all": _listed(fold=False, every=True),
    "icontains-all": _listed(fold=True, every=True),
    "equals": _equal,
    "starts-with": lambda value: _matching(r"\A" + _quoted(_text(value))),
    "ends-with": lambda value: _matching(_quoted(_text(value)) + r"\z"),
    "regex": lambda value: _matching(_text(value)),
    "is-json": _schema,
    "is-refusal": lambda value: {"refusal": {"expect": "refusal"}},
    "latency": _measured("latency", "e2e_ms"),
    "cost": _measured("cost", "max_usd"),
    "perplexity": _measured("perplexity", "max", least=1),
}
ASSERTIONS = frozenset(_COUNTERPARTS)
"""Those that have a counterpart."""

_SET = "assert-set"

_THRESHOLD = frozenset({"latency", "cost", "perplexity"})
_RIGHT = frozenset({"equals", "contains", "icontains"})
_CHANGES = frozenset({"threshold", "weight", "transform", "normalizeUnicode", "metricOnly"})
"""What changes the verdict of an assertion."""

_JUDGES = {
    "answer-relevance": "relevancy",
    "bleu": "bleu",
    "context-faithfulness": "faithfulness",
    "context-recall": "context_recall",
    "factuality": "reference",
    "g-eval": "g_eval",
    "javascript": "python",
    "llm-rubric": "rubric",
    "model-graded-closedqa": "rubric",
    "model-graded-factuality": "reference",
    "python": "python",
    "rouge-n": "rouge",
    "similar": "similar",
}
"""Judges that ask for something near: they call somebody, run code, or count in another way."""
