"""Judges made of judges: `all`, `any`, `not`.

::

    scorers:
      - all: [{contains: {words: [refund]}}, {not: {contains: {words: [guarantee]}}}]

A part that could not judge leaves the whole without a verdict, unless the other parts decide it alone.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import Any, ClassVar

from guardrails.errors import ConfigError
from judges.judge import Answer, Judge, Question, Score, together


def _complaint(judges: tuple[Judge, ...], question: Question) -> str | None:
    for judge in judges:
        if (complaint := judge.check(question)) is not None:
            return f"{judge.name}: {complaint}"
    return None


async def _scores(judges: tuple[Judge, ...], question: Question, answer: Answer) -> list[Score]:
    return list(await asyncio.gather(*(judge(question, answer) for judge in judges)))


def _together(judges: tuple[Judge, ...], scores: list[Score], decisive: bool) -> Score:
    """`decisive` is the verdict that one part alone can give: False for `all`, True for `any`."""
    said = "; ".join(f"{judge.name}: {score.reason}" for judge, score in zip(judges, scores, strict=True))
    extreme, costs = max if decisive else min, together(scores)
    if decisive not in [score.passed for score in scores]:
        for judge, score in zip(judges, scores, strict=True):
            if score.error is not None:
                reason = f"{judge.name}: {score.reason}"
                return Score(None, None, reason, score.error, said=score.said, **costs)
            if score.passed is None:
                reason = f"{judge.name} gives a value and no verdict"
                return Score(None, None, reason, "no_verdict", **costs)
    values = [score.value for score in scores if score.value is not None]
    passed = decisive if decisive in [s.passed for s in scores] else not decisive
    return Score(extreme(values), passed, said, **costs)


@dataclass(frozen=True, slots=True)
class AllOf:
    """Passes when every judge says yes. The value is the lowest one."""

    of: tuple[Any, ...]
    name: str = "all"
    shorthand: ClassVar[str] = "of"

    def __post_init__(self) -> None:
        _some(self.of)

    def check(self, question: Question, /) -> str | None:
        """The first complaint of a part."""
        return _complaint(self.of, question)

    async def __call__(self, question: Question, answer: Answer, /) -> Score:
        """Asks all parts at once."""
        return _together(self.of, await _scores(self.of, question, answer), decisive=False)


@dataclass(frozen=True, slots=True)
class AnyOf:
    """Passes when one judge says yes. The value is the highest one."""

    of: tuple[Any, ...]
    name: str = "any"
    shorthand: ClassVar[str] = "of"

    def __post_init__(self) -> None:
        _some(self.of)

    def check(self, question: Question, /) -> str | None:
        """The first complaint of a part."""
        return _complaint(self.of, question)

    async def __call__(self, question: Question, answer: Answer, /) -> Score:
        """Asks all parts at once."""
        return _together(self.of, await _scores(self.of, question, answer), decisive=True)


@dataclass(frozen=True, slots=True)
class NotOf:
    """Passes when the judge says no. The value is 1 − the judge's; 1 or 0 where that is not a share."""

    of: tuple[Any, ...]
    name: str = "not"
    shorthand: ClassVar[str] = "of"

    def __post_init__(self) -> None:
        _some(self.of)
        if len(self.of) > 1:
            raise ConfigError("`not` takes one judge", hint="write {not: {any: […]}} for several")

    def check(self, question: Question, /) -> str | None:
        """The part's complaint."""
        return _complaint(self.of, question)

    async def __call__(self, question: Question, answer: Answer, /) -> Score:
        """Asks the part and turns its verdict around."""
        (score,) = await _scores(self.of, question, answer)
        if score.error is not None or score.value is None:
            return score
        if score.passed is None:
            reason = f"{self.of[0].name} gives a value and no verdict"
            return Score(None, None, reason, "no_verdict", **together([score]))
        value = 1 - score.value if 0 <= score.value <= 1 else float(not score.passed)
        reason = f"not ({self.of[0].name}: {score.reason})"
        return Score(value, not score.passed, reason, **together([score]))


def _some(judges: tuple[Any, ...]) -> None:
    if not judges:
        raise ConfigError("no judges are given", hint="for example `all: [exact, {not: refusal}]`")
