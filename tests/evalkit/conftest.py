"""Rows as a run leaves them, made in one line."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from evalkit.trial import Failure, Trial
from judges.judge import Answer, Score

RECORD: dict[str, Any] = {
    "model": "m",
    "model_reported": None,
    "ttft_ms": 100.0,
    "ttfot_ms": 101.0,
    "tpot_ms": 10.0,
    "e2e_ms": 500.0,
    "queue_ms": 0.5,
    "input_tokens": 10,
    "output_tokens": 5,
    "token_source": "usage",
    "cost_usd": "0.001",
    "wasted_usd": "0",
    "price_version": "p1",
    "findings": [],
    "scanned": [],
    "not_scanned": [],
    "cached": False,
}


@pytest.fixture(scope="session")
def made() -> Callable[..., Trial]:
    """`made(sample, passed)`: True, False, None for a judge that failed, or the kind of a failed call.

    `record` is laid over an ordinary one; `text` is the answer's.
    """

    def make(sample: object, passed: bool | str | None = True, arm: str = "a", **fields: Any) -> Trial:
        record = fields.pop("record", {})
        text = fields.pop("text", "an answer")
        plain: dict[str, Any] = {"record": None if record is None else {**RECORD, **record}}
        if isinstance(passed, str):
            plain["error"] = Failure(passed, "it broke")
        else:
            score = (
                Score.unjudged("timeout", "no reply") if passed is None else Score.verdict(passed, "a reason")
            )
            plain |= {"answer": Answer(text), "scores": {"contains": score}}
        key = f"{fields.get('set', '')}/{sample}/{arm}/{fields.get('k', 0)}"
        return Trial("run", str(sample), arm, key, "now", **{**plain, **fields})

    return make
