"""What few values, and values that are all the same, do not prove."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import pytest

from evalkit.columns import Columns
from evalkit.gate import parse
from evalkit.measure import difference, measure
from evalkit.metric import METRICS, metric
from evalkit.trial import Trial
from evalkit.verdict import Decided, decide_all
from judges.judge import Score

Made = Callable[..., Trial]


def rng() -> np.random.Generator:
    return np.random.default_rng(3)


def one(gate: str, rows: list[Trial], baseline: Columns | None = None) -> Decided:
    (decided,) = decide_all([parse(gate)], Columns.of(rows), baseline)
    return decided


def scored(made: Made, values: Sequence[float], **fields: object) -> list[Trial]:
    return [made(n, scores={"f1": Score(value, None, "")}, **fields) for n, value in enumerate(values)]


@pytest.mark.parametrize(
    ("values", "before", "status"),
    [
        ([0.8] * 2, [0.8] * 2, "undecided"),
        ([0.9] * 2, [0.4] * 2, "undecided"),
        ([0.8] * 71, [0.8] * 71, "undecided"),
        ([0.8] * 72, [0.8] * 72, "pass"),
        ([0.8] * 71 + [0.801], [0.8] * 72, "pass"),
        ([0.8] * 70 + [0.799], [0.8] * 71, "undecided"),
        ([0.4] * 20, [0.9] * 20, "fail"),
    ],
)
def test_scores_that_are_no_different_leave_a_doubt_that_shrinks(
    made: Made, values: list[float], before: list[float], status: str
) -> None:
    """n pairs leave up to 1 − 0.025^(1/n) of all pairs unseen, each as different as scores can be."""
    baseline = Columns.of(scored(made, before))
    decided = one("mean_score >= baseline - 0.05", scored(made, values), baseline)
    assert decided.verdict.status == status


def test_the_doubt_of_equal_differences_stays_among_the_possible_ones(made: Made) -> None:
    a, b = (Columns.of(scored(made, [value] * 3)) for value in (1.0, 0.0))
    found = difference(metric("mean_score"), a, b, rng())
    assert found is not None
    unseen = 1 - 0.025 ** (1 / 3)
    assert (found.value, found.high) == (1.0, 1.0)
    assert found.low == pytest.approx(1 - 2 * unseen)


def heavy(made: Made, verdicts: Sequence[bool], weight: float = 1_000.0) -> list[Trial]:
    """The first sample weighs as much as many others."""
    return [
        made(n, verdict, scores={"f1": Score(float(verdict), verdict, "")}, weight=1.0 if n else weight)
        for n, verdict in enumerate(verdicts)
    ]


@pytest.mark.parametrize("gate", ["pass_rate >= baseline - 5%", "mean_score >= baseline - 0.05"])
def test_a_baseline_is_held_against_with_the_samples_weights(made: Made, gate: str) -> None:
    before = Columns.of(heavy(made, [True] * 200))
    assert one(gate, heavy(made, [False, *[True] * 199]), before).verdict.status != "pass"
    measured = one(gate, heavy(made, [False, *[True] * 199]), before).verdict.measured
    assert measured is not None
    assert measured.value == pytest.approx(-1_000 / 1_199)
    even = one(gate, heavy(made, [False, *[True] * 199], 1.0), Columns.of(heavy(made, [True] * 200, 1.0)))
    assert even.verdict.status == "pass"


def test_equal_runs_with_weights_leave_a_doubt(made: Made) -> None:
    rows = heavy(made, [True, False] * 30, 5.0)
    verdict = one("pass_rate >= baseline - 1%", rows, Columns.of(rows)).verdict
    assert verdict.status == "undecided"
    assert one("pass_rate >= baseline - 20%", rows, Columns.of(rows)).verdict.status == "pass"


def test_a_rate_and_a_mean_of_the_same_verdicts_are_the_same(made: Made) -> None:
    columns = Columns.of(heavy(made, [True, False, False, False], 97.0))
    rate, mean = (measure(metric(name), columns, rng()) for name in ("f1.pass_rate", "f1.mean_score"))
    assert rate is not None
    assert rate == mean
    assert rate.value == pytest.approx(0.97)


@pytest.mark.parametrize(
    ("n", "status", "more"), [(1, "undecided", 4), (2, "undecided", 3), (5, "pass", None)]
)
def test_two_calls_of_one_price_do_not_decide_what_a_call_costs(
    made: Made, n: int, status: str, more: int | None
) -> None:
    decided = one("cost_per_call_usd <= 0.01", [made(k) for k in range(n)])
    assert (decided.verdict.status, decided.verdict.more) == (status, more)
    if more:
        assert f"at least {more} more samples are needed" in decided.verdict.sentence
        assert "[$0, no upper bound]" in decided.verdict.sentence


def test_no_mean_time_and_no_mean_cost_is_said_to_be_below_nothing(made: Made) -> None:
    rows = [made(n, record={"cost_usd": cost, "e2e_ms": 1000 * float(cost)}) for n, cost in enumerate("19")]
    for name in ("cost_per_call_usd", "mean_e2e_ms"):
        found = measure(METRICS[name], Columns.of(rows), rng())
        assert found is not None
        assert found.low == 0
