"""One question, one answer, one score: the shape of every judge.

A judge says how good a single answer is. It never raises on an answer, however odd: an answer that is wrong
scores 0, and a judge that could not judge says so with `Score.unjudged`, whose value is None. Counting such a
row as 0 would blame the model for the judge's failure; leaving it out silently would hide it.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol, Self, TypeVar

from judges.answer import Answer as Answer
from judges.answer import answered as answered

MAX_ANSWER = 200_000
"""Characters. A longer answer is not judged: no judge here is asked to hold the process up for one row."""

MAX_READ = 2_000_000
"""Characters, for judges that read a text once and keep little of it: an answer that runs away is a wrong
answer there, and no failure of the judge."""

ASIDE = 2_000
"""Characters: longer work than on so many goes to a thread, because other calls are timed in this loop."""

MAX_SAID = 2_000
"""Characters that are kept of what a model wrote as a judge."""

ROUNDING = 1e-9
"""By so little a value may be below its threshold: it is what sums of fractions are off by, at the most."""

T = TypeVar("T")


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

    What judges that ask a model add: `calls` is how many calls of it they made; `cost_usd` and `tokens`
    (input and output) are those of all of them, None as soon as those of one are unknown; `values` are the
    single values of an answer that was judged several times; `parts` are plain JSON values, one per item,
    claim or judge; `said` is what the model wrote, cut to `MAX_SAID` characters: its reasons, or the reply
    that nobody could read. The last two may quote the answer: they belong in a store, not in a log, and no
    repr shows them.
    """

    value: float | None
    passed: bool | None
    reason: str
    error: str | None = None
    cost_usd: float | None = None
    tokens: int | None = None
    values: tuple[float, ...] = ()
    parts: tuple[Mapping[str, Any], ...] = field(default=(), repr=False, hash=False)
    said: str = field(default="", repr=False)
    calls: int = 0

    def __post_init__(self) -> None:
        if self.value is not None:
            object.__setattr__(self, "value", whole(self.value))
        # A store gives lists back.
        object.__setattr__(self, "values", tuple(self.values))
        object.__setattr__(self, "parts", tuple(self.parts))
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

    def as_dict(self) -> dict[str, Any]:
        """Plain JSON values; `Score(**plain)` gives it back. Fields that say nothing are left out."""
        plain: dict[str, Any] = {
            "value": self.value,
            "passed": self.passed,
            "reason": self.reason,
            "error": self.error,
        }
        if self.cost_usd is not None:
            plain["cost_usd"] = self.cost_usd
        if self.tokens is not None:
            plain["tokens"] = self.tokens
        if self.values:
            plain["values"] = list(self.values)
        if self.parts:
            plain["parts"] = [dict(part) for part in self.parts]
        if self.said:
            plain["said"] = self.said
        if self.calls:
            plain["calls"] = self.calls
        return plain


def together(scores: Iterable[Score]) -> dict[str, Any]:
    """What several scores cost, as fields of one. A judge that tells neither calls nor costs asked nobody."""
    asked = [each for each in scores if each.calls or each.tokens is not None or each.cost_usd is not None]
    if not asked:
        return {}
    costs, tokens = [each.cost_usd for each in asked], [each.tokens for each in asked]
    return {
        "cost_usd": None if None in costs else math.fsum(cost or 0 for cost in costs),
        "tokens": None if None in tokens else sum(count or 0 for count in tokens),
        "calls": sum(each.calls for each in asked),
    }


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

    async def __call__(self, question: Question, answer: Answer, /) -> Score:
        """Score the answer. Never raises on what it says."""


def unfit(judge: Judge, question: Question, answer: Answer, *, most: int = MAX_ANSWER) -> Score | None:
    """The error row of a question or an answer that `judge` cannot work with; None when it can."""
    if (length := len(answer.text)) > most:
        reason = f"the answer has {length:,} characters; {most:,} are the most that is judged"
        return Score.unjudged("too_long", reason)
    return misasked(judge, question)


def misasked(judge: Judge, question: Question) -> Score | None:
    """The error row of a question that `judge` cannot work with, for judges that do not read the text."""
    complaint = judge.check(question)
    return None if complaint is None else Score.unjudged("reference", complaint)


def no_reference(question: Question) -> str | None:
    """The complaint of a judge that compares with references, when there are none."""
    if not question.references:
        return "the sample has no reference to compare with"
    blank = not all(reference.strip() for reference in question.references)
    return "a reference is blank: there is nothing to compare with" if blank else None


async def aside(size: int, work: Callable[[], T]) -> T:
    """Do the work here or, when it is on many characters, in a thread."""
    return work() if size <= ASIDE else await asyncio.to_thread(work)


def passing(value: float, threshold: float | None, reason: str) -> Score:
    """The score of a value that passes from `threshold` on; without one there is no verdict."""
    return Score(value, None if threshold is None else reaches(value, threshold), reason)


def reaches(value: float, threshold: float) -> bool:
    """Whether a value passes: a half that was computed as 0.49999999999999994 is a half."""
    return value >= threshold - ROUNDING


def whole(value: float) -> float:
    """The value, and 1 for what is 1 but for the last digits: equal answers have equal scores."""
    return 1.0 if value != 1 and abs(value - 1) <= 1e-12 else value
