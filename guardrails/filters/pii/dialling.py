"""Whether digits are a valid telephone number somewhere: what `phonenumbers` says, in a tenth of its time.

`phonenumbers` builds an object, normalizes each character and looks its patterns up again at each parse. Here
the library's own metadata is compiled once per region, and the same decisions run over a string of ASCII
digits: international prefix, country code, national prefix, length, pattern. The tests compare the two.

Nothing is kept of the digits that were asked about.
"""

from __future__ import annotations

import re
from functools import cache
from typing import Any

_TYPES = (
    *("fixed_line", "mobile", "toll_free", "premium_rate", "shared_cost", "personal_number", "voip"),
    *("pager", "uan", "voicemail"),
)
_SHORTEST, _LONGEST = 2, 17  # digits of what is called a national number at all
_NO_PREFIX = re.compile(r"\(?\\1\)?")  # the form of numbers that are written without a national prefix


class Region:
    """One region's numbering plan."""

    def __init__(self, metadata: Any) -> None:
        general = metadata.general_desc
        self.code: int = metadata.country_code
        self.leading = _compiled(metadata.leading_digits) if metadata.leading_digits else None
        self._abroad = _compiled(metadata.international_prefix or "(?!)")
        self._prefix = _compiled(metadata.national_prefix_for_parsing or "(?!)")
        self._transform: str = metadata.national_prefix_transform_rule or ""
        self._general = _compiled(general.national_number_pattern)
        self._lengths = frozenset(general.possible_length)
        self._local = frozenset(general.possible_length_local_only)
        self._longest = max(general.possible_length)
        self.valid = _by_length(metadata)  # compiled when such a number is met: a region has many
        self._forms = [
            ((form.leading_digits_pattern or [""])[-1], form.pattern, _prefixed(form))
            for form in metadata.number_format
        ]

    def dials(self, digits: str, *, written: str = "", loosely: bool = False) -> bool:
        """Whether these digits, dialled from here, are a valid number.

        Where it is usually written with the national prefix, that has to be there, or else `loosely`; it is
        looked for in all digits that were `written`, those of an extension too.
        """
        leaving = self._abroad.match(digits)
        if leaving and digits[leaving.end() : leaving.end() + 1] != "0":
            return international(digits[leaving.end() :])
        code = str(self.code)
        if digits.startswith(code):
            rest, _ = self._stripped(digits[len(code) :])
            if self._too_long(digits) or (self._fits(rest) and not self._fits(digits)):
                return valid(self.code, sharing(self.code)[0].national(rest))
        number = self.national(digits)
        if not valid(self.code, number):
            return False
        return loosely or sharing(self.code)[0].written(number, written or digits)

    def beyond(self) -> str:
        """An expression for all that `dials` accepts, even loosely, and for little else."""
        main = sharing(self.code)[0]
        kinds = {valid for plan in sharing(self.code) for valid in plan.valid.values()}
        number = f"(?:{'|'.join(sorted(kinds))})"
        own, theirs = (f"(?:{plan._prefix.pattern})" for plan in (self, main))
        # What a prefix is rewritten to could be anything.
        rewritten = [
            rf"(?:{self.code})?(?:{plan._prefix.pattern})\d*" for plan in (self, main) if plan._transform
        ]
        return "|".join(
            [
                rf"(?:{self._abroad.pattern})[1-9]\d*",
                f"{own}?{number}",
                f"{self.code}{own}?{theirs}?{number}",
                *rewritten,
            ]
        )

    def national(self, digits: str) -> str:
        """The number that is meant, without its national prefix; empty when it can be none."""
        if len(digits) < _SHORTEST:
            return ""
        number, _ = self._stripped(digits)
        size = len(number)
        if size in self._local or not (size in self._lengths or size > self._longest):
            number = digits
        return number if _SHORTEST <= len(number) <= _LONGEST else ""

    def has(self, number: str) -> bool:
        """Whether the national number is one of this region's."""
        pattern = self.valid.get(len(number))
        return pattern is not None and _compiled(pattern).fullmatch(number) is not None and self._fits(number)

    def written(self, number: str, digits: str) -> bool:
        """Whether the national prefix was dialled, where the number's usual form has one."""
        for leading, pattern, prefixed in self._forms:
            if _compiled(leading).match(number) and _compiled(pattern).fullmatch(number):
                return not prefixed or self._stripped(digits)[1]
        return True

    def _stripped(self, digits: str) -> tuple[str, bool]:
        """Without the national prefix (and a carrier's code), and whether there was one."""
        prefix = self._prefix.match(digits)
        if prefix is None:
            return digits, False
        if self._transform and prefix.groups()[-1] is not None:
            rest = prefix.expand(self._transform) + digits[prefix.end() :]
        else:
            rest = digits[prefix.end() :]
        if self._fits(digits) and not self._fits(rest):
            return digits, False
        return rest, True

    def _fits(self, digits: str) -> bool:
        return self._general.fullmatch(digits) is not None

    def _too_long(self, digits: str) -> bool:
        return len(digits) > self._longest and len(digits) not in self._local


def international(digits: str) -> bool:
    """Whether digits that begin with a country code are a valid number."""
    code = country_code(digits) if len(digits) > _SHORTEST else 0
    return bool(code) and valid(code, sharing(code)[0].national(digits[len(str(code)) :]))


def country_code(digits: str) -> int:
    """The country code at the start, or 0."""
    codes = _country_codes()
    return next((codes[digits[:size]] for size in (1, 2, 3) if digits[:size] in codes), 0)


@cache
def _country_codes() -> dict[str, int]:
    from phonenumbers import COUNTRY_CODE_TO_REGION_CODE

    return {str(code): code for code in COUNTRY_CODE_TO_REGION_CODE}


def valid(code: int, number: str) -> bool:
    """Whether a national number is one of the regions' that share the country code."""
    share = sharing(code)
    if len(share) == 1 or len(number) not in _lengths(code):
        return share[0].has(number)
    for region in share:
        if region.leading is None:
            if region.has(number):
                return True
        elif region.leading.match(number):
            return region.has(number)
    return False


@cache
def sharing(code: int) -> tuple[Region, ...]:
    """The regions with that country code, the main one first."""
    from phonenumbers import COUNTRY_CODE_TO_REGION_CODE, PhoneMetadata

    names = COUNTRY_CODE_TO_REGION_CODE[code]
    made: Any = PhoneMetadata.metadata_for_region_or_calling_code
    return tuple(Region(made(code, name)) for name in names)


@cache
def _lengths(code: int) -> frozenset[int]:
    """How many digits the national numbers have."""
    return frozenset(length for plan in sharing(code) for length in plan.valid)


@cache
def region(name: str) -> Region:
    """The plan of the region of that name ("US")."""
    from phonenumbers import PhoneMetadata

    return Region(PhoneMetadata.metadata_for_region(name))


@cache
def _compiled(pattern: str) -> re.Pattern[str]:
    return re.compile(pattern, re.ASCII)


def _prefixed(form: Any) -> bool:
    """Whether a way to write numbers needs the national prefix."""
    rule = form.national_prefix_formatting_rule
    return bool(rule) and not form.national_prefix_optional_when_formatting and not _NO_PREFIX.fullmatch(rule)


def _by_length(metadata: Any) -> dict[int, str]:
    """The patterns of all kinds of numbers, by the lengths that each kind has."""
    patterns: dict[int, set[str]] = {}
    general = metadata.general_desc
    for kind in _TYPES:
        known = getattr(metadata, kind)
        same = kind == "mobile" and metadata.same_mobile_and_fixed_line_pattern
        if known is None or same or not known.national_number_pattern:
            continue
        for length in known.possible_length or general.possible_length:
            if length in general.possible_length or not general.possible_length:
                patterns.setdefault(length, set()).add(known.national_number_pattern)
    return {length: "|".join(sorted(many)) for length, many in patterns.items()}
