"""Intervals and estimators against published values, against brute force, and by how often they are right."""

from __future__ import annotations

import math
from fractions import Fraction
from itertools import combinations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from evalkit import stats

VALUES = st.lists(st.floats(-1e6, 1e6), min_size=1, max_size=60)


def rng() -> np.random.Generator:
    return np.random.default_rng(20260101)


def table(both: int, only_a: int, only_b: int, neither: int) -> tuple[list[bool], list[bool]]:
    a = [True] * (both + only_a) + [False] * (only_b + neither)
    b = [True] * both + [False] * only_a + [True] * only_b + [False] * neither
    return a, b


# --- rates -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("passed", "n", "low", "high"),
    # Newcombe (1998), Stat. Med. 17:857, Table I, method 3.
    [(81, 263, 0.2553, 0.3662), (15, 148, 0.0624, 0.1605), (0, 20, 0.0, 0.1611), (1, 29, 0.0061, 0.1718)],
)
def test_wilson_against_published_values(passed: int, n: int, low: float, high: float) -> None:
    measured = stats.wilson(passed, n)
    assert measured is not None
    assert (round(measured.low, 4), round(measured.high, 4)) == (low, high)
    assert measured.value == passed / n


def test_nothing_measured_is_none() -> None:
    assert stats.wilson(0, 0) is None
    assert stats.quantile([], 0.5) is None
    assert stats.mean([], rng()) is None
    assert stats.weighted_rate([], []) is None
    assert stats.paired_rates([], []) is None
    assert stats.paired_means([], [], rng()) is None


@given(n=st.integers(1, 10_000), data=st.data())
def test_wilson_holds_the_rate_and_is_monotone(n: int, data: st.DataObject) -> None:
    passed = data.draw(st.integers(0, n))
    measured = stats.wilson(passed, n)
    assert measured is not None
    assert 0 <= measured.low <= measured.value <= measured.high <= 1
    assert (measured.low == 0) == (passed == 0)
    assert (measured.high == 1) == (passed == n)
    if passed < n:
        more = stats.wilson(passed + 1, n)
        assert more is not None
        assert more.low > measured.low
        assert more.high > measured.high
    mirrored = stats.wilson(n - passed, n)
    assert mirrored is not None
    assert mirrored.low == pytest.approx(1 - measured.high, abs=1e-12)


@pytest.mark.parametrize("p", [0.05, 0.5, 0.93])
def test_wilson_covers_the_truth_as_often_as_it_says(p: float) -> None:
    draws = rng().binomial(120, p, size=2_000)
    covered = 0
    for passed in draws:
        measured = stats.wilson(int(passed), 120)
        assert measured is not None
        covered += measured.low <= p <= measured.high
    assert 0.93 <= covered / 2_000 <= 0.98


def test_a_wilson_interval_leaves_the_bound_at_the_number_that_was_promised() -> None:
    # The score test and Wilson's interval are one thing turned round.
    needed = stats.samples_to_decide(0.92, 0.90)
    assert needed is not None
    z = stats.critical()
    assert stats._wilson(0.92, needed, z)[0] > 0.90
    assert stats._wilson(0.92, needed - 1, z)[0] <= 0.90
    assert stats.samples_to_decide(0.9, 0.9) is None
    assert stats.samples_to_decide(0.0, 0.0) is None


def test_wrong_arguments_are_refused() -> None:
    for passed, n, level in ((3, 2, 0.95), (-1, 2, 0.95), (1, 2, 95)):
        with pytest.raises(ValueError, match="between"):
            stats.wilson(passed, n, level)
    with pytest.raises(ValueError, match="one weight"):
        stats.weighted_rate([True], [])
    with pytest.raises(ValueError, match="positive"):
        stats.weighted_rate([True], [0.0])
    with pytest.raises(ValueError, match="same samples"):
        stats.paired_rates([True], [])
    with pytest.raises(ValueError, match="same samples"):
        stats.paired_means([1.0], [], rng())
    with pytest.raises(ValueError, match="quantile"):
        stats.quantile([1.0], 99)
    with pytest.raises(ValueError, match="not a number"):
        stats.quantile([math.nan], 0.5)
    with pytest.raises(ValueError, match="finite"):
        stats.mean([math.inf], rng())


# --- weights -----------------------------------------------------------------------------------------------


@given(passed=st.lists(st.booleans(), min_size=1, max_size=50), weight=st.floats(1e-300, 1e300))
def test_equal_weights_change_nothing(passed: list[bool], weight: float) -> None:
    assert stats.weighted_rate(passed, [weight] * len(passed)) == stats.wilson(sum(passed), len(passed))


def test_uneven_weights_say_less() -> None:
    measured = stats.weighted_rate([True, True, False], [1.0, 1.0, 2.0])
    assert measured is not None
    assert measured.value == 0.5
    assert measured.effective == pytest.approx(16 / 6)
    assert measured.n == 3
    equal = stats.wilson(1, 2)
    assert equal is not None
    assert measured.high - measured.low < equal.high - equal.low


@given(st.lists(st.tuples(st.booleans(), st.floats(1e-3, 1e3)), min_size=1, max_size=50))
def test_a_weighted_rate_stays_within_its_interval(rows: list[tuple[bool, float]]) -> None:
    measured = stats.weighted_rate([ok for ok, _ in rows], [weight for _, weight in rows])
    assert measured is not None
    assert 0 <= measured.low <= measured.value <= measured.high <= 1
    assert measured.effective is None or 1 <= measured.effective <= len(rows) * (1 + 1e-12)


# --- pairs -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("counts", [(12, 2, 50), (5, 0, 41), (0, 0, 10), (3, 9, 200), (1, 0, 1), (0, 7, 7)])
@pytest.mark.parametrize("level", [0.9, 0.95])
def test_a_paired_interval_ends_where_the_score_test_rejects(
    counts: tuple[int, int, int], level: float
) -> None:
    """Its z² at the ends, with the likeliest law of that difference looked for on a grid."""
    only_a, only_b, n = counts
    paired = stats.paired_counts(only_a, only_b, n, level)
    assert (paired.only_a, paired.only_b) == counts[:2]
    for end in (paired.difference.low, paired.difference.high):
        if abs(end) == 1:
            continue
        q = np.linspace(max(0, -end), (1 - end) / 2, 200_001)[1:-1]  # P(only b); P(only a) is q + end
        with np.errstate(divide="ignore"):
            logs = sum(k * np.log(p) for k, p in ((only_a, q + end), (only_b, q)) if k)
            likely = q[np.argmax(logs + (n - only_a - only_b) * np.log(1 - 2 * q - end))]
        z = (only_a - only_b - n * end) / math.sqrt(n * (2 * likely + end - end**2))
        assert abs(z) == pytest.approx(stats.critical(level), rel=1e-3)


@pytest.mark.parametrize("n", [5, 20, 50])
def test_a_loss_is_seldom_taken_for_none_even_where_one_side_alone_loses(n: int) -> None:
    """Exactly, over all outcomes: how often a gate with that margin passes at a loss just as large."""
    lows = [stats.paired_counts(0, lost, n).difference.low for lost in range(n + 1)]
    for margin in np.arange(0.005, 0.4, 0.005):
        wrongly = sum(
            math.comb(n, lost) * margin**lost * (1 - margin) ** (n - lost)
            for lost, low in enumerate(lows)
            if low >= -margin
        )
        assert wrongly < 0.065, margin


@pytest.mark.parametrize(
    ("only_a", "only_b", "p"),
    [(0, 0, 1.0), (5, 0, 0.0625), (0, 5, 0.0625), (3, 3, 1.0), (12, 2, 212 / 2**14)],
)
def test_mcnemar_is_the_binomial_test(only_a: int, only_b: int, p: float) -> None:
    assert stats.mcnemar(only_a, only_b) == pytest.approx(p)


@given(counts=st.tuples(*[st.integers(0, 40)] * 4).filter(any))
def test_swapping_the_sides_mirrors_the_difference(counts: tuple[int, int, int, int]) -> None:
    a, b = table(*counts)
    there, back = stats.paired_rates(a, b), stats.paired_rates(b, a)
    assert there is not None
    assert back is not None
    assert -1 <= there.difference.low <= there.difference.value <= there.difference.high <= 1
    assert there.difference.low == pytest.approx(-back.difference.high, abs=1e-12)
    assert there.p_value == back.p_value


def test_a_paired_interval_covers_the_truth_as_often_as_it_says() -> None:
    draws = rng().multinomial(80, [0.7, 0.15, 0.05, 0.1], size=1_000)
    covered = 0
    for counts in draws:
        paired = stats.paired_rates(*table(*(int(count) for count in counts)))
        assert paired is not None
        covered += paired.difference.low <= 0.10 <= paired.difference.high
    assert 0.93 <= covered / 1_000 <= 0.985


# --- pass@k ------------------------------------------------------------------------------------------------


@given(n=st.integers(1, 9), data=st.data())
def test_pass_at_k_is_the_share_of_draws_with_a_right_answer(n: int, data: st.DataObject) -> None:
    correct, k = data.draw(st.integers(0, n)), data.draw(st.integers(1, n))
    draws = list(combinations(range(n), k))
    share = Fraction(sum(min(draw) < correct for draw in draws), len(draws))
    assert stats.pass_at_k(n, correct, k) == pytest.approx(float(share))


def test_pass_at_k_is_stable_where_factorials_are_not() -> None:
    exact = 1 - Fraction(math.comb(199_990, 100), math.comb(200_000, 100))
    assert stats.pass_at_k(200_000, 10, 100) == pytest.approx(float(exact), rel=1e-9)
    assert stats.pass_at_k(10, 0, 10) == 0.0
    assert stats.pass_at_k(10, 1, 10) == 1.0
    for n, correct, k in ((3, 4, 1), (3, 1, 4), (3, 1, 0)):
        with pytest.raises(ValueError, match=r"between|at least"):
            stats.pass_at_k(n, correct, k)


# --- quantiles ---------------------------------------------------------------------------------------------


@given(values=VALUES, q=st.sampled_from([0.01, 0.25, 0.5, 0.9, 0.99]))
def test_a_quantile_is_numpys_and_lies_in_its_interval(values: list[float], q: float) -> None:
    measured = stats.quantile(values, q)
    assert measured is not None
    assert measured.value == pytest.approx(float(np.quantile(values, q)), rel=1e-9, abs=1e-9)
    assert measured.low <= measured.value <= measured.high
    assert measured.low in (*values, measured.value, -math.inf)
    assert measured.high in (*values, measured.value, math.inf)


@pytest.mark.parametrize(
    ("n", "q", "low", "high"),
    # Ranks of the textbook tables (Conover 1999, A3): the median of 6, 10, 20 and 100 values.
    [(5, 0.5, None, None), (6, 0.5, 1, 6), (10, 0.5, 2, 9), (20, 0.5, 6, 15), (100, 0.5, 40, 61)],
)
def test_the_median_of_few_values(n: int, q: float, low: int | None, high: int | None) -> None:
    measured = stats.quantile([float(rank) for rank in range(1, n + 1)], q)
    assert measured is not None
    assert measured.low == (-math.inf if low is None else low)
    assert measured.high == (math.inf if high is None else high)


@given(n=st.integers(1, 300), q=st.sampled_from([0.05, 0.5, 0.9, 0.99]), level=st.sampled_from([0.8, 0.95]))
def test_the_ranks_are_the_tightest_that_keep_the_promise(n: int, q: float, level: float) -> None:
    lower, upper = stats.quantile_ranks(n, q, level)
    weights = [math.comb(n, k) * q**k * (1 - q) ** (n - k) for k in range(n + 1)]
    tail = (1 - level) / 2
    assert math.fsum(weights[:lower]) <= tail * (1 + 1e-9)
    assert math.fsum(weights[: lower + 1]) > tail * (1 - 1e-9)
    assert math.fsum(weights[upper:]) <= tail * (1 + 1e-9)
    assert math.fsum(weights[upper - 1 :]) > tail * (1 - 1e-9)


def test_a_p99_has_an_upper_bound_from_the_number_that_was_promised() -> None:
    least = stats.least_for_bound(0.99)
    enough, short = (stats.quantile([float(i) for i in range(n)], 0.99) for n in (least, least - 1))
    assert enough is not None
    assert short is not None
    assert math.isfinite(enough.high)
    assert math.isinf(short.high)


def test_a_quantile_interval_covers_the_truth_as_often_as_it_says() -> None:
    truth = -math.log(0.1)  # the 0.9-quantile of the exponential distribution
    covered = 0
    for row in rng().exponential(size=(1_000, 150)):
        measured = stats.quantile([float(value) for value in row], 0.9)
        assert measured is not None
        covered += measured.low <= truth <= measured.high
    assert 0.94 <= covered / 1_000 <= 0.99


# --- means -------------------------------------------------------------------------------------------------


@given(values=VALUES)
def test_a_mean_lies_in_its_interval(values: list[float]) -> None:
    measured = stats.mean(values, rng(), resamples=200)
    assert measured is not None
    assert measured.low <= measured.value <= measured.high
    assert measured.value == pytest.approx(float(np.mean(values)))
    assert measured == stats.mean(values, rng(), resamples=200), "the same generator, the same interval"


def test_one_value_and_equal_values() -> None:
    one, four, five = (stats.mean([3.0] * n, rng()) for n in (1, 4, 5))
    assert one == stats.Measured(3.0, -math.inf, math.inf, 1)
    assert four == stats.Measured(3.0, -math.inf, math.inf, 4), "so few may be equal by chance"
    assert five == stats.Measured(3.0, 3.0, 3.0, 5)


@pytest.mark.parametrize("n", [2, 3, 5, 9])
def test_the_mean_of_few_values_is_covered_as_often_as_it_says(n: int) -> None:
    """Resampling alone never leaves the range of the values: of two it would hold the mean half the time."""
    generator = rng()
    covered = 0
    for row in generator.normal(size=(1_000, n)):
        measured = stats.mean(row.tolist(), generator, resamples=200)
        assert measured is not None
        covered += measured.low <= 0 <= measured.high
    assert 0.93 <= covered / 1_000 <= 0.98


def test_for_normal_values_the_bootstrap_is_near_the_normal_interval() -> None:
    values = [float(value) for value in rng().normal(10, 2, size=400)]
    measured = stats.mean(values, rng())
    assert measured is not None
    half = stats.critical() * float(np.std(values, ddof=1)) / math.sqrt(400)
    assert measured.low == pytest.approx(measured.value - half, abs=0.15 * half)
    assert measured.high == pytest.approx(measured.value + half, abs=0.15 * half)


def test_a_skewed_mean_is_covered_about_as_often_as_it_says() -> None:
    generator = rng()
    covered = 0
    for row in generator.exponential(size=(400, 60)):
        measured = stats.mean([float(value) for value in row], generator, resamples=500)
        assert measured is not None
        covered += measured.low <= 1.0 <= measured.high
    assert 0.90 <= covered / 400 <= 0.98  # BCa at n = 60 of a skewed law is a little short of 0.95


def test_pairing_takes_out_what_both_sides_share() -> None:
    generator = rng()
    hard = generator.normal(0, 10, size=100)
    a = [float(value) for value in hard + 1 + generator.normal(0, 0.1, size=100)]
    b = [float(value) for value in hard]
    paired = stats.paired_means(a, b, generator)
    alone = stats.mean(a, generator)
    assert paired is not None
    assert alone is not None
    assert paired.low <= 1.0 <= paired.high
    assert paired.high - paired.low < (alone.high - alone.low) / 20


def test_large_samples_are_resampled_in_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    values = [float(value) for value in range(100)]
    whole = stats.mean(values, rng(), resamples=50)
    monkeypatch.setattr(stats, "_CHUNK", 1_000)
    assert stats.mean(values, rng(), resamples=50) == whole


def test_importing_evalkit_and_its_gates_does_not_import_numpy() -> None:
    import subprocess
    import sys

    code = "import sys, evalkit, evalkit.gate; assert 'numpy' not in sys.modules"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_a_seeded_generator_draws_what_numpys_own_draws() -> None:
    later, own = stats.seeded(7), np.random.default_rng(7)
    for _ in range(2):
        assert later.integers(0, 100, size=5).tolist() == own.integers(0, 100, size=5).tolist()
