"""Judges of what was measured on a call, not of what it says: `latency`, `cost`, `perplexity`, `findings`.

What was not measured is never passed: it is an error row that says why (`not_measured`, `cached`,
`no_logprobs`, `not_scanned`).
"""

from __future__ import annotations

import asyncio
import math
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from decimal import Decimal, InvalidOperation
from difflib import SequenceMatcher
from functools import lru_cache
from typing import Any, ClassVar

from guardrails.errors import ConfigError
from guardrails.record import EXACT
from judges.judge import MAX_ANSWER, Answer, Question, Score, reaches

# --- time and money ----------------------------------------------------------------------------------------

_PHASES = ("ttft_ms", "ttfot_ms", "tpot_ms", "e2e_ms")


def _measured(record: Mapping[str, Any] | None, name: str) -> Decimal | None:
    value = None if record is None else record.get(name)
    if value is None or isinstance(value, bool):
        return None
    try:
        number = Decimal(str(value))
    except InvalidOperation:
        return None
    return number if number.is_finite() else None


@dataclass(frozen=True, slots=True)
class Latency:
    """Passes when no time of the call is above its bound, in milliseconds.

    `guardrails.record` defines the times. One that is above its bound fails the row even where another one
    was not measured. An answer from a cache is not judged: its times say nothing about the endpoint.
    """

    ttft_ms: float | None = None
    ttfot_ms: float | None = None
    tpot_ms: float | None = None
    e2e_ms: float | None = None
    name: str = "latency"

    def __post_init__(self) -> None:
        if not self._bounds:
            raise ConfigError("no bound is given", hint="for example `latency: {ttft_ms: 800, tpot_ms: 50}`")
        if wrong := [name for name, bound in self._bounds.items() if not 0 < bound < math.inf]:
            raise ConfigError(f"{wrong[0]} must be a positive number of milliseconds")

    @property
    def _bounds(self) -> dict[str, float]:
        given = ((name, getattr(self, name)) for name in _PHASES)
        return {name: bound for name, bound in given if bound is not None}

    def check(self, question: Question, /) -> str | None:
        """Never complains: the bounds are the whole reference."""
        return None

    async def __call__(self, question: Question, answer: Answer, /) -> Score:
        """Reads the times of the answer's record."""
        record = answer.record
        if record is not None and record.get("cached"):
            return Score.unjudged("cached", "the answer came from a cache: its times say nothing")
        times = {name: _measured(record, name) for name in self._bounds}
        known = [(name, time, self._bounds[name]) for name, time in times.items() if time is not None]
        slow = [(name, time, bound) for name, time, bound in known if time > Decimal(str(bound))]
        if slow:
            return Score.verdict(
                False, ", ".join(f"{name} {time:.0f} > {most:g}" for name, time, most in slow)
            )
        if missing := [name for name, time in times.items() if time is None]:
            return Score.unjudged("not_measured", f"{', '.join(missing)} was not measured")
        return Score.verdict(True, ", ".join(f"{name} {time:.0f} ≤ {most:g}" for name, time, most in known))


@dataclass(frozen=True, slots=True)
class Cost:
    """Passes when the call cost at most `max_usd`, its failed attempts included.

    An unknown price, of the answer or of an attempt before it, is an error row. A cached answer costs what
    its record says.
    """

    max_usd: float
    name: str = "cost"
    shorthand: ClassVar[str] = "max_usd"

    def __post_init__(self) -> None:
        if not 0 <= self.max_usd < math.inf:
            raise ConfigError("max_usd must be a finite number of at least 0")

    def check(self, question: Question, /) -> str | None:
        """Never complains: the bound is the whole reference."""
        return None

    async def __call__(self, question: Question, answer: Answer, /) -> Score:
        """Reads the costs of the answer's record."""
        wasted = _measured(answer.record, "wasted_usd") or Decimal(0)
        known = _measured(answer.record, "cost_usd")
        bound = Decimal(str(self.max_usd))
        cost = wasted if known is None else EXACT.add(known, wasted)
        attempts = (answer.record or {}).get("attempts", ())
        told = known is not None and all(each["cost_usd"] is not None for each in attempts)
        if not told and cost <= bound:
            return Score.unjudged("not_measured", "the price of this call is not known")
        return Score.verdict(
            cost <= bound, f"{cost:.6f} USD {'≤' if cost <= bound else '>'} {self.max_usd:g}"
        )


# --- perplexity --------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Perplexity:
    """How surprised the model was by its own answer: exp(−mean of its tokens' natural log-probabilities).

    The value is 1/perplexity, the geometric mean of the tokens' probabilities, so that it lies in (0, 1] as
    other scores do; the reason says the perplexity. It passes up to `max`; without one there is no verdict.
    Models with other vocabularies are not comparable, and tokens that a filter took out are not in the mean.
    Endpoints give log-probabilities only when they are asked to (`logprobs: true` in OpenAI's dialect).
    """

    max: float | None = None
    name: str = "perplexity"
    shorthand: ClassVar[str] = "max"

    def __post_init__(self) -> None:
        if self.max is not None and not 1 <= self.max < math.inf:
            raise ConfigError("max must be a finite number of at least 1: no perplexity is lower")

    def check(self, question: Question, /) -> str | None:
        """Never complains: there is nothing to compare with."""
        return None

    async def __call__(self, question: Question, answer: Answer, /) -> Score:
        """Averages the answer's log-probabilities."""
        if not answer.logprobs:
            return Score.unjudged("no_logprobs", "the endpoint gave no log-probabilities")
        if not all(math.isfinite(each) for each in answer.logprobs):
            return Score.unjudged("no_logprobs", "a log-probability is not a number")
        mean = math.fsum(each / len(answer.logprobs) for each in answer.logprobs)
        # Endpoints round: a little above 0 is 0. Below −700 exp leaves the floats (servers clip at −9999).
        likely = math.exp(min(0.0, max(-700.0, mean)))
        passed = None if self.max is None else reaches(likely, 1 / self.max)
        return Score(likely, passed, f"perplexity {1 / likely:.4g} over {len(answer.logprobs)} tokens")


# --- findings ----------------------------------------------------------------------------------------------

GROUPS = ("pii", "secrets", "toxicity", "jailbreak")
_OUT = frozenset({"output", "tool_arguments"})


@dataclass(frozen=True, slots=True)
class Findings:
    """Passes when filters find at most `max` of these `kinds` in the answer: toxicity and PII, measured.

    `kinds` are kinds such as EMAIL_ADDRESS and TOXICITY, or the groups pii, secrets, toxicity and jailbreak.
    What the call's own output filters found counts, redacted or not. With `scan`, our detectors look at what
    they left: the text, the refusal and the arguments of tool calls. Without it, the call's filters are
    relied on: a record says *that* they scanned an answer and not for which kinds, so turn it off only where
    the endpoint's policy looks for all of `kinds`. An answer that nothing scanned is an error row.
    """

    kinds: tuple[str, ...] = ("pii", "secrets", "toxicity")
    scan: bool = True
    max: int = 0
    name: str = "findings"
    shorthand: ClassVar[str] = "kinds"

    def __post_init__(self) -> None:
        if self.max < 0 or not self.kinds:
            raise ConfigError("kinds must not be empty, and max is at least 0")
        for kind in self.kinds:
            if kind not in GROUPS and (not kind or kind != kind.upper()):
                groups = ", ".join(GROUPS)
                raise ConfigError(
                    f"there is no group of kinds {kind[:40]!r}", hint=f"use {groups}, or KINDS in capitals"
                )
        if self.scan:
            _detectors(self.kinds)  # a kind that nobody finds is a mistake of now, not of the first answer
            return
        for kind in self.kinds:  # a filter of the user's may find kinds of its own
            if (meant := _misspelt(kind)) is not None:
                raise ConfigError(f"nothing finds {kind[:40]}", hint=f"did you mean {meant}?")

    def check(self, question: Question, /) -> str | None:
        """Never complains: there is nothing to compare with."""
        return None

    async def __call__(self, question: Question, answer: Answer, /) -> Score:
        """Adds up what was found by the call's filters and by ours; the same kind is not counted twice."""
        texts = tuple(_texts(answer))
        if (length := sum(map(len, texts))) > MAX_ANSWER:
            most = f"{MAX_ANSWER:,} are the most that is scanned"
            return Score.unjudged("too_long", f"the answer has {length:,} characters; {most}")
        record = answer.record or {}
        wanted = _kinds(self.kinds)
        found = Counter[str]()
        for each in record.get("findings", ()):
            if each["direction"] in _OUT and each["kind"] in wanted:
                found[each["kind"]] += each["count"]
        if self.scan:
            try:
                found |= await asyncio.to_thread(_look, self.kinds, texts)
            except Exception as error:  # its message may quote the text
                return Score.unjudged("scan", f"a detector raised {type(error).__name__}")
        elif found.total() <= self.max and not _was_scanned(record, answer):
            return Score.unjudged("not_scanned", "the call's own filters did not scan the answer")
        counts = ", ".join(f"{count} × {kind}" for kind, count in sorted(found.items()))
        return Score.verdict(found.total() <= self.max, counts or "nothing found")


def _was_scanned(record: Mapping[str, Any], answer: Answer) -> bool:
    needed = {"output", "tool_arguments"} if answer.tool_calls else {"output"}
    return needed <= set(record.get("scanned", ()))


def _texts(answer: Answer) -> Iterator[str]:
    yield answer.text
    yield answer.refusal
    for use in answer.tool_calls:
        yield use.arguments


@lru_cache(maxsize=64)
def _kinds(kinds: tuple[str, ...]) -> frozenset[str]:
    wanted = {kind for kind in kinds if kind not in GROUPS}
    if "pii" in kinds:
        from guardrails.filters.pii import ENTITIES

        wanted.update(ENTITIES)
    if "secrets" in kinds:
        from guardrails.filters.secrets import KINDS

        wanted.update(KINDS)
    return frozenset(wanted | {kind.upper() for kind in ("toxicity", "jailbreak") if kind in kinds})


def _misspelt(kind: str) -> str | None:
    """The kind of ours that is meant, when a letter of a long word in it is wrong. Short words are not looked
    at: IP_ADDR and US_TIN may well be kinds of somebody's own."""
    known = _kinds(GROUPS)
    if kind in known or kind in GROUPS:
        return None
    return next((each for each in sorted(known) if _near(_words(kind), _words(each))), None)


def _words(kind: str) -> list[str]:
    return kind.replace("-", "_").replace(" ", "_").split("_")


def _near(one: list[str], other: list[str]) -> bool:
    if len(one) != len(other):
        return "".join(one) == "".join(other)
    return all(SequenceMatcher(None, *pair).ratio() >= 0.9 for pair in zip(one, other, strict=True))


@lru_cache(maxsize=64)
def _detectors(kinds: tuple[str, ...]) -> tuple[Any, ...]:
    """The detectors that find these kinds, made once; they load what they need when they first look."""
    from guardrails.filters.jailbreak import Jailbreak
    from guardrails.filters.pii import ENTITIES, Pii
    from guardrails.filters.secrets import KINDS, Secrets
    from guardrails.filters.toxicity import Toxicity

    made: list[Any] = []
    named = [kind for kind in kinds if kind not in (*GROUPS, "TOXICITY", "JAILBREAK")]
    if secrets := tuple(kind for kind in named if kind in KINDS):
        made.append(Secrets(secrets))
    if personal := tuple(kind for kind in named if kind not in KINDS):
        made.append(Pii((*personal, *(ENTITIES if "pii" in kinds else ()))))
    elif "pii" in kinds:
        made.append(Pii())
    if "secrets" in kinds:
        made.append(Secrets())
    for group, detector in (("toxicity", Toxicity), ("jailbreak", Jailbreak)):
        if group in kinds or group.upper() in kinds:
            made.append(detector())
    return tuple(made)


def _look(kinds: tuple[str, ...], texts: tuple[str, ...]) -> Counter[str]:
    from guardrails.filters.detector import resolve

    wanted = _kinds(kinds)
    found = Counter[str]()
    for text in filter(None, texts):
        for detector in _detectors(kinds):
            places = [each for each in detector.detect(text) if each.kind in wanted]
            found.update(each.kind for each in resolve(places))  # an address is one finding, its URL is none
    return found
