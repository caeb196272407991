from __future__ import annotations

import numpy as np
import pytest

from evalkit.corrected import Errors, ppi, rogan_gladen


def drawn(seed: int, n: int, rate: float, sens: float, spec: float) -> tuple[np.ndarray, np.ndarray]:
    r = np.random.default_rng(seed)
    truth = r.random(n) < rate
    said = np.where(truth, r.random(n) < sens, r.random(n) >= spec)
    return truth.astype(float), said.astype(float)


def rng() -> np.random.Generator:
    return np.random.default_rng(0)


@pytest.mark.parametrize("seed", range(5))
def test_ppi_is_ppi_pythons_with_its_power_and_with_ours(seed: int) -> None:
    package = pytest.importorskip("ppi_py", reason="ppi-python is an independent implementation")
    truth, said = drawn(seed, 800, 0.7, 0.9, 0.75)
    found = ppi(truth[:120], said[:120], said[120:], rng=rng())
    assert found is not None
    given = package.ppi_mean_pointestimate(truth[:120], said[:120], said[120:], lam=found.power)
    assert found.rate.value == pytest.approx(float(np.squeeze(given)), abs=1e-12)
    tuned = package.ppi_mean_pointestimate(truth[:120], said[:120], said[120:])
    assert found.rate.value == pytest.approx(float(np.squeeze(tuned)), abs=0.003)
    low, high = package.ppi_mean_ci(truth[:120], said[:120], said[120:], alpha=0.05)
    assert found.rate.low == pytest.approx(float(np.squeeze(low)), abs=0.02)
    assert found.rate.high == pytest.approx(float(np.squeeze(high)), abs=0.02)


def test_a_judge_with_known_errors_is_corrected() -> None:
    """Sensitivity 0.9, specificity 0.6: of 70 % good answers the judge passes 75 %, at 30 % already 55 %."""
    inside = {"ppi": 0, "rogan-gladen": 0, "judge": 0}
    runs = 200
    for seed in range(runs):
        truth, said = drawn(seed, 1100, 0.3, 0.9, 0.6)
        powered = ppi(truth[:100], said[:100], said[100:], rng=rng())
        by_rates = rogan_gladen(Errors.of(truth[:100], said[:100]), said[100:].sum(), 1000, rng=rng())
        assert powered is not None
        assert by_rates is not None
        for each in (powered, by_rates):
            inside[each.method] += each.rate.low <= 0.3 <= each.rate.high
        inside["judge"] += abs(said.mean() - 0.3) < 0.1
    assert inside["judge"] == 0, "the judge alone is never near"
    assert inside["ppi"] >= 0.92 * runs
    assert inside["rogan-gladen"] >= 0.92 * runs


def test_rogan_and_gladens_formula_by_hand() -> None:
    errors = Errors(yes_yes=45, yes_no=5, no_yes=10, no_no=40)
    found = rogan_gladen(errors, 62, 100, rng=rng())
    assert found is not None
    assert found.rate.value == pytest.approx((0.62 + 0.8 - 1) / (0.9 + 0.8 - 1))
    assert found.rate.low < 0.5 < 0.7 < found.rate.high
    assert found.labels == errors.n == 100


def test_a_judge_that_may_be_no_better_than_chance_leaves_everything_open() -> None:
    found = rogan_gladen(Errors(6, 4, 4, 6), 60, 100, rng=rng())
    assert found is not None
    assert (found.rate.low, found.rate.high) == (0.0, 1.0)


def test_the_labels_that_halve_rogan_and_gladens_interval_do() -> None:
    before = rogan_gladen(Errors(45, 5, 10, 40), 6_200, 10_000, rng=rng())
    assert before is not None
    assert before.more_labels is not None
    times = 1 + before.more_labels / 100
    after = rogan_gladen(Errors(*(round(each * times) for each in (45, 5, 10, 40))), 6_200, 10_000, rng=rng())
    assert after is not None
    ratio = (after.rate.high - after.rate.low) / (before.rate.high - before.rate.low)
    assert ratio == pytest.approx(0.5, abs=0.05)
    few = rogan_gladen(Errors(45, 5, 10, 40), 25, 40, rng=rng())
    assert few is not None
    assert few.more_labels is None, "forty rows are the most of what is not known"


def test_more_certain_error_rates_narrow_the_interval_and_certain_ones_leave_the_rows() -> None:
    lengths = []
    for times in (1, 4, 400):
        counts = (45 * times, 5 * times, 10 * times, 40 * times)
        found = rogan_gladen(Errors(*counts), 620, 1000, rng=rng())
        assert found is not None
        lengths.append(found.rate.high - found.rate.low)
    assert lengths[0] > lengths[1] > lengths[2] > 2 * 1.9 * np.sqrt(0.62 * 0.38 / 1000) / 0.7


@pytest.mark.parametrize(
    "errors", [Errors(0, 0, 3, 4), Errors(3, 4, 0, 0), Errors(5, 5, 5, 5), Errors(2, 8, 6, 4)]
)
def test_a_judge_no_better_than_chance_corrects_nothing(errors: Errors) -> None:
    assert rogan_gladen(errors, 5, 10, rng=rng()) is None


def test_so_many_more_labels_do_halve_the_interval() -> None:
    truth, said = drawn(7, 40_000, 0.6, 0.85, 0.8)
    before = ppi(truth[:100], said[:100], said[100:], rng=rng())
    assert before is not None
    assert before.more_labels is not None
    n = 100 + before.more_labels
    after = ppi(truth[:n], said[:n], said[n:], rng=rng())
    assert after is not None
    ratio = (after.rate.high - after.rate.low) / (before.rate.high - before.rate.low)
    assert ratio == pytest.approx(0.5, abs=0.06)


def test_no_number_of_labels_halves_it_when_the_run_is_too_small() -> None:
    truth, said = drawn(7, 120, 0.6, 0.85, 0.8)
    found = ppi(truth[:100], said[:100], said[100:], rng=rng())
    assert found is not None
    assert found.more_labels is None


def test_a_useless_judge_costs_nothing_and_a_perfect_one_is_not_taken_for_perfect() -> None:
    truth, said = drawn(1, 2100, 0.7, 0.5, 0.5)
    useless = ppi(truth[:100], said[:100], said[100:], rng=rng())
    alone = ppi(truth[:100], said[:100], said[:0], rng=rng())
    assert useless is not None
    assert alone is not None
    assert alone.power == 0
    assert useless.rate.high - useless.rate.low < 1.1 * (alone.rate.high - alone.rate.low)
    perfect = ppi(truth[:10], truth[:10], truth[10:], rng=rng())
    assert perfect is not None
    assert perfect.rate.high - perfect.rate.low > 0.1, "ten labels do not prove a judge"


def test_values_are_corrected_too_and_several_answers_to_a_question_widen() -> None:
    truth, said = drawn(2, 600, 0.8, 0.9, 0.7)
    scores = 0.2 + 0.6 * said
    plain = ppi(truth[:100], scores[:100], scores[100:], rng=rng())
    items = (np.repeat(np.arange(25), 4), 25 + np.repeat(np.arange(125), 4))
    for judged in (said, scores):
        same = np.repeat(truth[::4], 4), np.repeat(judged[::4], 4)
        loose = ppi(same[0][:100], same[1][:100], same[1][100:], rng=rng())
        tight = ppi(same[0][:100], same[1][:100], same[1][100:], rng=rng(), items=items)
        assert loose is not None
        assert tight is not None
        assert tight.rate.value == loose.rate.value
        assert tight.rate.high - tight.rate.low > 1.3 * (loose.rate.high - loose.rate.low)
    assert plain is not None
    assert plain.rate.low < 0.8 < plain.rate.high
    assert ppi(truth[:0], said[:0], said, rng=rng()) is None
