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

_NEAR = (72, 200)  # characters to look for them at first, and then
_EACH = 40  # characters whose words cost as much as a look


def lifted(score: float) -> float:
    """The score of a match that a context word supports."""
    return min(1.0, max(0.4, score + 0.35))


class Words:
    """The words of a text, to be asked which of them stand before a place."""

    __slots__ = ("_all", "_near", "_text")

    def __init__(self, text: str) -> None:
        self._text = text
        self._all: tuple[list[int], list[int], list[str]] | None = None
        self._near: dict[int, str] = {}

    def near(self, position: int) -> str:
        """The words that lend the match at `position` their meaning, a line each, in lower case."""
        found = self._near.get(position)
        if found is None:
            found = self._near[position] = "\n".join(self._around(position))
        return found

    def _around(self, position: int) -> list[str]:
        # Mostly a few words are enough. Else all are taken, once: looking farther and farther is quadratic,
        # and where there is something at every other word, all is cheaper.
        if self._all is None and len(self._near) * _EACH <= len(self._text):
            for near in _NEAR:
                words = self._beside(position, near)
                if words is not None:
                    return words
        begin, ends, all_words = self._all = self._all or self._read()
        last = bisect_right(ends, position)  # the first word that ends after the position
        begins = begin[last] if last < len(ends) else position + 1
        here = begins <= position or self._text[position:begins].isspace()
        return all_words[max(0, last - 6 + here) : last + 1]

    def _beside(self, position: int, near: int) -> list[str] | None:
        """The same from so many characters around; None when they are too few."""
        text = self._text
        start, end = max(0, position - near), min(len(text), position + near)
        before = _WORD.findall(text, start, position)
        begins, after = position, ""
        for match in _WORD.finditer(text, position, end):
            begins, after = match.span()[0], match.group()
            if match.end() == end < len(text):
                return None
            if begins == position and before and _WORD.match(text, position - 1):
                after = before.pop() + after
            after = after.lower()
            if after not in STOPWORDS:
                break
        else:
            if end < len(text):
                return None
            begins, after = position + 1, ""
        here = begins <= position or text[position:begins].isspace()
        words = [after] if after else []
        wanted = len(words) + 6 - here
        for word in reversed(before[1:] if start else before):
            lower = word.lower()
            if lower not in STOPWORDS:
                words.append(lower)
                if len(words) == wanted:
                    break
        else:
            if start:
                return None
        return words[::-1]

    def _read(self) -> tuple[list[int], list[int], list[str]]:
        """Where the words begin and end, and the words."""
        found = [
            (*match.span(), word)
            for match in _WORD.finditer(self._text)
            if (word := match.group().lower()) not in STOPWORDS
        ]
        return [begin for begin, _, _ in found], [end for _, end, _ in found], [word for *_, word in found]


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
