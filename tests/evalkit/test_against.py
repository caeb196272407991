"""Doubts about the runs that a run is compared with."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from evalkit.against import doubts, found
from evalkit.columns import Columns
from evalkit.stores import Run, open_store
from evalkit.trial import Trial

Made = Callable[..., Trial]
THIS = Run(
    "this",
    "n",
    "d",
    "complete",
    datetime(2026, 1, 1, tzinfo=UTC),
    planned=3,
    info={"scorers": {"exact": "1"}},
)
OLD = replace(THIS, id="old")


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({}, []),
        ({"info": {}}, []),
        ({"info": {"scorers": {}}}, []),
        (
            {"status": "running", "planned": 9},
            ["baseline (old) is not complete: it is running, with 3 of 9 calls"],
        ),
        (
            {"status": "capped", "planned": 9},
            ["baseline (old) is not complete: it is capped, with 3 of 9 calls"],
        ),
        (
            {"info": {"scorers": {"contains": "1"}}},
            ["baseline (old) was judged by other scorers: only here exact; only there contains"],
        ),
        (
            {"info": {"scorers": {"exact": "2"}}},
            ["baseline (old) was judged by other scorers: not the same exact"],
        ),
    ],
)
def test_a_run_to_compare_with_is_doubted_for_what_it_is(
    made: Made, fields: dict[str, Any], said: list[str]
) -> None:
    rows = Columns.of(made(n) for n in range(3))
    assert list(doubts(THIS, {"baseline": (replace(OLD, **fields), rows)})) == said


def test_a_run_without_answers_is_no_measure(made: Made) -> None:
    rows = Columns.of(made(n, "timeout") for n in range(3))
    assert list(doubts(THIS, {"old": (OLD, rows)})) == [
        "old is no measure: none of its calls brought an answer"
    ]


def test_a_run_that_was_deleted_meanwhile_is_missed_and_said(made: Made, tmp_path: Path) -> None:
    store = open_store(str(tmp_path / "runs.db"))
    store.create(OLD)
    wanted = {"baseline": "old", "v1": "deleted"}

    there = found(store, wanted)

    assert list(there) == ["baseline"]
    assert next(iter(doubts(THIS, there, wanted))) == "v1 (deleted) is not there any more"
    store.close()
