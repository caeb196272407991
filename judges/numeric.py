"""The `numeric` judge: a number in the answer against the number in the reference.

What is read as a number: `1,234.5`, `1 234` (with a no-break or thin space), `-3` and `−3`, `.5`, `1.5e-3`,
`1.5 × 10^-3`, `10⁶`, `12.5%`, `3/4`, `\\frac{3}{4}`, and LaTeX's `1{,}234`. What is not: decimal commas,
words ("twelve"), multipliers ("5 million"), mixed fractions, digits after a Latin letter (`H2O`), dotted
chains (`1.2.3`) and slashed ones (`12/05/2024`).

Values are exact fractions, so that 1.01 is within 0.01 of 1, as a reader expects and binary floats deny.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from typing import Literal

import re2

from guardrails.errors import ConfigError
from judges.judge import Answer, Question, Score, aside, no_reference, unfit

MAX_TOKEN = 100
MAX_EXPONENT = 400
MAX_NUMBERS = 1_000

_DIGITS = r"(?:\d{1,3}(?:[,\x{A0}\x{2009}\x{202F}]\d{3})+|\d+)(?:\.\d+)?|\.\d+"
# RE2 finds the tokens without groups, at a tenth of the cost; only those that count are taken apart.
_TOKEN = re2.compile(
    r"\d+(?:\.\d+){2,}|\d+(?:/\d+){2,}"
    r"|[-+−]?(?:"
    r"\\[dt]?frac\{\s?\d+\s?\}\{\s?\d+\s?\}"
    r"|\d+/\d+"
    r"|(?:(?:" + _DIGITS + r")\s{0,2}(?:×|x|\*|·|\\times|\\cdot)\s{0,2})?"
    r"10(?:(?:\^|\*\*)\s?\{?\s?[-+−]?\d+\}?|[⁻⁺]?[⁰¹²³⁴⁵⁶⁷⁸⁹]+)"
    r"|(?:" + _DIGITS + r")(?:[eE][-+−]?\d+)?"
    r")(?:\s?\\?%)?"
)
_FRACTION = re2.compile(r"[-+−]?(?:\\[dt]?frac\{\s?(\d+)\s?\}\{\s?(\d+)\s?\}|(\d+)/(\d+))(?:\s?\\?%)?")
_POWER = re2.compile(
    r"[-+−]?(?:(" + _DIGITS + r")[^\d.]+)?10(?:(?:\^|\*\*)\s?\{?\s?([-+−]?\d+)\}?|([⁻⁺]?[⁰¹²³⁴⁵⁶⁷⁸⁹]+))"
    r"(?:\s?\\?%)?"
)
_PLAIN = re2.compile(r"[-+−]?(" + _DIGITS + r")(?:[eE]([-+−]?\d+))?(?:\s?\\?%)?")
_ASCII = str.maketrans("⁰¹²³⁴⁵⁶⁷⁸⁹⁻⁺−", "0123456789-+-")
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
    return text.encode("utf-8", "replace").decode().replace("{,}", ",")


def _spans(text: str) -> Iterator[tuple[int, int]]:
    for match in _TOKEN.finditer(text):
        start, end = match.span()
        before = text[start - 1] if start else ""
        if not (before.isascii() and before.isalpha() and text[start].isdigit()):
            yield start, end


def _read(text: str, span: tuple[int, int], fractions: bool = True) -> list[Number]:
    """The number in a token; none when it is a chain or out of bounds, two when a fraction is split."""
    start, end = span
    token = text[start:end]
    if len(token) > MAX_TOKEN:
        return []
    if (match := _FRACTION.fullmatch(token)) is not None:
        top, bottom = (int(digits) for digits in match.groups() if digits is not None)
        if not fractions:
            return [Number(Fraction(top)), Number(Fraction(bottom))]
        values = [Fraction(top, bottom)] if bottom else []
    elif (match := _POWER.fullmatch(token)) is not None:
        mantissa, power, superscript = match.groups()
        values = _scaled(mantissa or "1", power or superscript)
    elif (match := _PLAIN.fullmatch(token)) is not None:
        values = _scaled(match.group(1), match.group(2) or "0")
    else:
        values = []  # a chain: a version, an address or a date
    sign = -1 if token[0] in "-−" and _is_sign(text, start) else 1
    return [Number(sign * value, token.endswith("%")) for value in values]


def _is_sign(text: str, start: int) -> bool:
    """A minus after a letter, a digit or a bracket is a hyphen, a range or a subtraction."""
    return start == 0 or not (text[start - 1].isalnum() or text[start - 1] in ")]}")


def _scaled(digits: str, power: str) -> list[Fraction]:
    exponent = int(power.translate(_ASCII))
    if abs(exponent) > MAX_EXPONENT:
        return []
    bare = "".join(character for character in digits if character.isdigit() or character == ".")
    return [Fraction(bare) * Fraction(10) ** exponent]


def one_number(text: str) -> Number | None:
    """The number that a text is, white space and a currency's sign aside; None when it is not one number."""
    whole = text.strip(_CURRENCY)
    if whole[:1] in ("-", "−"):  # the minus may stand before the currency: -$5
        whole = whole[0] + whole[1:].lstrip(_CURRENCY)
    whole = _prepared(whole)
    if list(_spans(whole)) != [(0, len(whole))]:
        return None
    read = _read(whole, (0, len(whole)))
    return read[0] if read else None


def excess(value: Fraction, reference: Fraction, tolerance: float, relative: float) -> Fraction:
    """How far |value − reference| is above max(tolerance, relative·|reference|); up to 0 is near enough."""
    # `str` first: the 0.01 that was written is meant, not the binary float next to it.
    return abs(value - reference) - max(Fraction(str(tolerance)), Fraction(str(relative)) * abs(reference))


@dataclass(frozen=True, slots=True)
class Numeric:
    """Passes when the chosen number is near one of the references: |x − r| ≤ max(tolerance, relative·|r|).

    `which` number of the answer counts: the `last`, the `first`, or `any` of them (of the
    last 1,000). `percent` says what 12.5%
    is: `ignore` drops the sign on both sides (12.5), `value` divides by 100 (0.125). `tolerance` is in the
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
        if (failed := unfit(self, question, answer)) is not None:
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
        text = _prepared(answer)
        spans = list(_spans(text))
        if self.which == "any":
            spans = spans[-MAX_NUMBERS:]
        elif self.which == "last":
            spans.reverse()
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


def _show(value: Fraction) -> str:
    """Six significant digits: enough to see why, too few to be somebody's card number."""
    try:
        return f"{float(value):.6g}"
    except OverflowError:
        return "a number beyond 1e308"
