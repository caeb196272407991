"""Telephone numbers: what Presidio's recognizer finds, without its eight walks over the whole text.

`phonenumbers.PhoneNumberMatcher` is run once per region, and parses every run of digits eight times. Here the
text is first cut into the stretches that could hold a number; one walk over a stretch lists what the matcher
would parse, `dialling` says which regions accept any of it, and the matcher runs for those, asking `dialling`
instead of parsing. What is more than digits, brackets and an extension the library parses.

Both hook into one private method of the matcher. Should it ever go, `Phones` notices, and gives the whole
text to every region.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any, NamedTuple

from guardrails.filters.pii.dialling import Region, country_code, international, region

Match = tuple[int, int, float]

# ASCII characters that are in no telephone number, its punctuation or the words for an extension.
CUT = "bcdfghjklmpqruvwyzBCDFGHJKLMPQRUVWYZ\n!\"$%&'*<>?@\\^_`{|}"
_NOT_CUT = f"[^{re.escape(CUT)}]"
_STRETCH = re.compile(rf"\d(?:{_NOT_CUT}*\d)?")
_TAIL = re.compile(rf"{_NOT_CUT}{{0,3}}.?", re.DOTALL)  # "#", a letter that spoils the number
_LEAD = 11  # brackets and plus signs before the first digit, and the character before them
_LEAST, _MOST = 4, 40  # digits of a number, with all prefixes

# Dashes and spaces that part digits as ASCII's do.
_OTHER = "\u00a0\u00ad\u200b\u2010-\u2015\u2060\u2212\u3000"
_PLAIN = re.compile(rf"[\d ().\-/\[\]+{_OTHER}]*", re.ASCII)
# An extension that can be read in one way only.
_EXTENDED = re.compile(
    rf"([\d ().\-/\[\]+{_OTHER}]*\d)[ \u00a0]*(?:x|extn?)[:.]?[ \u00a0-]*\d{{1,6}}", re.ASCII | re.IGNORECASE
)
_WITH_PLUS = re.compile(r"[^+\d]*\++[^+]*")
_NO_DIGIT = re.compile(r"\D+")
_BLOCK = re.compile(r"\d+")
# Only with one of these can something be more than blocks of digits: an extension, an international number.
_MORE = re.compile(r"[xX;#~+]|(?i:int)|[^\x00-\xff\u2010-\u201f\u2060\u2212]")
_FEW, _LONG = 5, 20  # blocks that are judged without a walk; digits that the matcher takes at once

# As the matcher has them: brackets that match, and what is more likely the pages of a publication.
_BRACKETS = re.compile(
    r"[(\[]?(?:[^()\[\]]+[)\]])?[^()\[\]]+(?:[(\[][^()\[\]]+[)\]]){0,3}[^()\[\]]*", re.ASCII
)
_PAGES = re.compile(r"\d{1,5}-+\d{1,5}\s{0,4}\(\d{1,4}", re.ASCII)
_SPOILS = re.compile(r"[A-Za-z$%]")  # beside a number
_KNOWN = re.compile(rf"[\x00-\x7f\u2018-\u201f{_OTHER}]*")


class Verdict(NamedTuple):
    """For which regions digits are a valid number (`_ANY`: for all); `sure`, or only perhaps."""

    regions: tuple[str, ...]
    sure: bool


class _Cut(NamedTuple):
    start: int
    end: int


_Seen = dict[str, Verdict]  # what was judged in the text at hand
_ANY = "+"  # an international number, which reads the same from every region


def stretches(text: str) -> Iterator[tuple[int, int, int, int]]:
    """The parts of a text that no telephone number goes across, with all that decides about one in them.

    Yields where a part starts, its first digit, the end of its last digit, and its end.
    """
    for match in _STRETCH.finditer(text):
        first, last = match.span()
        if last - first < _LEAST:
            continue
        start, least = first, max(0, first - _LEAD)
        while start > least:
            start -= 1
            if text[start] in CUT:
                break
        tail = _TAIL.match(text, last)
        yield start, first, last, tail.end() if tail else last


class Phones:
    """Finds what the matcher finds for any of the regions."""

    def __init__(self, regions: tuple[str, ...], leniency: int, score: float) -> None:
        self._regions = regions
        self._leniency = leniency
        self._score = score
        self._plans = [(name, region(name)) for name in regions]
        self._could = _any_of([plan for _, plan in self._plans])
        self._listing, self._sieved = _matchers()
        # The matcher's other degrees of strictness ask for more, or less, than a valid number.
        self._known = leniency == 1 and bool(self._candidates("(212) 555-0123", lambda *_: False))

    def find(self, text: str) -> Iterator[Match]:
        """All matches, of every region."""
        if not self._known:
            yield from self._everywhere(text)
            return
        seen: _Seen = {}
        for start, first, last, end in stretches(text):
            if not _MORE.search(text, start, end):
                blocks = _BLOCK.findall(text, first, last)
                if (
                    len(blocks) <= _FEW
                    and max(map(len, blocks)) <= _LONG
                    and not self._possible(blocks, seen)
                ):
                    continue
            for one, other in self._in_stretch(text[start:end], last - start, seen):
                yield start + one, start + other, self._score

    def _everywhere(self, text: str) -> Iterator[Match]:
        from phonenumbers import PhoneNumberMatcher

        for name in self._regions:
            for match in PhoneNumberMatcher(text, name, leniency=self._leniency):
                yield match.start, match.end, self._score

    def _in_stretch(self, stretch: str, last: int, seen: _Seen) -> set[tuple[int, int]]:
        # The first is the longest: where any region accepts it, the others could only find parts of it.
        candidates = self._candidates(stretch, partial(self._settles, stretch, last, seen=seen))
        if not any(self._plausible(candidate, seen).regions for candidate, _ in candidates):
            return set()
        candidate, at = candidates[0]
        if len(candidates) == 1 and self._settles(stretch, last, candidate, at, seen):
            return {(at, at + len(candidate))}
        found: set[tuple[int, int]] = set()
        for name in self._regions:
            accepted = self._first_accepted(stretch, name, candidates, seen)
            if accepted is None:
                continue
            candidate, at = accepted
            if accepted == candidates[0] and at + len(candidate) >= last:
                return found | {(at, at + len(candidate))}
            found |= self._walk(stretch, name, seen)  # what is left is cut out in other ways
        return found

    def _first_accepted(
        self, stretch: str, name: str, candidates: list[tuple[str, int]], seen: _Seen
    ) -> tuple[str, int] | None:
        matcher = None
        for candidate, at in candidates:
            regions = self._plausible(candidate, seen).regions
            if name in regions or _ANY in regions:
                matcher = matcher or self._matcher(stretch, name, seen)
                if matcher.accepts(candidate, at):
                    return candidate, at
        return None

    def _walk(self, stretch: str, name: str, seen: _Seen) -> set[tuple[int, int]]:
        return {(match.start, match.end) for match in self._matcher(stretch, name, seen)}

    def _matcher(self, stretch: str, name: str, seen: _Seen) -> Any:
        matcher = self._sieved(stretch, name, leniency=self._leniency)
        matcher.judged, matcher.refused = partial(self._plausible, seen=seen), set()
        return matcher

    def _settles(self, stretch: str, last: int, candidate: str, at: int, seen: _Seen) -> bool:
        """Whether a candidate is certainly a number, and the last of its stretch."""
        if at + len(candidate) < last:
            return False
        verdict = self._plausible(candidate, seen)
        return verdict.sure and bool(verdict.regions) and bool(stands(stretch, candidate, at))

    def _candidates(self, text: str, settles: Callable[[str, int], bool]) -> list[tuple[str, int]]:
        """What the matcher would parse, and where it stands; the first one only, when that `settles` it."""
        matcher = self._listing(text, None, leniency=self._leniency)
        matcher.settles = settles
        matcher.has_next()
        return list(dict.fromkeys(matcher.tried or []))

    def _plausible(self, candidate: str, seen: _Seen) -> Verdict:
        """For which regions it is a valid number, or could be one."""
        found = seen.get(candidate)
        if found is None:
            found = seen[candidate] = self._judged(candidate, seen)
        return found

    def _judged(self, candidate: str, seen: _Seen) -> Verdict:
        if candidate.isascii() and candidate.isdigit():
            return Verdict(self._dialled(candidate), True)
        extended = _EXTENDED.fullmatch(candidate)
        number = extended.group(1) if extended else candidate
        if _PLAIN.fullmatch(number):
            digits = _NO_DIGIT.sub("", number)
            if "+" not in number:
                if extended:
                    return Verdict(self._dialled(digits, written=_NO_DIGIT.sub("", candidate)), True)
                return self._plausible(digits, seen) if digits else Verdict((), True)
            if _WITH_PLUS.fullmatch(number) and country_code(digits):
                return Verdict((_ANY,) if international(digits) else (), True)
        readings = _readings(candidate)
        if readings is None:
            return Verdict(self._regions, False)
        found: set[str] = set()
        for digits in readings:
            if "+" in candidate and country_code(digits):
                found.update((_ANY,) if international(digits) else ())
            else:
                found.update(self._dialled(digits, loosely=True))
        return Verdict(tuple(found), False)

    def _dialled(self, digits: str, *, written: str = "", loosely: bool = False) -> tuple[str, ...]:
        if not _LEAST <= len(digits) <= _MOST:
            return ()
        could = [self._plans[number] for number in self._could.Match(digits) or ()]
        return tuple([name for name, plan in could if plan.dials(digits, written=written, loosely=loosely)])

    def _possible(self, blocks: list[str], seen: _Seen) -> bool:
        """Whether neighbouring blocks of digits are a valid number."""
        for at in range(len(blocks)):
            digits = ""
            for block in blocks[at:]:
                digits += block
                if len(digits) >= _LEAST and self._plausible(digits, seen).regions:
                    return True
        return False


def _any_of(plans: Sequence[Region]) -> Any:
    """Says of digits, in one pass, from which of the regions (by number) they could be dialled."""
    import re2

    options = re2.Options()
    options.log_errors = False
    could = re2.Set.FullMatchSet(options)
    for plan in plans:
        try:
            could.Add(plan.beyond())
        except re2.error:
            could.Add(r"\d+")
    could.Compile()
    return could


def stands(text: str, candidate: str, at: int) -> bool | None:
    """Whether digits and signs at that place are written as numbers are; None when only the matcher knows."""
    if not _BRACKETS.fullmatch(candidate) or _PAGES.search(candidate):
        return False
    around = text[at - 1 : at] if at and candidate[0] not in "([+" else ""
    around += text[at + len(candidate) : at + len(candidate) + 1]
    return not _SPOILS.search(around) if _KNOWN.fullmatch(around) else None


def _matchers() -> tuple[Any, Any]:
    """The matcher twice: one lists what it would parse, the other parses only what is plausible."""
    import phonenumbers

    base: Any = phonenumbers.PhoneNumberMatcher

    class Listing(base):  # type: ignore[misc] # it is imported late
        tried: list[tuple[str, int]] | None = None
        settles: Callable[[str, int], bool]

        def _parse_and_verify(self, candidate: str, offset: int) -> _Cut | None:
            first, self.tried = not self.tried, self.tried or []
            self.tried.append((candidate, offset))
            settled = first and self.settles(candidate, offset)
            return _Cut(offset, offset + len(candidate)) if settled else None

    class Sieved(base):  # type: ignore[misc] # it is imported late
        judged: Callable[[str], Verdict]
        refused: set[tuple[str, int]]

        def accepts(self, candidate: str, offset: int) -> Any:
            return self._parse_and_verify(candidate, offset)

        def _parse_and_verify(self, candidate: str, offset: int) -> Any:
            regions, sure = self.judged(candidate)
            # It is tried once for each way to cut it out.
            known = (candidate, offset) in self.refused
            if known or (self.preferred_region not in regions and _ANY not in regions):
                return None
            right = stands(self.text, candidate, offset) if sure else None
            found = _Cut(offset, offset + len(candidate)) if right else None
            if right is None:
                found = super()._parse_and_verify(candidate, offset)
            if found is None:
                self.refused.add((candidate, offset))
            return found

    return Listing, Sieved


def _readings(candidate: str) -> tuple[str, ...] | None:
    """The digits that could be all of the number, without its extension; None when that is hard to say."""
    if _PLAIN.fullmatch(candidate):
        return (_NO_DIGIT.sub("", candidate),)
    if not candidate.isascii() or "~" in candidate or "int" in candidate.lower():
        return None
    parts = re.split("[xX]", candidate)
    if len(parts) == 2 and "#" not in parts[0]:
        return (_NO_DIGIT.sub("", parts[0]),)  # an x is accepted only where an extension begins
    if len(parts) > 1:
        return None
    number = candidate.partition("#")[0]  # "123 4567 #89" or "123 4567 89#"
    blocks = _BLOCK.findall(number)
    return _NO_DIGIT.sub("", candidate), "".join(blocks), "".join(blocks[:-1])
