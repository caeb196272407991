"""Detection measures against their definitions, closed forms and a coverage experiment."""

from __future__ import annotations

import math
from itertools import product

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from evalkit.detection import Counts, Place, auc, cutoff, places, recall_at, verdicts
from evalkit.stats import critical, least_for_bound, wilson

scores = st.lists(st.integers(0, 8).map(float), min_size=1, max_size=30)


# --- area --------------------------------------------------------------------------------------------------


@given(scores, scores)
def test_the_area_is_the_share_of_pairs_in_order(positives: list[float], negatives: list[float]) -> None:
    pairs = [1.0 if p > n else 0.5 if p == n else 0.0 for p, n in product(positives, negatives)]
    said = auc(positives, negatives)
    assert said is not None
    assert said.value == pytest.approx(sum(pairs) / len(pairs))
    assert 0 <= said.low <= said.value <= said.high <= 1
    assert said.n == len(positives) + len(negatives)


@given(scores, scores)
def test_turning_the_scores_round_turns_the_area_round(
    positives: list[float], negatives: list[float]
) -> None:
    one, other = auc(positives, negatives), auc(negatives, positives)
    assert one is not None
    assert other is not None
    assert one.value == pytest.approx(1 - other.value)
    assert one.low == pytest.approx(1 - other.high)
    assert one.high == pytest.approx(1 - other.low)


@given(scores, scores)
def test_only_the_order_of_scores_counts(positives: list[float], negatives: list[float]) -> None:
    assert auc([math.exp(p) for p in positives], [math.exp(n) for n in negatives]) == auc(
        positives, negatives
    )


@given(scores.filter(lambda s: len(s) > 1), scores.filter(lambda s: len(s) > 1))
def test_the_spread_is_delongs(positives: list[float], negatives: list[float]) -> None:
    # The definition, pair by pair: S10 and S01 are the variances of the row and column means of psi.
    psi = np.array([[1.0 if p > n else 0.5 if p == n else 0.0 for n in negatives] for p in positives])
    s10, s01 = np.var(psi.mean(1), ddof=1), np.var(psi.mean(0), ddof=1)
    error = math.sqrt(s10 / len(positives) + s01 / len(negatives))
    said = auc(positives, negatives)
    assert said is not None
    if 0 < said.value < 1:
        assert said.low == pytest.approx(max(0, said.value - critical() * error))
        assert said.high == pytest.approx(min(1, said.value + critical() * error))


def test_an_example_by_hand() -> None:
    # Positives 1, 3 against 0, 2: wins 1/2 and 1, losses (of negatives) 0 and 1/2; variances 1/8 each.
    said = auc([1, 3], [0, 2])
    assert said is not None
    assert said.value == 0.75
    assert said.low == pytest.approx(0.75 - critical() * math.sqrt(1 / 8 / 2 + 1 / 8 / 2))


def test_a_perfect_order_is_not_perfectly_known() -> None:
    said, sure = auc([2.0] * 40, [1.0] * 20), wilson(20, 20)
    assert said is not None
    assert sure is not None
    assert (said.value, said.low, said.high) == (1.0, sure.low, 1.0)
    assert said.low < 0.9


def test_one_text_says_nothing_about_its_side() -> None:
    said = auc([0.7], [0.1, 0.2, 0.9])
    assert said is not None
    assert (said.low, said.high) == (0.0, 1.0)


def test_no_texts_no_area() -> None:
    assert auc([], [1.0]) is None
    assert auc([1.0], []) is None
    assert recall_at([], [1.0]) is None
    assert recall_at([1.0], []) is None


@pytest.mark.parametrize("measure", [auc, recall_at])
def test_a_score_that_is_no_number_is_refused(measure: object) -> None:
    for sides in (([math.nan], [1.0]), ([1.0], [math.nan])):
        with pytest.raises(ValueError, match="not a number"):
            measure(*sides)  # type: ignore[operator]


def test_delongs_interval_holds_the_truth_about_as_often_as_it_says() -> None:
    # Two normals one standard deviation apart: the area is Phi(1/sqrt 2).
    truth = 0.5 * (1 + math.erf(0.5))
    rng = np.random.default_rng(3)
    held = 0
    for _ in range(400):
        said = auc(rng.normal(1, 1, 60).tolist(), rng.normal(0, 1, 80).tolist())
        assert said is not None
        held += said.low <= truth <= said.high
    assert 0.92 <= held / 400 <= 0.98


# --- recall at a rate --------------------------------------------------------------------------------------


@given(scores, st.floats(0.01, 0.99))
def test_a_cutoff_lets_no_more_through_and_no_lower_one_would(negatives: list[float], rate: float) -> None:
    least = cutoff(negatives, rate)
    allowed = math.floor(rate * len(negatives))
    assert sum(n > least for n in negatives) <= allowed
    lower = [n for n in negatives if n < least]
    assert not lower or sum(n > max(lower) for n in negatives) > allowed


@given(scores, scores, st.floats(0.01, 0.99))
def test_recall_is_that_above_the_cutoff(positives: list[float], negatives: list[float], rate: float) -> None:
    said = recall_at(positives, negatives, rate)
    assert said is not None
    least = cutoff(negatives, rate)
    assert said.value == pytest.approx(sum(p > least for p in positives) / len(positives))
    plain = wilson(sum(p > least for p in positives), len(positives))
    assert plain is not None
    assert 0 <= said.low <= plain.low <= said.value <= plain.high <= said.high <= 1


def test_few_negatives_bound_nothing_from_below() -> None:
    def bound(count: int) -> float:
        said = recall_at([1.0] * 500, [n / count / 2 for n in range(count)])
        assert said is not None
        assert said.value == 1.0
        return said.low

    assert least_for_bound(0.99, 0.975) == 437
    assert bound(436) == 0.0
    assert bound(437) > 0.98


def test_recalls_interval_holds_the_truth_at_least_as_often_as_it_says() -> None:
    # Normals two standard deviations apart: at 5 % false positives the recall is Phi(2 - 1.6449).
    truth = 0.5 * (1 + math.erf((2 - 1.6448536) / math.sqrt(2)))
    rng = np.random.default_rng(4)
    held = 0
    for _ in range(300):
        said = recall_at(rng.normal(2, 1, 80).tolist(), rng.normal(0, 1, 200).tolist(), 0.05)
        assert said is not None
        held += said.low <= truth <= said.high
    assert held / 300 >= 0.93


@pytest.mark.parametrize("rate", [0, 1, -0.5, math.nan])
def test_a_rate_is_a_share(rate: float) -> None:
    with pytest.raises(ValueError, match="between 0 and 1"):
        cutoff([1.0], rate)


# --- verdicts and places -----------------------------------------------------------------------------------


@given(st.lists(st.tuples(st.booleans(), st.booleans())))
def test_verdicts_count_the_four_cases(pairs: list[tuple[bool, bool]]) -> None:
    counts = verdicts(pairs)
    both, missed, false = (pairs.count(pair) for pair in ((True, True), (True, False), (False, True)))
    assert counts == Counts(both + missed, both, both + false, both)
    recall, precision = counts.recall(), counts.precision()
    assert recall == wilson(both, both + missed)
    assert precision == wilson(both, both + false)


place = st.builds(
    lambda kind, start, size: Place(kind, start, start + size),
    st.sampled_from("ab"), st.integers(0, 20), st.integers(0, 6),
)  # fmt: skip


@given(st.lists(place, max_size=12), st.lists(place, max_size=12))
def test_places_share_a_character_and_a_kind(wanted: list[Place], said: list[Place]) -> None:
    def touch(one: Place, other: Place) -> bool:
        return one.kind == other.kind and bool(
            {*range(one.start, one.end)} & {*range(other.start, other.end)}
        )

    counts = places(wanted, said)
    for kind in "ab":
        here, there = [p for p in wanted if p.kind == kind], [p for p in said if p.kind == kind]
        assert counts.get(kind, Counts()) == Counts(
            len(here),
            sum(any(touch(p, q) for q in there) for p in here),
            len(there),
            sum(any(touch(q, p) for p in here) for q in there),
        )


@given(st.lists(place, max_size=12))
def test_what_is_found_exactly_is_all_found_and_all_right(wanted: list[Place]) -> None:
    wanted = [p for p in wanted if p.start < p.end]
    for counts in places(wanted, wanted).values():
        assert counts.wanted == counts.found == counts.said == counts.right


def test_neighbours_do_not_touch() -> None:
    assert places([Place("a", 0, 5)], [Place("a", 5, 9)]) == {"a": Counts(1, 0, 1, 0)}


def test_counts_add_and_refuse_what_cannot_be() -> None:
    assert Counts(3, 1, 2, 2) + Counts(1, 1, 1, 0) == Counts(4, 2, 3, 2)
    with pytest.raises(ValueError, match="more found"):
        Counts(1, 2, 2, 2)
    assert Counts().recall() is None
    assert Counts().precision() is None
