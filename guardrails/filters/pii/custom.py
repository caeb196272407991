"""Kinds of a user's own, by pattern or by list."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import cache

from guardrails.errors import ConfigError
from guardrails.filters.pii.context import Rules, hints
from guardrails.filters.pii.recognizers import Match, Recognizer, Text, uncontained
from guardrails.patterns import linear_pattern


@dataclass(frozen=True, slots=True)
class Custom:
    """A kind of your own, such as an employee's number.

    `patterns`: RE2 expressions, each with the score of its matches (case counts; write `(?i)` where it does
    not). `words`: found as whole words in any case, with `words_score`. One of `context` before a match
    lifts its score as it does for the other kinds. `reach`: how far a match can go on past a space.
    """

    kind: str
    patterns: tuple[tuple[str, float], ...] = ()
    words: tuple[str, ...] = ()
    words_score: float = 1.0
    context: tuple[str, ...] = ()
    reach: int = 64

    def __post_init__(self) -> None:
        if not self.kind:
            raise ConfigError("pii: a custom recognizer has no kind", hint='give one, such as "EMPLOYEE_ID"')
        if not self.patterns and not any(self.words):
            raise ConfigError(f"pii: {self.kind} has neither patterns nor words, so nothing can be found")
        for score in (self.words_score, *(score for _, score in self.patterns)):
            if not 0 < score <= 1:
                raise ConfigError(f"pii: {self.kind} has a score of {score}; scores lie above 0 and up to 1")
        for number, (pattern, _) in enumerate(self.patterns, start=1):
            try:
                linear_pattern(pattern)
            except ConfigError as error:
                raise ConfigError(f"pii: pattern {number} of {self.kind}: {error}") from None

    def begins(self, text: str, start: int) -> int | None:
        """Where a match could begin, from `start` on (see `detector.Detector`)."""
        places: list[int] = []
        words = _first_words(self.words)
        if words is not None and (word := words.search(text, start)) is not None:
            places.append(word.start())
        signs = _signs(tuple(pattern for pattern, _ in self.patterns))
        data = text[start:].encode("utf-8", "replace")
        if signs is not None and (sign := signs.search(data)) is not None:
            places.append(start + len(data[: sign.start()].decode("utf-8", "ignore")))
        return min(places, default=None)

    def recognizer(self, rules: Rules) -> Recognizer:
        """What finds it."""
        searches: list[Callable[[str], Iterable[Match]]] = [
            _search(pattern, score) for pattern, score in self.patterns
        ]
        words = "|".join(re.escape(word) for word in sorted(self.words, key=len, reverse=True) if word)
        if words:
            whole = re.compile(rf"(?<!\w)(?:{words})(?!\w)", re.IGNORECASE)
            searches.append(lambda text: ((*m.span(), self.words_score) for m in whole.finditer(text)))

        def find(text: Text) -> list[Match]:
            return uncontained(match for search in searches for match in search(text.raw))

        return Recognizer(self.kind, find, hints(self.context, rules))


def _search(pattern: str, score: float) -> Callable[[str], Iterable[Match]]:
    compiled = linear_pattern(pattern)
    return lambda text: ((m.start(), m.end(), score) for m in compiled.finditer(text) if m.end() > m.start())


_AHEAD = 16  # bytes of what a pattern's matches begin with
_FIRST_WORD = re.compile(r"\S*\s?")
_FIRST_BYTES = re.compile(rb"[^\s\x80-\xff]*[\s\x80-\xff]")  # some spaces are not ASCII


@cache
def _first_words(words: tuple[str, ...]) -> re.Pattern[str] | None:
    firsts = {match.group() for word in words if (match := _FIRST_WORD.match(word)) and word}
    return re.compile("|".join(map(re.escape, sorted(firsts))), re.IGNORECASE) if firsts else None


@cache
def _signs(patterns: tuple[str, ...]) -> re.Pattern[bytes] | None:
    """What finds the beginnings of all matches, as far as they stand in one word."""
    return re.compile(b"|".join(sorted(set(map(_sign, patterns))))) if patterns else None


def _sign(pattern: str) -> bytes:
    """What every match of a pattern begins with: what the least and the greatest text that match have in
    common, and one more byte in between. Nothing, and so any place, when RE2 cannot tell.
    """
    import re2

    try:
        least, greatest = linear_pattern(pattern).possiblematchrange(_AHEAD)
    except re2.error:
        return b""
    at = next((at for at, (one, two) in enumerate(zip(least, greatest, strict=False)) if one != two), None)
    common: bytes = least[: min(len(least), len(greatest)) if at is None else at]
    word = _FIRST_BYTES.match(common)
    if at is None or word is not None:
        return re.escape(word.group() if word else common)
    return re.escape(common) + b"[\\x%02x-\\x%02x]" % (least[at], greatest[at])
