from __future__ import annotations

import math

import numpy as np
import pytest

from evalkit.ranking import Comparisons, bradley_terry, difficulties, length_controlled, win_rate


def games(n: int, log: list[float], seed: int = 0) -> Comparisons:
    r, k = np.random.default_rng(seed), len(log)
    one = r.integers(k, size=n)
    other = (one + r.integers(1, k, size=n)) % k
    strength = np.array(log)
    won = (r.random(n) < 1 / (1 + np.exp(strength[other] - strength[one]))).astype(float)
    return Comparisons(one, other, won)


def rng() -> np.random.Generator:
    return np.random.default_rng(0)


def test_bradley_terry_is_statsmodels_logistic_regression() -> None:
    api = pytest.importorskip("statsmodels.api", reason="statsmodels is an independent implementation")
    played = games(400, [0.8, 0.1, -0.2, -0.7])
    x = np.zeros((400, 4))
    x[np.arange(400), played.one], x[np.arange(400), played.other] = 1, -1
    theirs = api.GLM(played.won, x[:, 1:], family=api.families.Binomial()).fit().params
    theirs = np.r_[0, theirs] - np.r_[0, theirs].mean()
    found = bradley_terry(played, 4, rng(), prior=0, resamples=50)
    assert found is not None
    assert [each.value for each in found.log] == pytest.approx(theirs.tolist(), abs=1e-6)


def test_davidsons_ties_maximise_the_likelihood() -> None:
    optimize = pytest.importorskip("scipy.optimize", reason="scipy is an independent optimiser")
    played = games(300, [0.6, 0.0, -0.6])
    won = np.where(np.random.default_rng(1).random(300) < 0.3, 0.5, played.won)

    def loss(b: np.ndarray) -> float:
        strength = np.exp(np.array([b[0], b[1], -b[0] - b[1]]))
        one, other = strength[played.one], strength[played.other]
        tie = math.exp(b[2]) * np.sqrt(one * other)
        chance = np.where(won == 1, one, np.where(won == 0, other, tie)) / (one + other + tie)
        return -float(np.log(chance).sum())

    theirs = optimize.minimize(loss, np.zeros(3), method="BFGS", options={"gtol": 1e-8}).x
    found = bradley_terry(Comparisons(played.one, played.other, won), 3, rng(), ties="davidson", prior=0)
    assert found is not None
    assert [each.value for each in found.log[:2]] == pytest.approx(theirs[:2].tolist(), abs=1e-4)
    assert found.tie == pytest.approx(float(theirs[2]), abs=1e-4)
    halved = bradley_terry(Comparisons(played.one, played.other, won), 3, rng())
    assert halved is not None
    assert halved.tie is None


def test_strengths_have_mean_zero_hold_their_values_and_speak_in_chances_and_elo() -> None:
    found = bradley_terry(games(200, [1.0, 0.0, -1.0]), 3, rng())
    assert found is not None
    assert sum(each.value for each in found.log) == pytest.approx(0, abs=1e-9)
    assert all(each.low < each.value < each.high and each.n == 200 for each in found.log)
    chance = found.chance(0, 1)
    assert chance.value == pytest.approx(1 / (1 + math.exp(found.log[1].value - found.log[0].value)))
    assert 0.5 < chance.low < chance.value < chance.high < 1
    gap = found.elo(0).value - found.elo(1).value
    assert 10 ** (gap / 400) == pytest.approx(chance.value / (1 - chance.value))


def test_a_model_that_won_everything_needs_a_prior() -> None:
    played = Comparisons(np.array([0, 0, 1, 2]), np.array([1, 2, 2, 1]), np.ones(4))
    with pytest.raises(ValueError, match="give a prior"):
        bradley_terry(played, 3, rng(), prior=0)
    found = bradley_terry(played, 3, rng())
    assert found is not None
    assert math.isfinite(found.log[0].high)
    assert found.log[0].value > 1


def test_comparisons_that_belong_together_widen_and_nonsense_is_refused() -> None:
    played = games(100, [0.5, 0.0, -0.5])
    four = [np.repeat(side, 4) for side in (played.one, played.other, played.won)]
    loose = bradley_terry(Comparisons(*four), 3, rng())
    tight = bradley_terry(Comparisons(*four, items=np.repeat(np.arange(100), 4)), 3, rng())
    assert loose is not None
    assert tight is not None
    assert tight.log[0].high - tight.log[0].low > 1.6 * (loose.log[0].high - loose.log[0].low)
    with pytest.raises(ValueError, match="itself"):
        bradley_terry(Comparisons(np.array([1]), np.array([1]), np.ones(1)), 2, rng())
    with pytest.raises(ValueError, match="tie"):
        bradley_terry(Comparisons(np.array([1]), np.array([0]), np.array([0.7])), 2, rng())
    assert bradley_terry(Comparisons(np.array([]), np.array([]), np.array([])), 2, rng()) is None


def test_win_rates_count_ties_half_and_items_once() -> None:
    found = win_rate(np.array([1.0, 0.5, 0.0, 1.0]))
    assert found is not None
    assert found.rate.value == 0.625
    assert (found.wins, found.losses, found.ties, found.decided) == (2, 1, 1, 0.625)
    assert found.standard_error == pytest.approx(np.std([1, 0.5, 0, 1], ddof=1) / 2)
    both = win_rate(np.array([1.0, 0.0, 1.0, 1.0]), np.array([0, 0, 1, 2]))
    assert both is not None
    assert both.rate.value == pytest.approx(2.5 / 3)
    assert both.rate.n == 3
    assert win_rate(np.array([])) is None
    with pytest.raises(ValueError, match="between 0 and 1"):
        win_rate(np.array([1.5]))


def test_the_length_regression_is_statsmodels() -> None:
    api = pytest.importorskip("statsmodels.api", reason="statsmodels is an independent implementation")
    r = np.random.default_rng(4)
    delta, hard = 400 * r.standard_normal(500) - 200, r.standard_normal(500)
    p = 1 / (1 + np.exp(-(-0.5 - 1.5 * np.tanh(delta / 400) + hard)))
    share = np.clip(p + 0.2 * r.standard_normal(500), 0, 1)
    found = length_controlled(share, delta, hard)
    x = np.stack([np.ones(500), np.tanh(delta / delta.std(ddof=1)), hard], axis=1)
    b = api.GLM(share, x, family=api.families.Binomial()).fit().params
    assert found is not None
    assert [found.model, found.length, found.difficulty] == pytest.approx(b.tolist(), abs=1e-5)
    rate = float(np.mean(1 / (1 + np.exp(-(b[0] + b[2] * hard)))))
    assert found.rate.value == pytest.approx(rate, abs=1e-6)
    assert found.rate.low < rate < found.rate.high


def test_a_longer_answer_that_wins_by_length_alone_is_no_better() -> None:
    r = np.random.default_rng(5)
    delta = -600 + 500 * r.standard_normal(2000)
    won = (r.random(2000) < 1 / (1 + np.exp(2 * np.tanh(delta / delta.std(ddof=1))))).astype(float)
    found = length_controlled(won, delta)
    assert found is not None
    assert won.mean() > 0.65
    assert found.rate.low < 0.5 < found.rate.high


def test_a_model_that_is_the_baseline_ties_and_a_pull_draws_the_length_term() -> None:
    same = length_controlled(np.full(50, 0.5), np.zeros(50))
    assert same is not None
    assert (same.rate.value, same.model) == (0.5, 0.0)
    r = np.random.default_rng(6)
    won, delta = (r.random(60) < 0.3).astype(float), 100 * r.standard_normal(60)
    for strength, near in ((1.0, 2.0), (1e6, 1e-3)):
        found = length_controlled(won, delta, pull=(-1.7, strength))
        assert found is not None
        assert found.length == pytest.approx(-1.7, abs=near)
    assert length_controlled(np.array([]), np.array([])) is None


def test_difficulties_are_found_again() -> None:
    r = np.random.default_rng(7)
    hard = r.standard_normal(300)
    models, delta = np.linspace(-1, 1, 30), 300 * r.standard_normal((30, 300))
    p = 1 / (1 + np.exp(-(models[:, None] - np.tanh(delta / 300) + hard)))
    p[r.random(p.shape) < 0.1] = np.nan
    found = difficulties(p, delta, ridge=0.01)
    assert np.corrcoef(found, hard)[0, 1] > 0.99
    assert found.mean() == pytest.approx(0, abs=1e-9)
