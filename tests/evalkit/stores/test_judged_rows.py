"""Rows that a model judged: what judging cost and what the model wrote survive every store's columns."""

from __future__ import annotations

import json

from evalkit.stores import codec, tables
from evalkit.trial import Trial
from judges.judge import Answer, Score

WRITTEN = "half a pair \ud800, a NUL \0 and ␀"


def row(**scores: Score) -> Trial:
    return Trial(
        run="r", sample="s", endpoint="e", key="k", started_at="2026-01-01", answer=Answer("x"), scores=scores
    )


def read_back(trial: Trial) -> Trial:
    columns = dict(zip(tables.GIVEN, codec.values(trial), strict=True))
    return codec.trial([columns[name] for name in codec.READ])


def test_what_a_model_judged_comes_back_as_it_was() -> None:
    whole = Score(0.5, True, "why", None, 0.001, 42, (0.25, 0.75), ({"claim": "x", "found": "y"},), WRITTEN)
    lost = Score(None, None, "why", "unreadable", None, 42, said="no verdict")
    trial = row(whole=whole, lost=lost, plain=Score.verdict(True, "why"))
    assert read_back(trial) == trial
    assert Trial.read(json.loads(json.dumps(trial.as_dict()))) == trial


def test_rows_of_judges_that_ask_nobody_are_as_short_as_before() -> None:
    trial = row(plain=Score.verdict(True, "why"))
    kept = json.loads(codec.dumped({"plain": trial.scores["plain"].as_dict()}))
    assert kept == {"plain": {"value": 1.0, "passed": True, "reason": "why", "error": None}}
    assert Trial.read({**trial.as_dict(), "scores": kept}) == trial
