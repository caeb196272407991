"""Where a text could hold an identifier: one cheap pass, so that the recognizers look at few places.

`islands` and `near_digits` cut where no identifier can go across, so that what is found inside is what would
be found in the whole text. Time is linear in the length of the text.
"""

from __future__ import annotations

import re

Span = tuple[int, int]

_DIGIT = re.compile(r"\d")
# Addresses of machines and UUIDs can do without a digit: two groups of hexadecimal letters, or `::`.
_AFTER = r"(?:(?<=::)|(?<=[a-fA-F][:\-])[a-fA-F]{1,4}[:\-]|[a-fA-F]{4}\.[a-fA-F]{4})"
_LETTERS = rf"[:.\-]{_AFTER}"
_HEX = re.compile(_LETTERS)
_EITHER = re.compile(rf"[\d:.\-](?:(?<=\d)|{_AFTER})")  # one set of first characters is found faster than two
_SPACE = re.compile(r"\s")
# Also what an address needs, and the signs that a telephone number opens with before a space.
_BEGIN = re.compile(rf"\d|@|://|\.\w|{_LETTERS}|[+(\[\uff0b\uff08\uff3b](?:[^\w\s]|[x\u30fc]){{0,9}}\s")


def islands(text: str) -> list[Span]:
    """The words with a digit (or hexadecimal groups), joined where a single space parts two of them.

    No identifier of the default kinds, telephone numbers apart, goes on across any other white space, or
    across a word without a digit.
    """
    trigger = _EITHER if _HEX.search(text) else _DIGIT
    found: list[Span] = []
    at = 0
    while hit := trigger.search(text, at):
        before = text[at : hit.start()]
        start = hit.start() - (len(before.rsplit(None, 1)[-1]) if before and not before[-1].isspace() else 0)
        space = _SPACE.search(text, hit.end())
        at = space.start() if space else len(text)
        if found and start == found[-1][1] + 1 and text[start - 1] == " ":
            start = found.pop()[0]
        found.append((start, at))
    return found


def begins(text: str, start: int) -> int | None:
    """Where the first sign is of anything that the default kinds could be; None: nowhere.

    From `start` on the text is whole words. An identifier begins in a word with such a sign.
    """
    sign = _BEGIN.search(text, start)
    return None if sign is None else sign.start()


def near_digits(text: str, margin: int) -> list[Span]:
    """The text within `margin` characters of a digit."""
    found: list[Span] = []
    for hit in _DIGIT.finditer(text):
        start, end = max(0, hit.start() - margin), min(len(text), hit.end() + margin)
        if found and start <= found[-1][1]:
            start = found.pop()[0]
        found.append((start, end))
    return found
