"""The `panel` judge: several judges of one answer, and one score of all of them.

::

    scorers:
      - rubric: {criteria: "…", model: [strict, other]}        # one rubric, two models
      - panel: {of: [{rubric: {model: strict}}, {reference: {model: other}}], aggregate: majority}
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean, median
from typing import Any, ClassVar, Literal

from guardrails.errors import ConfigError
from judges.judge import Answer, Question, Score, reaches, together


@dataclass(frozen=True, slots=True)
class Panel:
    """Asks all judges at once. `aggregate`: the `mean` or `median` of their values, or the `majority`.

    By majority the value is the share of yes among the verdicts; a tie has no verdict. Otherwise the value
    passes from `threshold` on, or, without one, by the majority too. A judge that fails is left out as long
    as more than half of them judged; `parts` of the score name every one, and the reason says how far they
    disagree.
    """

    of: tuple[Any, ...]
    aggregate: Literal["mean", "median", "majority"] = "mean"
    threshold: float | None = None
    name: str = "panel"
    shorthand: ClassVar[str] = "of"

    def __post_init__(self) -> None:
        if len(self.of) < 2:
            raise ConfigError("a panel needs two judges or more")
        names = [judge.name for judge in self.of]
        if twice := sorted({name for name in names if names.count(name) > 1}):
            raise ConfigError(f"two judges of the panel are called {twice[0]!r}", hint="give each a `name`")

    def check(self, question: Question, /) -> str | None:
        """The first complaint of a judge."""
        found = ((judge.name, judge.check(question)) for judge in self.of)
        return next((f"{name}: {text}" for name, text in found if text is not None), None)

    async def __call__(self, question: Question, answer: Answer, /) -> Score:
        """Asks every judge."""
        scores = await asyncio.gather(*(judge(question, answer) for judge in self.of))
        return self._together(scores)

    def _together(self, scores: Sequence[Score]) -> Score:
        costs = together(scores)
        parts = tuple(
            {"judge": judge.name, "value": score.value, "passed": score.passed, "error": score.error}
            for judge, score in zip(self.of, scores, strict=True)
        )
        values = [score.value for score in scores if score.value is not None]
        if 2 * len(values) <= len(scores):
            failed = next(score for score in scores if score.error is not None)
            reason = f"{len(scores) - len(values)} of {len(scores)} judges failed: {failed.reason}"[:500]
            return Score(None, None, reason, failed.error, parts=parts, said=failed.said, **costs)
        verdicts = [score.passed for score in scores if score.passed is not None]
        yes = sum(verdicts)
        lost = f"; {len(scores) - len(values)} failed" if len(values) < len(scores) else ""
        spread = (
            f"values from {min(values):.2f} to {max(values):.2f}, {yes} yes, {len(verdicts) - yes} no{lost}"
        )
        if self.aggregate == "majority":
            if not verdicts:
                reason = "no judge of the panel gives a verdict"
                return Score(None, None, reason, "no_verdict", parts=parts, **costs)
            value = yes / len(verdicts)
        else:
            value = fmean(values) if self.aggregate == "mean" else median(values)
        reason = f"{self.aggregate} of {len(values)} judges: {spread}"
        passed = None if 2 * yes == len(verdicts) else 2 * yes > len(verdicts)
        if self.aggregate != "majority" and self.threshold is not None:
            passed = reaches(value, self.threshold)
        return Score(value, passed, reason, values=tuple(values), parts=parts, **costs)
