"""Which of two answers is better? `pairwise`: both orders, and a win only where both agree.

::

    scorers:
      - pairwise: {model: strict}         # in a suite: the answer against the sample's first reference

    judge = Pairwise(asked=Model(handler))
    preference = await judge.prefer(question, one_answer, other_answer)

A judge that prefers whatever stands first says A twice, which is no preference: it counts as a tie, and as
`consistent=False`. What asking once would miss is in the documentation, with LLMBar's figures.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterable
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal, Self

from guardrails.errors import ConfigError
from judges.judge import MAX_ANSWER, Answer, Question, Score, answered, no_reference, unfit
from judges.llm.asking import Asking, Verdict
from judges.llm.model import Spent
from judges.llm.prompt import load
from judges.llm.rated import CRITERIA, graded

Winner = Literal["a", "b", "tie"]

_READ: dict[str, Winner] = {"A": "a", "B": "b", "tie": "tie"}
_TURNED: dict[Winner, Winner] = {"a": "b", "b": "a", "tie": "tie"}


@dataclass(frozen=True, slots=True)
class Preference:
    """What a judge thinks of two answers, `a` and `b` as they were given.

    `orders` are its verdicts with `a` shown first and with `b` shown first, both in terms of `a` and `b`.
    `winner` is what they agree on; a win in one order and anything else in the other is a tie, and
    `consistent` is then False. `longer` is len(a) − len(b) in characters. With `error` there is no winner.
    """

    winner: Winner | None
    orders: tuple[Winner, ...] = ()
    longer: int = 0
    error: str | None = None
    reason: str = ""
    cost_usd: float | None = None
    tokens: int | None = None
    said: str = field(default="", repr=False)
    calls: int = 0

    @property
    def consistent(self) -> bool:
        """Whether both orders gave the same verdict."""
        return len(set(self.orders)) == 1

    @property
    def first_wins(self) -> int:
        """How many of the orders were won by the answer that was shown first."""
        shown_first: tuple[Winner, ...] = ("a", "b")
        return sum(won == first for won, first in zip(self.orders, shown_first, strict=False))

    @property
    def score(self) -> float | None:
        """1 where `a` wins, 0 where `b` does, 0.5 for a tie."""
        return None if self.winner is None else {"a": 1.0, "b": 0.0, "tie": 0.5}[self.winner]


@dataclass(frozen=True, slots=True, kw_only=True)
class Pairwise(Asking):
    """Compares two answers by `criteria`, in both orders unless `both` is off.

    As a judge of one answer it compares it with the sample's first reference: the value is 1 for a win, 0.5
    for a tie, 0 for a loss, and passes from `threshold` on.
    """

    criteria: str = ""
    both: bool = True
    threshold: float | None = 0.5
    shorthand: ClassVar[str] = "criteria"

    def __post_init__(self) -> None:
        names = frozenset({"question", "answer_a", "answer_b", "criteria"})
        required = frozenset({"answer_a", "answer_b"})
        self.settle(load(self.prompt or "pairwise", names, required, like="pairwise"), "pairwise")
        if self.threshold is not None and not 0 <= self.threshold <= 1:
            raise ConfigError("threshold is a number from 0 to 1, or null for no verdict")

    def check(self, question: Question, /) -> str | None:
        """Complains about a sample without references: there is nothing to compare with."""
        return no_reference(question)

    async def __call__(self, question: Question, answer: Answer, /) -> Score:
        """Compares the answer with the first reference."""
        if (failed := unfit(self, question, answer)) is not None:
            return failed
        found = await self.prefer(question, answer, question.references[0])
        costs: dict[str, Any] = {
            "cost_usd": found.cost_usd,
            "tokens": found.tokens,
            "calls": found.calls,
        }
        if found.score is None:
            return Score(None, None, found.reason, found.error, said=found.said, **costs)
        word = {"a": "better than the reference", "b": "worse than the reference", "tie": "a tie"}
        reason = word[found.winner or "tie"] + ("" if found.consistent else " (the two orders disagree)")
        reason += f"; {found.longer:+,} characters"
        score = graded(found.score, self.threshold, reason, found.said, Spent())
        return Score(score.value, score.passed, reason, said=found.said, **costs)

    async def prefer(self, question: Question, a: Answer | str, b: Answer | str) -> Preference:
        """Which of two answers is better. Never raises on what they say."""
        one, other = answered(a).text, answered(b).text
        longer = len(one) - len(other)
        if max(len(one), len(other)) > MAX_ANSWER:
            reason = f"an answer has more than {MAX_ANSWER:,} characters"
            return Preference(None, (), longer, "too_long", reason)
        if one == other:
            return Preference("tie", ("tie", "tie"), longer, reason="the answers are the same", tokens=0)
        orders = [self._shown(question, one, other)]
        if self.both:
            orders.append(self._shown(question, other, one))
        verdicts = await asyncio.gather(*orders)
        spent = sum((each.spent for each in verdicts), Spent())
        costs = spent.as_fields()
        for each in verdicts:
            if each.value is None:
                return Preference(None, (), longer, each.error, each.reason, said=each.said, **costs)
        seen = [_READ[each.value["better"]] for each in verdicts if each.value is not None]
        won = (seen[0], *(_TURNED[each] for each in seen[1:]))
        winner: Winner = won[0] if len(set(won)) == 1 else "tie"
        reason = "both orders agree" if len(set(won)) == 1 else "the two orders disagree: a tie"
        return Preference(winner, won, longer, None, reason, said=verdicts[0].said, **costs)

    async def _shown(self, question: Question, first: str, second: str) -> Verdict:
        texts = {"question": question.prompt, "answer_a": first, "answer_b": second}
        return await self.verdict(texts, {"criteria": self.criteria.strip() or CRITERIA})


@dataclass(frozen=True, slots=True)
class Tally:
    """Many preferences, counted. A report needs more: intervals, and wins that are not of the longer answer.

    `inconsistent` are the ties whose two orders disagree; `first_wins` of `shown` orders were won by the
    answer that stood first (half of the decided ones if position means nothing). `longer_wins` of
    `unequal` decided pairs were won by the longer answer. `errors` have no winner and are in no other count.
    """

    wins: int = 0
    losses: int = 0
    ties: int = 0
    inconsistent: int = 0
    errors: int = 0
    first_wins: int = 0
    shown: int = 0
    longer_wins: int = 0
    unequal: int = 0

    @classmethod
    def of(cls, preferences: Iterable[Preference]) -> Self:
        """Count them."""
        counts = dict.fromkeys(cls.__dataclass_fields__, 0)
        names = {"a": "wins", "b": "losses", "tie": "ties"}
        for each in preferences:
            if each.winner is None:
                counts["errors"] += 1
                continue
            counts[names[each.winner]] += 1
            counts["inconsistent"] += not each.consistent
            counts["first_wins"] += each.first_wins
            counts["shown"] += sum(won != "tie" for won in each.orders)
            if each.winner != "tie" and each.longer:
                counts["unequal"] += 1
                counts["longer_wins"] += (each.winner == "a") == (each.longer > 0)
        return cls(**counts)

    @property
    def n(self) -> int:
        """Pairs with a winner or a tie."""
        return self.wins + self.losses + self.ties

    @property
    def win_rate(self) -> float | None:
        """(wins + ties / 2) / n; None for no pairs."""
        return (self.wins + self.ties / 2) / self.n if self.n else None

    @property
    def bounds(self) -> tuple[float, float] | None:
        """The win rate if every error were a loss, and if every one were a win; None for no pairs."""
        if not (total := self.n + self.errors):
            return None
        sure = self.wins + self.ties / 2
        return sure / total, (sure + self.errors) / total


async def preferences(
    judge: Pairwise, pairs: Iterable[tuple[Any, Question, Answer, Answer]], *, at_once: int = 16
) -> AsyncIterator[tuple[Any, Preference]]:
    """The preference of each pair, with the key it came with, in the pairs' order; `at_once` are asked ahead.

    For two arms of a run: the key is what the rows are clustered by (the sample), `a` and `b` the arms'
    answers to the same sample and repetition. Pairs may be a generator: no more of them are held than asked.
    """
    waiting: list[tuple[Any, asyncio.Task[Preference]]] = []
    left = iter(pairs)
    try:
        while True:
            while len(waiting) < at_once and (pair := next(left, None)) is not None:
                key, question, a, b = pair
                waiting.append((key, asyncio.create_task(judge.prefer(question, a, b))))
            if not waiting:
                return
            key, task = waiting[0]
            preference = await task
            del waiting[0]
            yield key, preference
    finally:
        for _, task in waiting:
            task.cancel()
        await asyncio.gather(*(task for _, task in waiting), return_exceptions=True)
