"""A value is held against its threshold in one place, and what is 1 but for the last digits is 1."""

from __future__ import annotations

import asyncio
import math
from typing import Any

import pytest

from judges.grounding.support import Support
from judges.judge import Answer, Question, Score, passing, reaches, whole
from judges.llm.model import Spent
from judges.llm.rated import graded
from judges.registry import judge

THIRD = 0.1 + 0.1 + 0.1  # a little more than 0.3
HALF = 0.49999999999999994


@pytest.mark.parametrize(("value", "threshold"), [(HALF, 0.5), (0.3, THIRD), (0.5, 0.5), (-0.0, 0.0)])
def test_rounding_fails_nobody(value: float, threshold: float) -> None:
    assert reaches(value, threshold)
    assert passing(value, threshold, "").passed
    assert graded(value, threshold, "", "", Spent()).passed


@pytest.mark.parametrize("value", [0.4999, 0.5 - 1e-8, -1.0, math.nextafter(0.5 - 1e-9, 0)])
def test_anything_else_does(value: float) -> None:
    assert not reaches(value, 0.5)


def test_judges_that_have_a_rule_of_their_own_keep_to_it(monkeypatch: pytest.MonkeyPatch) -> None:
    def asked(spec: Any, question: Question, answer: Answer) -> Score:
        return asyncio.run(judge(spec)(question, answer))

    likely = Answer("x", logprobs=(math.log(1 / 49),))
    assert 1 / math.exp(math.log(1 / 49)) > 49
    assert asked({"perplexity": {"max": 49}}, Question(), likely).passed
    assert asked({"fields": {"threshold": 0}}, Question("", ('{"a": 1}',)), Answer("no JSON")).passed
    assert Support(HALF, threshold=0.5).unsupported == 0


@pytest.mark.parametrize("value", [1 - 1e-16, 0.9999999999999999, 1 + 2e-16, 1 - 9e-13, 1, 1.0])
def test_what_is_one_but_for_the_last_digits_is_one(value: float) -> None:
    assert whole(value) == 1
    assert Score(value, None, "").value == 1


@pytest.mark.parametrize("value", [0.999999, 1 - 1e-11, 0.0, 1.5, math.inf])
def test_other_values_stay_as_they_are(value: float) -> None:
    assert whole(value) == value
