"""The `checklist` judge: many yes/no questions about one answer, in one call.

::

    scorers:
      - checklist: ["It names the refund period.", "It does not promise a date of payment."]

A sample may bring its own list, under `metadata.checklist`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from guardrails.errors import ConfigError
from judges.judge import Answer, Question, Score, unfit
from judges.llm.asking import SHOWN, Asking, shown
from judges.llm.fence import defused
from judges.llm.prompt import load
from judges.llm.rated import graded

MAX_ITEMS = 100
METADATA = OURS = "checklist"


@dataclass(frozen=True, slots=True, kw_only=True)
class Checklist(Asking):
    """Asks whether each of `questions` holds for the answer. The value is the share that does.

    By default all have to: a value passes from `threshold` on (null: no verdict). `parts` of the score say
    which held. The questions are trusted: whoever writes them, in the suite or in a
    sample's metadata, decides what is judged.
    """

    questions: tuple[str, ...] = ()
    threshold: float | None = 1.0
    shorthand: ClassVar[str] = "questions"

    def __post_init__(self) -> None:
        required = frozenset({"answer", "list"})
        self.settle(load(self.prompt or OURS, SHOWN | {"list"}, required, like=OURS), OURS)
        if self.threshold is not None and not 0 <= self.threshold <= 1:
            raise ConfigError("threshold is a number from 0 to 1, or null for no verdict")
        if self.questions and (complaint := _complaint(self.questions)):
            raise ConfigError(f"questions: {complaint}")

    def check(self, question: Question, /) -> str | None:
        """Complains when neither the judge nor the sample brings a list."""
        own = question.metadata.get(METADATA)
        if own is None:
            return None if self.questions else f"there is no list: write `questions`, or metadata.{METADATA}"
        complaint = _complaint(own)
        return f"metadata.{METADATA}: {complaint}" if complaint else None

    async def __call__(self, question: Question, answer: Answer, /) -> Score:
        """Asks all questions at once."""
        if (failed := unfit(self, question, answer)) is not None:
            return failed
        items: Sequence[str] = question.metadata.get(METADATA) or self.questions
        # A golden set may have written them: none of them makes marks of its own.
        listed = "\n".join(
            f"{n}. {' '.join(defused(item)[0].split())}" for n, item in enumerate(items, start=1)
        )
        given = await self.verdict(
            shown(question, answer.text), {"list": listed}, accept=lambda v: numbered(v["items"], len(items))
        )
        if given.value is None:
            return given.unjudged()
        found = sorted(given.value["items"], key=lambda each: int(each["number"]))
        parts = tuple(
            {"item": item, "holds": each["holds"], "reasons": each["reasons"][:500]}
            for item, each in zip(items, found, strict=True)
        )
        held = sum(part["holds"] for part in parts)
        reason = f"{held} of {len(parts)} items hold"
        if missed := [str(n) for n, part in enumerate(parts, start=1) if not part["holds"]]:
            reason += f"; not {', '.join(missed[:20])}"
        return graded(held / len(parts), self.threshold, reason, "", given.spent, parts=parts)


def numbered(found: Sequence[Any], count: int) -> str | None:
    """The complaint about a list whose `number`s are not 1 to `count`, each once."""
    numbers = sorted(int(each["number"]) for each in found)
    return None if numbers == list(range(1, count + 1)) else f"the numbers have to be 1 to {count}, each once"


def _complaint(items: Any) -> str | None:
    if not isinstance(items, list | tuple) or not 1 <= len(items) <= MAX_ITEMS:
        return f"must be a list of 1 to {MAX_ITEMS} sentences"
    if not all(isinstance(item, str) and item.strip() and len(item) <= 2_000 for item in items):
        return "holds something that is no sentence"
    return None
