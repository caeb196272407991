"""What a text says once its disguise is taken off, and where each character of that stands in the original.

A reader or a model sees `jo@acme.com` in `jo&#64;acme.com`, in `ｊｏ＠acme.com`, with a zero-width space
in it and, told to look, in `am9AYWNtZS5jb20gaXMgbWU=`; a pattern does not. `normalize` writes the text out
plainly, and `Normalized` runs any detector on both and puts its findings at their places in the *original*.

What is done, in this order, twice over (for what one step brings to light for another):

- Characters that take no room are dropped: zero-width and bidi controls, soft hyphens, fillers, variation
  selectors, tag characters, C0 controls but for whitespace.
- Compatibility forms become plain: NFKC, one cluster at a time (a character and the marks on it, 30 of them
  at most). Not the rare ones that would grow to more than four times their length, and not what composes
  without being a mark (Hangul jamo).
- Cyrillic and Greek letters that look like Latin ones become those, in a word that has Latin letters too, and
  anywhere in a piece between spaces that has an `@` or a `://`. Russian and Greek words stay what they are.
- With `spelled`: ` [at] ` and ` (dot) ` become `@` and `.`.
- Percent-encoding and HTML entities (with their `;`) are decoded, and runs of 16 or more characters of the
  base64 alphabets that decode to UTF-8 without control characters (one in ten may be one). All of such a run
  is the place of everything in it.

What is still encoded after two rounds becomes one U+FFFD each, and its place is in `unread`: nobody looked at
it. So the result has nothing left to decode, and normalizing it again changes nothing. Time is linear; the
result is at most four times as long as the text, and decoding only ever shortens it.

What is not covered: base64 over several lines or with other letters glued to it, UTF-16, rot13, leetspeak,
other scripts' look-alikes, words, and (with `spelled`) addresses that come to light in the third round.
"""

from __future__ import annotations

import binascii
import re
import unicodedata
from array import array
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import cache, lru_cache
from typing import Any

from guardrails.filters.detector import Detector, Finding
from guardrails.filters.window import Begins, earliest

LEVELS = 2
INVISIBLE = (
    "\x00-\x08\x0e-\x1b\x7f\u00ad\u034f\u061c\u115f\u1160\u17b4\u17b5\u180b-\u180f\u200b-\u200f\u202a-\u202e"
    "\u2060-\u206f\u3164\ufe00-\ufe0f\ufeff\uffa0\U0001bca0-\U0001bca3\U0001d173-\U0001d17a\U000e0000-\U000e0fff"
)
"""The characters that take no room, as the inside of a character class."""

_UNREAD = "\ufffd"


@dataclass(frozen=True, slots=True)
class Normal:
    """The plain text, and the places of its characters in the original.

    `text[i]` stands for the original's characters from `starts[i]` up to `ends[i]`; both never fall, and both
    are empty when the text is the original or nothing. `unread`: the places of what was encoded too deeply.
    """

    text: str
    starts: array[int]
    ends: array[int]
    unread: tuple[tuple[int, int], ...] = ()

    def span(self, start: int, end: int) -> tuple[int, int]:
        """The place in the original of `text[start:end]`, which is not empty."""
        return (self.starts[start], self.ends[end - 1]) if self.starts else (start, end)


def normalize(text: str, spelled: bool = False) -> Normal:
    """The text without its disguise."""
    if not _suspect(text, spelled):
        return Normal(text, array("L"), array("L"))
    mapped = _Mapped(text)
    _plain(mapped, spelled)
    for _ in range(LEVELS):
        if not mapped.edit(_decoded(mapped.text)):
            break
        _plain(mapped, spelled)
    deeper = [(start, end, _UNREAD) for start, end, _ in _decoded(mapped.text)]
    unread = tuple((mapped.starts[start], mapped.ends[end - 1]) for start, end, _ in deeper)
    mapped.edit(deeper)
    if mapped.text == text:
        return Normal(text, array("L"), array("L"))
    return Normal(mapped.text, mapped.starts, mapped.ends, unread)


def disguised(text: str, start: int) -> int | None:
    """Where something could be disguised, from `start` on (a `Begins`)."""
    if not _suspect(text, False):
        return None
    words = (word for word in _CHUNK.finditer(text) if _suspect(word.group(), False))
    return next((max(start, word.start()) for word in words), None)


def unseen(text: str) -> int:
    """By how many characters a text is longer than it reads (a `Hidden`)."""
    return max(0, len(text) - len(normalize(text).text))


def normalize_spelled(text: str) -> Normal:
    """The same, with ` [at] ` and ` (dot) `."""
    return normalize(text, spelled=True)


@dataclass(frozen=True, slots=True)
class Normalized:
    """A detector that also looks at the text without its disguise (a `Detector`).

    Findings are places in the original. `reach` counts characters as they read (see `hidden`): what is
    stretched by invisible characters, or by encoding, is held for as long as it goes on.
    """

    detector: Detector
    spelled: bool = False

    @property
    def name(self) -> str:
        """The inner detector's."""
        return self.detector.name

    @property
    def reach(self) -> int:
        """The inner detector's, and at least 64."""
        return max(self.detector.reach, 64)

    @property
    def scope(self) -> str:
        """The inner detector's: "span" or "text"."""
        return getattr(self.detector, "scope", "span")

    @property
    def stride(self) -> int:
        """The inner detector's."""
        return getattr(self.detector, "stride", 0)

    @property
    def channels(self) -> tuple[str, ...] | None:
        """The inner detector's; None for all."""
        return getattr(self.detector, "channels", None)

    @property
    def signs(self) -> tuple[Begins, ...]:
        """Whose first places `begins` goes by: those of all detectors here are asked once."""
        inner: Begins | None = getattr(self.detector, "begins", None)
        return () if inner is None or self.spelled else (inner, disguised)

    @property
    def begins(self) -> Begins | None:
        """The inner detector's, and where something could be disguised; None if the inner one has none.

        `spelled` may make one word of several, so then it is None too.
        """
        signs = self.signs
        return (lambda text, start: earliest(signs, text, start)) if signs else None

    @property
    def read(self) -> Callable[[str], Normal]:
        """What takes the disguise off: once for all detectors that look below it."""
        return normalize_spelled if self.spelled else normalize

    @property
    def hidden(self) -> Callable[[str], int]:
        """How many characters of a piece of text are there for the disguise only."""
        return unseen

    def detect(self, text: str) -> list[Finding]:
        """What the inner detector finds in the text as it is, and in the text as it reads."""
        return self.detect_read(text, self.read(text))

    def detect_read(self, text: str, normal: Normal) -> list[Finding]:
        """`detect`, from the text without its disguise."""
        found = self.detector.detect(text)
        if not normal.starts:
            return found
        known = {(f.kind, f.start, f.end) for f in found}
        for f in self.detector.detect(normal.text):
            if f.start < f.end:
                start, end = normal.span(f.start, f.end)
                if (f.kind, start, end) not in known:
                    found.append(Finding(f.kind, start, end, f.score, f.detector))
        return found


# --- the text and its places --------------------------------------------------------------------------------

_Edit = tuple[int, int, str]


class _Mapped:
    """A text under change, each character with the place in the original that it stands for."""

    __slots__ = ("ends", "starts", "text")

    def __init__(self, text: str) -> None:
        self.text = text
        self.starts = array("L", range(len(text)))
        self.ends = array("L", range(1, len(text) + 1))

    def edit(self, edits: Iterable[_Edit]) -> bool:
        """Replace `text[start:end]` for each (start, end, new), disjoint and in order; False without any."""
        texts: list[str] = []
        starts, ends = array("L"), array("L")
        at = 0
        for start, end, new in edits:
            texts += self.text[at:start], new
            starts += self.starts[at:start]
            ends += self.ends[at:start]
            starts.extend([self.starts[start]] * len(new))
            ends.extend([self.ends[end - 1]] * len(new))
            at = end
        if not texts:
            return False
        self.text = "".join((*texts, self.text[at:]))
        self.starts, self.ends = starts + self.starts[at:], ends + self.ends[at:]
        return True


@dataclass(frozen=True, slots=True)
class _Patterns:
    """RE2 over UTF-8: a look at clean text costs microseconds."""

    hint: Any  # what no clean text has
    spelled: Any
    coded: Any


@cache
def _patterns() -> _Patterns:
    import re2

    options = re2.Options()
    options.log_errors = False

    def there(pattern: str) -> Any:  # a set says whether, not where, in half the time
        made = re2.Set.SearchSet(options)
        made.Add(pattern)
        made.Compile()
        return made

    hint = r"%[0-9A-Fa-f]{2}|&[#A-Za-z]|[A-Za-z0-9+/_\-]{16}|[\x00-\x08\x0e-\x1b\x7f]"
    coded = (
        r"(?:%[0-9A-Fa-f]{2})+"
        r"|&(?:#[0-9]{1,7}|#[xX][0-9A-Fa-f]{1,6}|[A-Za-z][A-Za-z0-9]{1,31});"
        r"|[A-Za-z0-9+/_\-]{16,}={0,2}"
    )
    spelled = rf"{hint}|(?i:[\[({{<]\s{{0,2}}(?:at|dot))"
    return _Patterns(there(hint), there(spelled), re2.compile(coded))


_ASCII = bytes(range(128))


def _suspect(text: str, spelled: bool) -> bool:
    """Whether anything could change."""
    patterns, data = _patterns(), text.encode("utf-8", "replace")
    if len(data) > len(text):
        other = data.translate(None, _ASCII).decode()
        if not all(map(_quiet, set(other))):
            return True
    return (patterns.spelled if spelled else patterns.hint).Match(data) is not None


# --- characters ---------------------------------------------------------------------------------------------

_MARKS = 30
_GROWTH = 4
_DROPPED = re.compile(f"[{INVISIBLE}]+")
_OTHER = re.compile(r"[\x00-\x7f]?[^\x00-\x7f]+")

_LATIN = dict(
    zip(
        "АВЕКМНОРСТУХаеорсухіјѕһԁԛԝӏЅІЈԌԚԜҮҺᴦ" + "ΑΒΕΖΗΙΚΜΝΟΡΤΥΧοѵνΝ",
        "ABEKMHOPCTYXaeopcyxijshdqwlSIJGQWYhr" + "ABEZHIKMNOPTYXovvN",
        strict=True,
    )
)
_ALIKE = re.compile(f"[{''.join(_LATIN)}]")
_CHUNK = re.compile(r"\S+")
_PART = re.compile(r"\w+")
_HAS_LATIN = re.compile("[A-Za-z]")
_SPELLED = re.compile(
    r"[ \t]{0,3}[\[({<]{1,2}[ \t]{0,2}(at|dot)[ \t]{0,2}[\])}>]{1,2}[ \t]{0,3}", re.IGNORECASE
)


@lru_cache(maxsize=8192)
def _quiet(character: str) -> bool:
    """Whether no step about characters can ever touch it."""
    return not (
        _is_mark(character)
        or unicodedata.normalize("NFKC", character) != character
        or _DROPPED.match(character)
        or character in _LATIN
    )


@lru_cache(maxsize=8192)
def _is_mark(character: str) -> bool:
    # The five that only become marks are no marks by their own class.
    return bool(unicodedata.combining(character)) or character in "\u0f73\u0f75\u0f81\uff9e\uff9f"


def _plain(mapped: _Mapped, spelled: bool) -> None:
    """All that is done to characters."""
    if not mapped.text.isascii() or _DROPPED.search(mapped.text):
        mapped.edit((m.start(), m.end(), "") for m in _DROPPED.finditer(mapped.text))
        mapped.edit(_composed(mapped.text))
        mapped.edit(_unlike(mapped.text))
    if spelled:
        for _ in range(LEVELS):
            if not mapped.edit(_unspelled(mapped.text)):
                break
            mapped.edit(_unlike(mapped.text))


def _composed(text: str) -> Iterator[_Edit]:
    for match in _OTHER.finditer(text):
        run = match.group()
        if all(map(_quiet, set(run))):
            continue
        start = 0
        for end in range(1, len(run) + 1):
            if end < len(run) and _is_mark(run[end]):
                continue
            new = _canonical(run[start : min(end, start + 1 + _MARKS)])
            if new != run[start:end]:
                yield match.start() + start, match.start() + end, new
            start = end


@lru_cache(maxsize=8192)
def _canonical(cluster: str) -> str:
    new = unicodedata.normalize("NFKC", cluster)
    if len(new) > _GROWTH * len(cluster):
        return cluster
    marks = len(new) - len(new.rstrip("".join({c for c in new if _is_mark(c)})))
    return new[: len(new) - max(0, marks - _MARKS)]


def _unlike(text: str) -> Iterator[_Edit]:
    if not _ALIKE.search(text):
        return
    for chunk in _CHUNK.finditer(text):
        piece = chunk.group()
        if "@" in piece or "://" in piece:
            yield from _latin(text, chunk.start(), chunk.end())
            continue
        for part in _PART.finditer(piece):
            if _HAS_LATIN.search(part.group()):
                yield from _latin(text, chunk.start() + part.start(), chunk.start() + part.end())


def _latin(text: str, start: int, end: int) -> Iterator[_Edit]:
    for match in _ALIKE.finditer(text, start, end):
        after = match.end()
        if after == len(text) or not _is_mark(text[after]):  # with a mark it looks like something else
            yield match.start(), after, _LATIN[match.group()]


def _unspelled(text: str) -> Iterator[_Edit]:
    for match in _SPELLED.finditer(text):
        yield match.start(), match.end(), "@" if match.group(1).lower() == "at" else "."


# --- encodings ----------------------------------------------------------------------------------------------

_CONTROL = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f]")


def _decoded(text: str) -> Iterator[_Edit]:
    data = text.encode("utf-8", "replace")
    at = byte = 0
    for match in _patterns().coded.finditer(data):
        run = match.group().decode()
        at += len(data[byte : match.start()].decode())
        if run[0] == "%":
            yield from _percent(run, at)
        elif new := _entity(run[1:-1]) if run[0] == "&" else _base64(run):
            yield at, at + len(run), new
        at, byte = at + len(run), match.end()


def _percent(run: str, start: int) -> Iterator[_Edit]:
    """Each character that the bytes spell; bytes that spell none stay as they are."""
    for character in bytes.fromhex(run.replace("%", "")).decode("utf-8", "surrogateescape"):
        if "\udc80" <= character <= "\udcff":
            start += 3
            continue
        end = start + 3 * len(character.encode())
        yield start, end, character
        start = end


def _entity(name: str) -> str | None:
    if name[0] == "#":
        number = int("0" + name[1:], 0) if name[1] in "xX" else int(name[1:])
        return chr(number) if 0 < number < 0xD800 or 0xDFFF < number <= 0x10FFFF else None
    from html.entities import html5

    return html5.get(name + ";")


def _base64(run: str) -> str | None:
    body = run.rstrip("=").replace("-", "+").replace("_", "/")
    body = body[: len(body) - (len(body) % 4 == 1)]
    try:
        text = binascii.a2b_base64(body + "=" * (-len(body) % 4)).decode()
    except ValueError:
        return None
    return text if len(_CONTROL.findall(text)) * 10 <= len(text) else None
