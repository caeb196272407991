"""The `citations` judge: does what an answer cites exist, is what it quotes verbatim, is what it says cited?

::

    scorers:
      - citations
      - citations: {checks: [exists, quotes]}                # sentences without a citation do not matter
      - citations: {styles: [brackets, parentheses], per: paragraph, threshold: 0.9}
      - citations: {ids: passage_ids}                        # cited as [doc-7]: the ids are in the metadata

Passages are numbered from 1, as evalkit's own prompt shows them. Nothing here reads what a passage means:
that a citation exists, and that its words are there, does not say that it supports the sentence. For that
there is `groundedness`.
"""

from __future__ import annotations

import re
import unicodedata
from bisect import bisect_left, bisect_right
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, ClassVar, Literal

from guardrails.errors import ConfigError
from guardrails.filters.detector import Edit, apply
from judges.grounding.words import DATES, Token, sentences, tokens
from judges.judge import Answer, Question, Score, aside, reaches, unfit

Check = Literal["exists", "quotes", "needed"]
Style = Literal["brackets", "footnotes", "parentheses"]
Span = tuple[int, int]

MAX_QUOTES = 500
"""Quotations of one answer that are looked up: each is searched for in all passages."""

_WIDEST = 100  # numbers in a range such as [1-3]
_PART = r"[\w.:/#-]{1,64}"
_LIST = rf"{_PART}(?:\s{{0,3}}[,;]\s{{0,3}}{_PART}){{0,30}}"
_STYLES: Mapping[str, re.Pattern[str]] = {
    "brackets": re.compile(rf"\[({_LIST})\]"),
    "footnotes": re.compile(rf"\[\^({_PART})\]"),
    "parentheses": re.compile(r"(?<![\w)])\((\d{1,4}(?:\s{0,3}[,;]\s{0,3}\d{1,4}){0,30})\)"),
}
_RANGE = re.compile(r"(\d{1,6})\s?[-–]\s?(\d{1,6})")
_RANGED = re.compile(r"\[(\d{1,6}\s?[-–]\s?\d{1,6})\]")
_QUOTED = re.compile(r'"([^"\n]{1,5000})"|“([^“”\n]{1,5000})”|«([^«»\n]{1,5000})»|„([^„“”\n]{1,5000})[“”]')
_BLOCK = re.compile(r"^[ \t]{0,3}>[^\n]*(?:\n[ \t]{0,3}>[^\n]*)*", re.MULTILINE)
_ASIDE = re.compile(r"^[ \t]{0,3}(?:#{1,6}[ \t]|\[\^[^\]\n]{1,64}\]:|\|)[^\n]*", re.MULTILINE)
_INK = re.compile(r"[^ \t]")
_PARAGRAPH = re.compile(r"\n[ \t\r]{0,100}\n")
_CODE = re.compile(r"`[^`\n]{1,1000}`")
_CUT = re.compile(r"\[?(?:\.\.\.|…)\]?")
_MARKS = dict.fromkeys(map(ord, "\"'`´‘’‚‛“”„‟«»‹›*_"))
_DASHES = dict.fromkeys(map(ord, "‐‑‒–—−"), "-")


@dataclass(frozen=True, slots=True)
class Tally:
    """How many of `all` things were right; `wrong` are the places of the others in the answer."""

    right: int
    all: int
    wrong: tuple[Span, ...] = ()

    @property
    def rate(self) -> float | None:
        """The share that is right; None when there was nothing to look at."""
        return self.right / self.all if self.all else None


@dataclass(frozen=True, slots=True)
class Cited:
    """A citation in an answer: its place, and the ids that it names."""

    start: int
    end: int
    ids: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Citations:
    """Looks at an answer's citations of the context's passages. The value is the mean of the rates below.

    `exists`: the share of cited ids that passages have. `quotes`: the share of quotations of at least
    `quote_words` words that stand in a passage word for word (in one that is cited in the same sentence, if
    any is), but for white space, case, quotation marks and what `…` leaves out. `needed`: the share of
    sentences with a citation, of those that hold a number, a date or a name, or have `claim_words` words.
    Questions, headings and quoted blocks need none.

    `checks` are those that count; the answer passes when each has a rate of at least `threshold`, and a check
    with nothing to look at is passed. `per: paragraph`: one citation is enough for all of its paragraph.
    """

    checks: tuple[Check, ...] = ("exists", "quotes", "needed")
    styles: tuple[Style, ...] = ("brackets", "footnotes")
    threshold: float = 1.0
    ids: str = ""
    per: Literal["sentence", "paragraph"] = "sentence"
    quote_words: int = 4
    claim_words: int = 8
    name: str = "citations"
    shorthand: ClassVar[str] = "checks"

    def __post_init__(self) -> None:
        if not self.checks or not self.styles:
            raise ConfigError("checks and styles must not be empty")
        if not 0 < self.threshold <= 1:
            raise ConfigError(f"threshold is {self.threshold:g}: it is a share above 0 and up to 1")
        if self.quote_words < 1 or self.claim_words < 1:
            raise ConfigError("quote_words and claim_words are at least 1")

    def check(self, question: Question, /) -> str | None:
        """Complains when there are no passages, or not an id for each."""
        if not any(passage.strip() for passage in question.context):
            return "the sample has no context that could be cited"
        if not self.ids:
            return None
        named = question.metadata.get(self.ids)
        if not isinstance(named, list | tuple) or len(named) != len(question.context):
            return f"the metadata field {self.ids[:40]!r} is no list of one id for each passage"
        return None

    async def __call__(self, question: Question, answer: Answer, /) -> Score:
        """Looks at the answer's text."""
        if (failed := unfit(self, question, answer)) is not None:
            return failed
        size = len(answer.text) + sum(map(len, question.context))
        try:
            found = await aside(size, lambda: self.look(question, answer.text))
        except _TooMany as error:
            return Score.unjudged("too_long", str(error))
        return self._score(found)

    def look(self, question: Question, text: str) -> Mapping[Check, Tally]:
        """The tallies of the checks that count."""
        shown = without_code(text)
        known = passages(question, self.ids)
        cited = list(citations(shown, self.styles, None if not self.ids else known.keys()))
        found: dict[Check, Tally] = {}
        for check in dict.fromkeys(self.checks):
            match check:
                case "exists":
                    found[check] = _existing(cited, known.keys())
                case "quotes":
                    found[check] = _verbatim(shown, cited, known, question.prompt, self.quote_words)
                case "needed":
                    found[check] = _needed(shown, cited, self.claim_words, self.per)
        return found

    def _score(self, found: Mapping[Check, Tally]) -> Score:
        rates = [tally.rate for tally in found.values() if tally.rate is not None]
        if not rates:
            return Score(1.0, True, "there is nothing to cite, and nothing is cited")
        reason = "; ".join(
            f"{tally.right} of {tally.all} {_SAID[check]}" for check, tally in found.items() if tally.all
        )
        value = sum(rates) / len(rates)
        return Score(value, all(reaches(rate, self.threshold) for rate in rates), reason)


_SAID: Mapping[Check, str] = {
    "exists": "cited ids exist",
    "quotes": "quotations are verbatim",
    "needed": "sentences that need a citation have one",
}


class _TooMany(Exception):
    pass


def passages(question: Question, ids: str = "") -> dict[str, str]:
    """The passages by their ids: those of the metadata field `ids`, or numbers from 1."""
    named: Any = question.metadata.get(ids) if ids else None
    keys = [str(key) for key in named] if named else [str(n) for n in range(1, len(question.context) + 1)]
    return dict(zip(keys, question.context, strict=True))


def without_code(text: str) -> str:
    """The text with spaces in place of code: `a[1]` in a program cites nothing."""
    out = []
    for at, part in enumerate(text.split("```")):
        if at % 2:
            out.append("   " + " " * len(part) + "   ")
        else:
            out.append(_CODE.sub(lambda match: " " * len(match[0]), part))
    return "".join(out)[: len(text)]


def citations(text: str, styles: Sequence[Style], ids: Any = None) -> Iterator[Cited]:
    """The citations of a text in their order. Without `ids`, in brackets only numbers cite.

    With `ids`, what stands in brackets cites when one of its parts is an id or has a digit in it: `[doc-9]`
    may be an id that does not exist, `[sic]` is none.
    """
    found = []
    for style in styles:
        for match in _STYLES[style].finditer(text):
            parts = [part.strip() for part in re.split("[,;]", match[1])]
            if style == "footnotes" or _cites(parts, ids):
                named = tuple(each for part in parts for each in _each(part, ids))
                found.append(Cited(*match.span(), named))
        if style == "brackets":
            known = {each.start for each in found}
            ranges = (match for match in _RANGED.finditer(text) if match.start() not in known)
            found += [Cited(*match.span(), tuple(_each(match[1], ids))) for match in ranges]
    return iter(sorted(found, key=lambda cited: cited.start))


def _cites(parts: Sequence[str], ids: Any) -> bool:
    if ids is not None:
        return any(part in ids or any(c.isdigit() for c in part) for part in parts)
    return all(part.isdecimal() or _RANGE.fullmatch(part) for part in parts)


def _each(part: str, ids: Any) -> Iterator[str]:
    spread = _RANGE.fullmatch(part) if ids is None or part not in ids else None
    if spread is None:
        yield str(int(part)) if part.isdecimal() else part
        return
    first, last = int(spread[1]), int(spread[2])
    if first <= last <= first + _WIDEST:
        yield from map(str, range(first, last + 1))
    else:
        yield from (str(first), str(last))


# --- the checks --------------------------------------------------------------------------------------------


def _existing(cited: Sequence[Cited], known: Any) -> Tally:
    named = [(key in known, (each.start, each.end)) for each in cited for key in each.ids]
    wrong = tuple(dict.fromkeys(place for right, place in named if not right))
    return Tally(sum(right for right, _ in named), len(named), wrong)


def _verbatim(text: str, cited: Sequence[Cited], known: Mapping[str, str], asked: str, least: int) -> Tally:
    quoted = [(place, said) for place, said in quotations(text) if len(said.split()) >= least]
    if len(quoted) > MAX_QUOTES:
        raise _TooMany(f"the answer has {len(quoted):,} quotations; {MAX_QUOTES:,} are the most looked up")
    plain_ = {key: plain(passage) for key, passage in known.items()}
    shown = _hidden(text, cited)
    around = _lines(shown)
    everything = [*plain_.values(), plain(asked)]
    meant: dict[Span, list[str]] = {}  # a sentence may have many quotations, and many citations
    wrong = []
    for (start, end), said in quoted:
        here = next((each for each in around if each[0] <= start < each[1]), (start, end))
        if here not in meant:
            near = _attached(here, cited, shown)
            meant[here] = [
                plain_[key]
                for key in dict.fromkeys(key for each in near for key in each.ids if key in plain_)
            ]
        among = meant[here] or everything
        if not any(_stands(said, passage) for passage in among):
            wrong.append((start, end))
    return Tally(len(quoted) - len(wrong), len(quoted), tuple(wrong))


def quotations(text: str) -> Iterator[tuple[Span, str]]:
    """What a text quotes: between double quotation marks, and lines that begin with `>`."""
    blocks = [match.span() for match in _BLOCK.finditer(text)]
    for start, end in blocks:
        lines = (line.lstrip(" \t").removeprefix(">") for line in text[start:end].splitlines())
        yield (start, end), _without_citations(" ".join(lines))
    at = 0
    for match in _QUOTED.finditer(text):
        while at < len(blocks) and blocks[at][1] <= match.start():
            at += 1
        if at == len(blocks) or match.start() < blocks[at][0]:
            yield match.span(), _without_citations(next(group for group in match.groups() if group))


def _without_citations(text: str) -> str:
    for pattern in _STYLES.values():
        text = pattern.sub(lambda match: " " if match[0][1:-1].strip("^").isdecimal() else match[0], text)
    return text.strip()


def plain(text: str) -> str:
    """The text in small letters without quotation marks and emphasis, with single spaces and plain dashes."""
    folded = unicodedata.normalize("NFKC", text).translate(_MARKS).translate(_DASHES)
    return " ".join(folded.casefold().split())


def _stands(said: str, passage: str) -> bool:
    """Whether the parts of a quotation stand in the passage in their order."""
    at = 0
    parts = [plain(part).strip(" .,;:!?") for part in _CUT.split(said)]
    for part in filter(None, parts):
        at = passage.find(part, at)
        if at < 0:
            return False
        at += len(part)
    return any(parts)


def _needed(text: str, cited: Sequence[Cited], words: int, per: str) -> Tally:
    shown = _hidden(_BLOCK.sub(_blank, _ASIDE.sub(_blank, text)), cited)
    lines = _lines(shown)
    ends = [0, *(match.end() for match in _PARAGRAPH.finditer(text)), len(text)]
    wrong = []
    needing = 0
    for start, end in lines:
        if not _needs(shown, start, end, words):
            continue
        needing += 1
        if per == "paragraph":
            at = bisect_right(ends, start, hi=len(ends) - 1)
            has = _within((ends[at - 1], ends[at]), cited)
        else:
            has = _attached((start, end), cited, shown)
        if not has:
            wrong.append((start, end))
    return Tally(needing - len(wrong), needing, tuple(wrong))


def _blank(match: re.Match[str]) -> str:
    return "".join(c if c == "\n" else " " for c in match[0])


def _lines(text: str) -> list[Span]:
    return sentences(text, longest=2_000)


def _needs(text: str, start: int, end: int, words: int) -> bool:
    said = text[start:end].rstrip("\"'”’)* ")
    if said.endswith(("?", ":")):
        return False
    found = tokens(text, start, end)
    if len(found) >= words:
        return True
    # The number of a list's item counts nothing.
    listed = (
        1 if found and found[0].number is not None and text[found[0].end : found[0].end + 1] in ".)" else 0
    )
    return any(_is_fact(one, before) for before, one in pairwise([None, *found[listed:]]) if one is not None)


def _is_fact(token: Token, before: Token | None) -> bool:
    is_name = before is not None and token.capital and token.is_content
    return token.number is not None or (token.word in DATES and token.capital) or is_name


def _first(place: int, cited: Sequence[Cited]) -> int:
    return bisect_left(cited, place, key=lambda each: each.start)


def _within(place: Span, cited: Sequence[Cited]) -> Sequence[Cited]:
    return cited[_first(place[0], cited) : _first(place[1], cited)]


def _attached(place: Span, cited: Sequence[Cited], shown: str) -> list[Cited]:
    """The citations in a sentence, right behind it, and before it when it begins its line."""
    start, end = place
    line = max(start - 2_000, shown.rfind("\n", max(0, start - 2_000), start) + 1)
    first = start if shown[line:start].strip() else line
    found = list(cited[_first(first, cited) : _first(end, cited)])
    for at in range(_first(end, cited), len(cited)):
        each = cited[at]
        if _INK.search(shown, end, each.start):
            break
        found.append(each)
        end = each.end
    return found


def _hidden(text: str, cited: Sequence[Cited]) -> str:
    """The text with spaces in place of its citations: they are no part of a sentence."""
    edits = [Edit(each.start, each.end, " " * (each.end - each.start)) for each in cited]
    return apply(text, edits)
