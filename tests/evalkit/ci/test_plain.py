"""The numbers for machines."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import UTC, datetime
from types import SimpleNamespace
from typing import Any

import pytest

from evalkit.ci.plain import plain
from evalkit.columns import Columns
from evalkit.compare import compare
from evalkit.gate import parse
from evalkit.stores import Run, Status
from evalkit.summary import summarise
from evalkit.trial import Trial
from evalkit.trouble import Trouble
from evalkit.verdict import decide_all
from judges.judge import Score

FOUND = {"direction": "output", "kind": "EMAIL_ADDRESS", "action": "redact", "count": 2}


def numbers(rows: list[Trial], *gates: str, status: Status = "complete", **info: object) -> dict[str, Any]:
    columns = Columns.of(rows)
    decided = decide_all([parse(gate) for gate in gates], columns)
    found = plain(
        SimpleNamespace(
            run=Run("r", "r", "digest", status, datetime(2026, 1, 1, tzinfo=UTC), info=info),
            columns=columns,
            warnings=[],
            endpoints=summarise(columns),
            comparisons=compare(columns),
            gates=decided,
            trouble=Trouble.of(columns, 0.1),
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


@pytest.mark.parametrize("status", ["capped", "interrupted", "stopped", "running"])
def test_no_gate_of_a_run_that_is_not_complete_has_passed(made: Callable[..., Trial], status: Status) -> None:
    rows = [made(n) for n in range(40)]
    asked = "pass_rate >= 50%", "pass_rate <= 50%", "pass_rate >= 99%"
    was, now = numbers(rows, *asked)["gates"], numbers(rows, *asked, status=status)["gates"]

    assert [gate["status"] for gate in was] == ["pass", "fail", "undecided"]
    assert [gate["status"] for gate in now] == ["undecided", "fail", "undecided"]
    head = "undecided: the run is not complete; of what was asked: "
    assert now[0]["sentence"] == head + was[0]["sentence"]
    assert now[0]["measured"] == was[0]["measured"]
    assert now[1:] == was[1:]


def test_no_gate_has_passed_where_too_much_failed(made: Callable[..., Trial]) -> None:
    (gate,) = numbers([made(n, "timeout" if n % 2 else True) for n in range(40)], "pass_rate >= 10%")["gates"]

    assert gate["status"] == "undecided"
    assert gate["sentence"].startswith("undecided: too much failed for a verdict; of what was asked: pass: ")


def test_it_says_how_many_flaky_samples_there_are_beside_those_it_names(made: Callable[..., Trial]) -> None:
    rows = [made(q, k == 0, k=k) for q in range(25) for k in range(2)]
    repeats = numbers(rows)["endpoints"][0]["repeats"]

    assert (repeats["flaky"], len(repeats["flakiest"])) == (25, 20)


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
