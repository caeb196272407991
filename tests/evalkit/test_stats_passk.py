"""pass@k and pass^k: against counting every subset, and against exact fractions."""

from __future__ import annotations

from fractions import Fraction
from itertools import combinations
from math import comb

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from evalkit import stats
from evalkit.stats_passk import over_problems, pass_all_k, pass_at_k


@given(st.integers(1, 9).flatmap(lambda n: st.tuples(st.just(n), st.integers(0, n), st.integers(1, n))))
def test_both_are_the_share_of_subsets(case: tuple[int, int, int]) -> None:
    n, c, k = case
    drawn = [[index < c for index in subset] for subset in combinations(range(n), k)]
    assert pass_at_k([n], [c], k)[0] == pytest.approx(sum(map(any, drawn)) / len(drawn), abs=1e-12)
    assert pass_all_k([n], [c], k)[0] == pytest.approx(sum(map(all, drawn)) / len(drawn), abs=1e-12)


@given(st.integers(1, 3000).flatmap(lambda n: st.tuples(st.just(n), st.integers(0, n), st.integers(1, n))))
def test_large_numbers_lose_no_digits(case: tuple[int, int, int]) -> None:
    n, c, k = case
    assert pass_at_k([n], [c], k)[0] == pytest.approx(
        float(1 - Fraction(comb(n - c, k), comb(n, k))), rel=1e-9
    )
    assert pass_all_k([n], [c], k)[0] == pytest.approx(
        float(Fraction(comb(c, k), comb(n, k))), rel=1e-9, abs=1e-300
    )
    assert pass_at_k([n], [c], k)[0] == pytest.approx(stats.pass_at_k(n, c, k), rel=1e-9)


def test_problems_may_have_different_numbers_of_answers() -> None:
    assert pass_at_k([10, 5, 1], [3, 0, 1], 1).tolist() == pytest.approx([0.3, 0.0, 1.0])
    assert pass_at_k([], [], 3).tolist() == []


@pytest.mark.parametrize(
    ("n", "c", "k"), [([3], [4], 1), ([3], [-1], 1), ([3], [1], 4), ([3], [1], 0), ([3], [1, 2], 1)]
)
def test_numbers_that_cannot_be_are_refused(n: list[int], c: list[int], k: int) -> None:
    with pytest.raises(ValueError, match="problem"):
        pass_at_k(n, c, k)


def test_the_interval_is_over_problems_not_answers() -> None:
    rng = np.random.default_rng(1)
    right = rng.integers(0, 101, size=50)
    few = over_problems(pass_at_k([100] * 50, right.tolist(), 1), 5_000, 1)
    many = over_problems(pass_at_k([100] * 500, np.tile(right, 10).tolist(), 1), 50_000, 1)
    assert few is not None
    assert many is not None
    assert few.n == 50
    assert few.low < few.value < few.high
    assert (many.high - many.low) == pytest.approx((few.high - few.low) / 10**0.5, rel=0.15)


def test_one_answer_a_problem_is_a_rate_with_wilsons_interval() -> None:
    ones = over_problems(pass_at_k([1] * 164, [1] * 164, 1), 164, 1)
    assert ones == stats.wilson(164, 164)
    assert ones is not None
    assert ones.low < 1.0, "164 of 164 is not certainty"
    assert over_problems(pass_at_k([], [], 1), 0, 1) is None


def test_it_covers_what_it_says() -> None:
    """Of 200 benchmarks drawn from known chances, about 95 % of the intervals hold the true pass@5."""
    rng = np.random.default_rng(7)
    chances = rng.beta(0.5, 1.0, size=(200, 60))
    held = 0
    for row in chances:
        right = rng.binomial(20, row)
        measured = over_problems(pass_at_k([20] * 60, right.tolist(), 5), 1_200, 5)
        truth = 1 - float(np.mean((1 - rng.beta(0.5, 1.0, size=50_000)) ** 5))
        assert measured is not None
        held += measured.low <= truth <= measured.high
    assert held >= 178
