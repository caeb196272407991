"""Telephone numbers: what Presidio's recognizer finds, without its eight walks over the whole text.

`phonenumbers.PhoneNumberMatcher` is run once per region, and parses every run of digits eight times. Here the
text is first cut into the stretches that could hold a number; one walk over a stretch lists what the matcher
would parse, digit patterns from the library's own metadata say which regions could accept any of it, and the
matcher runs for those. Whatever the patterns cannot judge (extensions, other scripts) goes to all regions.

Both hook into one private method of the matcher. Should it ever go, `Phones` notices, and gives the whole
text to every region.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from functools import cache, partial
from typing import Any

Match = tuple[int, int, float]
_Seen = dict[str, tuple[str, ...]]  # what was judged in the text at hand

# ASCII characters that are in no telephone number, its punctuation or the words for an extension.
CUT = "bcdfghjklmpqruvwyzBCDFGHJKLMPQRUVWYZ\n!\"$%&'*<>?@\\^_`{|}"
_NOT_CUT = f"[^{re.escape(CUT)}]"
_STRETCH = re.compile(rf"\d(?:{_NOT_CUT}*\d)?")
_TAIL = re.compile(rf"{_NOT_CUT}{{0,3}}.?", re.DOTALL)  # "#", a letter that spoils the number
_LEAD = 11  # brackets and plus signs before the first digit, and the character before them
_LEAST = 4  # digits of the shortest number

_PLAIN = re.compile(r"[\d ().\-/\[\]+]*", re.ASCII)
_NO_DIGIT = re.compile(r"\D+")
_BLOCK = re.compile(r"\d+")
# Only with one of these can something be more than blocks of digits: an extension, an international number.
_MORE = re.compile(r"[xX;#~+]|(?i:int)|[^\x00-\x7f]")
_FEW, _LONG = 5, 20  # blocks that are judged without a walk; digits that the matcher takes at once

_TYPES = (
    *("fixed_line", "mobile", "toll_free", "premium_rate", "shared_cost", "personal_number", "voip"),
    *("pager", "uan", "voicemail"),
)
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
        self._judges = [(region, *_judge(region)) for region in regions]
        self._anywhere = re.compile("|".join(f"(?:{pattern})" for _, pattern, _ in self._judges), re.ASCII)
        self._listing, self._sieved = _matchers()
        # Possible numbers (leniency 0) are more than valid ones, of which the patterns know.
        self._known = leniency > 0 and bool(self._candidates("(212) 555-0123"))

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

        for region in self._regions:
            for match in PhoneNumberMatcher(text, region, leniency=self._leniency):
                yield match.start, match.end, self._score

    def _in_stretch(self, stretch: str, last: int, seen: _Seen) -> set[tuple[int, int]]:
        candidates = self._candidates(stretch)
        found: set[tuple[int, int]] = set()
        for region in self._regions:
            accepted = self._first_accepted(stretch, region, candidates, seen)
            if accepted is None:
                continue
            candidate, at = accepted
            if accepted == candidates[0] and at + len(candidate) >= last:
                return found | {(at, at + len(candidate))}  # the others could only find parts of it
            found |= self._walk(stretch, region, seen)  # what is left is cut out in other ways
        return found

    def _first_accepted(
        self, stretch: str, region: str, candidates: list[tuple[str, int]], seen: _Seen
    ) -> tuple[str, int] | None:
        matcher = None
        for candidate, at in candidates:
            where = self._plausible(candidate, seen)
            if region in where or _ANY in where:
                matcher = matcher or self._sieved(stretch, region, leniency=self._leniency)
                if matcher.verify(candidate, at):
                    return candidate, at
        return None

    def _walk(self, stretch: str, region: str, seen: _Seen) -> set[tuple[int, int]]:
        matcher = self._sieved(stretch, region, leniency=self._leniency)
        matcher.plausible, matcher.refused = partial(self._plausible, seen=seen), set()
        return {(match.start, match.end) for match in matcher}

    def _candidates(self, text: str) -> list[tuple[str, int]]:
        """What the matcher would parse, and where it stands."""
        matcher = self._listing(text, None, leniency=self._leniency)
        matcher.has_next()
        return list(dict.fromkeys(matcher.tried or []))

    def _plausible(self, candidate: str, seen: _Seen) -> tuple[str, ...]:
        """For which regions it could be a valid number; `_ANY`: it is the same for all."""
        found = seen.get(candidate)
        if found is None:
            found = seen[candidate] = self._judged(candidate, seen)
        return found

    def _judged(self, candidate: str, seen: _Seen) -> tuple[str, ...]:
        readings = _readings(candidate)
        if readings is not None and len(readings) == 1 and readings[0] != candidate and "+" not in candidate:
            return self._plausible(readings[0], seen)
        if readings is None:
            return self._regions
        found: set[str] = set()
        for digits in readings:
            if len(digits) < _LEAST:
                continue
            if "+" in candidate and _country_code(digits):
                found.update((_ANY,) if international(digits) else ())
            elif self._anywhere.fullmatch(digits):
                found.update(region for region, _, judge in self._judges if judge(digits))
        return tuple(region for region in (_ANY, *self._regions) if region in found)

    def _possible(self, blocks: list[str], seen: _Seen) -> bool:
        """Whether neighbouring blocks of digits could be a valid number."""
        ends = range(1, len(blocks) + 1)
        return any(self._plausible("".join(blocks[at:end]), seen) for end in ends for at in range(end))


def _matchers() -> tuple[Any, Any]:
    """The matcher twice: one lists what it would parse, the other parses only what is plausible."""
    import phonenumbers

    base: Any = phonenumbers.PhoneNumberMatcher

    class Listing(base):  # type: ignore[misc] # it is imported late
        tried: list[tuple[str, int]] | None = None

        def _parse_and_verify(self, candidate: str, offset: int) -> None:
            self.tried = self.tried or []
            self.tried.append((candidate, offset))

    class Sieved(base):  # type: ignore[misc] # it is imported late
        def verify(self, candidate: str, offset: int) -> Any:
            return super()._parse_and_verify(candidate, offset)

        plausible: Callable[[str], tuple[str, ...]]
        refused: set[tuple[str, int]]

        def _parse_and_verify(self, candidate: str, offset: int) -> Any:
            where = self.plausible(candidate)
            # It is tried once for each way to cut it out.
            known = (candidate, offset) in self.refused
            if known or (self.preferred_region not in where and _ANY not in where):
                return None
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


def _country_code(digits: str) -> int:
    """The country code at the start, or 0."""
    from phonenumbers import COUNTRY_CODE_TO_REGION_CODE

    codes = (int(digits[:size]) for size in (1, 2, 3) if digits[:1] not in ("", "0"))
    return next((code for code in codes if code in COUNTRY_CODE_TO_REGION_CODE), 0)


def international(digits: str) -> bool:
    """Whether digits that begin with a country code could be a valid number."""
    code = _country_code(digits)
    if not code:
        return False
    pattern = _abroad(code)
    return pattern is None or pattern.fullmatch(digits) is not None


def _number(code: int) -> tuple[list[Any], str]:
    """The metadata of the regions with that country code, and a pattern of their valid numbers."""
    from phonenumbers import COUNTRY_CODE_TO_REGION_CODE, PhoneMetadata

    share: list[Any] = [
        PhoneMetadata.metadata_for_region_or_calling_code(code, name)
        for name in COUNTRY_CODE_TO_REGION_CODE[code]
    ]
    kinds = [getattr(metadata, kind) for metadata in share for kind in _TYPES]
    patterns = {kind.national_number_pattern for kind in kinds if kind and kind.national_number_pattern}
    return share, "|".join(sorted(patterns))


@cache
def _abroad(code: int) -> re.Pattern[str] | None:
    share, number = _number(code)
    if any(metadata.national_prefix_transform_rule for metadata in share):
        return None  # digits may be put in
    prefixes = "|".join(sorted({m.national_prefix_for_parsing or "(?!)" for m in share}))
    return re.compile(rf"{code}(?:{prefixes}){{0,2}}(?:{number})", re.ASCII)


def _judge(region: str) -> tuple[str, Callable[[str], bool]]:
    """Whether digits, as dialled in a region, could be a valid number: never False for one that is.

    A pattern that says so roughly, and a function that says so closely.
    """
    from phonenumbers import PhoneMetadata

    own: Any = PhoneMetadata.metadata_for_region(region)
    code = own.country_code
    share, number = _number(code)
    prefix = own.national_prefix_for_parsing or "(?!)"
    abroad = own.international_prefix or "(?!)"
    if own.national_prefix_transform_rule:  # it may take a carrier's code out too
        home = rf"\d*(?:{number})"
    else:  # after a country code the library takes the national prefix off twice
        home = rf"(?:{prefix})(?:{number})|{code}(?:{prefix}){{0,2}}(?:{number})"
    idd, dialled, bare, starts = (re.compile(p, re.ASCII) for p in (abroad, home, number, prefix))
    formats = [
        (
            re.compile(form.leading_digits_pattern[-1] if form.leading_digits_pattern else ""),
            re.compile(form.pattern),
            bool(form.national_prefix_formatting_rule)
            and not form.national_prefix_optional_when_formatting
            and not re.fullmatch(r"\(?\\1\)?", form.national_prefix_formatting_rule),
        )
        for form in share[0].number_format
    ]

    def judge(digits: str) -> bool:
        leaving = idd.match(digits)
        if dialled.fullmatch(digits) or (leaving and international(digits[leaving.end() :])):
            return True
        if not bare.fullmatch(digits):
            return False
        # Written without the national prefix: where its usual form has one, it would not be accepted.
        needed = next(
            (need for lead, form, need in formats if lead.match(digits) and form.fullmatch(digits)), False
        )
        return not needed or starts.match(digits) is not None

    return rf"(?:{abroad})\d*|{home}|{number}", judge
