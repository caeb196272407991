"""all, any, not: three-valued, and nested as deep as one likes."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from guardrails.errors import ConfigError
from judges.combine import AllOf, AnyOf, NotOf
from judges.judge import Answer, Question, Score
from judges.registry import judge


class Says:
    """A judge that says what it was told."""

    def __init__(self, score: Score) -> None:
        self.score = score
        self.name = "says"

    def check(self, question: Question) -> str | None:
        return None

    async def __call__(self, question: Question, answer: Answer) -> Score:
        return self.score


SCORES = st.one_of(
    st.builds(lambda value, passed: Score(value, passed, "why"), st.floats(0, 1), st.booleans()),
    st.just(Score.unjudged("broken", "why")),
)


def ask(kind: Any, *scores: Score) -> Score:
    return asyncio.run(kind(tuple(map(Says, scores)))(Question(), Answer("")))


@given(scores=st.lists(SCORES, min_size=1, max_size=4))
def test_they_are_kleenes_connectives(scores: list[Score]) -> None:
    verdicts = [score.passed for score in scores]
    every, some = ask(AllOf, *scores), ask(AnyOf, *scores)
    assert every.passed is (False if False in verdicts else None if None in verdicts else True)
    assert some.passed is (True if True in verdicts else None if None in verdicts else False)
    turned = [ask(NotOf, score) for score in scores]
    assert ask(NotOf, every).passed is ask(AnyOf, *turned).passed  # De Morgan


def test_a_value_without_a_verdict_decides_nothing() -> None:
    measured = Score(0.3, None, "why")
    yes, no = Score.verdict(True, "why"), Score.verdict(False, "why")
    assert ask(AllOf, yes, measured).error == "no_verdict"
    assert ask(AllOf, no, measured).passed is False
    assert ask(AnyOf, yes, measured).passed
    assert ask(NotOf, measured).error == "no_verdict"


def test_a_suite_spells_them() -> None:
    spec = {
        "all": [
            {"contains": ["refund"]},
            {"not": {"any": [{"contains": "guarantee"}, {"refusal": "refusal"}]}},
        ]
    }
    made = judge(spec)

    def passed(text: str) -> bool | None:
        return asyncio.run(made(Question(), Answer(text))).passed

    assert passed("You get a refund.")
    assert passed("You get a refund, we guarantee it.") is False
    assert passed("I cannot help with a refund.") is False
    assert judge({"not": {"of": "exact", "name": "other"}}).name == "other"
    assert judge({"all": ["exact", {"numeric": None}]}).check(Question()) == (
        "exact: the sample has no reference to compare with"
    )


@pytest.mark.parametrize(
    ("spec", "said"),
    [
        ("all", "no judges"),
        ({"any": []}, "no judges"),
        ({"not": ["exact", "contains"]}, "takes one judge"),
        ({"all": ["exakt"]}, "no judge 'exakt'"),
        ({"all": [3]}, "written as its name"),
    ],
)
def test_bad_parts_are_refused(spec: Any, said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        judge(spec)
