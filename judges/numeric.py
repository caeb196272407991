"""The `numeric` judge: a number in the answer against the number in the reference.

What is read as a number: `1,234.5`, `1'234`, `1_234`, `1 234` (with a no-break or thin space), `-3`, `−3`,
`-$3`, `.5`, `1.5e-3`, `1.5 × 10^-3`, `10⁶`, `12.5%`, `3/4`, `1 1/2`, `\\frac{3}{4}`, `5 million` (hundred to
trillion), and LaTeX's `1{,}234`. An en dash is a minus where no range can be meant: `–5`, not `5–10`.

What looks like a number and cannot be read is none, and no part of it is one either: a decimal comma (`1,5`),
`1.234,50`, dotted chains (`1.2.3`), dates (`12/05/2024`, `2024-05-12`), other powers than those of ten
(`2^3`), `0x10`, `1½`. Three numbers and more with commas between them are a list (`1,2,3`). What is not seen
at all: words ("twelve"), digits after a Latin letter (`H2O`), other digits than ASCII's. What follows a
number is its unit, and does not count (`5km`, `5k`, `5 Millionen`); times are two numbers (`3:45`).

Values are exact fractions, so that 1.01 is within 0.01 of 1, as a reader expects and binary floats deny.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from fractions import Fraction
from typing import Literal

import re2

from guardrails.errors import ConfigError
from judges.judge import MAX_ANSWER, MAX_READ, Answer, Question, Score, aside, no_reference, unfit

MAX_TOKEN = 100
MAX_LIST = 10_000
MAX_EXPONENT = 400
MAX_NUMBERS = 1_000

_SIGN = r"[-+–]?(?:\\?[$€£¥])?"
_RUN = r"\.?\d+(?:[.,'’_/]\d+|[\x{A0}\x{2009}\x{202F}]\d{3,})*"
_EXPONENT = r"[-+]?\d+(?:[.,/]\d+)*"
_POWER_OF = r"\^\s?\{?\s?" + _EXPONENT + r"\}?|\*\*" + _EXPONENT + r"|[⁻⁺]?[⁰¹²³⁴⁵⁶⁷⁸⁹]+"
_FRAC = r"\\[dt]?frac\{\s?\d+\s?\}\{\s?\d+\s?\}"
_AFTER = r"(?:[ \x{A0}-]?(?i:hundred|thousand|million|billion|trillion)s?\b)?(?:\s?\\?%)?"
# Whatever may be a number, as long as it goes on, so that no part of it is taken for one. RE2 finds the
# tokens without groups, at a tenth of the cost; only those that count are taken apart.
_TOKEN = re2.compile(
    r"0[xX][0-9a-fA-F]+|0[bB][01]+|0[oO][0-7]+|\^\s?\{?\s?" + _EXPONENT + r"|\d+(?:-\d+){2,}"
    r"|" + _SIGN + r"(?:"
    r"(?:\d{1,3}[ \x{A0}]?)?" + _FRAC + r"|\d{1,3}[ \x{A0}]\d+(?:/\d+)+"
    r"|(?:" + _RUN + r"\s{0,2}(?:×|x|\*|·|\\times|\\cdot)\s{0,2})?10(?:" + _POWER_OF + r")"
    r"|" + _RUN + r"(?:[eE]" + _EXPONENT + "|" + _POWER_OF + r")?"
    r")" + _AFTER
)
_PARTS = re2.compile(
    r"(?s)" + _SIGN + r"(.*?)(?:[ \x{A0}-]?(?i:(hundred|thousand|million|billion|trillion)s?))?(?:\s?\\?%)?"
)
_FRACTION = re2.compile(
    r"(?:(\d{1,3})[ \x{A0}]?)?\\[dt]?frac\{\s?(\d+)\s?\}\{\s?(\d+)\s?\}"
    r"|(?:(\d{1,3})[ \x{A0}])?(\d+(?:\.\d+)?)/(\d+(?:\.\d+)?)"
)
_DIGITS = (
    r"(?:[1-9]\d{0,2}(?:(?:,\d{3})+|(?:'\d{3})+|(?:’\d{3})+|(?:_\d{3})+|(?:[\x{A0}\x{2009}\x{202F}]\d{3})+)|\d+)"
    r"(?:\.\d+)?|\.\d+"
)
_POWER = re2.compile(
    r"(?:(" + _DIGITS + r")[^\d.]+)?10(?:(?:\^\s?\{?\s?|\*\*)([-+]?\d+)\}?|([⁻⁺]?[⁰¹²³⁴⁵⁶⁷⁸⁹]+))"
)
_PLAIN = re2.compile(r"(" + _DIGITS + r")(?:[eE]([-+]?\d+))?")
_LIST = re2.compile(_SIGN + r"\d+(?:[./]\d+)?(?:,\d+(?:[./]\d+)?)+" + _AFTER)
_THOUSANDS = re2.compile(r",\d{3}(?:\D|$)")
_SPACE = re2.compile(r"[^\S\x{A0}\x{2009}\x{202F}]")
_SCALES = {"hundred": 10**2, "thousand": 10**3, "million": 10**6, "billion": 10**9, "trillion": 10**12}
_GOES_ON = frozenset("^¼½¾⅐⅑⅒⅓⅔⅕⅖⅗⅘⅙⅚⅛⅜⅝⅞")
# A degree, an ordinal and a prime are raised like a power, and are units all the same: 45^\\circ, 37^{th}.
_RAISED = re2.compile(
    r"\^\s?\{?\s?(?:\\circ|\\degree|\\prime|[∘°o'*](?:\W|$)|(?:\\(?:text|mathrm|rm)\s?\{?\s?)?(?:th|st|nd|rd|o)\b)"
)
_MINUSES = str.maketrans("−‐‑﹣－", "-----")
_ASCII = str.maketrans("⁰¹²³⁴⁵⁶⁷⁸⁹⁻⁺", "0123456789-+")
_UNITS = "%$€£¥"
_CURRENCY = "$€£¥ \t\n\r*"


@dataclass(frozen=True, slots=True)
class Number:
    """A number as it was written. `value` leaves the percent sign out; `percent` says whether it had one."""

    value: Fraction
    percent: bool = False


def numbers(text: str, *, fractions: bool = True) -> list[Number]:
    """The numbers in a text, from left to right. With `fractions` off, `9/10` is a 9 and a 10."""
    text = _prepared(text)
    return [number for span in _spans(text) for number in _read(text, span, fractions)]


def _prepared(text: str) -> str:
    return text.encode("utf-8", "replace").decode().replace("{,}", ",").translate(_MINUSES)


def _spans(text: str) -> Iterator[tuple[int, int]]:
    for match in _TOKEN.finditer(text):
        start, end = match.span()
        before = text[start - 1] if start else ""
        if not (before.isascii() and before.isalpha() and text[start].isdigit()):
            yield start, end


def _read(text: str, span: tuple[int, int], fractions: bool = True) -> list[Number]:
    """The number in a token; none when it cannot be read, several when it is a list or a split fraction."""
    start, end = span
    goes_on = text[end : end + 1] in _GOES_ON and _RAISED.match(text[end : end + 20]) is None
    if end - start > MAX_LIST or goes_on:
        return []
    negative = text[start] in "-–" and _is_sign(text, start)
    if text[start] == "." and start and (text[start - 1] == "." or text[start - 1].isalnum()):
        start += 1  # "No.5", "so ...5"
    token = text[start:end]
    pieces = token.split(",") if _is_list(token) else [token]
    found = [number for piece in pieces for number in _taken_apart(piece, fractions)]
    if negative and found:
        found[0] = Number(-found[0].value, found[0].percent)
    return found


def _is_list(token: str) -> bool:
    """Whether commas stand between numbers: `1,5` is a decimal comma, or may be, and `1,234` one number."""
    if _LIST.fullmatch(token) is None or _THOUSANDS.search(token) is not None:
        return False
    return token.count(",") > 1 or any(mark in token.rpartition(",")[2] for mark in "./")


def _taken_apart(token: str, fractions: bool) -> list[Number]:
    """The number in a token, without its sign."""
    body, scale = _PARTS.fullmatch(token).groups()
    if len(body) > MAX_TOKEN:
        return []
    values: list[Fraction] = []
    if (match := _FRACTION.fullmatch(body)) is not None:
        *whole, top, bottom = (Fraction(digits) for digits in match.groups() if digits is not None)
        if not fractions:
            values = [*whole, top, bottom]
        elif bottom and (not whole or top < bottom):
            values = [sum(whole) + top / bottom]
    elif (match := _POWER.fullmatch(body)) is not None:
        mantissa, power, superscript = match.groups()
        values = _scaled(mantissa or "1", power or superscript)
    elif (match := _PLAIN.fullmatch(body)) is not None:
        values = _scaled(match.group(1), match.group(2) or "0")
    factor = _SCALES[scale.lower()] if scale else 1
    return [Number(value * factor, token.endswith("%")) for value in values]


def _is_sign(text: str, start: int) -> bool:
    """A minus after a letter, a number or a bracket is a hyphen, a range or a subtraction.

    After a number and a space an en dash is one too.
    """
    before = text[max(0, start - 4) : start]
    if before.rstrip(_UNITS + " \u00a0" if text[start] == "–" else _UNITS)[-1:].isdigit():
        return False
    return not (before[-1:].isalnum() or before.endswith((")", "]", "}")))


def _scaled(digits: str, power: str) -> list[Fraction]:
    exponent = int(power.translate(_ASCII))
    if abs(exponent) > MAX_EXPONENT:
        return []
    bare = "".join(character for character in digits if character.isdigit() or character == ".")
    return [Fraction(bare) * Fraction(10) ** exponent]


def one_number(text: str) -> Number | None:
    """The number that a text is, white space and a currency's sign aside; None when it is not one number."""
    whole = _prepared(text).strip(_CURRENCY)
    if whole[:1] in ("-", "–"):  # the minus may stand before the currency: -$5
        whole = whole[0] + whole[1:].lstrip(_CURRENCY)
    if list(_spans(whole)) != [(0, len(whole))]:
        return None
    read = _read(whole, (0, len(whole)))
    return read[0] if len(read) == 1 else None


def excess(value: Fraction, reference: Fraction, tolerance: float, relative: float) -> Fraction:
    """How far |value − reference| is above max(tolerance, relative·|reference|); up to 0 is near enough."""
    # `str` first: the 0.01 that was written is meant, not the binary float next to it.
    return abs(value - reference) - max(Fraction(str(tolerance)), Fraction(str(relative)) * abs(reference))


@dataclass(frozen=True, slots=True)
class Numeric:
    """Passes when the chosen number is near one of the references: |x − r| ≤ max(tolerance, relative·|r|).

    `which` number of the answer counts: the `last`, the `first`, or `any` of them. `last` and `any` look at
    the last 200,000 characters, and at 1,000 places with digits in them. `percent` says what 12.5% is:
    `ignore` drops the sign on both sides (12.5), `value` divides by 100 (0.125). `tolerance` is in the
    reference's unit, `relative` is a share of the reference.
    """

    tolerance: float = 0.0
    relative: float = 0.0
    which: Literal["last", "first", "any"] = "last"
    percent: Literal["ignore", "value"] = "ignore"
    fractions: bool = True
    name: str = "numeric"

    def __post_init__(self) -> None:
        for option in ("tolerance", "relative"):
            if not 0 <= getattr(self, option) < math.inf:
                raise ConfigError(f"{option} must be a finite number of at least 0")

    def check(self, question: Question, /) -> str | None:
        """Complains about references that are missing or are not one number."""
        if (complaint := no_reference(question)) is not None:
            return complaint
        for number, reference in enumerate(question.references, start=1):
            if self._reference(reference) is None:
                return f"reference {number} is not one number (write 1234.5, 12%, 3/4 or 1.5e-3)"
        return None

    async def __call__(self, question: Question, answer: Answer, /) -> Score:
        """Compares the number that counts with the nearest reference."""
        if (failed := unfit(self, question, answer, most=MAX_READ)) is not None:
            return failed
        return await aside(len(answer.text), lambda: self._compared(question, answer.text))

    def _compared(self, question: Question, text: str) -> Score:
        chosen = {self._plain(number) for number in self._chosen(text)}
        if not chosen:
            return Score.verdict(False, "no number in the answer")
        read = map(self._reference, question.references)
        gap, reference, value = min(
            (self._excess(value, wanted), wanted, value)
            for wanted in {number for number in read if number is not None}
            for value in chosen
        )
        said = "the nearest number" if self.which == "any" else f"the {self.which} number"
        relation = "within" if gap <= 0 else "not within"
        reason = f"{said}, {_show(value)}, is {relation} tolerance of {_show(reference)}"
        return Score.verdict(gap <= 0, reason)

    def _chosen(self, answer: str) -> list[Number]:
        text = _prepared(answer if self.which == "first" else _end(answer))
        spans: Iterable[tuple[int, int]] = _spans(text)
        if self.which != "first":
            spans = reversed(deque(spans, MAX_NUMBERS))
        read = (_read(text, span, self.fractions) for span in spans)
        if self.which == "any":
            return [number for found in read for number in found]
        found = next((found for found in read if found), [])
        return found[-1:] if self.which == "last" else found[:1]

    def _plain(self, number: Number) -> Fraction:
        return number.value / 100 if number.percent and self.percent == "value" else number.value

    def _reference(self, text: str) -> Fraction | None:
        number = one_number(text)
        return None if number is None else self._plain(number)

    def _excess(self, value: Fraction, reference: Fraction) -> Fraction:
        return excess(value, reference, self.tolerance, self.relative)


def _end(answer: str) -> str:
    """The end of a long answer, from where no number can have begun before."""
    if len(answer) <= MAX_ANSWER:
        return answer
    cut = answer[-MAX_ANSWER:]
    space = _SPACE.search(cut)
    return cut[space.end() :] if space is not None else ""


def _show(value: Fraction) -> str:
    """Six significant digits: enough to see why, too few to be somebody's card number."""
    try:
        return f"{float(value):.6g}"
    except OverflowError:
        return "a number beyond 1e308"
