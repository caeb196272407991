"""Judges that put an answer on a scale: `rubric`, `reference`, `g_eval`.

::

    judges:
      strict: {url: "http://localhost:8000/v1", model: my-judge}
    scorers:
      - rubric: "Is the tone friendly, and the next step clear?"
      - rubric: {criteria: "How complete is the answer?", scale: {full: 1, partly: 0.5, none: 0}}
      - reference: {prompt: prompts/my-grading.md}
      - g_eval: {criteria: "How coherent is the text?", samples: 8}

The value is the rating's place on its scale, from 0 to 1. Reasons come before the score, because a score that
comes first is not thought about (and its reasons then defend it).
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import reduce
from operator import add
from statistics import fmean
from typing import Any, ClassVar

from guardrails.errors import ConfigError
from judges.judge import Answer, Question, Score, no_reference, reaches, unfit
from judges.llm.asking import SHOWN, Asking, Verdict, shown
from judges.llm.logprobs import digits
from judges.llm.model import Spent
from judges.llm.prompt import load
from judges.llm.prompt import scale as scale_of

Scale = tuple[int, int] | Mapping[str, float]

MAX_SAMPLES = 64


@dataclass(frozen=True, slots=True, kw_only=True)
class Rated(Asking):
    """Options of the judges with a scale.

    `scale` is `[lowest, highest]`, or labels with their values from 0 to 1; left out, it is the prompt's. A
    value passes from `threshold` on (null: no verdict). `samples` asks so many times and takes the mean of
    the values; ask for them at a temperature, or they are all the same.
    """

    criteria: str = ""
    scale: Any = None
    threshold: float | None = 0.75
    samples: int = 1
    _scale: Scale = field(init=False, repr=False, compare=False)
    wording: ClassVar[str] = "rubric"
    shorthand: ClassVar[str] = "criteria"

    def __post_init__(self) -> None:
        prompt = load(self.prompt or self.wording, SHOWN | {"criteria", "scale"})
        if self.threshold is not None and not 0 <= self.threshold <= 1:
            raise ConfigError("threshold is a number from 0 to 1, or null for no verdict")
        if not 1 <= self.samples <= MAX_SAMPLES:
            raise ConfigError(f"samples is from 1 to {MAX_SAMPLES}")
        scale = self.scale if self.scale is not None else prompt.scale
        if scale is None:
            raise ConfigError("needs a scale", hint="write `scale: [1, 5]` or `scale: {good: 1, bad: 0}`")
        if "score" not in prompt.schema["properties"]:
            raise ConfigError(f"the prompt {prompt.name!r} has no `score` in its schema")
        object.__setattr__(self, "_scale", scale_of(scale))
        name = self.prompt.removesuffix(".md").rpartition("/")[2] or self.wording
        self.settle(replace(prompt, schema=rated(prompt.schema, self._scale)), name)
        self._look()

    def _look(self) -> None:
        if self.samples > 1 and not self.temperature:
            raise ConfigError(
                "several samples at temperature 0 are one sample",
                hint="write `temperature: 1` beside `samples`",
            )

    def check(self, question: Question, /) -> str | None:
        """Never complains: a rubric needs no reference."""
        return None

    async def __call__(self, question: Question, answer: Answer, /) -> Score:
        """Asks for the rating, `samples` times at once."""
        if (failed := unfit(self, question, answer)) is not None:
            return failed
        asked = [self._rating(question, answer, number) for number in range(self.samples)]
        verdicts = await asyncio.gather(*asked)
        return self._score(verdicts, reduce(add, (each.spent for each in verdicts), Spent()))

    async def _rating(self, question: Question, answer: Answer, number: int, **how: Any) -> Verdict:
        words = {"criteria": self.criteria.strip() or CRITERIA, "scale": told(self._scale)}
        return await self.verdict(shown(question, answer.text), words, number=number, **how)

    def _score(self, verdicts: Sequence[Verdict], spent: Spent, how: str = "") -> Score:
        found = [each for each in verdicts if each.value is not None]
        if 2 * len(found) <= len(verdicts):
            return next(each for each in verdicts if each.value is None).unjudged(spent)
        ratings = [each.value["score"] for each in found if each.value is not None]
        values = tuple(placed(rating, self._scale) for rating in ratings)
        value = fmean(values)
        reason = f"rated {said(ratings[0], self._scale)}"
        if len(verdicts) > 1:
            reason = f"mean of {len(values)} ratings, from {min(values):.2f} to {max(values):.2f}"
        return graded(
            value, self.threshold, how + reason, found[0].said, spent, values if len(values) > 1 else ()
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Rubric(Rated):
    """Rates the answer by `criteria`, from 1 to 5 or on labels of your own."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Reference(Rated):
    """Grades the answer against the references: correct, partly correct or wrong. Any one will do."""

    wording: ClassVar[str] = "reference"

    def check(self, question: Question, /) -> str | None:
        """Complains about a sample without references, or with an empty one."""
        return no_reference(question)


@dataclass(frozen=True, slots=True, kw_only=True)
class GEval(Rated):
    """The expected score: Σ p(s)·s over what the model might have written as the score's token.

    Where the endpoint gives no log-probabilities, or gives less than half of the probability to the scale's
    own numbers, it is the mean of `samples` scores drawn at temperature 1; the reason says which of the two.
    After Liu et al., G-Eval (arXiv 2303.16634). Scales must lie within 0 to 9: longer numbers are several
    tokens.
    """

    samples: int = 8
    wording: ClassVar[str] = "g_eval"

    def _look(self) -> None:
        if not isinstance(self._scale, tuple) or self._scale[1] > 9:
            raise ConfigError("an expected score needs a scale of whole numbers from 0 to 9")

    async def __call__(self, question: Question, answer: Answer, /) -> Score:
        """Asks once with log-probabilities, and more often if there are none."""
        if (failed := unfit(self, question, answer)) is not None:
            return failed
        first = await self._rating(question, answer, 0, logprobs=True)
        if first.value is None:
            return first.unjudged()
        assert isinstance(self._scale, tuple)
        low, high = self._scale
        weights = digits(first.response, "score", low, high)
        if weights is None:
            more = (
                self._rating(question, answer, number, temperature=1.0)
                for number in range(1, self.samples + 1)
            )
            drawn = await asyncio.gather(*more)
            spent = reduce(add, (each.spent for each in drawn), first.spent)
            return self._score(drawn, spent, "no log-probabilities; ")
        mean = math.fsum(weight * score for score, weight in weights.items())
        value = min(1.0, max(0.0, (mean - low) / (high - low)))
        reason = f"expected score {mean:.3f} of {low}–{high}, from log-probabilities"
        return graded(value, self.threshold, reason, first.said, first.spent)


def graded(
    value: float,
    threshold: float | None,
    reason: str,
    said: str,
    spent: Spent,
    values: tuple[float, ...] = (),
    parts: tuple[Mapping[str, Any], ...] = (),
) -> Score:
    """The score of a value that passes from `threshold` on, with what it cost."""
    passed = None if threshold is None else reaches(value, threshold)
    return Score(value, passed, reason, values=values, parts=parts, said=said, **spent.as_fields())


CRITERIA = "How good is the answer: correct, complete, clear, and to the point of what was asked?"


def told(scale: Scale) -> str:
    """A scale as a model is told it."""
    if isinstance(scale, tuple):
        return f"a whole number from {scale[0]} (worst) to {scale[1]} (best)"
    ranked = sorted(scale, key=lambda label: -scale[label])
    return f"one of these labels, from best to worst: {', '.join(ranked)}"


def said(rating: Any, scale: Scale) -> str:
    """A rating in a sentence: what comes from the model is one of the scale's own words."""
    return f"{int(rating)} on {scale[0]}–{scale[1]}" if isinstance(scale, tuple) else str(rating)


def placed(rating: Any, scale: Scale) -> float:
    """A rating's place on its scale, from 0 to 1."""
    if isinstance(scale, tuple):
        return (int(rating) - scale[0]) / (scale[1] - scale[0])
    return scale[rating]


def rated(schema: Mapping[str, Any], scale: Scale) -> dict[str, Any]:
    """The schema with the scale's own values for its `score`."""
    if isinstance(scale, tuple):
        score: dict[str, Any] = {"type": "integer", "enum": list(range(scale[0], scale[1] + 1))}
    else:
        score = {"type": "string", "enum": list(scale)}
    return {**schema, "properties": {**schema["properties"], "score": score}}
