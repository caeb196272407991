"""Finding pseudonyms again, however a model spelled them, in a text that is still arriving. Pure.

What a token is read by is its *reading*: its ASCII letters and digits in lower case, and nothing else. So
`<EMAIL_ADDRESS_3f2a9c>` is also found as `email address 3F2A9C`, as `EMAIL\\_ADDRESS\\_3f2a9c` or with
backticks and asterisks in it. Up to `MOST_FILL` characters of `FILL` may stand between two that count. It has
to be a word of its own: no ASCII letter or digit right before or after it.

The brackets of a token go with it when both are there: `<…>`, `\\<…\\>` or `&lt;…&gt;`, with at most one
space inside each. Other brackets, quotes and markup around it stay.

What is not covered: a token with a letter changed, left out or translated, and one that is inflected
("Webers"): they pass as they are. Nothing is ever guessed.
"""

from __future__ import annotations

import json
import re
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Final

MOST_FILL: Final = 4
"""How many characters of `FILL` a model may have put between two letters of a token."""

FILL: Final = frozenset(
    " \t\r\n_-*`~'\"\\.@+()/:"
    "\u00a0\u00ad\u200b\u200c\u200d\u2009\u2010\u2011\u2012\u2013\u2014\u2018\u2019\u201c\u201d\u202f\u2060\ufeff"
)
"""What may stand between them. Not `<` and `>`: a token never begins before the bracket of another."""

_BRACKETS = (("<", ">"), ("\\<", "\\>"), ("&lt;", "&gt;"))
_START = re.compile(r"[<\\&]|(?<![0-9A-Za-z])[0-9A-Za-z]")
_IGNORED = re.compile(r"[^0-9A-Za-z]+")


def reading(token: str) -> str:
    """The letters and digits that a token is found by."""
    return _IGNORED.sub("", token).lower()


@dataclass(frozen=True, slots=True)
class Entry:
    """What a token stands for. `bracketed`: its brackets belong to it."""

    value: str = field(repr=False)
    bracketed: bool = True


class Lexicon:
    """The tokens of one vault by their readings, none of which begins another one.

    Tokens are only ever added, by one thread at a time; any number may read meanwhile.
    """

    __slots__ = ("_longest", "_read", "first")

    def __init__(self) -> None:
        self.first: frozenset[str] = frozenset()
        """What tokens begin with, as letters of both cases."""
        self._read: dict[str, Entry | None] = {}  # every beginning of every reading; None: it goes on
        self._longest = 0

    def add(self, token: str, entry: Entry) -> bool:
        """Take the token in; False when it cannot be told from one that is here already."""
        read = reading(token)
        beginnings = [read[:end] for end in range(1, len(read))]
        if not read or read in self._read or any(self._read.get(part) for part in beginnings):
            return False
        for part in beginnings:
            self._read.setdefault(part, None)
        self._read[read] = entry
        self._longest = max(self._longest, len(read))
        self.first |= {read[0], read[0].upper()}
        return True

    @property
    def longest(self) -> int:
        """The most characters that a token can be spelled with, and so the most that is ever held back."""
        return self._longest * (1 + MOST_FILL) + 2 * len("&lt; ")

    def __bool__(self) -> bool:
        return bool(self._read)

    def __repr__(self) -> str:
        return f"Lexicon(tokens={sum(entry is not None for entry in list(self._read.values()))})"

    def spans(self, text: str) -> list[tuple[int, int]]:
        """Where in the whole text a token stands, in order."""
        return [(start, end) for start, end, entry in _read(self, text, "", final=True) if entry]

    def core(self, text: str, at: int, *, final: bool) -> tuple[int, Entry | None] | None:
        """The token whose first letter is at `at`, with its end; None if there is none.

        Without an entry: the text ends too early to tell (never when it is `final`).
        """
        read, fill = "", 0
        for place in range(at, len(text)):
            char = text[place]
            if char.isascii() and char.isalnum():
                read, fill = read + char.lower(), 0
                if read not in self._read:
                    return None
                if (entry := self._read[read]) is not None:
                    return place + 1, entry
            elif char in FILL and read and fill < MOST_FILL:
                fill += 1
            else:
                return None
        return None if final else (len(text), None)


Span = tuple[int, int, Entry | None]


def _read(lexicon: Lexicon, text: str, before: str, *, final: bool) -> Iterator[Span]:
    """The tokens in the text, in order. One without an entry, the last: from here on it is too early to tell.

    `before` is the character before the text.
    """
    at, first = 0, lexicon.first
    while first and (match := _START.search(text, at)) is not None:
        start, char = match.start(), match.group()
        at = start + 1
        if char in "<\\&":
            found = _bracketed(lexicon, text, start, final=final)
        elif char not in first or (start == 0 and before.isascii() and before.isalnum()):
            continue
        else:
            found = _plain(lexicon, text, start, final=final)
        if found is None:
            continue
        at, entry = found
        yield start, at, entry
        if entry is None:
            return


def _plain(lexicon: Lexicon, text: str, start: int, *, final: bool) -> tuple[int, Entry | None] | None:
    found = lexicon.core(text, start, final=final)
    if found is None or found[1] is None:
        return found
    end = found[0]
    if end == len(text):
        return found if final else (end, None)
    return None if text[end].isascii() and text[end].isalnum() else found


def _bracketed(lexicon: Lexicon, text: str, start: int, *, final: bool) -> tuple[int, Entry | None] | None:
    early = (len(text), None)
    for opening, closing in _BRACKETS:
        if not text.startswith(opening, start):
            if not final and opening.startswith(text[start : start + len(opening)]):
                return early
            continue
        inner = start + len(opening)
        found = lexicon.core(text, inner + text.startswith(" ", inner), final=final)
        if found is None:
            return None
        end, entry = found
        if entry is None:
            return found
        if not entry.bracketed:
            return None
        for tail in (closing, " " + closing):
            if text.startswith(tail, end):
                return end + len(tail), entry
            if not final and tail.startswith(text[end : end + len(tail)]):
                return early
        return None
    return None


class Restorer:
    """Puts the values back into one text, piece by piece: what `push` and `finish` return is joined.

    Only text that can still become a token is held, at most `Lexicon.longest` characters (six times that
    where JSON spells each as `\\uXXXX`). However the text is cut into pieces, the joined result is that of
    `restore`.

    With `arguments`, the text is a tool call's: if it begins as JSON does, its escapes are read as what they
    stand for, no token goes from one string into the next, and values are escaped (and quoted, where a
    pseudonym stands outside of a string as a number does). Otherwise it is restored as plain text.
    """

    __slots__ = ("_before", "_json", "_lexicon", "_text", "_undecided")

    def __init__(self, lexicon: Lexicon, *, arguments: bool = False) -> None:
        self._lexicon = lexicon
        self._undecided = arguments  # whether the text is JSON
        self._json: _JsonUnits | None = None
        self._text = ""
        self._before = ""

    @property
    def held(self) -> int:
        """How many characters wait to be told from a token."""
        return len(self._text)

    def push(self, text: str) -> str:
        """More text; returns what is certain by now."""
        if self._undecided and (head := text.lstrip()):
            self._undecided = False
            self._json = _JsonUnits() if head[0] in '{["' else None
        return self._go_on(text, final=False)

    def finish(self) -> str:
        """No more text: returns the rest. More may be pushed afterwards, as after a cut."""
        return self._go_on("", final=True)

    def _go_on(self, more: str, *, final: bool) -> str:
        text = self._text + (self._json.take(more, final=final) if self._json else more)
        out: list[str] = []
        done, rest = 0, len(text)
        for start, end, entry in _read(self._lexicon, text, self._before, final=final):
            if entry is None:
                rest = start
                break
            out += self._raw(text, done, start), self._spelled(text, start, end, entry)
            done = end
        out.append(self._raw(text, done, rest))
        if rest:
            self._before = text[rest - 1]
        self._text = text[rest:]
        return "".join(out)

    def _raw(self, text: str, start: int, end: int) -> str:
        return text[start:end] if self._json is None else self._json.drop(end - start)

    def _spelled(self, text: str, start: int, end: int, entry: Entry) -> str:
        if self._json is None:
            return entry.value
        inside = self._json.inside
        raw = self._json.drop(end - start)
        if inside:
            return json.dumps(entry.value)[1:-1]
        before = text[start - 1] if start else self._before
        part_of_a_number = before in {"+", "-", "."} or text[end : end + 1] == "."
        return raw if part_of_a_number else json.dumps(entry.value)


_UNIT = re.compile(r"\\u[0-9a-fA-F]{4}|\\.|[^\\]", re.DOTALL)
_PARTIAL = re.compile(r"\\(?:u[0-9a-fA-F]{0,3})?")
_QUOTE = "\ufdd0"  # the end of a JSON string, as a character that belongs to no token


class _JsonUnits:
    """Reads JSON text as the characters that it spells, and remembers how it spelled them."""

    __slots__ = ("_tail", "_units", "inside")

    def __init__(self) -> None:
        self._units: deque[str] = deque()  # the spelling of each character that was taken and not yet dropped
        self._tail = ""
        self.inside = False
        """Whether the next character to be dropped is in a string."""

    def take(self, text: str, *, final: bool) -> str:
        """One character for each unit that is whole."""
        text = self._tail + text
        self._tail = ""
        out: list[str] = []
        at = 0
        while at < len(text):
            if text[at] == "\\" and _PARTIAL.fullmatch(text, at):
                if not final:
                    self._tail = text[at:]
                    break
                unit = text[at]
            else:
                match = _UNIT.match(text, at)
                unit = match.group() if match else text[at]
            self._units.append(unit)
            out.append(_spelled_by(unit))
            at += len(unit)
        return "".join(out)

    def drop(self, count: int) -> str:
        """The spelling of the next characters, which are done with."""
        units = [self._units.popleft() for _ in range(count)]
        if units.count('"') % 2:
            self.inside = not self.inside
        return "".join(units)


def _spelled_by(unit: str) -> str:
    if unit == '"':
        return _QUOTE
    if len(unit) > 1:
        try:
            unit = str(json.loads(f'"{unit}"'))
        except ValueError:  # no escape of JSON's
            unit = unit[-1]
    return "\ufffd" if unit == _QUOTE else unit


def restore(text: str, lexicon: Lexicon, *, arguments: bool = False) -> str:
    """The whole text with the values put back."""
    restorer = Restorer(lexicon, arguments=arguments)
    return restorer.push(text) + restorer.finish()
