"""The numbers for machines."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import UTC, datetime
from types import SimpleNamespace
from typing import Any

from evalkit.ci.plain import plain
from evalkit.columns import Columns
from evalkit.compare import compare
from evalkit.gate import parse
from evalkit.stores import Run
from evalkit.summary import summarise
from evalkit.trial import Trial
from evalkit.verdict import decide_all
from judges.judge import Score

FOUND = {"direction": "output", "kind": "EMAIL_ADDRESS", "action": "redact", "count": 2}


def numbers(rows: list[Trial], *gates: str, **info: object) -> dict[str, Any]:
    columns = Columns.of(rows)
    decided = decide_all([parse(gate) for gate in gates], columns)
    found = plain(
        SimpleNamespace(
            run=Run("r", "r", "digest", "complete", datetime(2026, 1, 1, tzinfo=UTC), info=info),
            columns=columns,
            warnings=[],
            endpoints=summarise(columns),
            comparisons=compare(columns),
            gates=decided,
        )
    )
    read: dict[str, Any] = json.loads(json.dumps(found, allow_nan=False))
    assert read == found, "plain values only"
    return read


def test_every_json_library_can_write_it(made: Callable[..., Trial]) -> None:
    rows = [
        made(q, q != k, k=k, arm=arm, record={"findings": [FOUND]})
        for q in range(5)
        for k in range(2)
        for arm in "ab"
    ]
    found = numbers(rows, "p99_ttft_ms <= 800", "pass@2 >= 50%", "pass_rate >= baseline")
    first = found["endpoints"][0]

    assert (first["name"], first["calls"], first["samples"]) == ("a", 10, 5)
    assert first["latency"]["ttft"]["p99"]["high"] is None, "an open side is null"
    assert "values" not in first["latency"]["ttft"]
    assert (first["cost"]["total"], first["cost"]["paid"]) == ("0.010", "0.010")
    assert first["findings"] == [{**FOUND, "count": 20}]
    assert set(first["repeats"]["pass@k"]) == {"1", "2"}
    assert found["comparisons"][0]["verdict"].startswith("no difference")
    assert [gate["status"] for gate in found["gates"][:2]] == ["undecided", "undecided"]
    assert found["gates"][0]["gate"] == "p99_ttft_ms <= 800.0"
    assert found["gates"][-1]["measured"] is None


def test_a_rescored_run_has_paid_for_its_judges_alone(made: Callable[..., Trial]) -> None:
    rows = [made(n, scores={"rubric": Score(1.0, True, "", cost_usd=0.5)}) for n in range(2)]
    assert numbers(rows)["endpoints"][0]["cost"]["paid"] == "1.002"
    assert numbers(rows, rescored="run-0")["endpoints"][0]["cost"]["paid"] == "1.0"


def test_what_was_paid_is_not_all_where_judgings_have_an_unknown_cost(made: Callable[..., Trial]) -> None:
    rows = [made(n, scores={"rubric": Score(1.0, True, "", calls=1)}) for n in range(2)]
    cost = numbers(rows)["endpoints"][0]["cost"]
    assert (cost["paid"], cost["unknown"], cost["unknown_judgings"]) == ("0.002", 0, 2)


def test_answers_are_not_in_it(made: Callable[..., Trial]) -> None:
    assert "a secret" not in json.dumps(numbers([made(1, False, text="a secret")]))
