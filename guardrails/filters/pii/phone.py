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
from typing import Any

Match = tuple[int, int, float]

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
        for start, first, last, end in stretches(text):
            if not _MORE.search(text, start, end):
                blocks = _BLOCK.findall(text, first, last)
                if len(blocks) <= _FEW and max(map(len, blocks)) <= _LONG and not self._possible(blocks):
                    continue
            for one, other in self._in_stretch(text[start:end], last - start):
                yield start + one, start + other, self._score

    def _everywhere(self, text: str) -> Iterator[Match]:
        from phonenumbers import PhoneNumberMatcher

        for region in self._regions:
            for match in PhoneNumberMatcher(text, region, leniency=self._leniency):
                yield match.start, match.end, self._score

    def _in_stretch(self, stretch: str, last: int) -> set[tuple[int, int]]:
        candidates = self._candidates(stretch)
        where = {candidate: self._plausible(candidate) for candidate, _ in candidates}
        wanted = {region for regions in where.values() for region in regions}
        if not wanted:
            return set()
        first, at = candidates[0]
        whole = (at, at + len(first))
        spans: set[tuple[int, int]] = set()
        for region in self._regions[:1] if wanted == {_ANY} else self._regions:
            if region in wanted or _ANY in wanted:
                matcher = self._sieved(stretch, region, leniency=self._leniency)
                matcher.where, matcher.plausible, matcher.refused = where, self._plausible, set()
                spans.update((match.start, match.end) for match in matcher)
            if whole in spans and whole[1] >= last:
                break  # the other regions can only find this one or parts of it
        return spans

    def _candidates(self, text: str) -> list[tuple[str, int]]:
        """What the matcher would parse, and where it stands."""
        matcher = self._listing(text, None, leniency=self._leniency)
        matcher.has_next()
        return matcher.tried or []

    def _plausible(self, candidate: str) -> tuple[str, ...]:
        """For which regions it could be a valid number; `_ANY`: it is the same for all."""
        from phonenumbers import COUNTRY_CODE_TO_REGION_CODE

        if not _PLAIN.fullmatch(candidate):
            return self._regions
        digits = _NO_DIGIT.sub("", candidate)
        if len(digits) < _LEAST:
            return ()
        if "+" in candidate and any(int(digits[:size]) in COUNTRY_CODE_TO_REGION_CODE for size in (1, 2, 3)):
            return (_ANY,) if len(digits) > 5 else ()
        if not self._anywhere.fullmatch(digits):
            return ()
        return tuple(region for region, _, judge in self._judges if judge(digits))

    def _possible(self, blocks: list[str]) -> bool:
        """Whether neighbouring blocks of digits could be a valid number."""
        ends = range(1, len(blocks) + 1)
        return any(self._plausible("".join(blocks[at:end])) for end in ends for at in range(end))


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
        where: dict[str, tuple[str, ...]]
        plausible: Callable[[str], tuple[str, ...]]
        refused: set[tuple[str, int]]

        def _parse_and_verify(self, candidate: str, offset: int) -> Any:
            where = self.where.get(candidate)
            if where is None:  # after a match the walk goes elsewhere
                where = self.where[candidate] = self.plausible(candidate)
            # It is tried once for each way to cut it out.
            known = (candidate, offset) in self.refused
            if known or (self.preferred_region not in where and _ANY not in where):
                return None
            found = super()._parse_and_verify(candidate, offset)
            if found is None:
                self.refused.add((candidate, offset))
            return found

    return Listing, Sieved


def _judge(region: str) -> tuple[str, Callable[[str], object]]:
    """Whether digits, as dialled in a region, could be a valid number: never False for one that is.

    A pattern that says so roughly, and a function that says so closely.
    """
    from phonenumbers import COUNTRY_CODE_TO_REGION_CODE, PhoneMetadata

    own: Any = PhoneMetadata.metadata_for_region(region)
    code = own.country_code
    share: list[Any] = [PhoneMetadata.metadata_for_region(name) for name in COUNTRY_CODE_TO_REGION_CODE[code]]
    kinds = [getattr(metadata, kind) for metadata in share for kind in _TYPES]
    patterns = {kind.national_number_pattern for kind in kinds if kind and kind.national_number_pattern}
    number = "|".join(sorted(patterns))
    prefix = own.national_prefix_for_parsing or "(?!)"
    if own.national_prefix_transform_rule:  # it may take a carrier's code out too
        pattern = rf"\d*(?:{number})"
        return pattern, re.compile(pattern, re.ASCII).fullmatch
    # After a country code the library takes the national prefix off twice.
    dialled_pattern = (
        rf"(?:{own.international_prefix or '(?!)'})\d*|(?:{prefix})(?:{number})"
        rf"|{code}(?:{prefix}){{0,2}}(?:{number})"
    )
    dialled = re.compile(dialled_pattern, re.ASCII)
    bare, starts = re.compile(number), re.compile(prefix)
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
        if dialled.fullmatch(digits):
            return True
        if not bare.fullmatch(digits):
            return False
        # Written without the national prefix: where its usual form has one, it would not be accepted.
        needed = next(
            (need for lead, form, need in formats if lead.match(digits) and form.fullmatch(digits)), False
        )
        return not needed or starts.match(digits) is not None

    return f"{dialled_pattern}|{number}", judge
