"""Patterns of known attacks. A match does not decide: it adds to the log odds that the model gives a window.

Rules know what the model cannot: word order ("*ignore* ... *instructions*") and exact markup. The model
knows what rules cannot: what the rest of the text is about. A rule that meets a text that discusses attacks,
or that quotes one, is outvoted.

Every pattern is compiled by RE2, so that time is linear in the text; gaps are bounded and do not cross a line
or the end of a sentence. Only what turns an order round is looked for with `re`, in a few characters beside a
match. A few passes over the text ask which rules match at all; only those look for places, and each reports
at most `MOST` of them.

What each rule costs and finds is measured by `training/jailbreak.py` and stands in `weights/jailbreak.md`.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Iterable, Iterator
from itertools import islice
from typing import Any, NamedTuple, Self

from guardrails.filters.jailbreak_patterns import RULES, Negation

MOST = 64
PLEAS = 256  # no honest text has more of one rule; behind them a negation is not looked for any more
_PASSES = (
    5  # all rules in one automaton have so many states that it forgets them and begins anew: 20 times slower
)


class Match(NamedTuple):
    """Rule number `rule` matches `text[start:end]`."""

    rule: int
    start: int
    end: int


def matches(text: str) -> list[Match]:
    """Where rules match, rule by rule. One that opens a quotation is left out: somebody talks about it."""
    which = _compiled()
    data = text.encode("utf-8", "replace")  # a lone surrogate becomes one "?"
    found: list[Match] = []
    for rule in which.matching(data):
        beside = which.beside[rule]
        if beside is None or beside.search(data) is not None:
            spans = _spans(which.each[rule], which.negations[rule], data)
            places = (Match(rule, start, end) for start, end in _places(spans, data))
            found += islice((match for match in places if not _quoted(text, match.start)), MOST)
    return found


def _spans(pattern: Any, negation: _Negations | None, data: bytes) -> Iterator[tuple[int, int]]:
    """Where the pattern matches, in bytes. An order that is turned round is none, and may hold a true one."""
    if negation is None:
        yield from (hit.span() for hit in pattern.finditer(data))
        return
    at = pleas = 0
    while (hit := pattern.search(data, at)) is not None:
        start, at = hit.span()
        if pleas < PLEAS and negation.turns_round(data, start, at):
            pleas += 1
            at = start + len(data[start : start + 4].decode("utf-8", "ignore")[0].encode())
        else:
            yield start, at


def _places(spans: Iterable[tuple[int, int]], data: bytes) -> Iterator[tuple[int, int]]:
    """The spans in characters; each byte is decoded once."""
    byte = character = 0
    for start, end in spans:
        first = character + len(data[byte:start].decode())
        byte, character = end, first + len(data[start:end].decode())
        yield first, character


_FRENCH_NOT = re.compile(r"\bn[’'`´]$")
_QUOTES = frozenset("\"'`“”‘’«»„‚")


def _quoted(text: str, start: int) -> bool:
    """Whether a quotation mark stands right before the place, or before a polite word there."""
    before = text[max(0, start - 12) : start].lower().rstrip()
    if _FRENCH_NOT.search(before):
        return False
    return before.removesuffix("please").removesuffix("bitte").rstrip()[-1:] in _QUOTES


_REACH = 192  # bytes on either side in which a negation is looked for, and what it stands under


class _Negations(NamedTuple):
    before: re.Pattern[str]
    second: re.Pattern[str]
    last: re.Pattern[str]
    under: re.Pattern[str]

    @classmethod
    def of(cls, negation: Negation) -> Self:
        """The patterns with their anchors."""
        given = (f"(?:{negation.before})$", negation.second, negation.last, negation.under)
        return cls(*(re.compile(pattern, re.IGNORECASE) for pattern in given))

    def turns_round(self, data: bytes, start: int, end: int) -> bool:
        """Whether the order in these bytes is a plea not to do that."""
        before = _plain(data[max(0, start - _REACH) : start])
        order = _plain(data[start : min(start + 2 * _REACH, end + _REACH)])
        after = _plain(data[end : end + _REACH])
        said = self.before.search(before) or self.second.match(order) or self.last.match(after)
        return bool(said) and self.under.search(before) is None


def _plain(data: bytes) -> str:
    # Lines stay apart: what stands on the one before is another sentence.
    return re.sub(r"[^\S\n]+", " ", data.decode("utf-8", "ignore"))


class _Compiled(NamedTuple):
    together: list[Any]  # the rules 0, `_PASSES`, 2 · `_PASSES` …, then 1, …
    each: list[Any]
    beside: list[Any]
    negations: list[_Negations | None]

    def matching(self, data: bytes) -> list[int]:
        """The rules whose pattern occurs, in order."""
        passes = enumerate(self.together)
        return sorted(first + _PASSES * hit for first, rules in passes for hit in rules.Match(data) or ())


@functools.cache
def _compiled() -> _Compiled:
    import re2

    options = re2.Options()
    options.case_sensitive = False
    options.log_errors = False
    options.max_mem = 1 << 23  # each; with too little, a set finds nothing and does not say so
    together = []
    for first in range(_PASSES):
        rules = re2.Set.SearchSet(options)
        for rule in RULES[first::_PASSES]:
            rules.Add(rule.pattern)
        rules.Compile()
        together.append(rules)
    return _Compiled(
        together,
        [re2.compile(rule.pattern.encode(), options) for rule in RULES],
        [re2.compile(rule.beside.encode(), options) if rule.beside else None for rule in RULES],
        [_Negations.of(rule.negation) if rule.negation else None for rule in RULES],
    )
