"""Several answers a sample: what is said of them, against enumeration and by hand."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from itertools import combinations
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from evalkit import words
from evalkit.columns import Columns
from evalkit.questions import Questions, Values, share_difference
from evalkit.repeats import Repeats, repeats
from evalkit.stats import paired_rates
from evalkit.summary import summarise
from evalkit.trial import Trial
from judges.judge import Score

Made = Callable[..., Trial]


def rng() -> np.random.Generator:
    return np.random.default_rng(5)


def rows(made: Made, table: list[list[bool | str | None]], **fields: Any) -> list[Trial]:
    """Question by question, its answers."""
    return [
        made(f"q{q}", passed, k=k, **fields)
        for q, answers in enumerate(table)
        for k, passed in enumerate(answers)
    ]


def said(made: Made, table: list[list[bool | str | None]]) -> Repeats:
    found = repeats(Columns.of(rows(made, table)), rng())
    assert found is not None
    return found


TABLES = st.lists(st.lists(st.booleans(), min_size=1, max_size=5), min_size=1, max_size=8)


@given(table=TABLES, k=st.integers(1, 5))
def test_pass_at_k_and_pass_all_k_are_means_over_all_draws(
    made: Made, table: list[list[bool]], k: int
) -> None:
    questions = Questions.of_rows(Columns.of(rows(made, table)))  # type: ignore[arg-type]
    enough = [answers for answers in table if len(answers) >= k]
    draws = [list(combinations(answers, k)) for answers in enough]
    for values, every in ((questions.pass_at(k), any), (questions.pass_all(k), all)):
        expected = [sum(map(every, drawn)) / len(drawn) for drawn in draws]  # type: ignore[arg-type]
        assert sorted(values.value) == pytest.approx(sorted(expected))
        assert values.answers == sum(map(len, enough)) // k


@given(table=TABLES)
def test_the_flake_status_counts_every_question_asked_twice(made: Made, table: list[list[bool]]) -> None:
    found = repeats(Columns.of(rows(made, table)), rng())  # type: ignore[arg-type]
    several = [answers for answers in table if len(answers) > 1]
    if found is None:
        assert not several
        return
    kinds = Counter("always" if all(a) else "flaky" if any(a) else "never" for a in several)
    assert (found.always, found.flaky, found.never) == (kinds["always"], kinds["flaky"], kinds["never"])
    assert found.flake_rate is not None
    assert found.flake_rate.value == pytest.approx(kinds["flaky"] / len(several))
    assert len(found.flakiest) == found.flaky


def test_the_flakiest_are_nearest_to_a_coin(made: Made) -> None:
    found = said(made, [[True] * 3 + [False], [True, False, True, False], [True] * 4])
    assert [(each.sample, each.passed, each.judged) for each in found.flakiest] == [
        ("q1", 2, 4),
        ("q0", 3, 4),
    ]


def test_a_question_is_one_observation_of_the_pass_rate(made: Made) -> None:
    (summary,) = summarise(
        Columns.of(rows(made, [[True, False], [True, True], [False, False], [True, False]]))
    )
    assert summary.pass_rate is not None
    assert (summary.pass_rate.value, summary.pass_rate.n) == (0.5, 4)
    assert (summary.calls, summary.samples) == (8, 4)


def test_failed_calls_count_and_answers_without_a_verdict_do_not(made: Made) -> None:
    found = said(made, [[True, "reset", None], [True, True, True]])
    assert found.answers == (2, 3)
    assert found.at_least[1].value == pytest.approx((0.5 + 1) / 2)
    assert found.every[3].n == 1, "only one question has three judged answers"


def test_judges_that_fail_at_random_do_not_change_what_is_expected(made: Made) -> None:
    generator = rng()
    rows = [
        made(q, None if generator.random() < 0.1 else bool(generator.random() < 0.9), k=k)
        for q in range(2_000)
        for k in range(3)
    ]
    found = repeats(Columns.of(rows), rng())
    assert found is not None
    assert found.every[3].low <= 0.9**3 <= found.every[3].high


def test_a_sample_asked_once_has_nothing_to_say(made: Made) -> None:
    assert repeats(Columns.of([made(1), made(2, False)]), rng()) is None
    assert repeats(Columns.of([]), rng()) is None


# --- majority, best


def votes(made: Made, *answers: tuple[str, bool]) -> list[Trial]:
    return [made("q", passed, k=k, text=text) for k, (text, passed) in enumerate(answers)]


@pytest.mark.parametrize(
    ("answers", "value", "ties"),
    [
        ((("42", True), (" 42 ", True), ("41", False)), 1.0, 0),
        ((("42", True), ("41", False), ("41", False)), 0.0, 0),
        ((("42", True), ("41", False)), 0.5, 1),
        ((("A b", True), ("a  B", False), ("a b", True), ("c", False)), 1.0, 0),
        ((("a", True), ("a", False)), 0.5, 0),
    ],
)
def test_the_majority_decides(
    made: Made, answers: tuple[tuple[str, bool], ...], value: float, ties: int
) -> None:
    found = repeats(Columns.of(votes(made, *answers)), rng())
    assert found is not None
    assert found.majority is not None
    assert (found.majority.value, found.ties) == (value, ties)


def test_ties_are_no_more_sure_than_their_questions(made: Made) -> None:
    tied = [made(q, k == 0, k=k, text=str(k)) for q in range(10) for k in range(4)]
    found = repeats(Columns.of(tied), rng())
    assert found is not None
    assert found.majority is not None
    assert (found.majority.value, found.majority.effective, found.ties) == (0.25, 10, 10)


def test_a_failed_call_has_no_vote_and_no_answer_at_all_has_not_passed(made: Made) -> None:
    silent = [made("p", "reset", k=k) for k in range(3)]
    mixed = [made("q", "reset", k=0), made("q", "reset", k=1), made("q", True, k=2)]
    found = repeats(Columns.of(silent + mixed), rng())
    assert found is not None
    assert found.majority is not None
    assert found.majority.value == 0.5


def test_a_majority_that_judges_failed_on_is_not_replaced_by_the_minority(made: Made) -> None:
    two = [
        made("p", None, k=0, text="bad"),
        made("p", None, k=1, text="bad"),
        made("p", True, k=2, text="yes"),
    ]
    other = [
        made("q", None, k=0, text="no"),
        made("q", False, k=1, text="no"),
        made("q", True, k=2, text="yes"),
    ]
    found = repeats(Columns.of([*two, *other]), rng())
    assert found is not None
    assert found.majority is not None
    assert (found.majority.n, found.majority.value) == (1, 0.0)


@given(
    st.lists(
        st.lists(st.tuples(st.sampled_from("abc"), st.booleans()), min_size=1, max_size=6),
        min_size=1,
        max_size=6,
    )
)
def test_the_majority_is_what_counting_by_hand_says(made: Made, table: list[list[tuple[str, bool]]]) -> None:
    made_rows = [
        made(f"q{q}", passed, k=k, text=text)
        for q, answers in enumerate(table)
        for k, (text, passed) in enumerate(answers)
    ]
    values, ties = Questions.of_rows(Columns.of(made_rows)).majority()
    expected, tied = [], 0
    for answers in table:
        counts = Counter(text for text, _ in answers)
        tops = [text for text, n in counts.items() if n == max(counts.values())]
        tied += len(tops) > 1
        verdicts = []
        for top in tops:
            yes = Counter(passed for text, passed in answers if text == top)
            verdicts.append(0.5 if yes[True] == yes[False] else float(yes[True] > yes[False]))
        expected.append(sum(verdicts) / len(verdicts))
    assert sorted(values.value) == pytest.approx(sorted(expected))
    assert ties == tied


def test_the_best_answer_is_the_one_with_the_highest_value(made: Made) -> None:
    graded = [
        made(q, True, k=k, scores={"rubric": Score(value, None, "a grade")})
        for q, values in enumerate([(0.2, 0.9), (0.5, 0.4), (0.1, 0.1)])
        for k, value in enumerate(values)
    ]
    plain = [made(f"p{k}", True, k=k) for k in range(2)]
    found = repeats(Columns.of([*graded, made("p", True, k=0), made("p", False, k=1), *plain]), rng())
    assert found is not None
    assert set(found.best) == {"rubric"}, "of yes or no it is pass@n"
    assert found.best["rubric"].value == pytest.approx((0.9 + 0.5 + 0.1) / 3)


def test_the_best_of_few_is_not_certain(made: Made) -> None:
    graded = [
        made(q, True, k=k, scores={"rubric": Score(value, None, "a grade")})
        for q in range(4)
        for k, value in enumerate((0.3, 1.0))
    ]
    found = repeats(Columns.of(graded), rng())
    assert found is not None
    assert (found.best["rubric"].value, found.best["rubric"].high) == (1.0, 1.0)
    assert found.best["rubric"].low == pytest.approx(0.51, abs=0.01), "Wilson's for four of four"


def test_marks_without_verdicts_have_a_best_and_a_spread(made: Made) -> None:
    graded = [
        made(q, k=k, scores={"rubric": Score(0.1 * (q + k), None, "a grade")})
        for q in range(4)
        for k in range(3)
    ]
    found = repeats(Columns.of(graded), rng())
    assert found is not None
    assert found.best["rubric"].value == pytest.approx(0.35)
    assert (found.answers, found.at_least, found.majority, found.flake_rate) == ((0, 0), {}, None, None)
    assert found.variance is not None
    assert found.variance.question.value == pytest.approx(0.1**2 * (5 / 3 - 1 / 3))
    assert found.variance.generation.value == pytest.approx(0.1**2)


# --- spread


def test_a_judge_asked_twice_has_a_part_of_its_own(made: Made) -> None:
    generator = rng()
    made_rows = []
    for q in range(40):
        for k in range(3):
            noise = 0.5 + 0.1 * generator.normal(size=2)
            scores = {"rubric": Score(float(noise.mean()), True, "", values=tuple(map(float, noise)))}
            made_rows.append(made(q, True, k=k, scores=scores))
    found = repeats(Columns.of(made_rows), rng())
    assert found is not None
    assert found.variance is not None
    assert found.variance.judge is not None
    assert found.variance.judge.low <= 0.01 <= found.variance.judge.high
    assert found.variance.shares is not None
    assert found.variance.shares[2] is not None
    assert found.variance.shares[2] > 0.6
    assert words.spread(found).startswith("question ")


def test_without_repeated_judging_its_part_is_said_to_be_unknown(made: Made) -> None:
    found = said(made, [[True, False, True], [True, True, False], [False, False, False]])
    assert found.variance is not None
    assert found.variance.judge is None
    assert "answer and judge" in words.spread(found)


# --- differences


def values(shares: list[float], n: int) -> Values:
    array = np.array(shares)
    return Values(np.arange(len(array), dtype=np.uint64), array, np.ones(len(array)), n * len(array))


@given(st.lists(st.tuples(st.booleans(), st.booleans()), min_size=1, max_size=40))
def test_with_one_answer_a_difference_is_that_of_paired_rates(pairs: list[tuple[bool, bool]]) -> None:
    a, b = ([float(pair[side]) for pair in pairs] for side in (0, 1))
    plain = paired_rates([x == 1 for x in a], [x == 1 for x in b])
    assert plain is not None
    assert share_difference(values(a, 1), values(b, 1)) == plain.difference


@given(st.lists(st.tuples(st.integers(0, 4), st.integers(0, 4)), min_size=1, max_size=40))
def test_swapping_the_sides_mirrors_a_clustered_difference(pairs: list[tuple[int, int]]) -> None:
    a, b = ([pair[side] / 4 for pair in pairs] for side in (0, 1))
    there, back = share_difference(values(a, 4), values(b, 4)), share_difference(values(b, 4), values(a, 4))
    assert there is not None
    assert back is not None
    assert there.low <= there.value <= there.high
    assert (there.value, there.low) == (pytest.approx(-back.value), pytest.approx(-back.high))


@pytest.mark.parametrize(("a", "b", "drop"), [(2, 2, 0.0), (8, 1, 0.0), (8, 1, 0.1), (30, 1, 0.0)])
def test_clustered_differences_cover_the_truth_as_often_as_they_say(a: float, b: float, drop: float) -> None:
    generator, n, questions = rng(), 5, 40
    covered = 0
    for _ in range(400):
        p = generator.beta(a, b, size=questions)
        one = generator.binomial(n, p) / n
        other = generator.binomial(n, p * (1 - drop)) / n
        found = share_difference(values(one.tolist(), n), values(other.tolist(), n))
        assert found is not None
        covered += found.low <= drop * a / (a + b) <= found.high
    assert 0.92 <= covered / 400 <= 0.995


def test_one_is_not_said_as_many(made: Made) -> None:
    (one,) = summarise(Columns.of([made(1, k != 0, k=k) for k in range(3)]))
    assert words.calls(one) == "n = 3 answers to 1 sample: 2 passed, 1 not"
    (failed,) = summarise(Columns.of([made(1), made(2, "reset")]))
    assert words.calls(failed) == "n = 2: 1 passed, 0 not, 1 failed call"
