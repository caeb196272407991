"""numeric: which numbers are read, which one counts, and how near is near enough."""

from __future__ import annotations

import asyncio
from decimal import Decimal
from fractions import Fraction
from typing import Any

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from guardrails.errors import ConfigError
from judges.judge import MAX_ANSWER, Answer, Question, Score
from judges.numeric import numbers
from judges.registry import judge


def score(options: dict[str, Any], answer: str, *references: str) -> Score:
    return asyncio.run(judge({"numeric": options})(Question("?", references), Answer(answer)))


@pytest.mark.parametrize(
    ("text", "values"),
    [
        ("1,234.5 and 1,2,3", ["1234.5", "1", "2", "3"]),
        ("1,234,567", ["1234567"]),
        ("1\u202f234\u00a0567", ["1234567"]),
        ("1{,}234", ["1234"]),
        ("−3, -4, +5", ["-3", "-4", "5"]),
        ("10-5", ["10", "5"]),
        ("x=-.5", ["-0.5"]),
        ("the answer is 5.", ["5"]),
        ("1.2.3 on 12/05/2024 at 10.0.0.1", []),
        ("H2O weighs 5kg", ["5"]),
        ("1e5 1.5E-3", ["100000", "0.0015"]),
        ("1.5 × 10^-3", ["0.0015"]),
        (r"2 \times 10^{6}", ["2000000"]),
        ("10⁶", ["1000000"]),
        ("10⁻²", ["0.01"]),
        ("3/4", ["3/4"]),
        (r"\frac{3}{4} and -\dfrac{1}{2}", ["3/4", "-1/2"]),
        ("$1,000.00", ["1000"]),
        ("答案是42", ["42"]),
        ("1e999999999", []),
        ("5/0", []),
        ("9" * 101, []),
        ("no number", []),
        (r"-$5 −€5 -£1,200 $-5 -\$5", ["-5", "-5", "-1200", "-5", "-5"]),
        ("$10-$5, 5€-6€, 5%-6%", ["10", "5", "5", "6", "5", "6"]),
        ("–5 or (–6)", ["-5", "-6"]),
        ("5–10, 5 –10, $5–$10", ["5", "10", "5", "10", "5", "10"]),
        ("\u20115, －6", ["-5", "-6"]),
        ("1'000 and 1’000’000 and 1_000", ["1000", "1000000", "1000"]),
        ("1,5 12,34 0,123 1.234,50 1,0000 5'10 1_00 1\u202f234,5", []),
        ("1.5,2.5 1,2.5 10,20,30 1/2,3/4", ["1.5", "2.5", "1", "2.5", "10", "20", "30", "1/2", "3/4"]),
        ("5 million, 1.2 Billion, 3 hundred, 2-trillion", ["5000000", "1200000000", "300", "2" + "0" * 12]),
        ("5 Millionen, 5k", ["5", "5"]),
        ("1 1/2, -2 3/4; 1\\frac{1}{2}", ["1.5", "-2.75", "1.5"]),
        ("2 3/2 1½ ½", []),
        ("4.9/10, 1.5/0", ["0.49"]),
        ("In 2023 1/2 of them", ["2023", "0.5"]),
        ("2^3 2**3 2³ 10^n 0x10 0b11 0o17", []),
        (
            "45^\\circ \\boxed{90^{\\circ}} 37^{th} 37^\\text{th} 2^\\prime 5^{*}",
            ["45", "90", "37", "37", "2", "5"],
        ),
        ("2^0.5 10^{1/2} x^2.5 1e5.5 9**0.5", []),
        ("5x^2 + x^{-1}, 7 km^2", ["5", "7"]),
        ("**5** 3 **10** 4", ["5", "3", "10", "4"]),
        ("2024-05-12, 1-800-555-1234, -1.2.3", []),
        ("No.5 and ...7", ["5", "7"]),
    ],
)
def test_numbers(text: str, values: list[str]) -> None:
    assert [number.value for number in numbers(text)] == [Fraction(value) for value in values]


def test_percent_and_split_fractions() -> None:
    assert [number.percent for number in numbers(r"12% 12 % 12\% 12")] == [True, True, True, False]
    assert [number.value for number in numbers("9/10", fractions=False)] == [9, 10]
    assert [number.value for number in numbers("4.5/10", fractions=False)] == [Fraction("4.5"), 10]


@pytest.mark.parametrize(
    ("options", "answer", "reference", "passed"),
    [
        ({}, "6 × 7 = 42", "42", True),
        ({}, "42, because 6 × 7", "42", False),
        ({"which": "first"}, "42, because 6 × 7", "42", True),
        ({"which": "any"}, "it is 6, 42 or 7", "42", True),
        ({}, "1,292.50", "1292.5", True),
        ({}, "0.1", "0.1000", True),
        ({"tolerance": 0.01}, "1.01", "1", True),
        ({"tolerance": 0.01}, "1.0101", "1", False),
        ({"relative": 0.1}, "110", "100", True),
        ({"relative": 0.1}, "-110", "-100", True),
        ({"relative": 0.1}, "111", "100", False),
        ({"relative": 0.1, "tolerance": 20}, "111", "100", True),
        ({}, "12.5%", "12.5", True),
        ({}, "12.5", "12.5%", True),
        ({}, "12.5%", "0.125", False),
        ({"percent": "value"}, "12.5%", "0.125", True),
        ({"percent": "value"}, "12.5%", "12.5", False),
        ({}, "It is 3/4", "0.75", True),
        ({"fractions": False}, "I give it 9/10", "10", True),
        ({}, "-$5", "$-5", True),
        ({}, "-$5", "5", False),
        ({}, "a change of −€1,200", "-1200", True),
        ({}, "It is –5", "-5", True),
        ({}, "1,5", "5", False),
        ({}, "It has 5 million people", "5", False),
        ({}, "It has 5 million people", "5,000,000", True),
        ({}, "5,000,000", "5 million", True),
        ({}, "1 1/2", "1.5", True),
        ({}, "0x10", "0", False),
        ({}, "It costs $5.00", "$5", True),
    ],
)
def test_numeric(options: dict[str, Any], answer: str, reference: str, passed: bool) -> None:
    assert score(options, answer, reference).passed is passed


def test_any_reference_is_enough() -> None:
    assert score({}, "8", "7", "8").passed
    assert score({}, "8", "7", "9").passed is False


def test_no_number_is_a_fail_and_a_bad_reference_an_error_row() -> None:
    assert score({}, "I do not know", "7") == Score(0.0, False, "no number in the answer")
    for reference in ("seven", "7 or 8", "7 kg", "1.2.3", "5/0", "7,5", "7,8,9", "2^3"):
        assert score({}, "7", "7", reference).error == "reference"


@pytest.mark.parametrize("options", [{"tolerance": -1}, {"relative": float("nan")}, {"which": "middle"}])
def test_bad_options_are_refused(options: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match="numeric"):
        judge({"numeric": options})


def test_the_reason_shows_no_more_than_six_digits() -> None:
    assert "4111111111111111" not in score({}, "card 4111111111111111", "7").reason


@given(
    value=st.decimals(allow_nan=False, allow_infinity=False, places=3, min_value=-(10**12), max_value=10**12)
)
def test_a_number_is_read_back_from_every_way_of_writing_it(value: Decimal) -> None:
    for written in (f"{value:f}", f"{value:,}", f"{value:.20e}", f"**{value:f}**", f"= {value:f}."):
        assert score({}, written, f"{value:f}").passed, written


@given(
    value=st.fractions(min_value=-1000, max_value=1000, max_denominator=1000),
    tolerance=st.sampled_from([0.0, 0.01, 0.5, 3.0]),
)
def test_tolerance_is_exact_at_its_edge(value: Fraction, tolerance: float) -> None:
    assume(value.denominator > 1)
    edge = value + Fraction(str(tolerance))
    beyond = edge + Fraction(1, 10**6)

    def written(number: Fraction) -> str:
        return f"{number.numerator}/{number.denominator}"

    options = {"tolerance": tolerance}
    assert score(options, written(edge), written(value)).passed
    assert not score(options, written(beyond), written(value)).passed


@pytest.mark.timeout(30)
@pytest.mark.parametrize("piece", ["1 ", "1", ",1", "1/", "1.", "10 x ", "-", "1,111", "10^", r"\frac{1}{"])
def test_answers_made_to_be_slow_end(piece: str) -> None:
    answer = (piece * MAX_ANSWER)[:MAX_ANSWER]
    for which in ("last", "first", "any"):
        assert score({"which": which}, answer, "1").error is None


def test_a_long_answer_is_not_cut_within_a_number() -> None:
    long = "123" + "x" * (MAX_ANSWER - 2)
    assert not asyncio.run(judge("numeric")(Question("q", ("23",)), Answer(long))).passed
    assert asyncio.run(
        judge("numeric")(Question("q", ("42",)), Answer("7" * 99 + " x" * MAX_ANSWER + " 42"))
    ).passed
