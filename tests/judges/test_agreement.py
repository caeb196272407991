from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from judges.agreement import (
    accuracy,
    alpha,
    both_orders,
    confusion,
    kappa,
    position_bias,
    rank_correlation,
)


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


codes = st.lists(st.tuples(st.integers(0, 3), st.integers(0, 3)), min_size=2, max_size=40)


@pytest.mark.parametrize("weights", ["none", "linear", "quadratic"])
@given(pairs=codes)
def test_kappa_is_scikit_learns(weights: str, pairs: list[tuple[int, int]]) -> None:
    metrics = pytest.importorskip("sklearn.metrics", reason="scikit-learn is an independent implementation")
    a, b = np.array(pairs).T
    found = kappa(a, b, 4, weights, rng=rng(), draws=50)  # type: ignore[arg-type]
    assert found is not None
    if len(np.unique([a, b])) == 1:
        assert np.isnan(found.value)
        return
    theirs = metrics.cohen_kappa_score(a, b, weights=None if weights == "none" else weights, labels=range(4))
    assert found.value == pytest.approx(theirs, abs=1e-12)
    assert found.low <= found.value <= found.high
    assert confusion(a, b, 4).tolist() == metrics.confusion_matrix(a, b, labels=range(4)).tolist()


@pytest.mark.parametrize("metric", ["nominal", "ordinal", "interval"])
@pytest.mark.parametrize("seed", range(6))
def test_alpha_is_krippendorffs_package_with_ratings_missing(metric: str, seed: int) -> None:
    package = pytest.importorskip("krippendorff", reason="krippendorff is an independent implementation")
    r = rng(seed)
    ratings = r.integers(1, 6, size=(40, 1)) + r.integers(-1, 2, size=(40, 4)).astype(float)
    ratings[r.random(ratings.shape) < 0.35] = np.nan
    found = alpha(ratings, metric, rng=r, draws=100)  # type: ignore[arg-type]
    assert found is not None
    theirs = package.alpha(reliability_data=ratings.T, level_of_measurement=metric)
    assert found.value == pytest.approx(theirs, abs=1e-12)
    assert found.n == int((np.sum(~np.isnan(ratings), axis=1) >= 2).sum())


def test_spearman_is_scipys() -> None:
    stats = pytest.importorskip("scipy.stats", reason="scipy is an independent implementation")
    r = rng(1)
    a, b = r.integers(-1, 2, 60).astype(float), r.integers(0, 9, 60).astype(float)
    found = rank_correlation(a, b)
    assert found is not None
    assert found.value == pytest.approx(float(stats.spearmanr(a, b).statistic))


def test_cohens_own_kind_of_example_by_hand() -> None:
    # 20 both yes, 5 + 10 differ, 15 both no: p_o = 0.7, p_e = 0.5·0.6 + 0.5·0.4 = 0.5.
    a = np.repeat([1, 1, 0, 0], [20, 5, 10, 15])
    b = np.repeat([1, 0, 1, 0], [20, 5, 10, 15])
    found = kappa(a, b, 2, rng=rng())
    assert found is not None
    assert found.value == pytest.approx(0.4)
    assert found.low < 0.25 < 0.6 < found.high
    assert (found.n, found.rows) == (50, 50)


def test_no_mistake_in_ten_labels_is_not_certainty() -> None:
    same = np.array([0, 1] * 5)
    for found in (kappa(same, same, 2, rng=rng()), accuracy(same, same, rng=rng())):
        assert found is not None
        assert found.value == found.high == 1.0
        assert found.low < 0.85


def test_repeating_every_row_of_an_item_narrows_nothing() -> None:
    r = rng(3)
    a = r.integers(0, 2, 60)
    b = np.where(r.random(60) < 0.8, a, 1 - a)
    alone = kappa(a, b, 2, rng=rng())
    again = kappa(np.repeat(a, 5), np.repeat(b, 5), 2, rng=rng(), items=np.repeat(np.arange(60), 5))
    fooled = kappa(np.repeat(a, 5), np.repeat(b, 5), 2, rng=rng())
    assert alone is not None
    assert again is not None
    assert fooled is not None
    assert (again.n, again.rows) == (60, 300)
    assert again.high - again.low == pytest.approx(alone.high - alone.low, rel=0.2)
    assert fooled.high - fooled.low < 0.6 * (again.high - again.low)


def test_nothing_and_no_variation_say_so() -> None:
    none = np.array([], dtype=int)
    assert kappa(none, none, 2, rng=rng()) is None
    assert accuracy(none, none, rng=rng()) is None
    assert alpha(np.full((3, 2), np.nan), rng=rng()) is None
    one = alpha(np.ones((3, 2)), rng=rng())
    assert one is not None
    assert np.isnan(one.value)
    assert rank_correlation(np.ones(3), np.ones(3)) is None
    flat = rank_correlation(np.ones(9), np.arange(9.0))
    assert flat is not None
    assert (flat.low, flat.high) == (-1.0, 1.0)
    assert np.isnan(flat.value)


def test_position_bias_is_the_share_beyond_one_half() -> None:
    found = position_bias(np.repeat([1, 0], [70, 30]), rng=rng())
    assert found is not None
    assert found.value == pytest.approx(0.2)
    assert 0.09 < found.low < found.high < 0.3


def test_both_orders() -> None:
    found = both_orders(["1", "2", "1", "2"], ["1", "2", "2", "1"], ["1", "1", "2", "2"])
    assert (found.n, found.right, found.both_right, found.equal) == (4, (2, 2), 1, 2)
    assert found.kappa == 0.0


def test_the_same_generator_gives_the_same_interval() -> None:
    r = rng(5)
    a, b = r.integers(0, 3, 30), r.integers(0, 3, 30)
    assert kappa(a, b, 3, rng=rng(9)) == kappa(a, b, 3, rng=rng(9))
