"""Where a text could hold an identifier: one cheap pass, so that the recognizers look at few places.

Both functions cut where no identifier can go across, so that what is found inside is what would be found in
the whole text. Time is linear in the length of the text.
"""

from __future__ import annotations

import re

Span = tuple[int, int]

_DIGIT = re.compile(r"\d")
# Addresses of machines and UUIDs can do without a digit: two groups of hexadecimal letters, or `::`.
_LETTERS = r"[:.\-](?:(?<=::)|(?<=[a-fA-F][:\-])[a-fA-F]{1,4}[:\-]|[a-fA-F]{4}\.[a-fA-F]{4})"
_HEX = re.compile(_LETTERS)
_EITHER = re.compile(rf"\d|{_LETTERS}")
_SPACE = re.compile(r"\s")


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
        start = hit.start() - (len(before.split()[-1]) if before and not before[-1].isspace() else 0)
        space = _SPACE.search(text, hit.end())
        at = space.start() if space else len(text)
        if found and start == found[-1][1] + 1 and text[start - 1] == " ":
            start = found.pop()[0]
        found.append((start, at))
    return found


def near_digits(text: str, margin: int) -> list[Span]:
    """The text within `margin` characters of a digit."""
    found: list[Span] = []
    for hit in _DIGIT.finditer(text):
        start, end = max(0, hit.start() - margin), min(len(text), hit.end() + margin)
        if found and start <= found[-1][1]:
            start = found.pop()[0]
        found.append((start, end))
    return found
