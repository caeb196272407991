"""One question, one answer, one score: the shape of every judge.

A judge says how good a single answer is. It never raises on an answer, however odd: an answer that is wrong
scores 0, and a judge that could not judge says so with `Score.unjudged`, whose value is None. Counting such a
row as 0 would blame the model for the judge's failure; leaving it out silently would hide it.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol, Self

MAX_ANSWER = 200_000
"""Characters. A longer answer is not judged: no judge here is asked to hold the process up for one row."""


@dataclass(frozen=True, slots=True)
class Question:
    """What was asked, as a judge may see it. `prompt` is the user's text or the whole conversation.

    No repr shows any of it: prompts and passages hold personal data.
    """

    prompt: str = field(default="", repr=False)
    references: tuple[str, ...] = field(default=(), repr=False)
    context: tuple[str, ...] = field(default=(), repr=False)
    metadata: Mapping[str, Any] = field(default_factory=dict, repr=False, hash=False)


@dataclass(frozen=True, slots=True)
class Score:
    """How good one answer is.

    `value` is in [0, 1] for the judges here, `passed` is the verdict, and `reason` is a sentence for people
    that does not quote the answer. A judge that failed has no value and no verdict; `error` then names the
    cause in one stable word (`"reference"`, `"too_long"`, …).
    """

    value: float | None
    passed: bool | None
    reason: str
    error: str | None = None

    def __post_init__(self) -> None:
        if self.error is not None and (self.value is not None or self.passed is not None):
            raise ValueError("a judge that failed has neither value nor verdict")
        if self.error is None and (self.value is None or not math.isfinite(self.value)):
            raise ValueError("a judge that did not fail has a finite value")

    @classmethod
    def verdict(cls, passed: bool, reason: str) -> Self:
        """A yes (1.0) or a no (0.0)."""
        return cls(1.0 if passed else 0.0, passed, reason)

    @classmethod
    def unjudged(cls, error: str, reason: str) -> Self:
        """The judge failed: an error row, never a zero."""
        return cls(None, None, reason, error)


class Judge(Protocol):
    """Scores one answer.

    `check` looks at a question before any call is paid for: it returns what this judge cannot work with (no
    reference, a reference that is not a number, a pattern that does not compile) or None. A question that it
    complains about gets an error row when it is judged all the same.
    """

    @property
    def name(self) -> str:
        """The name of the judge's column."""

    def check(self, question: Question, /) -> str | None:
        """What is wrong with the question, for this judge; None when nothing is. Quotes no reference."""

    async def __call__(self, question: Question, answer: str, /) -> Score:
        """Score the answer. Never raises on its text."""


def unfit(judge: Judge, question: Question, answer: str) -> Score | None:
    """The error row of a question or an answer that `judge` cannot work with; None when it can."""
    if len(answer) > MAX_ANSWER:
        reason = f"the answer has {len(answer):,} characters; {MAX_ANSWER:,} are the most that is judged"
        return Score.unjudged("too_long", reason)
    complaint = judge.check(question)
    return None if complaint is None else Score.unjudged("reference", complaint)


def no_reference(question: Question) -> str | None:
    """The complaint of a judge that compares with references, when there are none."""
    if not question.references:
        return "the sample has no reference to compare with"
    return None if all(question.references) else "a reference is empty, and every answer contains it"
