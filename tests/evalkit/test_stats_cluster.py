"""Shares of clustered answers, Student's t and variance components: against brute force and by coverage."""

from __future__ import annotations

import math
from statistics import NormalDist

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from evalkit import stats
from evalkit.stats_cluster import (
    _parts,
    _sums,
    bounded_mean,
    ranks,
    share,
    split_variance,
    weighted_mean,
    worth,
)
from evalkit.stats_student import student


def rng() -> np.random.Generator:
    return np.random.default_rng(20261121)


@pytest.mark.parametrize(
    ("df", "level", "t"),
    # Any printed table, to three decimals.
    [
        (1, 0.95, 12.706),
        (2, 0.95, 4.303),
        (5, 0.95, 2.571),
        (10, 0.99, 3.169),
        (29, 0.9, 1.699),
        (60, 0.95, 2.000),
    ],
)
def test_student_against_printed_tables(df: int, level: float, t: float) -> None:
    assert student(df, level) == pytest.approx(t, abs=5e-4)


@pytest.mark.parametrize("df", [3, 4, 17, 200, 201, 5_000])
def test_student_against_the_integral_of_its_density(df: int) -> None:
    t = student(df)
    x = np.linspace(-t, t, 200_001)
    log_density = math.lgamma((df + 1) / 2) - math.lgamma(df / 2) - 0.5 * math.log(df * math.pi)
    density = np.exp(log_density - (df + 1) / 2 * np.log1p(x * x / df))
    area = float(np.sum((density[1:] + density[:-1]) / 2 * np.diff(x)))
    assert area == pytest.approx(0.95, abs=1e-6)
    assert t > NormalDist().inv_cdf(0.975)


def test_student_needs_freedom() -> None:
    with pytest.raises(ValueError, match="degree"):
        student(0)


@given(passed=st.lists(st.booleans(), min_size=1, max_size=40), answers=st.integers(1, 9))
def test_one_verdict_a_question_is_a_plain_rate(passed: list[bool], answers: int) -> None:
    values = np.array(passed, dtype=float)
    found = share(values, np.ones(len(values)), len(values) * answers)
    assert found == stats.wilson(sum(passed), len(passed))


@given(
    values=st.lists(st.integers(0, 4), min_size=1, max_size=40),
    weights=st.lists(st.floats(0.01, 100), min_size=40, max_size=40),
)
def test_a_share_lies_in_its_interval_and_its_interval_in_the_unit(
    values: list[int], weights: list[float]
) -> None:
    found = share(np.array(values) / 4, np.array(weights[: len(values)]), 4 * len(values))
    assert found is not None
    assert 0 <= found.low <= found.value <= found.high <= 1
    assert found.n == len(values)
    assert found.value == pytest.approx(
        float(np.average(np.array(values) / 4, weights=weights[: len(values)]))
    )
    assert found.effective is None or found.effective <= 4 * len(values) * (1 + 1e-9)


def test_nothing_is_none_and_one_question_is_one() -> None:
    none = np.zeros(0)
    assert share(none, none, 0) is None
    one = share(np.array([0.5]), np.ones(1), 10)
    assert one is not None
    assert one.effective == 1.0, "ten answers to one question say nothing of other questions"


@pytest.mark.parametrize(("a", "b", "k"), [(2, 2, 1), (8, 1, 1), (8, 1, 3), (0.3, 0.3, 1), (30, 1, 3)])
def test_clustered_intervals_cover_the_truth_as_often_as_they_say(a: float, b: float, k: int) -> None:
    """Beta-binomial answers, five a question of 40: pass@1 and pass@3, near the edge too."""
    generator, questions, n = rng(), 40, 5
    truth = 1 - math.exp(
        math.lgamma(b + k) - math.lgamma(b) + math.lgamma(a + b) - math.lgamma(a + b + k)
    )  # 1 − E(1−p)^k
    table = np.array([stats.pass_at_k(n, c, k) for c in range(n + 1)])
    covered = naive = 0
    for _ in range(600):
        right = generator.binomial(n, generator.beta(a, b, size=questions))
        found = share(table[right], np.ones(questions), questions * n)
        assert found is not None
        covered += found.low <= truth <= found.high
        if k == 1:
            rows = stats.wilson(int(right.sum()), questions * n)
            assert rows is not None
            naive += rows.low <= truth <= rows.high
    assert 0.925 <= covered / 600 <= 0.995
    if (a, b, k) == (0.3, 0.3, 1):
        assert naive / 600 < 0.75, "rows taken as independent would promise far too much"


# --- where the spread comes from ---------------------------------------------------------------------------


def textbook(table: np.ndarray) -> tuple[float, float, float]:
    """The balanced nested analysis of variance, as every book has it: questions × answers × judgements."""
    a, b, n = table.shape
    grand, by_q, by_g = table.mean(), table.mean(axis=(1, 2)), table.mean(axis=2)
    ms_q = b * n * np.sum((by_q - grand) ** 2) / (a - 1)
    ms_g = n * np.sum((by_g - by_q[:, None]) ** 2) / (a * (b - 1))
    ms_j = np.sum((table - by_g[:, :, None]) ** 2) / (a * b * (n - 1))
    return float((ms_q - ms_g) / (b * n)), float((ms_g - ms_j) / n), float(ms_j)


def places(shape: tuple[int, int, int]) -> tuple[np.ndarray, np.ndarray]:
    question = np.repeat(np.arange(shape[0]), shape[1] * shape[2])
    return question, np.repeat(np.arange(shape[0] * shape[1]), shape[2])


@given(st.integers(2, 6), st.integers(2, 4), st.integers(2, 4), st.integers(0, 2**32 - 1))
def test_balanced_parts_are_the_textbooks(a: int, b: int, n: int, seed: int) -> None:
    table = np.random.default_rng(seed).normal(5, 2, size=(a, b, n))
    found = split_variance(table.ravel(), *places(table.shape), rng())
    assert found is not None
    assert found.judge is not None
    parts = (found.question.value, found.generation.value, found.judge.value)
    assert parts == pytest.approx(textbook(table), abs=1e-9)


def test_unequal_counts_are_unbiased() -> None:
    """The mean over many draws is the truth, with one to four answers and one to three scores of each."""
    generator = rng()
    answers = generator.integers(1, 5, size=25)
    scores = generator.integers(1, 4, size=int(answers.sum()))
    answer = np.repeat(np.arange(len(scores)), scores)
    question = np.repeat(np.repeat(np.arange(25), answers), scores)
    parts = []
    for _ in range(300):
        y = (
            generator.normal(0, math.sqrt(0.5), 25)[question]
            + generator.normal(0, 1, len(scores))[answer]
            + generator.normal(0, math.sqrt(2), len(answer))
        )
        point = _parts(_sums(y, question, answer).sum(axis=0)[None, :])
        assert point is not None
        parts.append(point[0])
    means, errors = np.mean(parts, axis=0), np.std(parts, axis=0) / math.sqrt(300)
    assert np.all(np.abs(means - [0.5, 1, 2]) < 3.5 * errors)


def test_intervals_of_the_parts_cover_the_truth_often() -> None:
    generator, shape = rng(), (60, 3, 2)
    covered = np.zeros(3)
    for _ in range(80):
        table = (
            generator.normal(0, 1, (60, 1, 1))
            + generator.normal(0, 1, (60, 3, 1))
            + generator.normal(0, 1, shape)
        )
        found = split_variance(table.ravel(), *places(shape), generator)
        assert found is not None
        assert found.judge is not None
        for part, measured in enumerate((found.question, found.generation, found.judge)):
            covered[part] += measured.low <= 1 <= measured.high
    assert np.all(covered / 80 >= 0.86), covered / 80  # percentiles of a variance fall a little short
    assert np.all(covered / 80 <= 1.0)


def test_without_a_second_score_the_judge_is_unknown() -> None:
    y = np.array([0.0, 1, 1, 1, 0, 0])
    found = split_variance(y, np.array([0, 0, 1, 1, 2, 2]), np.arange(6), rng())
    assert found is not None
    assert found.judge is None
    assert found.shares is not None
    assert sum(part for part in found.shares if part is not None) == pytest.approx(1)


def test_too_little_says_nothing() -> None:
    y = np.array([0.0, 1.0, 0.5])
    assert split_variance(y, np.arange(3), np.arange(3), rng()) is None, "one answer a question"
    assert split_variance(y, np.zeros(3, dtype=int), np.arange(3), rng()) is None, "one question"


def test_nothing_varies() -> None:
    found = split_variance(np.ones(6), np.array([0, 0, 1, 1, 2, 2]), np.arange(6), rng())
    assert found is not None
    assert (found.question.value, found.generation.value, found.shares) == (0.0, 0.0, None)


# --- large samples and spread ranks ------------------------------------------------------------------------


def test_the_expansion_agrees_with_the_bootstrap_where_it_takes_over() -> None:
    values = rng().exponential(size=stats.LARGE)
    few = stats.mean(values[: stats.LARGE - 1].tolist(), rng(), resamples=4_000)
    many = stats.mean(values.tolist(), rng())
    assert few is not None
    assert many is not None
    width = few.high - few.low
    assert many.low == pytest.approx(few.low, abs=0.06 * width)
    assert many.high == pytest.approx(few.high, abs=0.06 * width)
    assert many.high - many.value > many.value - many.low, "a skewed law leans the interval"


def test_percentiles_of_clustered_calls_have_wider_intervals() -> None:
    values = [float(v) for v in range(1_000)]
    plain, clustered = stats.quantile(values, 0.5), stats.quantile(values, 0.5, effective=100)
    assert plain is not None
    assert clustered is not None
    assert clustered.low < plain.low < plain.high < clustered.high
    few = stats.quantile(values, 0.99, effective=100)
    assert few is not None
    assert few.high == math.inf
    assert stats.quantile(values, 0.5, effective=2_000) == plain


def test_full_marks_are_no_certainty_and_scores_near_them_are_covered() -> None:
    full = bounded_mean(np.ones(5), np.ones(5), 5)
    assert full == stats.wilson(5, 5)
    alike = bounded_mean(np.full(10, 0.75), np.ones(10), 10)
    assert alike is not None
    assert alike.low < 0.55
    r = np.random.default_rng(3)
    inside = 0
    for _ in range(
        1_000
    ):  # nine in ten have full marks: of ten, resampling holds the mean two times in three
        found = bounded_mean(r.choice([0.0, 0.5, 0.75, 1.0], 10, p=[0.02, 0.03, 0.05, 0.9]), np.ones(10), 10)
        assert found is not None
        inside += found.low <= 0.9525 <= found.high
    assert inside >= 930
    assert bounded_mean(np.array([]), np.array([]), 0) is None


def test_scores_that_differ_little_say_more_than_yeses_and_noes() -> None:
    near = bounded_mean(np.array([0.78, 0.8, 0.82, 0.79, 0.81] * 40), np.ones(200), 200)
    assert near is not None
    assert near.effective is not None
    assert near.effective > 1_500
    assert near.high - near.low < 0.02


@given(values=st.lists(st.floats(0, 1), min_size=2, max_size=60), data=st.data())
def test_one_worse_score_never_makes_a_mean_look_better(values: list[float], data: st.DataObject) -> None:
    """Twenty full marks leave a doubt; nineteen and 0.99 must not leave less."""
    at = data.draw(st.integers(0, len(values) - 1))
    full = bounded_mean(np.ones(len(values)), np.ones(len(values)), len(values))
    less = np.ones(len(values))
    less[at] = values[at]
    found = bounded_mean(less, np.ones(len(values)), len(values))
    assert full is not None
    assert found is not None
    assert found.low <= full.low + 0.01


def test_rare_zeros_that_were_not_met_are_left_in() -> None:
    r, truth = np.random.default_rng(5), 0.97 * 0.97
    above = 0
    for _ in range(500):
        values = np.where(r.random(20) < 0.03, 0.0, r.uniform(0.94, 1, 20))
        found = bounded_mean(values, np.ones(20), 20)
        assert found is not None
        above += found.low > truth
    assert above <= 15


def test_scores_a_rounding_below_1_have_an_interval() -> None:
    """As a cosine of 32 bits may be."""
    found = bounded_mean(np.r_[np.ones(100_000), 0.99999994], np.ones(100_001), 100_001)
    assert found is not None
    assert 0.9999 < found.low <= found.value <= found.high <= 1
    heavy = bounded_mean(np.array([0.2, 0.9]), np.array([1e-320, 1e300]), 2)
    assert heavy is not None
    assert heavy.low <= 0.9 <= heavy.high


@pytest.mark.parametrize(("n", "heavy"), [(20, 10.0), (20, 50.0), (50, 200.0), (10, 3.0)])
def test_a_heavy_value_does_not_make_its_own_mean_sure(n: int, heavy: float) -> None:
    r, inside = np.random.default_rng(4), 0
    weights = np.r_[heavy, np.ones(n - 1)]
    for _ in range(400):
        found = weighted_mean(r.integers(1, 6, n).astype(float), weights)
        assert found is not None
        inside += found.low <= 3 <= found.high
    assert inside >= 372


def test_weights_of_any_size_are_as_good() -> None:
    values = np.array([1.0, 4.0, 2.0, 5.0, 3.0])
    small, large = (weighted_mean(values, np.array([1, 2, 1, 2, 1]) * scale) for scale in (1e-300, 1e300))
    assert small is not None
    assert large is not None
    assert (small.value, small.low) == (pytest.approx(large.value), pytest.approx(large.low))


def test_weights_move_a_mean_of_scores_and_make_it_say_less() -> None:
    values, weights = np.array([0.2, *[0.9, 0.8] * 20]), np.array([20.0, *[1.0] * 40])
    plain, heavy = (bounded_mean(values, each, 41) for each in (np.ones(41), weights))
    assert plain is not None
    assert heavy is not None
    assert heavy.value == pytest.approx((20 * 0.2 + 20 * 1.7) / 60)
    assert heavy.high - heavy.low > plain.high - plain.low


@pytest.mark.parametrize("values", [[1.0, 0.9999999999999999], [1.0, 0.999999999], [1.0] * 9 + [0.99999998]])
def test_scores_that_are_full_marks_but_for_rounding_have_an_interval(values: list[float]) -> None:
    for found in (
        bounded_mean(np.array(values), np.ones(len(values)), len(values)),
        share(np.array(values), np.ones(len(values)), 5),
    ):
        assert found is not None
        assert 0 <= found.low <= found.value <= found.high <= 1


@given(values=st.lists(st.sampled_from([0.1, 0.5, 2.0, 7.0]), min_size=1, max_size=30))
def test_ranks_are_shares_of_values_below_and_half_of_the_equal_ones(values: list[float]) -> None:
    found = ranks(np.array(values))
    for value, rank in zip(values, found, strict=True):
        below, equal = sum(other < value for other in values), values.count(value)
        assert rank == pytest.approx((below + equal / 2) / len(values))


def test_copies_are_worth_one_answer_and_independent_ones_all() -> None:
    draws = rng().random((200, 10))
    assert worth(draws.mean(axis=1), float(draws.var()), 2_000) == pytest.approx(2_000, rel=0.25)
    copies = draws[:, :1].repeat(10, axis=1)
    assert worth(copies.mean(axis=1), float(copies.var()), 2_000) == pytest.approx(200, rel=0.1)
    assert worth(draws[0, :1], 0.1, 10) == 1
    assert worth(np.full(5, 0.5), 0.1, 10) == 10
