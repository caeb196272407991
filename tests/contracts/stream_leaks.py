"""Does a filter of streams leak? Cases that any such filter can be put through, whoever wrote it.

Give the filter an `Adapter` and `await run(adapter)`: the result is a `Score`. Nothing but the standard
library is imported here, so that it also runs in an environment of another project.

What is asked:

- nothing of a planted value, four characters in a row or more, is ever released: not before it was complete,
  not when the stream is cut or blocked;
- the rest of the text arrives, in its order and unchanged (a value may be replaced by up to 48 characters);
- in mode `block` the caller is told;
- choices and concurrent streams do not mix;
- how long clean text waits is measured, in characters that have come in but not gone out.

What is not asked: whether the filter's detectors find what they should in the first place. The planted values
are the plainest of their kind.
"""

from __future__ import annotations

import asyncio
import re
import statistics
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from difflib import SequenceMatcher
from itertools import zip_longest
from typing import Literal, Protocol

Mode = Literal["redact", "block"]
Piece = tuple[int, str]
"""The number of a choice, and the next piece of its text."""

VALUES: Mapping[str, str] = {
    "email": "john.doe@acme-mail.com",
    "ssn": "536-90-4399",
    "card": "4111 1111 1111 1111",
    "phone": "+1 212-555-0187",
    "key": "sk-proj-Tq8ZvN2xWc5Rb7Yk1LmPaQ4dT3BlbkFJHs6Ug9Xe0Jf2Ki5Oz8",
}


class Stopped(Exception):
    """The adapter's filter refused to go on: the right end in mode `block`."""


class Unsupported(Exception):
    """The filter has no way to do this."""


class Cut(Exception):
    """The endpoint's connection broke. An adapter lets it through, or ends."""


class Adapter(Protocol):
    """A filter as this suite drives it."""

    name: str
    kinds: Sequence[str]
    """Those of `VALUES` that it is set up to find."""
    modes: Sequence[Mode]
    """What it can do in a stream. Cases of another mode count as unsupported, if they are about that mode."""

    def filter(self, source: AsyncIterator[Piece], mode: Mode) -> AsyncIterator[Piece]:
        """What is released of the source, as soon as it is.

        Raises `Stopped` in mode `block`, `Unsupported` when it cannot keep choices apart.
        """


# --- the cases ---------------------------------------------------------------------------------------------

PROSE = (
    "The ferry to the outer islands leaves at seven in the morning and is back before nightfall. Bring a "
    "coat, for the wind is strong up there; some bread and cheese will not hurt either. Last year we saw two "
    "seals, a great many gulls, and (for a moment) the fin of something larger. Nobody knew what it was! "
)
PARIS = "Rain falls on the roofs of Lyon while the baker sleeps, and the river carries leaves to the bridge. "


@dataclass(frozen=True)
class Case:
    """Streams that run at the same time, each a list of pieces, and what has to come of them.

    `clean` are the parts of each stream's choices that have to arrive, around the values.
    """

    name: str
    streams: Sequence[Sequence[Piece]] = field(repr=False)
    clean: Sequence[Mapping[int, Sequence[str]]] = field(repr=False)
    values: Sequence[str] = field(repr=False)
    mode: Mode = "redact"
    cut: bool = False

    @property
    def needs_mode(self) -> bool:
        """Whether it is about what becomes of a value; else any mode will do."""
        return bool(self.values) and not self.cut


def cases(kinds: Sequence[str]) -> Iterator[Case]:
    """All cases with values of these kinds."""
    yield Case("clean", [one(words(PROSE * 4))], [{0: [PROSE * 4]}], [])
    for kind in kinds:
        value = VALUES[kind]
        assert not any(gram in PROSE + PARIS for gram in grams(value)), "a value has to stand out"
        for case in _cases(value):
            yield replace(case, name=f"{case.name}, {kind}")
    yield from _together([VALUES[kind] for kind in kinds])


def _cases(value: str) -> Iterator[Case]:
    before, after = "Now please write to ", " before noon tomorrow, as agreed."
    text = before + value + after
    for cut in range(len(before) - 1, len(before) + len(value) + 2):
        yield _whole("split", [text[:cut], text[cut:]], [before, after], value)
    for at in range(1, len(value)):
        # Each word by itself, as endpoints send it, and the value in two of them.
        pieces = [*words(before), value[:at], value[at:], *words(after)]
        yield _whole("split among words", pieces, [before, after], value)
    yield _whole("every character", list(text), [before, after], value)
    yield _whole("at the end", words(before + value), [before, ""], value)
    yield _whole("at the end, every character", list(before + value), [before, ""], value)
    yield _whole("at the start", words(value + after), ["", after], value)
    long = PROSE * 2 + before, after + PROSE * 2
    yield _whole("long prose", words(value.join(long)), long, value)
    yield _whole("long prose, every character", list(value.join(long)), long, value)
    sentences = "That is all. ", " Was it not? I say: it was! ", ". Good."
    yield _whole("across sentences", list(value.join(sentences)), sentences, value)
    strange = "Grüße 😀 e\u0301 נכון – ", " 次は「", "」です。\u200b ok. "
    yield _whole("unicode", list(value.join(strange)), strange, value)
    lines = "# Title\n\n- one: `", "`\n- two: **", "**\n"
    yield _whole("markdown", list(value.join(lines)), lines, value)
    yield from _seams(value)
    yield _second_choice(value)
    yield replace(_second_choice(value), name="blocked, second choice", mode="block")
    cut_text = PROSE + before + value
    for end in range(len(PROSE + before) + 4, len(cut_text) + 1):
        yield Case("cut", [one(words(cut_text[:end]))], [{}], [value], cut=True)
    yield Case("blocked", [one(words(PROSE + text))], [{}], [value], "block")
    yield Case("blocked, every character", [one(list(PROSE + text))], [{}], [value], "block")
    yield Case("blocked at the end", [one(words(PROSE * 3 + value))], [{}], [value], "block")
    for at in range(1, len(value)):
        pieces = [*words(PROSE + before), value[:at], value[at:], *words(after)]
        yield Case("blocked, split", [one(pieces)], [{}], [value], "block")


def _seams(value: str) -> Iterator[Case]:
    """The value across the places where filters that work in blocks change from one to the next."""
    long = words(PROSE * 5)
    for size in (50, 100, 200):
        before = "".join(long[: size - 1]) + " "
        after = "".join(long[size - 1 :])
        halves = [value[: len(value) // 2], value[len(value) // 2 :]]
        pieces = [*words(before.rstrip()), " " + halves[0], halves[1], *words(after)]
        yield _whole(f"across {size} words", pieces, [before, after], value)
        yield Case(f"blocked, across {size} words", [one(pieces)], [{}], [value], "block")
    for size in (50, 100, 200, 256):
        for inside in (1, len(value) // 2, len(value) - 1):
            before, after = PROSE[: size - inside - 1] + " ", " " + PROSE
            pieces = list(before + value + after)
            yield _whole(f"across {size} characters", pieces, [before, after], value)
            yield Case(f"blocked, across {size} characters", [one(pieces)], [{}], [value], "block")


def _whole(name: str, pieces: Sequence[str], clean: Sequence[str], value: str) -> Case:
    return Case(name, [one(pieces)], [{0: clean}], [value])


def _second_choice(value: str) -> Case:
    other = PROSE + value + " is it."
    streams = [
        (number, piece)
        for pair in zip_longest(words(PARIS * 3), words(other), fillvalue="")
        for number, piece in enumerate(pair)
    ]
    return Case("second choice", [streams], [{0: [PARIS * 3], 1: [PROSE, " is it."]}], [value])


def _together(values: list[str]) -> Iterator[Case]:
    rows = ", ".join(values)
    parts = ["All: ", *[", "] * (len(values) - 1), ". Good."]
    yield Case("several in a row", [one(list(f"All: {rows}. Good."))], [{0: parts}], values)
    first, last = values[0], values[-1]
    for name, cut in (("words", words), ("every character", list)):
        streams = [one(cut(f"{PROSE}{first} is it.")), one(cut(f"{PARIS}{last} is mine."))]
        clean = [{0: [PROSE, " is it."]}, {0: [PARIS, " is mine."]}]
        yield Case(f"two at once, {name}", streams, clean, [first, last])


def one(texts: Sequence[str]) -> list[Piece]:
    """Pieces of a single choice."""
    return [(0, text) for text in texts]


def words(text: str) -> list[str]:
    """The text in words, each with the space before it."""
    return re.findall(r"\s*\S+|\s+$", text)


def grams(value: str, size: int = 4) -> set[str]:
    """Every `size` characters in a row."""
    return {value[at : at + size] for at in range(len(value) - size + 1)}


# --- running them ------------------------------------------------------------------------------------------


@dataclass
class Watched:
    """One stream on its way through the filter."""

    sent: int = 0
    released: int = 0
    texts: dict[int, str] = field(default_factory=dict)
    end: str = ""
    held: list[int] = field(default_factory=list)  # characters, whenever the next piece comes in
    first: int | None = None  # characters that had come in when the first went out

    async def source(self, pieces: Sequence[Piece], cut: bool) -> AsyncIterator[Piece]:
        """The pieces, each after everybody else had a turn."""
        for choice, text in pieces:
            for _ in range(4):
                await asyncio.sleep(0)
            if self.sent:
                self.held.append(self.sent - self.released)
            self.sent += len(text)
            yield choice, text
        if cut:
            for _ in range(4):
                await asyncio.sleep(0)
            raise Cut

    async def read(self, released: AsyncIterator[Piece]) -> None:
        """Everything that the filter lets go, and how it ended."""
        try:
            async for choice, text in released:
                self.texts[choice] = self.texts.get(choice, "") + text
                self.released += len(text)
                if self.first is None and text:
                    self.first = self.sent
            self.end = "complete"
        except Stopped:
            self.end = "stopped"
        except Cut:
            self.end = "cut"
        except Unsupported:
            self.end = "unsupported"
        except Exception as error:
            self.end = f"error: {type(error).__name__}"


@dataclass(frozen=True)
class Failure:
    """What went wrong in a case; `leaked` and `lost` are characters."""

    case: str
    leaked: int = 0
    wrong: bool = False
    lost: int = 0
    missed: bool = False
    error: str = ""


@dataclass(frozen=True)
class Score:
    """How a filter did. Zero failures is what is asked for."""

    name: str
    runs: int
    unsupported: int
    failures: tuple[Failure, ...] = field(repr=False)
    held: float
    held_most: int
    first: int | None

    @property
    def leaks(self) -> int:
        """Runs in which something of a value went out."""
        return sum(failure.leaked > 0 for failure in self.failures)

    def row(self) -> dict[str, object]:
        """The score as plain values."""
        return {
            "filter": self.name,
            "runs": self.runs,
            "unsupported": self.unsupported,
            "runs that leak": self.leaks,
            "characters leaked": sum(failure.leaked for failure in self.failures),
            "wrong texts": sum(failure.wrong for failure in self.failures),
            "characters lost": sum(failure.lost for failure in self.failures),
            "blocks missed": sum(failure.missed for failure in self.failures),
            "errors": sum(bool(failure.error) for failure in self.failures),
            "held, median": self.held,
            "held, most": self.held_most,
            "first release at": self.first,
        }


async def watch(adapter: Adapter, case: Case) -> list[Watched]:
    """Put one case through the filter."""
    watched = [Watched() for _ in case.streams]
    await asyncio.gather(
        *(
            one.read(adapter.filter(one.source(pieces, case.cut), case.mode))
            for one, pieces in zip(watched, case.streams, strict=True)
        )
    )
    return watched


def judge(case: Case, watched: Sequence[Watched]) -> Failure | None:
    """What is wrong with what came out; None if nothing is."""
    failure = Failure(case.name)
    for one, clean in zip(watched, case.clean, strict=True):
        leaked = sum(leak(text, case.values) for text in one.texts.values())
        failure = replace(failure, leaked=failure.leaked + leaked)
        if one.end.startswith("error"):
            failure = replace(failure, error=one.end)
        if case.mode == "block" and case.needs_mode:
            failure = replace(failure, missed=failure.missed or one.end != "stopped")
        elif not case.cut and not right(one.texts, clean):
            lost = sum(missing(one.texts.get(number, ""), parts) for number, parts in clean.items())
            failure = replace(failure, wrong=True, lost=failure.lost + lost)
    return None if failure == Failure(case.name) else failure


def leak(text: str, values: Sequence[str]) -> int:
    """The longest part of each value that is in the text, from four characters on."""
    total = 0
    for value in values:
        if any(gram in text for gram in grams(value)):
            match = SequenceMatcher(None, text, value, autojunk=False).find_longest_match()
            total += match.size
    return total


def right(texts: Mapping[int, str], clean: Mapping[int, Sequence[str]]) -> bool:
    """Whether all that should arrive did, with nothing but short marks between."""
    patterns = {number: ".{1,48}?".join(map(re.escape, parts)) for number, parts in clean.items()}
    return texts.keys() <= patterns.keys() and all(
        re.fullmatch(pattern, texts.get(number, ""), re.DOTALL) for number, pattern in patterns.items()
    )


def missing(text: str, parts: Sequence[str]) -> int:
    """How many characters of the parts are not in the text, in their order."""
    whole = "".join(parts)
    blocks = SequenceMatcher(None, whole, text, autojunk=False).get_matching_blocks()
    return len(whole) - sum(block.size for block in blocks)


async def run(adapter: Adapter, only: Callable[[Case], bool] = lambda _: True) -> Score:
    """All cases, one after the other."""
    failures, runs, unsupported = [], 0, 0
    held: list[int] = []
    first: int | None = None
    for case in filter(only, cases(adapter.kinds)):
        if case.mode not in adapter.modes:
            if case.needs_mode:
                unsupported += 1
                continue
            case = replace(case, mode=adapter.modes[0])  # noqa: PLW2901 - the same case
        watched = await watch(adapter, case)
        if any(one.end == "unsupported" for one in watched):
            unsupported += 1
            continue
        runs += 1
        if case.name == "clean":
            held, first = watched[0].held, watched[0].first
        failure = judge(case, watched)
        if failure is not None:
            failures.append(failure)
    median = statistics.median(held) if held else float("nan")
    return Score(adapter.name, runs, unsupported, tuple(failures), median, max(held, default=0), first)


def table(rows: Sequence[Mapping[str, object]]) -> str:
    """Rows of scores, a column for each filter."""
    if not rows:
        return ""
    lines = [[name, *(str(row[name]) for row in rows)] for name in rows[0]]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)) for line in lines
    )
