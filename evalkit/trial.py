"""One sample, asked of one endpoint and judged: a row of a run.

A row holds the answer as the filters released it, because people need to read it, and never the prompt: the
sample's id leads there. An error is its kind and its message, which never quote either.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from decimal import Decimal
from typing import Any

from guardrails.errors import GuardrailsError
from guardrails.record import NO_MONEY, total
from judges.judge import Answer, Score


@dataclass(frozen=True, slots=True)
class Failure:
    """Why a call brought no answer: the error's kind, its message, and what to do next."""

    kind: str
    message: str
    hint: str = ""

    @classmethod
    def of(cls, error: Exception) -> Failure:
        """What may be kept of an error. A foreign error's message may quote a prompt: its type is kept."""
        if isinstance(error, GuardrailsError):
            return cls(error.kind, error.message, error.hint)
        return cls("internal", f"unexpected {type(error).__name__}", "EVALKIT_DEBUG=1 shows where")


@dataclass(frozen=True, slots=True)
class Trial:
    """A row. `record` is `CallRecord.as_dict()`, None when the call never reached the recorder.

    `set`, `sample`, `endpoint`, `prompt` (the variant's name, empty where there is one only) and `k` (0 to
    n - 1) say what was asked of whom; `place` is that in the plan, whatever order the run took.
    `scores` are by the judge's name; empty when there was no answer to judge.

    `key` identifies the row: the same sample, configuration, judges and repetition give the same key, and
    that is what resume skips. `ask` identifies the call alone, without the judges: rows with the same `ask`
    may share an answer. `content` identifies what the sample holds: runs are compared on the rows that agree
    in it.
    """

    run: str
    sample: str
    endpoint: str
    key: str
    started_at: str
    set: str = ""
    prompt: str = ""
    k: int = 0
    place: int = 0
    ask: str = ""
    content: str = ""
    tags: tuple[str, ...] = ()
    weight: float = 1.0
    answer: Answer | None = field(default=None, repr=False)
    scores: Mapping[str, Score] = field(default_factory=dict, hash=False)
    record: Mapping[str, Any] | None = field(default=None, repr=False, hash=False)
    error: Failure | None = None

    @property
    def arm(self) -> str:
        """What is compared: the endpoint, with the prompt's variant where there are several."""
        return f"{self.endpoint}/{self.prompt}" if self.prompt else self.endpoint

    @property
    def passed(self) -> bool | None:
        """Whether every scorer said yes; a failed call did not pass. None: a judge failed.

        That is so where another one said no, too: the rows that a judge fails on would else stay in a rate
        where they fail and fall out of it where they pass. Without scorers an answer is all that was asked
        for. A judge that gives a value without a verdict takes no part.
        """
        if self.error is not None or not self.scores:
            return self.error is None and not self.blocked
        verdicts = [score.passed for score in self.scores.values() if score.passed is not None]
        return all(verdicts) if verdicts and not self.judge_errors else None

    @property
    def judge_errors(self) -> tuple[str, ...]:
        """The kinds of the judges' own errors."""
        return tuple(score.error for score in self.scores.values() if score.error is not None)

    @property
    def blocked(self) -> bool:
        """Whether the endpoint's own filters stand in the answer's place."""
        return self.error is None and self.record is not None and self.record.get("outcome") == "rejected"

    @property
    def done(self) -> bool:
        """Whether resume may leave it as it is: there is an answer and every judge judged it."""
        return self.error is None and not self.judge_errors

    def number(self, name: str) -> float | None:
        """A number of the record, such as `ttft_ms`; None when it was not measured."""
        value = None if self.record is None else self.record.get(name)
        return None if value is None else float(value)

    @property
    def cached(self) -> bool:
        """Whether the answer is that of an earlier call, whose times are not this run's."""
        return bool(self.record and self.record.get("cached"))

    @property
    def judging_usd(self) -> Decimal:
        """What judges were paid, as far as they say."""
        return total(usd(score.cost_usd) for score in self.scores.values())

    @property
    def unknown_judgings(self) -> int:
        """How many judges asked a model, and do not know what all of that cost."""
        return sum(score.calls > 0 and score.cost_usd is None for score in self.scores.values())

    @property
    def known_usd(self) -> Decimal:
        """What the row cost its run at least: the call with all attempts, a simulated user, the judging.

        An earlier call's answer was paid by its own run.
        """
        calls = () if self.cached else (call_cost(self.record)[0], user_cost(self.record)[0])
        return total([self.judging_usd, *calls])

    @property
    def call_usd(self) -> Decimal | None:
        """What of that is not judging; None when a part of it is not known."""
        if self.cached:
            return NO_MONEY
        (call, whole), (user, told) = call_cost(self.record), user_cost(self.record)
        return total([call, user]) if whole and told else None

    @property
    def paid_usd(self) -> Decimal | None:
        """What the row cost its run; None when a part of it is not known."""
        return None if self.call_usd is None or self.unknown_judgings else self.known_usd

    def as_dict(self) -> dict[str, Any]:
        """Plain JSON values, all of them; `read` gives the row back."""
        plain = {name: getattr(self, name) for name in _PLAIN}
        return {
            **plain,
            "tags": list(self.tags),
            "answer": None if self.answer is None else self.answer.as_dict(),
            "scores": {name: score.as_dict() for name, score in self.scores.items()},
            "record": None if self.record is None else dict(self.record),
            "error": None if self.error is None else asdict(self.error),
        }

    @classmethod
    def read(cls, raw: Mapping[str, Any]) -> Trial:
        """The row in plain values. Raises `ValueError`, `KeyError` or `TypeError` for what is none."""
        answer, error = raw["answer"], raw["error"]
        return cls(
            **{name: raw[name] for name in _PLAIN},
            tags=tuple(raw["tags"]),
            answer=None if answer is None else Answer.from_dict(answer, raw["record"]),
            scores={name: Score(**score) for name, score in raw["scores"].items()},
            record=raw["record"],
            error=None if error is None else Failure(**error),
        )


def usd(amount: object) -> Decimal:
    """An amount as a record or a score has it; what is not known adds nothing."""
    return NO_MONEY if amount is None else Decimal(str(amount))


def call_cost(record: Mapping[str, Any] | None) -> tuple[Decimal, bool]:
    """What is known of a call's cost, all its attempts included, and whether that is all of it.

    An attempt that broke off before it said anything may have been billed. One that broke off later, and
    whose tokens only we have counted, may have been billed for more than was seen, such as thinking.
    """
    if record is None:
        return NO_MONEY, False
    known = total([usd(record.get("cost_usd")), usd(record.get("wasted_usd"))])
    parts = [record.get("cost_usd"), *(each["cost_usd"] for each in record.get("attempts", ()))]
    cut_off = record.get("outcome", "complete") != "complete" and record.get("token_source") != "usage"
    return known, None not in parts and not (cut_off and known)


def user_cost(record: Mapping[str, Any] | None) -> tuple[Decimal, bool]:
    """What is known of the cost of a simulated user, if there was one, and whether that is all of it."""
    cost = None if record is None else record.get("user_cost_usd", NO_MONEY)
    return usd(cost), cost is not None


_PLAIN = (
    *("run", "sample", "endpoint", "key", "started_at"),
    *("set", "prompt", "k", "place", "ask", "content", "weight"),
)
