"""Words before an identifier that make it more likely: "ssn" before nine digits.

The rule is Presidio's: the word in which the match starts, the five before it (six, when it starts with a
sign or a stop word, and then the first word after that too). One of the recognizer's words among them adds
0.35 to the score, which is then at least 0.4. Plain words stand for a model's lemmas.
"""

from __future__ import annotations

import re
from bisect import bisect_right
from collections.abc import Iterable
from typing import Literal

Rules = Literal["own", "presidio"]

_WORD = re.compile(r"\w+")
# Too frequent to take one of the five places.
STOPWORDS = frozenset(
    _WORD.findall(
        "a an and are as at be but by for from has have he her his i in is it its my of on or our she that "
        "the their them they this to was we were will with you your"
    )
)

_NEAR = 120  # characters to look for them at first


def lifted(score: float) -> float:
    """The score of a match that a context word supports."""
    return min(1.0, max(0.4, score + 0.35))


class Words:
    """The words of a text, to be asked which of them stand before a place."""

    __slots__ = ("_all", "_looked", "_near", "_text")

    def __init__(self, text: str) -> None:
        self._text = text
        self._all: tuple[list[int], list[str]] | None = None
        self._near: dict[int, str] = {}
        self._looked = 0  # characters

    def near(self, position: int) -> str:
        """The words that lend the match at `position` their meaning, a line each, in lower case."""
        found = self._near.get(position)
        if found is None:
            found = self._near[position] = "\n".join(self._around(position))
        return found

    def _around(self, position: int) -> list[str]:
        # Mostly a few words are enough. Else all are taken, once: looking farther and farther is quadratic.
        start, end = max(0, position - _NEAR), min(len(self._text), position + _NEAR)
        self._looked += end - start
        ends, words = self._all or self._read(start, end)
        last = bisect_right(ends, position)  # the first word that ends after the position
        if self._all is None and (
            self._looked > len(self._text)
            or (start and last < 7)
            or (end < len(self._text) and last >= len(ends) - 1)
        ):
            ends, words = self._all = self._read(0, len(self._text))
            last = bisect_right(ends, position)
        begins = ends[last] - len(words[last]) if last < len(ends) else position + 1
        here = begins <= position or self._text[position:begins].isspace()
        return words[max(0, last - 6 + here) : last + 1]

    def _read(self, start: int, end: int) -> tuple[list[int], list[str]]:
        """The words between two places, with the places where they end."""
        found = [
            (match.end(), word)
            for match in _WORD.finditer(self._text, start, end)
            if (word := match.group().lower()) not in STOPWORDS
        ]
        return [place for place, _ in found], [word for _, word in found]


def hints(words: Iterable[str], rules: Rules) -> re.Pattern[str] | None:
    """A pattern that finds a recognizer's context words in `Words.near`; None when it has none.

    Presidio takes a word for found wherever its letters stand: "us" in "business", "tin" in "testing". Ours
    has to begin a word (or follow an underscore), and one of up to three letters has to be the whole word.
    """
    if rules == "presidio":
        plain = {re.escape(word.lower()) for word in words}
        return re.compile("|".join(sorted(plain))) if plain else None
    stripped = {word.strip().lower() for word in words}
    if not stripped:
        return None
    long = [re.escape(word) for word in sorted(stripped) if len(word) > 3]
    short = [re.escape(word) + r"(?![^\W_])" for word in sorted(stripped) if len(word) <= 3]
    return re.compile(rf"(?<![^\W_])(?:{'|'.join(long + short)})")
