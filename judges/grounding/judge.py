"""The `groundedness` judge: is the answer supported by the sample's context?

::

    scorers:
      - groundedness                                    # the support score: no model, a few milliseconds
      - groundedness: {threshold: 0.6}
      - groundedness: {verifier: "verifiers.py:check"}  # a model of your own, see judges.grounding.verify

The support score compares words, numbers and names. It is no oracle: see `docs/groundedness.md` for how often
it is right, and on what.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, ClassVar

from guardrails.errors import ConfigError
from judges.calling import Overdue, cause
from judges.custom import load
from judges.grounding.support import THRESHOLD, Support, TooLong, parts, support
from judges.grounding.verify import Unverified, Verifier, verify
from judges.judge import Answer, Question, Score, aside, reaches, unfit


@dataclass(frozen=True, slots=True)
class Grounded:
    """Passes an answer whose support is at least `threshold`; support is from 0 to 1.

    With a `verifier`, the target of a callable (see `judges.grounding.verify`), the value is the probability
    of the answer's weakest sentence instead. A verifier that fails gives an error row.
    """

    threshold: float = THRESHOLD
    verifier: str = ""
    name: str = "groundedness"
    digest: str = field(init=False, default="")
    _verifier: Callable[..., Any] | None = field(init=False, repr=False, compare=False, default=None)
    shorthand: ClassVar[str] = "threshold"
    targets: ClassVar[tuple[str, ...]] = ("verifier",)

    def __post_init__(self) -> None:
        if not 0 < self.threshold < 1:
            raise ConfigError(
                f"threshold is {self.threshold:g}, but support lies between 0 and 1",
                hint=f"the default is {THRESHOLD:g}",
            )
        if self.verifier:
            function, digest = load(self.verifier)
            object.__setattr__(self, "_verifier", function)
            object.__setattr__(self, "digest", digest)

    def __reduce__(self) -> tuple[Any, ...]:
        # A function from a file has no module that another process could import it from: it is loaded again.
        return type(self), (self.threshold, self.verifier, self.name)

    def check(self, question: Question, /) -> str | None:
        """Complains when there is no context to compare with."""
        if not any(passage.strip() for passage in question.context):
            return "the sample has no context that could support an answer"
        return None

    async def __call__(self, question: Question, answer: Answer, /) -> Score:
        """Compares the answer's text with the context's passages."""
        if (failed := unfit(self, question, answer)) is not None:
            return failed
        try:
            if self._verifier is not None:
                return await self._verified(self._verifier, question, answer)
            size = len(answer.text) + sum(map(len, question.context))
            found = await aside(
                size, lambda: support(answer.text, question.context, threshold=self.threshold)
            )
        except TooLong as error:
            return Score.unjudged("too_long", str(error))
        return self._score(found)

    def _score(self, found: Support) -> Score:
        many = len(found.sentences)
        if not many:
            return Score(1.0, True, "the answer claims nothing")
        reason = f"support {found.score:.2f}; {found.unsupported} of {_sentences(many)} below the threshold"
        return Score(found.score, reaches(found.score, self.threshold), reason)

    async def _verified(self, verifier: Verifier, question: Question, answer: Answer) -> Score:
        claims = [answer.text[start:end] for start, end in parts(answer.text)]
        if not claims:
            return Score(1.0, True, "the answer claims nothing")
        try:
            said = await verify(verifier, question.context, claims)
        except Unverified as error:
            return Score.unjudged("verifier", str(error))
        except Overdue as error:
            return Score.unjudged("timeout", f"the verifier: {error}")
        except Exception as error:
            return Score.unjudged("exception", f"the verifier raised {type(cause(error)).__name__}")
        low = sum(not reaches(value, self.threshold) for value in said)
        reason = f"{low} of {_sentences(len(said))} below the threshold, says the verifier"
        return Score(min(said), not low, reason)


def _sentences(many: int) -> str:
    return f"{many} sentence" + ("s" if many > 1 else "")
