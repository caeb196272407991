"""One sample, asked of one endpoint and judged: a row of a run.

A row holds the answer as the filters released it, because people need to read it, and never the prompt: the
sample's id leads there. An error is its kind and its message, which never quote either.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from guardrails.errors import GuardrailsError
from judges.judge import Score


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

    `scores` are by the judge's name; empty when there was no answer to judge. `key` identifies what was
    asked: the same sample, configuration and repetition `k` give the same key, and that is what resume skips.
    """

    run: str
    sample: str
    endpoint: str
    key: str
    started_at: str
    k: int = 0
    tags: tuple[str, ...] = ()
    weight: float = 1.0
    answer: str | None = field(default=None, repr=False)
    scores: Mapping[str, Score] = field(default_factory=dict, hash=False)
    record: Mapping[str, Any] | None = field(default=None, repr=False, hash=False)
    error: Failure | None = None

    @property
    def passed(self) -> bool | None:
        """Whether every scorer said yes; a failed call did not pass. None: a judge failed and none said no.

        Without scorers an answer is all that was asked for. A judge that gives a value without a verdict
        takes no part.
        """
        if self.error is not None or not self.scores:
            return self.error is None
        verdicts = [score.passed for score in self.scores.values() if score.passed is not None]
        if not all(verdicts):
            return False
        return None if not verdicts or self.judge_errors else True

    @property
    def judge_errors(self) -> tuple[str, ...]:
        """The kinds of the judges' own errors."""
        return tuple(score.error for score in self.scores.values() if score.error is not None)

    @property
    def done(self) -> bool:
        """Whether resume may leave it as it is: there is an answer and every judge judged it."""
        return self.error is None and not self.judge_errors

    def number(self, name: str) -> float | None:
        """A number of the record, such as `ttft_ms`; None when it was not measured."""
        value = None if self.record is None else self.record.get(name)
        return None if value is None else float(value)

    def line(self) -> bytes:
        """The row as a line of JSON, with its newline."""
        import orjson

        return orjson.dumps(self, default=str) + b"\n"

    @classmethod
    def read(cls, line: bytes) -> Trial:
        """The row in a line. Raises `ValueError`, `KeyError` or `TypeError` for a line that is none."""
        import orjson

        raw = orjson.loads(line)
        scores = {name: Score(**score) for name, score in raw.pop("scores").items()}
        error = raw.pop("error")
        failure = None if error is None else Failure(**error)
        return cls(**{**raw, "tags": tuple(raw["tags"])}, scores=scores, error=failure)


def key(sample: Mapping[str, Any], config: Mapping[str, Any], k: int = 0) -> str:
    """sha256 of the canonical JSON of (sample, config, k), in hex."""
    canonical = json.dumps([sample, config, k], sort_keys=True, ensure_ascii=False, default=str)
    return hashlib.sha256(canonical.encode("utf-8", "surrogatepass")).hexdigest()
